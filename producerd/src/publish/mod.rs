//! Books into Kafka: one producer per cluster, and an outlet for each exchange that publishes to it.

mod flow;
mod outbox;
mod outlet;
mod producer;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use coinflow_common::daemon::{Crew, Progress};
use coinflow_common::kafka::{Cluster, ClusterConfig, client_config};
use coinflow_common::orderbook::Exchange;
use crossbeam_channel::{Sender, bounded};
use rdkafka::error::KafkaError;
use tokio::sync::mpsc;

pub(crate) use self::outbox::Record;
pub(crate) use self::outlet::Counts;
use self::outlet::Outlet;
use self::producer::Producer;
use self::topics::Topics;
use crate::config::ExchangeConfig;

/// What a worker needs to publish the books of its exchange.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    outlet: Arc<Outlet>,
    producer: Arc<Producer>,
}

impl Publisher {
    /// Takes a record over: from here on it is delivered, or counted as dropped or in flight.
    pub(crate) fn publish(&self, record: Record) {
        self.outlet.publish(&self.producer, record);
    }

    /// There is something to publish from now on.
    pub(crate) fn set_used(&self) {
        self.outlet.set_used();
    }

    pub(crate) fn counts(&self) -> Counts {
        self.outlet.counts()
    }

    /// Why Kafka does not take the books, though it can be reached.
    pub(crate) fn waits_for(&self) -> Option<String> {
        self.outlet.waits_for()
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.producer.cluster
    }
}

/// Why nothing can be published.
#[derive(Debug)]
pub(crate) enum StartError {
    /// A secret cannot be read, or what librdkafka says against the settings.
    Settings(String),
    /// The system has no thread to give.
    System(String),
}

impl StartError {
    fn of_producer(error: &KafkaError, brokers: &[String]) -> Self {
        let text = format!("kafka producer brokers={}: {error}", brokers.join(","));
        // librdkafka has words for it, but no code.
        if text.contains("Failed to create thread") { Self::System(text) } else { Self::Settings(text) }
    }
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.to_string())
    }
}

/// The producers of all clusters.
#[derive(Debug)]
pub(crate) struct Publishing {
    producers: Vec<(Arc<Producer>, Sender<()>)>,
    publishers: BTreeMap<Exchange, Publisher>,
}

impl Publishing {
    /// Starts a producer for each cluster, with its two threads. `fatal` hears when one of them is of no use any more.
    ///
    /// # Errors
    /// [`StartError`]
    pub(crate) fn start(
        exchanges: &[ExchangeConfig],
        crew: &mut Crew,
        progress: &Progress,
        fatal: &mpsc::Sender<String>,
    ) -> Result<Self, StartError> {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let name = format!("producerd/{}@{host}", env!("CARGO_PKG_VERSION"));
        let mut clusters: BTreeMap<&ClusterConfig, Vec<&ExchangeConfig>> = BTreeMap::new();
        for exchange in exchanges {
            clusters.entry(&exchange.kafka.cluster).or_default().push(exchange);
        }
        let mut publishing = Self { producers: Vec::new(), publishers: BTreeMap::new() };
        for (config, exchanges) in clusters {
            let settings = client_config(config, &format!("producerd@{host}")).map_err(StartError::Settings)?;
            let (look, wanted) = bounded(1);
            let outlet = |exchange: &&ExchangeConfig| {
                Arc::new(Outlet::new(&exchange.exchange, &exchange.kafka, &name, look.clone()))
            };
            let outlets: Vec<Arc<Outlet>> = exchanges.iter().map(outlet).collect();
            let cluster = Arc::new(Cluster::new(config.brokers.join(",")));
            let producer = Producer::new(&settings, cluster, outlets)
                .map_err(|error| StartError::of_producer(&error, &config.brokers))?;
            let producer = Arc::new(producer);
            for outlet in &producer.outlets {
                let publisher = Publisher { outlet: Arc::clone(outlet), producer: Arc::clone(&producer) };
                publishing.publishers.insert(outlet.exchange.clone(), publisher);
            }
            let topics = Topics { producer: Arc::clone(&producer), settings, wanted };
            let beat = progress.register("kafka-topics");
            crew.spawn("kafka-topics", move || topics.run(&beat))?;
            let (polled, fatal) = (Arc::clone(&producer), fatal.clone());
            let beat = progress.register("kafka-poll");
            crew.spawn("kafka-poll", move || polled.run(&beat, &fatal))?;
            publishing.producers.push((producer, look));
        }
        Ok(publishing)
    }

    pub(crate) fn publisher(&self, exchange: &Exchange) -> Option<&Publisher> {
        self.publishers.get(exchange)
    }

    /// Tells the threads to end.
    pub(crate) fn stop(&self) {
        for (producer, look) in &self.producers {
            producer.stop.store(true, Ordering::Release);
            _ = look.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_files_is_told_from_what_the_system_lacks() {
        let of = |text: &str| StartError::of_producer(&KafkaError::ClientCreation(text.to_owned()), &[]);
        assert!(matches!(of("ssl.ca.location failed: No such file"), StartError::Settings(_)));
        let lack = "Failed to create thread: Resource temporarily unavailable (11)";
        assert!(matches!(of(lack), StartError::System(_)));
    }
}
