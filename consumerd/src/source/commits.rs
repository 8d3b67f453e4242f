//! Telling Kafka how far the database is.
//!
//! A manual asynchronous commit has no answer here: librdkafka 2.12 tells the result to a callback that rdkafka 0.39
//! does not set, and its event only for automatic commits. What it does tell is a failure, as a line of its log.
//!
//! Each commit carries the name of the database. So two databases whose consumerds share a group are found out, of
//! which each would get a part of the partitions only.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Consumer;
use crate::record::Partition;
use crate::store::Identity;

/// Between two commits. They serve lag displays only, so they need not follow each batch.
const INTERVAL: Duration = Duration::from_millis(500);
/// How librdkafka's log names a commit that failed.
pub(super) const FAILURE: &str = "COMMITFAIL";

/// When the next commit is due.
#[derive(Debug, Default)]
pub(super) struct CommitPace {
    last: Option<Instant>,
}

impl CommitPace {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL)
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) partition: Partition,
    pub(crate) offset: i64,
    /// Who did, if that was said.
    pub(crate) by: Option<Identity>,
}

/// What the group has committed for these topics, whoever reads them.
///
/// # Errors
/// Kafka does not answer in time.
pub(crate) fn committed(consumer: &Consumer, topics: &[&str], timeout: Duration) -> Result<Vec<Committed>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), timeout)?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            list.add_partition(topic, partition.id());
        }
    }
    let list = consumer.committed_offsets(list, timeout)?;
    let elements = list.elements();
    let mut committed = Vec::new();
    for element in &elements {
        // One that could not be asked is not one without a commit.
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            committed.push(Committed {
                partition: Partition::new(element.topic(), element.partition()),
                offset,
                // Kafka keeps it as text, so it is UTF-8, which rdkafka relies on.
                by: Identity::of_metadata(element.metadata()),
            });
        }
    }
    Ok(committed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_too_often() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = CommitPace::default();
        assert!(pace.is_due(at(0)));
        pace.sent(at(0));
        assert!(!pace.is_due(at(499)));
        assert!(pace.is_due(at(500)));
    }
}
