//! The STATUS line.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use coinflow_common::config::show_duration;
use coinflow_common::orderbook::Timestamp;

use crate::record::Partition;
use crate::state::{Database, View};

/// Over how long the rate is taken.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// So many partitions that are stopped, and as many that are held, are named; of more, only the number is told.
const NAMED_MAX: usize = 2;
/// A call to PostgreSQL that takes longer is told.
const WAIT_TOLD: Duration = Duration::from_secs(5);

/// Books per second over the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    seen: Vec<(Instant, u64)>,
}

impl Rate {
    /// Takes the counter's value at this time, and gives the rate.
    pub(crate) fn observe(&mut self, counter: u64, now: Instant) -> f64 {
        self.seen.retain(|(at, _)| now.saturating_duration_since(*at) <= RATE_SPAN);
        self.seen.push((now, counter));
        let (first, before) = self.seen[0];
        let seconds = now.saturating_duration_since(first).as_secs_f64();
        if seconds > 0.0 { (counter - before) as f64 / seconds } else { 0.0 }
    }
}

/// A source at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<'a> {
    pub(crate) name: &'a str,
    pub(crate) kafka_up: bool,
    /// What the Kafka client says of itself.
    pub(crate) kafka: String,
    pub(crate) view: View,
    pub(crate) books_per_second: f64,
    pub(crate) dead_letters: u64,
    pub(crate) expired: u64,
    pub(crate) fence_lost: u64,
    /// What Kafka does not let us do.
    pub(crate) refusal: Option<String>,
    /// How long the writer has been inside its present call to PostgreSQL.
    pub(crate) waits: Duration,
}

