//! What librdkafka tells its client beside records.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coinflow_common::kafka::Cluster;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use serde::Deserialize;

use super::commits::FAILURE;
use crate::record::Partition;

/// Something that happened inside `poll`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happened {
    /// The group gives us these.
    Assigned(Vec<Partition>),
    /// The group takes these back; `lost`: it has given them to others already.
    Revoked { partitions: Vec<Partition>, lost: bool },
    /// Kafka did not take a commit.
    CommitFailed,
}

/// Takes notes for the poll loop, which acts on them as soon as `poll` has returned: nothing blocks in a callback.
#[derive(Debug)]
pub(crate) struct Context {
    cluster: Arc<Cluster>,
    notes: Mutex<Notes>,
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Notes {
    happened: Vec<Happened>,
    missing_topics: BTreeSet<String>,
    /// The first offset that Kafka does not have yet, by topic and partition.
    ends: HashMap<String, HashMap<i32, i64>>,
}

impl Context {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, notes: Mutex::default(), closing: AtomicBool::new(false) }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // A panic ends the process, so no half-made state is ever seen here.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partitions are ours, so nothing is refused any more.
    pub(crate) fn not_refused(&self) {
        self.cluster.not_refused();
    }

    pub(crate) fn take_happened(&self) -> Vec<Happened> {
        std::mem::take(&mut self.notes().happened)
    }

    pub(crate) fn end(&self, partition: &Partition) -> Option<i64> {
        self.notes().ends.get(&*partition.topic)?.get(&partition.number).copied()
    }

    /// Topics of the subscription that Kafka does not have, as far as it has said so.
    pub(crate) fn take_missing_topics(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.notes().missing_topics)
    }

    /// From now on nobody reads the notes, so rebalances are answered here: a consumer that is being closed waits for
    /// the answer.
    pub(crate) fn set_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == FAILURE {
            log::debug!("kafka commit failed reason={message:?}");
            self.notes().happened.push(Happened::CommitFailed);
        } else {
            self.cluster.log(level, facility, message);
        }
    }

    fn stats_raw(&self, raw: &[u8]) {
        self.cluster.stats(raw);
        if let Ok(ends) = ends(raw) {
            self.notes().ends = ends;
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match missing_topic(&error, reason) {
            Some(topic) => _ = self.notes().missing_topics.insert(topic.to_owned()),
            None => self.cluster.error(&error, reason),
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = partitions(list);
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            // librdkafka takes any answer of a closing consumer as "all unassigned".
            _ = consumer.unassign();
            return;
        }
        self.notes().happened.push(match assigned {
            true => Happened::Assigned(partitions),
            false => Happened::Revoked { partitions, lost: consumer.assignment_lost() },
        });
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| Partition::new(element.topic(), element.partition())).collect()
}

/// librdkafka's only word about which topic it is stands in the text:
/// `Subscribed topic not available: NAME: Broker: Unknown topic or partition`.
fn missing_topic<'a>(error: &KafkaError, reason: &'a str) -> Option<&'a str> {
    let code = error.rdkafka_error_code()?;
    if !matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) {
        return None;
    }
    reason.strip_prefix("Subscribed topic not available: ")?.split(": ").next()
}

#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: HashMap<i32, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    hi_offset: i64,
}

/// The ends of the partitions in librdkafka's statistics; a negative one is not known.
fn ends(raw: &[u8]) -> Result<HashMap<String, HashMap<i32, i64>>, serde_json::Error> {
    let statistics: Statistics = serde_json::from_slice(raw)?;
    let known = |(number, partition): (i32, PartitionStatistics)| {
        (number >= 0 && partition.hi_offset >= 0).then_some((number, partition.hi_offset))
    };
    let topic =
        |(name, topic): (String, TopicStatistics)| (name, topic.partitions.into_iter().filter_map(known).collect());
    Ok(statistics.topics.into_iter().map(topic).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_topic_is_named() {
        let unknown = KafkaError::Global(RDKafkaErrorCode::UnknownTopicOrPartition);
        let reason = "Subscribed topic not available: coinflow.orderbook.upbit: Broker: Unknown topic or partition";
        assert_eq!(missing_topic(&unknown, reason), Some("coinflow.orderbook.upbit"));
        assert_eq!(missing_topic(&unknown, "something else"), None);
        let other = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        assert_eq!(missing_topic(&other, reason), None);
    }

    #[test]
    fn ends_are_read_from_statistics() {
        let raw = br#"{"brokers":{},"topics":{"t":{"topic":"t","partitions":{
            "0":{"partition":0,"hi_offset":17,"lo_offset":0},"1":{"hi_offset":-1001},"-1":{"hi_offset":3}}}}}"#;
        let ends = ends(raw).expect("statistics");
        assert_eq!(ends["t"], HashMap::from([(0, 17)]));
    }
}
