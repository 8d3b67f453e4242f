//! What is to be compared. Pure.

use coinflow_common::orderbook::Timestamp;

use super::compare::Bounds;
use crate::config::Source;
use crate::record::Partition;

/// A partition's present generation, as the database had it when `verify` began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) partition: Partition,
    pub(super) generation: i32,
    /// The first offset that was not yet stored.
    pub(super) next: i64,
    /// The source whose rows these are, where its name is needed to tell.
    pub(super) source: Option<String>,
    /// Where the generation began.
    pub(super) start: i64,
    /// Offsets that were left out in it by a decision: from the first, before the second.
    pub(super) skipped: Vec<(i64, i64)>,
}

impl Part {
    /// Takes the events of the generation, each where the position was, if there was one, and where it was set to.
    pub(super) fn began(&mut self, mut events: impl Iterator<Item = (Option<i64>, i64)>) {
        self.start = events.next().map_or(0, |(_, to)| to);
        self.skipped = events.filter_map(|(from, to)| Some((from?, to))).filter(|(from, to)| from < to).collect();
    }
}

/// The sources and topics that are meant, in the order of the file.
///
/// # Errors
/// The name that is none, with those that are.
pub(super) fn select<'a>(
    sources: &'a [Source],
    source: Option<&str>,
    topic: Option<&str>,
) -> Result<Vec<(&'a Source, Vec<&'a str>)>, String> {
    let named: Vec<&Source> = sources.iter().filter(|known| source.is_none_or(|name| known.name == name)).collect();
    if named.is_empty() {
        let known: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        return Err(format!("{:?} is not a source; known: {}", source.unwrap_or_default(), known.join(", ")));
    }
    let topics = |source: &'a Source| {
        let topics = source.topics.iter().map(String::as_str);
        topics.filter(|known| topic.is_none_or(|name| *known == name)).collect::<Vec<&str>>()
    };
    let known: Vec<&str> = named.iter().flat_map(|source| &source.topics).map(String::as_str).collect();
    let selected: Vec<_> =
        named.into_iter().map(|source| (source, topics(source))).filter(|(_, topics)| !topics.is_empty()).collect();
    match topic {
        Some(topic) if selected.is_empty() => Err(format!("{topic:?} is not a topic; known: {}", known.join(", "))),
        _ => Ok(selected),
    }
}

/// Why a topic of a cluster is left out; `others` are clusters of which the database has positions of it.
pub(super) fn nothing_stored(topic: &str, cluster: &str, others: &[String]) -> String {
    if others.is_empty() {
        return format!("nothing of topic {topic} is stored yet");
    }
    format!(
        "the database has no position of topic {topic} in Kafka's cluster {cluster}, only in {}: the brokers are those of \
         another cluster, or it was made anew",
        others.join(", ")
    )
}

/// A time of the record contract, or a date, whose beginning is meant; in microseconds since 1970.
///
/// # Errors
/// It is neither.
pub(super) fn parse_time(text: &str) -> Result<i64, String> {
    let time = Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}T00:00:00Z")));
    let time = time.map_err(|_| "not a UTC time such as 2026-11-23T10:00:00Z, nor a date such as 2026-11-23")?;
    Ok(time.as_micros())
}

/// # Errors
/// They hold no time.
pub(super) fn bounds(from: Option<i64>, to: Option<i64>) -> Result<Bounds, String> {
    match (from, to) {
        (Some(from), Some(to)) if from >= to => Err("--from is not before --to".to_owned()),
        _ => Ok(Bounds { from, to }),
    }
}

#[cfg(test)]
mod tests {
    use coinflow_common::kafka::{ClusterConfig, Overrides};

    use super::*;
    use crate::config::{OnOverrun, Start};

    fn source(name: &str, topics: &[&str]) -> Source {
        Source {
            name: name.to_owned(),
            cluster: ClusterConfig { brokers: Vec::new(), overrides: Overrides::default() },
            group: "g".to_owned(),
            topics: topics.iter().map(ToString::to_string).collect(),
            start: Start::Earliest,
            on_overrun: OnOverrun::Stop,
        }
    }

    #[test]
    fn names_select() {
        let sources = [source("a", &["t", "u"]), source("b", &["t"])];
        let selected = |source, topic| {
            let selected = select(&sources, source, topic)?;
            Ok(selected.iter().map(|(source, topics)| format!("{}:{}", source.name, topics.join(","))).collect())
        };
        type Case<'a> = (Option<&'a str>, Option<&'a str>, Result<Vec<&'a str>, &'a str>);
        let table: [Case<'_>; 6] = [
            (None, None, Ok(vec!["a:t,u", "b:t"])),
            (Some("b"), None, Ok(vec!["b:t"])),
            (None, Some("t"), Ok(vec!["a:t", "b:t"])),
            (None, Some("u"), Ok(vec!["a:u"])),
            (Some("b"), Some("u"), Err("\"u\" is not a topic; known: t")),
            (Some("c"), None, Err("\"c\" is not a source; known: a, b")),
        ];
        for (source, topic, expected) in table {
            let expected: Result<Vec<String>, String> =
                expected.map(|all| all.into_iter().map(str::to_owned).collect()).map_err(str::to_owned);
            assert_eq!(selected(source, topic), expected);
        }
    }

    #[test]
    fn what_is_stored_of_another_cluster_is_named() {
        assert_eq!(nothing_stored("t", "a", &[]), "nothing of topic t is stored yet");
        let others = ["b".to_owned(), "c".to_owned()];
        let text = nothing_stored("t", "a", &others);
        assert!(text.contains("no position of topic t in Kafka's cluster a, only in b, c: "), "{text}");
    }

    #[test]
    fn times_and_dates() {
        assert_eq!(parse_time("1970-01-02"), Ok(86_400_000_000));
        assert_eq!(parse_time("1970-01-01T00:00:01.000Z"), Ok(1_000_000));
        assert_eq!(parse_time("1970-01-01T00:00:01.000001Z"), Ok(1_000_001));
        for wrong in ["", "yesterday", "1970-02-30", "1970-01-01T00:00:00", "1970-01-01T00:00:00+09:00"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        assert!(bounds(Some(1), Some(1)).is_err());
        assert!(bounds(Some(1), None).is_ok_and(|bounds| bounds.hold(1) && !bounds.hold(0)));
        assert!(bounds(None, Some(1)).is_ok_and(|bounds| bounds.hold(0) && !bounds.hold(1)));
    }

    #[test]
    fn a_generation_begins_at_its_first_event() {
        let mut part = Part {
            partition: Partition::new("t", 0),
            generation: 1,
            next: 90,
            source: None,
            start: 0,
            skipped: Vec::new(),
        };
        part.began([].into_iter());
        assert_eq!((part.start, part.skipped.len()), (0, 0));
        part.began([(Some(7), 40), (Some(50), 60), (Some(70), 65), (None, 80)].into_iter());
        assert_eq!((part.start, &part.skipped[..]), (40, &[(50, 60)][..]));
    }
}
