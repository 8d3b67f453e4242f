//! A Kafka client that only asks: it is in no group, reads no record and commits nothing.

use std::mem::ManuallyDrop;
use std::time::Duration;

use coinflow_common::kafka::{Cluster, client_config};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::Source;
use crate::record::Partition;

/// A question may take so long.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The client of a command.
pub(crate) struct Lookup {
    /// Never closed: that can take long when brokers are away, and the process is about to end.
    consumer: ManuallyDrop<BaseConsumer<Quiet>>,
    pub(crate) cluster_id: String,
}

/// No watermarks.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) reason: String,
    /// It is not about this partition: another question would wait as long.
    pub(crate) is_away: bool,
}

struct Quiet(Cluster);

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

impl Lookup {
    /// Connects and asks which cluster it is.
    ///
    /// # Errors
    /// A secret that cannot be read, or no answer.
    pub(crate) fn open(source: &Source) -> Result<Self, String> {
        let brokers = source.cluster.brokers.join(",");
        let failed = |reason: &str| format!("source {}: Kafka at {brokers}: {reason}", source.name);
        let config = client_config(&source.cluster, "consumerd-command").map_err(|reason| failed(&reason))?;
        let consumer: BaseConsumer<Quiet> = config
            .create_with_context(Quiet(Cluster::new(brokers.as_str())))
            .map_err(|error| failed(&error.to_string()))?;
        let consumer = ManuallyDrop::new(consumer);
        let cluster_id = consumer.client().fetch_cluster_id(TIMEOUT).ok_or_else(|| failed("no answer"))?;
        Ok(Self { consumer, cluster_id })
    }

    /// The first offset that Kafka holds, and the one behind its last.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn watermarks(&self, partition: &Partition) -> Result<(i64, i64), Unanswered> {
        use RDKafkaErrorCode as Code;
        self.consumer.fetch_watermarks(&partition.topic, partition.number, TIMEOUT).map_err(|error| {
            let code = error.rdkafka_error_code();
            let reason = match code {
                Some(Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                    "Kafka has no such topic or partition".to_owned()
                }
                _ => format!("Kafka: {error}"),
            };
            let away = [Code::OperationTimedOut, Code::BrokerTransportFailure, Code::AllBrokersDown];
            Unanswered { reason, is_away: code.is_some_and(|code| away.contains(&code)) }
        })
    }
}
