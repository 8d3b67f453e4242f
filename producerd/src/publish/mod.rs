//! Books into Kafka: one producer per cluster, and an outlet for each exchange that publishes to it.

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

    pub(crate) fn counts(&self) -> Counts {
        self.outlet.counts()
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.producer.cluster
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
    /// A secret that cannot be read, or what librdkafka says against the settings.
    pub(crate) fn start(
        exchanges: &[ExchangeConfig],
        crew: &mut Crew,
        progress: &Progress,
        fatal: &mpsc::Sender<String>,
    ) -> Result<Self, String> {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let name = format!("producerd/{}@{host}", env!("CARGO_PKG_VERSION"));
        let mut clusters: BTreeMap<&ClusterConfig, Vec<&ExchangeConfig>> = BTreeMap::new();
        for exchange in exchanges {
            clusters.entry(&exchange.kafka.cluster).or_default().push(exchange);
        }
        let mut publishing = Self { producers: Vec::new(), publishers: BTreeMap::new() };
        for (config, exchanges) in clusters {
            let settings = client_config(config, &format!("producerd@{host}"))?;
            let (look, wanted) = bounded(1);
            let outlet = |exchange: &&ExchangeConfig| {
                Arc::new(Outlet::new(&exchange.exchange, &exchange.kafka, &name, look.clone()))
            };
            let outlets: Vec<Arc<Outlet>> = exchanges.iter().map(outlet).collect();
            let message_bytes_max =
                exchanges.iter().map(|exchange| exchange.kafka.topic.max_message_size).max().unwrap_or_default();
            let cluster = Arc::new(Cluster::new(config.brokers.join(",")));
            let producer = Producer::new(&settings, message_bytes_max, cluster, outlets)
                .map_err(|error| format!("kafka producer brokers={}: {error}", config.brokers.join(",")))?;
            let producer = Arc::new(producer);
            for outlet in &producer.outlets {
                let publisher = Publisher { outlet: Arc::clone(outlet), producer: Arc::clone(&producer) };
                publishing.publishers.insert(outlet.exchange.clone(), publisher);
            }
            let topics = Topics { producer: Arc::clone(&producer), settings, wanted };
            let beat = progress.register("kafka-topics");
            crew.spawn("kafka-topics", move || topics.run(&beat)).map_err(|error| error.to_string())?;
            let (polled, fatal) = (Arc::clone(&producer), fatal.clone());
            let beat = progress.register("kafka-poll");
            crew.spawn("kafka-poll", move || polled.run(&beat, &fatal)).map_err(|error| error.to_string())?;
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
