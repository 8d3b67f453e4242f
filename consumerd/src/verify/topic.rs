//! Kafka's side of `verify`: a client of its own that reads from explicit offsets, and neither joins the group nor
//! commits to it.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use coinflow_common::kafka::client_config;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::compare::{Bounds, Window};
use super::scope::Part;
use crate::config::Source;
use crate::decode;
use crate::record::Partition;
use crate::source::copy;

/// A question may take so long.
const ANSWER: Duration = Duration::from_secs(10);
/// Where records are to come, and none does for so long, Kafka is away.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(500);
/// A record may carry a time that much behind that of its book, and is still found by `--from`.
const SLACK_MILLIS: i64 = 3_600_000;

/// What a client may not do, whatever the file says.
const FIXED: [(&str, &str); 6] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    // What is fetched ahead and not yet compared.
    ("queued.max.messages.kbytes", "16384"),
    // When that much has been fetched, it would else pause for a second.
    ("fetch.queue.backoff.ms", "20"),
];

/// Remembers why Kafka is not reached.
#[derive(Debug, Default)]
struct Context {
    last: Mutex<Option<String>>,
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        log::debug!(target: "librdkafka", "{facility} {message}");
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        log::debug!("kafka error err={error} reason={reason:?}");
        let all_down = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // That all are down is said last and explains least.
        if !all_down || last.is_none() {
            *last = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Context {}

/// The cluster of a source.
pub(super) struct Topics {
    /// Never closed, however this ends: that can take long when brokers are away, and the process is about to end.
    consumer: ManuallyDrop<BaseConsumer<Context>>,
    brokers: String,
    pub(super) cluster: String,
}

impl Topics {
    /// Connects.
    pub(super) fn open(source: &Source) -> Result<Self, String> {
        let host = gethostname::gethostname();
        let mut config = client_config(&source.cluster, &format!("consumerd-verify-{}", host.to_string_lossy()))?;
        for (name, value) in FIXED {
            config.set(name, value);
        }
        // librdkafka wants a name even where no group is joined; this one begins as the group's, for prefixed rights.
        config.set("group.id", format!("{}-verify-{}", source.group, std::process::id()));
        let consumer: BaseConsumer<Context> =
            config.create_with_context(Context::default()).map_err(|error| error.to_string())?;
        let consumer = ManuallyDrop::new(consumer);
        let mut topics = Self { consumer, brokers: source.cluster.brokers.join(","), cluster: String::new() };
        // Errors are told while the client is polled, so it is between two questions.
        let deadline = Instant::now() + ANSWER;
        loop {
            if let Some(cluster) = topics.consumer.client().fetch_cluster_id(POLL) {
                topics.cluster = cluster;
                return Ok(topics);
            }
            drop(topics.consumer.poll(Duration::ZERO));
            if Instant::now() >= deadline {
                return Err(topics.away());
            }
        }
    }

    fn away(&self) -> String {
        let last = self.consumer.context().last.lock().unwrap_or_else(PoisonError::into_inner);
        let why = last.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("Kafka does not answer at {}{why}", self.brokers)
    }

    fn failed(&self, partition: &Partition, error: &KafkaError) -> String {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::BrokerTransportFailure) => self.away(),
            _ => format!("Kafka does not let {partition} be read: {error}"),
        }
    }

    /// The oldest offset that Kafka holds, and the one behind the newest; None where it has no such partition any more.
    pub(super) fn ends(&self, partition: &Partition) -> Result<Option<(i64, i64)>, String> {
        use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
        match self.consumer.fetch_watermarks(&partition.topic, partition.number, ANSWER) {
            Ok(ends) => Ok(Some(ends)),
            Err(error) => match error.rdkafka_error_code() {
                Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition) => Ok(None),
                _ => Err(self.failed(partition, &error)),
            },
        }
    }

    /// The first offset whose record may be within the bounds.
    pub(super) fn begin(&self, part: &Part, low: i64, bounds: Bounds) -> Result<i64, String> {
        let begin = part.start.max(low);
        let Some(from) = bounds.from else { return Ok(begin) };
        let partition = &part.partition;
        let failed = |error: KafkaError| self.failed(partition, &error);
        let millis = (from / 1000).saturating_sub(SLACK_MILLIS).max(0);
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(&partition.topic, partition.number, Offset::Offset(millis)).map_err(failed)?;
        let found = self.consumer.offsets_for_times(wanted, ANSWER).map_err(failed)?;
        match found.elements().first().map(|element| (element.offset(), element.error())) {
            Some((_, Err(error))) => Err(failed(error)),
            Some((Offset::Offset(offset), Ok(()))) => Ok(offset.max(begin)),
            // None is so young.
            _ => Ok(part.next.max(begin)),
        }
    }

    /// Reads a partition up to its position, window by window, until that or as long as they are wanted.
    pub(super) fn read(
        &self,
        part: &Part,
        begin: i64,
        bounds: Bounds,
        is_wanted: &AtomicBool,
        mut each: impl FnMut(Window),
    ) -> Result<(), String> {
        let partition = &part.partition;
        let mut window = Window::new(begin);
        let mut last = Instant::now();
        let mut buffer = Vec::new();
        if begin < part.next {
            self.assign(partition, begin)?;
        }
        while window.to < part.next {
            if !is_wanted.load(Ordering::Relaxed) {
                return Ok(());
            }
            match self.consumer.poll(POLL) {
                None if last.elapsed() > SILENCE_MAX => return Err(self.away()),
                None => continue,
                Some(Ok(message)) => {
                    last = Instant::now();
                    let offset = message.offset();
                    if offset < window.to || message.partition() != partition.number {
                        continue;
                    }
                    if offset >= part.next {
                        break;
                    }
                    let raw = copy(&message, buffer);
                    window.push(offset, decode::book(&raw), raw.key(), raw.at_ms, bounds);
                    buffer = raw.into_buffer();
                }
                // The last offsets before the position are no records, such as the marks of transactions.
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => {
                    if let Some((_, reason)) = self.consumer.client().fatal_error() {
                        return Err(reason);
                    }
                    let code = error.rdkafka_error_code();
                    if matches!(code, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) {
                        // Retention was faster than we.
                        let low = self.ends(partition)?.map_or(part.next, |(low, _)| low);
                        if low <= window.to {
                            return Err(self.failed(partition, &error));
                        }
                        if low >= part.next {
                            break;
                        }
                        self.assign(partition, low)?;
                    }
                    if code == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
                        return Err(self.failed(partition, &error));
                    }
                    log::debug!("kafka consumer error {partition} err={error}");
                }
            }
            if window.is_full() {
                let to = window.to;
                each(std::mem::replace(&mut window, Window::new(to)));
            }
        }
        // Rows behind the last record are looked for as well.
        window.to = part.next.max(window.to);
        each(window);
        Ok(())
    }

    fn assign(&self, partition: &Partition, offset: i64) -> Result<(), String> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| self.failed(partition, &error))
    }
}