/// Both servers and the amount of work first, then what is not as it should be.
pub(crate) fn line(snapshot: &Snapshot<'_>, now: Timestamp) -> String {
    let View { database, overview, missing_topics, strangers, .. } = &snapshot.view;
    let waits = snapshot.waits >= WAIT_TOLD;
    let is_up = snapshot.kafka_up
        && snapshot.refusal.is_none()
        && !waits
        && *database == Database::Up
        && overview.stopped.is_empty()
        && strangers.is_empty()
        && overview.held.is_empty();
    let mut line = String::new();
    // Writing to a String cannot fail.
    _ = write!(line, "{}: {}", snapshot.name, if is_up { "up" } else { "waiting" });
    let partitions = if overview.assigned == 1 { "partition" } else { "partitions" };
    _ = write!(line, ", {} {partitions}, lag {}", overview.assigned, overview.lag);
    if let Some(behind) = overview.behind_since_ms {
        let behind = Duration::from_millis(u64::try_from(now.as_millis() - behind).unwrap_or(0));
        if behind >= Duration::from_secs(2) {
            _ = write!(line, " ({} behind)", show_duration(Duration::from_secs(behind.as_secs())));
        }
    }
    _ = write!(line, ", {:.1} books/s", snapshot.books_per_second);
    if !snapshot.kafka_up {
        _ = write!(line, ", {}", snapshot.kafka);
    }
    if let Some(refusal) = &snapshot.refusal {
        _ = write!(line, ", Kafka refuses: {refusal}");
    }
    match database {
        Database::Starting | Database::Up if waits => {
            let waits = show_duration(Duration::from_secs(snapshot.waits.as_secs()));
            _ = write!(line, ", PostgreSQL has not answered for {waits}");
        }
        Database::Starting => line += ", PostgreSQL not reached yet",
        Database::Up => line += ", PostgreSQL up",
        Database::Down { since, reached, reason } => {
            let how = if *reached { "refuses" } else { "down" };
            _ = write!(line, ", PostgreSQL {how} since {}: {reason}", since.to_clock_text());
        }
    }
    _ = write!(line, ", {} dead letters", snapshot.dead_letters);
    if snapshot.expired > 0 {
        _ = write!(line, ", {} expired", snapshot.expired);
    }
    if snapshot.fence_lost > 0 {
        _ = write!(line, ", {} positions moved by others", snapshot.fence_lost);
    }
    for (word, partitions) in [("STOPPED", &overview.stopped), ("HELD", &overview.held)] {
        match partitions.len() {
            number if number > NAMED_MAX => _ = write!(line, ", {number} partitions {word}"),
            _ => {
                for (Partition { topic, number }, reason) in partitions {
                    _ = write!(line, ", {word} {topic}/{number}: {reason}");
                }
            }
        }
    }
    if let Some((partition, stranger)) = strangers.first() {
        let Partition { topic, number } = partition;
        _ = write!(line, ", another database commits to the same group: {stranger} for {topic}/{number}");
        if strangers.len() > 1 {
            _ = write!(line, " and {} more", strangers.len() - 1);
        }
    }
    if overview.asked > 0 {
        _ = write!(line, ", {} waiting for their position", overview.asked);
    }
    if !missing_topics.is_empty() {
        let topics: Vec<&str> = missing_topics.iter().map(String::as_str).collect();
        _ = write!(line, ", waiting for topic {}", topics.join(", "));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Overview;
    use crate::store::Identity;

    fn shown(change: impl FnOnce(&mut Snapshot<'_>)) -> String {
        let view = View {
            database: Database::Up,
            overview: Overview { assigned: 3, ..Overview::default() },
            ..View::default()
        };
        let mut snapshot = Snapshot {
            name: "main",
            kafka_up: true,
            kafka: "Kafka up".to_owned(),
            view,
            books_per_second: 49.83,
            dead_letters: 0,
            expired: 0,
            fence_lost: 0,
            refusal: None,
            waits: Duration::ZERO,
        };
        change(&mut snapshot);
        line(&snapshot, Timestamp::from_micros(100_000_000).expect("in range"))
    }

    #[test]
    fn all_is_well() {
        assert_eq!(shown(|_| ()), "main: up, 3 partitions, lag 0, 49.8 books/s, PostgreSQL up, 0 dead letters");
    }

    #[test]
    fn a_refusal_and_a_call_without_an_answer_are_told() {
        let line = shown(|snapshot| snapshot.refusal = Some("JoinGroup failed".to_owned()));
        assert!(line.starts_with("main: waiting") && line.contains(", Kafka refuses: JoinGroup failed,"), "{line}");
        let line = shown(|snapshot| snapshot.waits = Duration::from_secs(340));
        assert!(line.starts_with("main: waiting") && line.contains("PostgreSQL has not answered for 340s"), "{line}");
    }

    #[test]
    fn a_group_with_two_databases_is_told() {
        let stranger = |number| (Partition::new("t", number), Identity::new("7/5/other"));
        let line = shown(|snapshot| snapshot.view.strangers = vec![stranger(2), stranger(3)]);
        assert!(line.starts_with("main: waiting"), "{line}");
        assert!(line.ends_with(", another database commits to the same group: 7/5/other for t/2 and 1 more"), "{line}");
    }

    #[test]
    fn what_is_not_well_is_told() {
        let since = Timestamp::from_micros(3_000_000).expect("in range");
        for (reached, word) in [(false, "down"), (true, "refuses")] {
            let down = Database::Down { since, reached, reason: "why".to_owned() };
            let line = shown(|snapshot| snapshot.view.database = down);
            let rest = "3 partitions, lag 0, 49.8 books/s";
            assert_eq!(line, format!("main: waiting, {rest}, PostgreSQL {word} since 00:00:03: why, 0 dead letters"));
        }
        assert_eq!(
            shown(|snapshot| {
                snapshot.kafka_up = false;
                snapshot.kafka = "Kafka down since 10:00:03: refused".to_owned();
                snapshot.view.overview = Overview::default();
            }),
            "main: waiting, 0 partitions, lag 0, 49.8 books/s, Kafka down since 10:00:03: refused, PostgreSQL up, 0 dead letters"
        );
        let line = shown(|snapshot| {
            (snapshot.expired, snapshot.fence_lost, snapshot.dead_letters) = (4, 1, 2);
            snapshot.view.overview.lag = 12;
            snapshot.view.overview.behind_since_ms = Some(10_000);
            snapshot.view.overview.asked = 1;
            snapshot.view.overview.stopped = vec![(Partition::new("t", 2), "too far".to_owned())];
            snapshot.view.missing_topics.insert("u".to_owned());
        });
        assert_eq!(
            line,
            "main: waiting, 3 partitions, lag 12 (90s behind), 49.8 books/s, PostgreSQL up, 2 dead letters, 4 expired, \
             1 positions moved by others, STOPPED t/2: too far, 1 waiting for their position, waiting for topic u"
        );
    }

    #[test]
    fn held_partitions_are_told() {
        let held = |number| (Partition::new("t", number), "too many".to_owned());
        let line = shown(|snapshot| snapshot.view.overview.held = vec![held(0), held(2)]);
        assert!(
            line.starts_with("main: waiting, ") && line.ends_with(", HELD t/0: too many, HELD t/2: too many"),
            "{line}"
        );
        let line = shown(|snapshot| snapshot.view.overview.held = (0..3).map(held).collect());
        assert!(line.ends_with(", 3 partitions HELD"), "{line}");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::default();
        let rates: Vec<_> = [(0, 100), (1, 150), (2, 200), (30, 200), (31, 230)]
            .map(|(second, counter)| rate.observe(counter, start + Duration::from_secs(second)))
            .into();
        assert_eq!(rates, [0.0, 50.0, 50.0, 0.0, 30.0]);
    }
}
