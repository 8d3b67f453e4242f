//! Books into Kafka: one producer per cluster, and an outlet for each exchange that publishes to it.

mod backlog;
mod counts;
mod flow;
mod guard;
mod live;
mod outbox;
mod outlet;
mod producer;
mod spooler;
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

pub(crate) use self::counts::Counts;
pub(crate) use self::outbox::Record;
use self::outlet::Outlet;
use self::producer::Producer;
use self::spooler::Spooler;
use self::topics::Topics;
use crate::config::{ExchangeConfig, SpoolConfig};

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

    /// Why the spool cannot be used, and how many books wait in it.
    pub(crate) fn spool_state(&self) -> (Option<String>, u64) {
        self.outlet.spool_state()
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
    outlets: Vec<Arc<Outlet>>,
    publishers: BTreeMap<Exchange, Publisher>,
}

impl Publishing {
    /// Starts a producer for each cluster, with its two threads, and one for each exchange's spool. `fatal` hears when one of them is of no use any more.
    ///
    /// # Errors
    /// [`StartError`]
    pub(crate) fn start(
        exchanges: &[ExchangeConfig],
        spool: &SpoolConfig,
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
        let (producers, outlets) = (Vec::new(), Vec::new());
        let mut publishing = Self { producers, outlets, publishers: BTreeMap::new() };
        for (config, exchanges) in clusters {
            let settings = client_config(config, &format!("producerd@{host}")).map_err(StartError::Settings)?;
            let (look, wanted) = bounded(1);
            let (mut outlets, mut spools) = (Vec::new(), Vec::new());
            for exchange in &exchanges {
                let (spool_wanted, wanted) = bounded(1);
                let outlet = Outlet::new(&exchange.exchange, &exchange.kafka, &name, look.clone(), spool_wanted);
                outlets.push(Arc::new(outlet));
                spools.push(wanted);
            }
            let cluster = Arc::new(Cluster::new(config.brokers.join(",")));
            let producer = Producer::new(&settings, cluster, outlets)
                .map_err(|error| StartError::of_producer(&error, &config.brokers))?;
            let producer = Arc::new(producer);
            for (outlet, wanted) in producer.outlets.iter().zip(spools) {
                let (outlet, producer) = (Arc::clone(outlet), Arc::clone(&producer));
                let name = thread_name(outlet.exchange.as_str());
                let folder = spool.directory.join(outlet.exchange.as_str());
                publishing.outlets.push(Arc::clone(&outlet));
                let spooler = Spooler { outlet, producer, folder, max_bytes: spool.max_size, wanted };
                let beat = progress.register(&name);
                crew.spawn(&name, move || spooler.run(&beat))?;
            }
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

    /// No book goes into the spool or out of it any more but by [`put_away`](Self::put_away).
    pub(crate) fn stop_reading(&self) {
        self.outlets.iter().for_each(|outlet| outlet.stop_reading());
    }

    /// Takes back what Kafka has not confirmed.
    pub(crate) fn take_back(&self) {
        self.outlets.iter().for_each(|outlet| outlet.stop_sending());
        self.producers.iter().for_each(|(producer, _)| producer.take_back());
    }

    /// Records that librdkafka has.
    pub(crate) fn on_its_way(&self) -> u64 {
        self.outlets.iter().map(|outlet| outlet.on_its_way()).sum()
    }

    /// What is in memory goes into the spool.
    pub(crate) fn put_away(&self) {
        self.outlets.iter().for_each(|outlet| outlet.put_away());
    }

    pub(crate) fn is_put_away(&self) -> bool {
        self.outlets.iter().all(|outlet| outlet.is_put_away())
    }

    /// Tells the threads to end.
    pub(crate) fn stop(&self) {
        for (producer, look) in &self.producers {
            producer.stop.store(true, Ordering::Release);
            _ = look.try_send(());
        }
    }
}

/// The name of the thread of an exchange's spool; names of threads have at most 15 bytes.
fn thread_name(exchange: &str) -> String {
    format!("spool-{:.9}", exchange)
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
