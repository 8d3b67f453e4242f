//! Makes the topics that are missing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coinflow_common::config::{Bytes, show_duration};
use coinflow_common::daemon::Beat;
use coinflow_common::kafka::Cluster;
use crossbeam_channel::Receiver;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::live::{Live, difference};
use super::outlet::Outlet;
use super::producer::Producer;

/// One question to Kafka.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The thread `kafka-topics` of one cluster.
pub(super) struct Topics {
    pub(super) producer: Arc<Producer>,
    pub(super) settings: ClientConfig,
    /// Something has to be looked at, or the daemon stops.
    pub(super) wanted: Receiver<()>,
}

/// Where a topic stands.
enum Found {
    Ready,
    Missing,
    /// It exists, but has no leader yet.
    NotYet,
}

/// Says what librdkafka logs; its connections' state is the producer's to tell.
struct AdminContext(Arc<Cluster>);

impl ClientContext for AdminContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

/// What asks Kafka for more than records.
struct Admin {
    client: AdminClient<AdminContext>,
    runtime: tokio::runtime::Runtime,
    options: AdminOptions,
}

impl Topics {
    pub(super) fn run(self, beat: &Beat) {
        let mut retry = RETRY_MIN;
        let mut told: Option<String> = None;
        loop {
            let waiting = beat.waiting("Kafka");
            let missing: Vec<&Arc<Outlet>> =
                self.producer.outlets.iter().filter(|outlet| outlet.needs_topic()).collect();
            for outlet in self.producer.outlets.iter().filter(|outlet| outlet.take_compare()) {
                match self.live(&outlet.topic) {
                    Ok(live) => {
                        let brokers = self.producer.cluster.name();
                        outlet.compared(difference(&outlet.topic, brokers, &outlet.config.topic, &live));
                    }
                    // A new client drops its first address once it knows the brokers, and with it what has not gone out.
                    Err(KafkaError::AdminOp(RDKafkaErrorCode::DestroyBroker)) => outlet.compare_again(),
                    // Its rights may not be ours; publishing needs none of it.
                    Err(error) => log::info!("topic cannot be compared topic={} err=\"{error}\"", outlet.topic),
                }
            }
            if missing.is_empty() {
                retry = RETRY_MIN;
                _ = self.wanted.recv();
            } else {
                for outlet in missing {
                    match self.ensure(outlet) {
                        Ok(true) => {
                            outlet.topic_is_ready();
                            told = None;
                        }
                        Ok(false) => {}
                        Err(error) => {
                            let error = error.to_string();
                            // While Kafka is away, the cluster's own line has told so.
                            if self.producer.cluster.is_up() && told.as_ref() != Some(&error) {
                                log::warn!("topic cannot be made, tried again topic={} err={error:?}", outlet.topic);
                                told = Some(error);
                            }
                        }
                    }
                }
                if self.producer.outlets.iter().any(|outlet| outlet.needs_topic()) {
                    _ = self.wanted.recv_timeout(retry);
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
            drop(waiting);
            if self.producer.stop.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Whether the topic is there to be written to; makes it if it is missing.
    fn ensure(&self, outlet: &Outlet) -> Result<bool, KafkaError> {
        match self.find(&outlet.topic)? {
            Found::Ready => Ok(true),
            Found::NotYet => Ok(false),
            Found::Missing => {
                self.make(outlet)?;
                // Seen in the metadata at the next look.
                Ok(false)
            }
        }
    }

    fn find(&self, topic: &str) -> Result<Found, KafkaError> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(Found::Missing);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(Found::Missing),
            Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(Found::NotYet),
            Some(code) => Err(KafkaError::MetadataFetch(code)),
            None if found.partitions().is_empty() => Ok(Found::Missing),
            None => Ok(Found::Ready),
        }
    }

    fn admin(&self) -> Result<Admin, KafkaError> {
        let mut settings = self.settings.clone();
        settings.set("statistics.interval.ms", "0");
        let context = AdminContext(Arc::clone(&self.producer.cluster));
        let client = settings.create_with_context(context)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|_| KafkaError::AdminOp(RDKafkaErrorCode::CriticalSystemResource))?;
        let options =
            AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        Ok(Admin { client, runtime, options })
    }

    /// How a topic is.
    fn live(&self, topic: &str) -> Result<Live, KafkaError> {
        let metadata = self.producer.client().fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(0, |found| found.partitions().len() as u64);
        let Admin { client, runtime, options } = self.admin()?;
        let results = runtime.block_on(client.describe_configs([&ResourceSpecifier::Topic(topic)], &options))?;
        let resource = results.into_iter().next().transpose().map_err(KafkaError::AdminOp)?;
        let number = |name: &str| resource.as_ref()?.get(name)?.value.as_ref()?.parse().ok();
        Ok(Live {
            partitions,
            retention_ms: number("retention.ms"),
            retention_bytes: number("retention.bytes"),
            max_message_bytes: number("max.message.bytes"),
        })
    }

    fn make(&self, outlet: &Outlet) -> Result<(), KafkaError> {
        let Admin { client, runtime, options } = self.admin()?;
        let config = &outlet.config.topic;
        let retention = config.retention.as_millis().to_string();
        let retention_bytes = config.retention_size.to_string();
        let max_message_bytes = config.max_message_size.to_string();
        // The configuration's ranges are far inside these types.
        let partitions = i32::try_from(config.partitions).unwrap_or(i32::MAX);
        let replication = i32::try_from(config.replication_factor).unwrap_or(i32::MAX);
        let topic = NewTopic::new(&outlet.topic, partitions, TopicReplication::Fixed(replication))
            .set("retention.ms", &retention)
            .set("retention.bytes", &retention_bytes)
            .set("max.message.bytes", &max_message_bytes);
        let results = runtime.block_on(client.create_topics([&topic], &options))?;
        match results.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
            _ => {
                log::info!(
                    "topic made topic={} partitions={partitions} replication_factor={replication} retention={} retention_size={}",
                    outlet.topic,
                    show_duration(config.retention),
                    Bytes(config.retention_size),
                );
                Ok(())
            }
        }
    }
}
