//! From where a partition is to be read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;

use crate::config::{OnOverrun, Source, Start};
use crate::record::Partition;
use crate::source::{Committed, Consumer, committed};
use crate::store::{Identity, PgFault, Position, Store};

/// A question to Kafka may take so long.
const KAFKA_TIMEOUT: Duration = Duration::from_secs(3);

/// Which source reads which topic of which cluster, in this process. The second one is refused: two sources would
/// share one position.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<BTreeMap<ClusterTopic, Arc<str>>>);

/// A cluster's id, and a topic of it.
type ClusterTopic = (String, Arc<str>);

impl Claims {
    /// The source that has the topic: the given one, unless another was faster.
    fn claim(&self, cluster: &str, topic: &Arc<str>, source: &Arc<str>) -> Arc<str> {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(claims.entry((cluster.to_owned(), Arc::clone(topic))).or_insert_with(|| Arc::clone(source)))
    }
}

/// An answer.
#[derive(Debug)]
pub(super) enum Resolved {
    From {
        cluster: Arc<str>,
        at: Position,
        /// Kafka's time, in milliseconds since 1970, of the record before it, if that is to be compared.
        before: Option<i64>,
    },
    Unfit(String),
}

/// No answer for now.
#[derive(Debug)]
pub(super) enum Unresolved {
    Database(PgFault),
    Kafka(String),
}

impl From<PgFault> for Unresolved {
    fn from(fault: PgFault) -> Self {
        Self::Database(fault)
    }
}

/// Asks the database, and Kafka where the database does not know.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) source: Source,
    pub(super) name: Arc<str>,
    claims: Arc<Claims>,
    /// Positions that did not fit once. They stay so until they are moved: a topic that was made anew grows, and
    /// then looks as if they did.
    unfit: BTreeMap<Partition, Position>,
}

impl Resolver {
    pub(super) fn new(source: Source, claims: Arc<Claims>) -> Self {
        Self { name: source.name.as_str().into(), source, claims, unfit: BTreeMap::new() }
    }

    pub(super) fn resolve(
        &mut self,
        store: &mut Store,
        consumer: &Consumer,
        partition: &Partition,
    ) -> Result<Resolved, Unresolved> {
        let cluster = consumer.client().fetch_cluster_id(KAFKA_TIMEOUT);
        let cluster: Arc<str> = cluster.ok_or_else(|| Unresolved::Kafka("no cluster id".to_owned()))?.into();
        let owner = self.claims.claim(&cluster, &partition.topic, &self.name);
        if owner != self.name {
            return Ok(Resolved::Unfit(format!("source {owner} reads the same topic of the same cluster {cluster}")));
        }
        let mut position = store.position(&cluster, partition)?;
        if position.is_none() {
            self.start(store, consumer, &cluster, partition)?;
            position = store.position(&cluster, partition)?;
        }
        let at = position.ok_or_else(|| Unresolved::Kafka(format!("no position for {partition}")))?;
        let (low, high) = watermarks(consumer, partition)?;
        let fit = match fit(at.next, low, high) {
            Fit::Good if self.unfit.get(partition) == Some(&at) => Fit::Beyond,
            fit => fit,
        };
        let why = match fit {
            Fit::Good => {
                self.unfit.remove(partition);
                // A topic that was made anew, and has grown, fits by its ends alone.
                let before = if at.next > low { store.time_before(&cluster, partition, at)? } else { None };
                return Ok(Resolved::From { cluster, at, before });
            }
            Fit::Overrun if self.source.on_overrun == OnOverrun::Continue => {
                let at = self.skip(store, &cluster, partition, at, (low, high))?;
                return Ok(Resolved::From { cluster, at, before: None });
            }
            Fit::Overrun => "is deleted already",
            Fit::Beyond => "was beyond the end, so the topic was made anew or cut",
        };
        self.unfit.insert(partition.clone(), at);
        Ok(Resolved::Unfit(format!("next offset {} {why}; Kafka holds {low} to {high}", at.next)))
    }

    /// Goes on at the oldest record there is, and keeps a record of what is lost.
    fn skip(
        &self,
        store: &mut Store,
        cluster: &str,
        partition: &Partition,
        at: Position,
        (low, high): (i64, i64),
    ) -> Result<Position, Unresolved> {
        let reason = format!("Kafka holds offsets {low} to {high}");
        if !store.skip(cluster, partition, at, low, &reason)? {
            return Err(Unresolved::Kafka(format!("position of {partition} has moved")));
        }
        log::error!(
            "records lost, kafka had deleted them before they were read source={} {partition} from={} to={low} records={}",
            self.name,
            at.next,
            low - at.next
        );
        Ok(Position { next: low, ..at })
    }

