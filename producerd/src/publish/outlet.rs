//! The way of one exchange's books into its topic.

mod ending;
mod sending;
mod spooling;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coinflow_common::orderbook::{Exchange, HEADER_EXCHANGE, HEADER_PRODUCER, HEADER_SCHEMA, SCHEMA, topic};
use crossbeam_channel::Sender;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::DeliveryResult;
use rdkafka::types::RDKafkaErrorCode;

use super::backlog::Backlog;
use super::counts::Counts;
use super::flow::Flow;
use super::live::Difference;
use super::outbox::{Record, Waiting};
use super::producer::Producer;
use crate::config::KafkaConfig;
use crate::spool::Loss;

pub(super) use self::ending::Rest;

/// Beyond this, what waits for Kafka goes into the spool, and so does what has waited for so long.
const OUTBOX_BYTES_MAX: usize = 1 << 20;
const WAIT_MAX: Duration = Duration::from_secs(1);
/// What is read from the spool ahead of what Kafka takes.
const READ_AHEAD_BYTES: usize = 512 << 10;
/// So much of what waits to be written wakes the writer before its time.
const WRITE_BYTES: usize = 256 << 10;
/// What is written at once.
const WRITE_BYTES_MAX: usize = 512 << 10;
/// Books wait so long for the spool to be opened.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// Records handed to librdkafka under one lock.
const DRAIN_MAX: usize = 256;
/// The log tells at most so often that books go into the spool.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// Counts, and what is on its way.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(super) exchange: Exchange,
    pub(super) topic: String,
    pub(super) config: KafkaConfig,
    headers: OwnedHeaders,
    state: Mutex<State>,
    /// Something is watched that is published here.
    is_used: AtomicBool,
    made_at: Instant,
    /// The topic is to be compared with the configuration.
    is_to_compare: AtomicBool,
    /// Tells the topic thread to look again.
    topic_wanted: Sender<()>,
    /// Tells the spool's thread to look again.
    spool_wanted: Sender<()>,
}

#[derive(Debug)]
struct State {
    flow: Flow,
    backlog: Backlog,
    counts: Counts,
    /// Taken back from librdkafka at the end, and whether Kafka may have them.
    taken_back: Vec<(Waiting, bool)>,
    end: End,
    told: Told,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    No,
    /// Nothing more is read from the spool.
    Near,
    /// Nothing more is handed to librdkafka, which gives back what it has.
    TakingBack,
    /// What is left is to be put into the spool.
    Here,
    /// And that is over.
    Over,
}

/// What the log has said already; each once per change.
#[derive(Debug, Default)]
struct Told {
    /// There is no more room and the oldest records go.
    is_full: bool,
    /// Books wait in the spool since then.
    spooling: Option<Instant>,
    /// When the log was last told so.
    spooling_at: Option<Instant>,
    /// What had to go from the full spool and has not been told, and when that was done last.
    loss: Loss,
    loss_at: Option<Instant>,
    /// How the topic differs from the configuration.
    difference: Option<Difference>,
    /// Why the spool cannot be used.
    spool: Option<String>,
    /// Why records wait.
    waits: Option<String>,
    /// Why the last record of a market was lost, until one of it is delivered.
    lost: HashMap<String, String>,
}

/// Comes back with the report on a record.
#[derive(Debug)]
pub(super) struct Ticket {
    outlet: Arc<Outlet>,
    number: u64,
}

impl Ticket {
    pub(super) fn reported(&self, result: &DeliveryResult<'_>) {
        self.outlet.reported(self.number, result);
    }

    /// Whether no other record of its outlet is still to be delivered.
    pub(super) fn is_last(&self) -> bool {
        self.outlet.lock().flow.is_idle()
    }
}

