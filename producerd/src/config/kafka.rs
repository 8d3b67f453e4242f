//! The table `[kafka]`, and that of one exchange.

use std::ops::RangeInclusive;
use std::time::Duration;

use coinflow_common::config::{Bytes, Table, show_duration};
use coinflow_common::kafka::{ClusterConfig, Overrides, Role, read_brokers};

const BROKERS: &str = "localhost:9092";
const TOPIC_PREFIX: &str = "coinflow.orderbook";
/// Kafka's limit for a topic's name is 249; an exchange's name and a dot take up to 33.
const TOPIC_PREFIX_BYTES_MAX: usize = 216;
const TOPIC: TopicConfig = TopicConfig {
    partitions: 3,
    replication_factor: 1,
    retention: Duration::from_secs(7 * 86_400),
    retention_size: 10 << 30,
    max_message_size: 1 << 20,
};
const PARTITIONS_RANGE: RangeInclusive<u64> = 1..=1000;
const REPLICATION_FACTOR_RANGE: RangeInclusive<u64> = 1..=100;
const RETENTION_RANGE: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(36_500 * 86_400);
const RETENTION_SIZE_RANGE: RangeInclusive<u64> = 1 << 20..=1 << 50;
/// A book of 30 levels a side takes about 2 KiB; librdkafka's own limit is a little below 1 GB.
const MAX_MESSAGE_SIZE_RANGE: RangeInclusive<u64> = 16 << 10..=512 << 20;

/// The table `[kafka]`, or that of one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KafkaConfig {
    pub(crate) cluster: ClusterConfig,
    pub(crate) topic_prefix: String,
    pub(crate) topic: TopicConfig,
}

/// How a missing topic is made; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    pub(crate) partitions: u64,
    pub(crate) replication_factor: u64,
    pub(crate) retention: Duration,
    /// Of each partition.
    pub(crate) retention_size: u64,
    pub(crate) max_message_size: u64,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            cluster: ClusterConfig { brokers: vec![BROKERS.to_owned()], overrides: Overrides::default() },
            topic_prefix: TOPIC_PREFIX.to_owned(),
            topic: TOPIC,
        }
    }
}

impl KafkaConfig {
    pub(super) fn read(table: &mut Table<'_>, inherited: &Self) -> Self {
        let brokers = read_brokers(table, &inherited.cluster.brokers);
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let topic_prefix = match table.optional_string("topic_prefix") {
            Some(prefix) if !prefix.chars().all(is_allowed) || prefix.len() > TOPIC_PREFIX_BYTES_MAX => {
                let message = format!(
                    "{prefix:?} is no start of a topic name: letters, digits, '.', '_', '-', at most {TOPIC_PREFIX_BYTES_MAX}"
                );
                table.problem("topic_prefix", message);
                prefix
            }
            prefix => prefix.unwrap_or_else(|| inherited.topic_prefix.clone()),
        };
        let overrides = Overrides::read(table, Role::Producer, &inherited.cluster.overrides);
        let topic = table.table("topic", |topic| TopicConfig::read(topic, inherited.topic));
        Self { cluster: ClusterConfig { brokers, overrides }, topic_prefix, topic }
    }

    pub(super) fn settings(&self, table: &str, settings: &mut Vec<(String, String)>) {
        let topic = &self.topic;
        let mut put = |key: &str, value: String| settings.push((format!("{table}.{key}"), value));
        put("brokers", self.cluster.brokers.join(","));
        put("topic_prefix", self.topic_prefix.clone());
        put("librdkafka", format!("{:?}", self.cluster.overrides));
        put("topic.partitions", topic.partitions.to_string());
        put("topic.replication_factor", topic.replication_factor.to_string());
        put("topic.retention", show_duration(topic.retention));
        put("topic.retention_size", Bytes(topic.retention_size).to_string());
        put("topic.max_message_size", Bytes(topic.max_message_size).to_string());
    }
}

impl TopicConfig {
    pub(super) fn read(table: &mut Table<'_>, default: Self) -> Self {
        Self {
            partitions: table.integer("partitions", default.partitions, PARTITIONS_RANGE),
            replication_factor: table.integer(
                "replication_factor",
                default.replication_factor,
                REPLICATION_FACTOR_RANGE,
            ),
            retention: table.duration("retention", default.retention, RETENTION_RANGE),
            retention_size: table.size("retention_size", default.retention_size, RETENTION_SIZE_RANGE),
            max_message_size: table.size("max_message_size", default.max_message_size, MAX_MESSAGE_SIZE_RANGE),
        }
    }
}