    /// Makes first positions. For a topic without any, all its partitions get theirs at once: one that appears later
    /// is then known to be new, and is read from its beginning.
    fn start(
        &self,
        store: &mut Store,
        consumer: &Consumer,
        cluster: &Arc<str>,
        partition: &Partition,
    ) -> Result<(), Unresolved> {
        if store.knows_topic(cluster, &partition.topic)? {
            let (low, _) = watermarks(consumer, partition)?;
            return Ok(store.start(cluster, &[(partition.clone(), low)], "a new partition of a known topic")?);
        }
        let metadata = consumer.fetch_metadata(Some(&partition.topic), KAFKA_TIMEOUT).map_err(kafka)?;
        let numbers = metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id());
        let mut partitions: Vec<Partition> =
            numbers.map(|number| Partition { topic: Arc::clone(&partition.topic), number }).collect();
        // Consumerds that start at once must not wait for each other in a circle.
        partitions.sort();
        let committed = committed(consumer, &[&partition.topic], KAFKA_TIMEOUT).map_err(kafka)?;
        let starts: Result<Vec<_>, _> = partitions
            .into_iter()
            .map(|partition| {
                let committed = committed.iter().find(|committed| committed.partition == partition);
                let ends = watermarks(consumer, &partition)?;
                let offset = first(self.source.start, ends, committed, &store.identity);
                Ok::<_, Unresolved>((partition, offset))
            })
            .collect();
        let starts = starts?;
        let mut reason = match self.source.start {
            Start::Earliest => "start = earliest",
            Start::Latest => "start = latest",
            Start::Group => "start = group",
        }
        .to_owned();
        if committed.iter().any(|committed| committed.by.as_ref() == Some(&store.identity)) {
            reason += ", after the database had lost its positions";
            let (name, topic) = (&self.name, &partition.topic);
            let first: Vec<String> = starts.iter().map(|(of, offset)| format!("{}={offset}", of.number)).collect();
            log::error!(
                "the database has lost the positions of a topic, its schema was emptied or is that of an older backup; \
                 begins anew source={name} topic={topic} {reason:?} partitions: {}",
                first.join(" ")
            );
        }
        Ok(store.start(cluster, &starts, &reason)?)
    }
}

/// A first position. What this very database has committed, it has stored once: where the operator wants the newest
/// records only, what came since then is not to be passed over.
fn first(start: Start, (low, high): (i64, i64), committed: Option<&Committed>, own: &Identity) -> i64 {
    match (start, committed) {
        (Start::Latest, Some(committed)) if committed.by.as_ref() == Some(own) && committed.offset <= high => {
            committed.offset.max(low)
        }
        (Start::Latest, _) => high,
        (Start::Group, Some(committed)) => committed.offset,
        (Start::Earliest, _) | (Start::Group, None) => low,
    }
}

fn kafka(error: rdkafka::error::KafkaError) -> Unresolved {
    Unresolved::Kafka(error.to_string())
}

fn watermarks(consumer: &Consumer, partition: &Partition) -> Result<(i64, i64), Unresolved> {
    consumer.fetch_watermarks(&partition.topic, partition.number, KAFKA_TIMEOUT).map_err(kafka)
}

/// How a position fits what Kafka holds.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    Good,
    /// Retention was faster.
    Overrun,
    /// The topic has become shorter.
    Beyond,
}

/// `high` is the offset of the next record to come, and a good position.
fn fit(next: i64, low: i64, high: i64) -> Fit {
    match next {
        _ if next < low => Fit::Overrun,
        _ if next > high => Fit::Beyond,
        _ => Fit::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_fits_between_the_ends() {
        let table = [
            (5, 5, 9, Fit::Good),
            (9, 5, 9, Fit::Good),
            (0, 0, 0, Fit::Good),
            (4, 5, 9, Fit::Overrun),
            (10, 5, 9, Fit::Beyond),
            (1, 0, 0, Fit::Beyond),
        ];
        for (next, low, high, expected) in table {
            assert_eq!(fit(next, low, high), expected, "{next} in {low}..{high}");
        }
    }

    #[test]
    fn a_first_position_passes_over_nothing_that_was_to_be_stored() {
        let own = Identity::new("own");
        let commit = |offset, by: Option<&str>| {
            Some(Committed { partition: Partition::new("t", 0), offset, by: by.map(Identity::new) })
        };
        let table = [
            (Start::Earliest, commit(7, Some("own")), 5),
            (Start::Latest, None, 9),
            (Start::Latest, commit(7, None), 9),
            (Start::Latest, commit(7, Some("other")), 9),
            (Start::Latest, commit(7, Some("own")), 7),
            (Start::Latest, commit(4, Some("own")), 5),
            (Start::Latest, commit(10, Some("own")), 9),
            (Start::Group, commit(7, None), 7),
            (Start::Group, None, 5),
        ];
        for (start, committed, expected) in table {
            assert_eq!(first(start, (5, 9), committed.as_ref(), &own), expected, "{start:?} {committed:?}");
        }
    }

    #[test]
    fn a_topic_belongs_to_the_first_source() {
        let claims = Claims::default();
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let topic: Arc<str> = "t".into();
        assert_eq!(claims.claim("cluster", &topic, &a), a);
        assert_eq!(claims.claim("cluster", &topic, &b), a);
        assert_eq!(claims.claim("cluster", &topic, &a), a);
        assert_eq!(claims.claim("another", &topic, &b), b);
    }
}
