//! How a topic is, against how it is configured. Pure.

use std::time::Duration;

use coinflow_common::config::{Bytes, show_duration};

use crate::config::TopicConfig;

/// A topic as Kafka has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) partitions: u64,
    /// In milliseconds; negative: for ever.
    pub(super) retention_ms: Option<i64>,
    /// Of a partition, in bytes; negative: without a limit.
    pub(super) retention_bytes: Option<i64>,
    pub(super) max_message_bytes: Option<i64>,
}

/// What differs, as `key=value configured=value …`, and the command that would make the topic as it is configured.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) commands: Vec<String>,
}

pub(super) fn difference(topic: &str, brokers: &str, config: &TopicConfig, live: &Live) -> Option<Difference> {
    let (mut what, mut settings, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    let show: [fn(i64) -> String; 2] = [show_millis, show_bytes];
    for (key, property, is, should, show) in [
        ("retention", "retention.ms", live.retention_ms, millis(config.retention), show[0]),
        ("retention_size", "retention.bytes", live.retention_bytes, bytes(config.retention_size), show[1]),
        ("max_message_size", "max.message.bytes", live.max_message_bytes, bytes(config.max_message_size), show[1]),
    ] {
        // What Kafka does not tell cannot be compared.
        let Some(is) = is.filter(|is| *is != should) else { continue };
        what.push(format!("{key}={} configured={}", show(is), show(should)));
        settings.push(format!("{property}={should}"));
    }
    if !settings.is_empty() {
        commands.push(format!(
            "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} \
             --add-config {}",
            settings.join(",")
        ));
    }
    if live.partitions != config.partitions {
        what.push(format!("partitions={} configured={}", live.partitions, config.partitions));
    }
    // Kafka can add partitions, and never takes one away.
    if live.partitions < config.partitions {
        commands.push(format!(
            "kafka-topics.sh --bootstrap-server {brokers} --alter --topic {topic} --partitions {}",
            config.partitions
        ));
    }
    (!what.is_empty()).then(|| Difference { what: what.join(" "), commands })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn show_millis(millis: i64) -> String {
    u64::try_from(millis).map_or_else(|_| "unlimited".to_owned(), |millis| show_duration(Duration::from_millis(millis)))
}

fn show_bytes(size: i64) -> String {
    u64::try_from(size).map_or_else(|_| "unlimited".to_owned(), |size| Bytes(size).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;

    #[test]
    fn what_differs_is_named_with_the_command_that_changes_it() {
        let config = KafkaConfig::default().topic;
        let live = Live {
            partitions: 3,
            retention_ms: Some(604_800_000),
            retention_bytes: Some(10 << 30),
            max_message_bytes: Some(1 << 20),
        };
        assert_eq!(difference("t", "k:1", &config, &live), None);
        // What Kafka does not tell is no difference.
        assert_eq!(difference("t", "k:1", &config, &Live { retention_ms: None, ..live }), None);
        let other = Live { partitions: 1, retention_ms: Some(86_400_000), retention_bytes: Some(-1), ..live };
        let Difference { what, commands } = difference("t", "k:1", &config, &other).unwrap();
        assert_eq!(
            what,
            "retention=1d configured=7d retention_size=unlimited configured=10GiB partitions=1 configured=3"
        );
        assert_eq!(
            commands,
            [
                "kafka-configs.sh --bootstrap-server k:1 --alter --entity-type topics --entity-name t \
                 --add-config retention.ms=604800000,retention.bytes=10737418240",
                "kafka-topics.sh --bootstrap-server k:1 --alter --topic t --partitions 3",
            ]
        );
        let more = difference("t", "k:1", &config, &Live { partitions: 9, ..live }).unwrap();
        assert_eq!((more.what.as_str(), more.commands.len()), ("partitions=9 configured=3", 0));
    }
}
