//! A source: the Kafka client of one cluster, and the thread that polls it.

mod aside;
mod commits;
mod context;
mod lookup;
mod partitions;
mod poll;

use std::sync::Arc;

use coinflow_common::kafka::{Cluster, client_config};
use rdkafka::consumer::BaseConsumer;

pub(crate) use commits::{Committed, committed};
pub(crate) use context::Context;
pub(crate) use lookup::Lookup;
pub(crate) use partitions::Overview;
pub(crate) use poll::{Poll, copy};

use crate::config::{Batch, Source};
use crate::handover::Handover;
use crate::state::State;

/// The Kafka client of a source; shared by its poll thread and its writer, which asks it for ends and commits.
pub(crate) type Consumer = BaseConsumer<Context>;

/// What coinflow's promises rest on; no file can change it.
const FIXED: [(&str, &str); 6] = [
    ("group.protocol", "classic"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // A position that Kafka does not have is an error to be looked at, never a jump.
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
];

/// So long a rebalance waits for members that are gone when the coordinator has lost sight of them: after all brokers had died
/// at once, a group was seen to stand still for all of it. Our members are polled many times a second, whatever happens.
const MAX_POLL_MS: u32 = 45_000;
const FETCH_BYTES: &str = "fetch.message.max.bytes";

/// Unless the file says otherwise.
const DEFAULTS: [(&str, &str); 9] = [
    // A member that was killed is replaced after so long.
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "2000"),
    // Topics and partitions that appear are found this soon.
    ("topic.metadata.refresh.interval.ms", "3000"),
    // A fetch brings so much of each partition, still compressed: it is what this queue is exceeded by, several times over.
    // With 4096 the same drain had the same rate, and took 3 MB more.
    (FETCH_BYTES, "262144"),
    ("queued.max.messages.kbytes", "2048"),
    ("queued.min.messages", "10000"),
    // How long fetching pauses when that much has been fetched.
    ("fetch.queue.backoff.ms", "20"),
    // A broker answers a fetch as soon as there is a record; this is only how long it waits for one.
    ("fetch.wait.max.ms", "500"),
    ("fetch.error.backoff.ms", "200"),
];

/// A source, and what its poll thread and its writer share.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) source: Source,
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) handover: Arc<Handover>,
    pub(crate) state: Arc<State>,
}

impl Link {
    /// Makes the client; it does not need to reach anything yet.
    ///
    /// # Errors
    /// A secret that cannot be read, or settings that do not go together.
    pub(crate) fn new(source: &Source, batch: Batch, host: &str) -> Result<Self, String> {
        let mut config = client_config(&source.cluster, &format!("consumerd-{host}"))?;
        for (name, value) in DEFAULTS {
            // The one that has another name, which the file may use.
            let other_name = if name == FETCH_BYTES { "max.partition.fetch.bytes" } else { name };
            if config.get(name).or(config.get(other_name)).is_none() {
                config.set(name, value);
            }
        }
        if config.get("max.poll.interval.ms").is_none() {
            // Kafka wants it no shorter than the session, which the file may have made long.
            let session = config.get("session.timeout.ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
            config.set("max.poll.interval.ms", session.max(MAX_POLL_MS).to_string());
        }
        for (name, value) in FIXED {
            config.set(name, value);
        }
        config.set("group.id", &source.group);
        let cluster = Arc::new(Cluster::new(source.cluster.brokers.join(",")));
        let context = Context::new(Arc::clone(&cluster));
        let consumer: Consumer = config.create_with_context(context).map_err(|error| error.to_string())?;
        Ok(Self {
            source: source.clone(),
            consumer: Arc::new(consumer),
            cluster,
            handover: Arc::new(Handover::new(batch)),
            state: Arc::new(State::default()),
        })
    }
}