impl Outlet {
    /// `producer` is how records name their maker: program, version and host.
    pub(super) fn new(
        exchange: &Exchange,
        config: &KafkaConfig,
        producer: &str,
        topic_wanted: Sender<()>,
        spool_wanted: Sender<()>,
    ) -> Self {
        let state = State {
            flow: Flow::new(Instant::now()),
            backlog: Backlog::new(),
            counts: Counts::default(),
            taken_back: Vec::new(),
            end: End::No,
            told: Told { spooling: Some(Instant::now()), ..Told::default() },
        };
        let headers = [(HEADER_SCHEMA, SCHEMA), (HEADER_EXCHANGE, exchange.as_str()), (HEADER_PRODUCER, producer)];
        let insert = |all: OwnedHeaders, (key, value): &(&str, &str)| all.insert(Header { key, value: Some(*value) });
        Self {
            exchange: exchange.clone(),
            topic: topic(&config.topic_prefix, exchange),
            config: config.clone(),
            headers: headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), insert),
            state: Mutex::new(state),
            is_used: AtomicBool::new(false),
            made_at: Instant::now(),
            is_to_compare: AtomicBool::new(true),
            topic_wanted,
            spool_wanted,
        }
    }

    /// From now on there is something to publish, and so the topic has to be there.
    pub(super) fn set_used(&self) {
        if !self.is_used.swap(true, Ordering::AcqRel) {
            // A full channel has told it already.
            _ = self.topic_wanted.try_send(());
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }

    /// Whether the topic has to be looked at, or made.
    pub(super) fn needs_topic(&self) -> bool {
        self.is_used() && !self.lock().flow.is_topic_ready()
    }

    /// Kafka can be reached again, and may have changed meanwhile.
    pub(super) fn compare_again(&self) {
        self.is_to_compare.store(true, Ordering::Release);
        if self.is_used() {
            _ = self.topic_wanted.try_send(());
        }
    }

    /// Whether the topic is to be compared with the configuration now; it is asked once.
    pub(super) fn take_compare(&self) -> bool {
        self.is_used() && self.lock().flow.is_topic_ready() && self.is_to_compare.swap(false, Ordering::AcqRel)
    }

    /// Tells how the topic differs from the configuration, once per change.
    pub(super) fn compared(&self, difference: Option<Difference>) {
        let Self { exchange, topic, .. } = self;
        let told = &mut self.lock().told.difference;
        if *told == difference {
            return;
        }
        match &difference {
            Some(Difference { what, commands }) => {
                log::warn!("topic is not as configured, left as it is exchange={exchange} topic={topic} {what}");
                for command in commands {
                    log::warn!("topic would be as configured by exchange={exchange} command={command:?}");
                }
            }
            None => log::info!("topic is as configured exchange={exchange} topic={topic}"),
        }
        *told = difference;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process, so no half-made state is ever seen here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Takes a record over. Records of one caller keep their order.
    pub(super) fn publish(self: &Arc<Self>, producer: &Producer, record: Record) {
        let now = Instant::now();
        let mut state = self.lock();
        state.counts.accepted += 1;
        state.counts.in_flight += 1;
        // librdkafka has one limit for all topics, and looks at it before compression as well.
        if (record.value.len() + record.market.as_str().len()) as u64 > self.config.topic.max_message_size {
            let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
            self.lose(&mut state, record.market.as_str(), None, &error);
            return;
        }
        if state.backlog.is_open() {
            let dropped = state.backlog.push(record);
            self.drop_oldest(&mut state, dropped);
            if state.backlog.queued_bytes() > WRITE_BYTES {
                self.want_spool();
            }
            return;
        }
        state.flow.push(record, None, now);
        // Where others wait, the poll thread hands on all.
        if state.flow.waiting() == 1 {
            self.send_next(&mut state, producer, now);
        }
        self.open_if_stuck(&mut state, now);
    }

    fn want_spool(&self) {
        // A full channel has told it already.
        _ = self.spool_wanted.try_send(());
    }

    /// Lets books go into the spool if they wait too long, or are too many; and copies of those on their way with them.
    fn open_if_stuck(&self, state: &mut State, now: Instant) {
        let waits = |since| now.saturating_duration_since(since) >= WAIT_MAX;
        let is_long = state.flow.is_stalled(now) || state.flow.waits_since().is_some_and(waits);
        if !state.backlog.takes_copies() || !(is_long || state.flow.waiting_bytes() > OUTBOX_BYTES_MAX) {
            return;
        }
        let mut fresh = Vec::new();
        if !state.backlog.is_open() {
            fresh.extend(std::iter::from_fn(|| state.flow.pop_fresh()));
        }
        let copies = state.flow.copies();
        if fresh.is_empty() && copies.is_empty() {
            return;
        }
        state.backlog.open(copies, fresh);
        if state.told.spooling.is_some() {
            return;
        }
        state.told.spooling = Some(now);
        self.want_spool();
    }

    /// Kafka's guard against doubles was looked at; when it has begun anew, what was on its way may be there twice.
    pub(super) fn guarded(&self, is_anew: bool) {
        let most = self.lock().flow.take_on_its_way_most();
        if is_anew && most > 0 {
            log::warn!(
                "kafka's guard against doubles began anew, books that were on their way may be there twice exchange={} \
                 maybe_delivered={most}",
                self.exchange
            );
        }
    }

    /// Why Kafka does not take the books, though it can be reached.
    pub(super) fn waits_for(&self) -> Option<String> {
        self.lock().told.waits.clone()
    }

    pub(super) fn topic_is_ready(&self) {
        self.lock().flow.topic_is_ready();
    }

    // What follows is for the thread that has the spool.
}
