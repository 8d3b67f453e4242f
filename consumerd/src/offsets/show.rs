//! `offsets show`: a line for each partition.

use std::collections::BTreeMap;

use coinflow_common::daemon::Exit;

use crate::columns::{NONE, table};
use crate::command::{Failure, Outcome, database, print, remark, told};
use crate::config::{Config, Source};
use crate::source::Lookup;
use crate::store::Schema;
use crate::store::offsets::{Known, list};

const HEADING: [&str; 9] =
    ["SOURCE", "TOPIC", "PARTITION", "GENERATION", "NEXT_OFFSET", "LAST_RECORD_AT", "LOW", "HIGH", "LAG"];

/// What Kafka holds of a partition.
type Watermarks = Option<(i64, i64)>;

pub(super) fn run(config: &Config, source: Option<&str>) -> Outcome {
    let mut client = database(&config.postgres)?;
    let mut known = list(&mut client, &Schema::new(&config.postgres.schema)).map_err(told)?;
    if let Some(source) = source {
        known.retain(|known| known.source == source);
        // A source that was renamed has its old name in the table until it stores something.
        if known.is_empty() && config.sources.iter().all(|configured| configured.name != source) {
            return Err(Failure::usage(format!("there is no source {source}")));
        }
    }
    let mut clusters = clusters(config.sources.iter().filter(|of| source.is_none_or(|source| of.name == source)));
    let rows: Vec<Vec<String>> = known.iter().map(|known| line(known, watermarks(&mut clusters, known))).collect();
    print(&table(&HEADING, &rows));
    Ok(Exit::Done)
}

/// The clusters that answer, by id.
fn clusters<'a>(sources: impl Iterator<Item = &'a Source>) -> BTreeMap<String, Lookup> {
    let mut clusters = BTreeMap::new();
    let mut asked = Vec::new();
    for source in sources {
        // More than one source may read the same cluster.
        if asked.contains(&&source.cluster) {
            continue;
        }
        asked.push(&source.cluster);
        match Lookup::open(source) {
            Ok(lookup) => _ = clusters.insert(lookup.cluster_id.clone(), lookup),
            Err(reason) => remark(&format!("{reason}; only the database's part is shown")),
        }
    }
    clusters
}

fn watermarks(clusters: &mut BTreeMap<String, Lookup>, known: &Known) -> Watermarks {
    let lookup = clusters.get(&known.cluster_id)?;
    match lookup.watermarks(&known.partition) {
        Ok(watermarks) => Some(watermarks),
        Err(unanswered) => {
            remark(&format!("source {} {}: {}", known.source, known.partition, unanswered.reason));
            if unanswered.is_away {
                clusters.remove(&known.cluster_id);
            }
            None
        }
    }
}

fn line(known: &Known, watermarks: Watermarks) -> Vec<String> {
    let or_none = |number: Option<i64>| number.map_or_else(|| NONE.to_owned(), |number| number.to_string());
    let next = known.at.next;
    vec![
        known.source.clone(),
        known.partition.topic.to_string(),
        known.partition.number.to_string(),
        known.at.generation.to_string(),
        next.to_string(),
        known.last_record_at.clone().unwrap_or_else(|| NONE.to_owned()),
        or_none(watermarks.map(|(low, _)| low)),
        or_none(watermarks.map(|(_, high)| high)),
        // A position behind the end has no lag: the topic is not the one that was stored.
        or_none(watermarks.map(|(_, high)| high - next).filter(|lag| *lag >= 0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Partition;
    use crate::store::Position;

    fn shown(next: i64, watermarks: Watermarks) -> String {
        let known = Known {
            cluster_id: "c".to_owned(),
            source: "main".to_owned(),
            partition: Partition::new("t", 2),
            at: Position { generation: 1, next },
            last_record_at: None,
        };
        line(&known, watermarks).join(" ")
    }

    #[test]
    fn what_kafka_does_not_tell_is_left_open() {
        assert_eq!(shown(7, Some((5, 10))), "main t 2 1 7 - 5 10 3");
        assert_eq!(shown(7, Some((0, 3))), "main t 2 1 7 - 0 3 -");
        assert_eq!(shown(7, None), "main t 2 1 7 - - - -");
    }
}
