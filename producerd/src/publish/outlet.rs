//! The way of one exchange's books into its topic.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use coinflow_common::orderbook::{Exchange, HEADER_EXCHANGE, HEADER_PRODUCER, HEADER_SCHEMA, Market, SCHEMA, topic};
use crossbeam_channel::Sender;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult};
use rdkafka::types::RDKafkaErrorCode;

use super::flow::{Failed, Fate, Flow, fate};
use super::outbox::{Record, Waiting};
use super::producer::Producer;
use crate::config::KafkaConfig;

/// What waits in memory beyond the producer's own window.
const OUTBOX_BYTES_MAX: usize = 8 << 20;
/// Records handed to librdkafka under one lock.
const DRAIN_MAX: usize = 256;

/// Counts, and what is on its way.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(super) exchange: Exchange,
    pub(super) topic: String,
    pub(super) config: KafkaConfig,
    headers: OwnedHeaders,
    state: Mutex<State>,
    accepted: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    /// Something is watched that is published here.
    is_used: AtomicBool,
    /// Tells the topic thread to look again.
    topic_wanted: Sender<()>,
}

#[derive(Debug)]
struct State {
    flow: Flow,
    told: Told,
}

/// What the log has said already; each once per change.
#[derive(Debug, Default)]
struct Told {
    /// The outbox is full and the oldest records go.
    is_full: bool,
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

/// Books of one exchange since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    /// Kafka has confirmed them.
    pub(crate) delivered: u64,
    /// Lost, and said so.
    pub(crate) dropped: u64,
}

impl Counts {
    pub(crate) fn in_flight(&self) -> u64 {
        self.accepted.saturating_sub(self.delivered + self.dropped)
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.dropped += other.dropped;
    }
}

impl Outlet {
    /// `producer` is how records name their maker: program, version and host.
    pub(super) fn new(exchange: &Exchange, config: &KafkaConfig, producer: &str, topic_wanted: Sender<()>) -> Self {
        let headers = [(HEADER_SCHEMA, SCHEMA), (HEADER_EXCHANGE, exchange.as_str()), (HEADER_PRODUCER, producer)];
        let insert = |all: OwnedHeaders, (key, value): &(&str, &str)| all.insert(Header { key, value: Some(*value) });
        Self {
            exchange: exchange.clone(),
            topic: topic(&config.topic_prefix, exchange),
            config: config.clone(),
            headers: headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), insert),
            state: Mutex::new(State { flow: Flow::new(OUTBOX_BYTES_MAX), told: Told::default() }),
            accepted: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            is_used: AtomicBool::new(false),
            topic_wanted,
        }
    }

    /// From now on there is something to publish, and so the topic has to be there.
    pub(super) fn set_used(&self) {
        if !self.is_used.swap(true, Ordering::AcqRel) {
            // A full channel has told it already.
            _ = self.topic_wanted.try_send(());
        }
    }

    /// Whether the topic has to be looked at, or made.
    pub(super) fn needs_topic(&self) -> bool {
        self.is_used.load(Ordering::Acquire) && !self.lock().flow.is_topic_ready()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process, so no half-made state is ever seen here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> Counts {
        // In this order, so that what is on its way is never counted negative.
        let dropped = self.dropped.load(Ordering::Acquire);
        let delivered = self.delivered.load(Ordering::Acquire);
        Counts { accepted: self.accepted.load(Ordering::Acquire), delivered, dropped }
    }

    /// Takes a record over. Records of one caller keep their order.
    pub(super) fn publish(self: &Arc<Self>, producer: &Producer, record: Record) {
        self.accepted.fetch_add(1, Ordering::AcqRel);
        let mut state = self.lock();
        let dropped = state.flow.push(record);
        self.drop_oldest(&mut state, dropped);
        // Where others wait, the poll thread hands on all.
        if state.flow.waiting() == 1 {
            self.send_next(&mut state, producer);
        }
    }

    /// Hands on what waits, as far as the producer's window has room.
    pub(super) fn drain(self: &Arc<Self>, producer: &Producer) {
        loop {
            let mut state = self.lock();
            for _ in 0..DRAIN_MAX {
                if !self.send_next(&mut state, producer) {
                    return;
                }
            }
        }
    }

    /// Whether records wait that are to be sent soon.
    pub(super) fn is_waiting(&self) -> bool {
        let state = self.lock();
        state.flow.is_topic_ready() && state.flow.waiting() > 0
    }

    /// Hands a record to librdkafka. False if none waits, or none may go now.
    fn send_next(self: &Arc<Self>, state: &mut State, producer: &Producer) -> bool {
        let now = Instant::now();
        let Some(Waiting { record, number }) = state.flow.front(now) else { return false };
        let ticket = Ticket { outlet: Arc::clone(self), number: *number };
        let message = BaseRecord::with_opaque_to(&self.topic, Box::new(ticket))
            .key(record.market.as_str())
            .payload(&record.value)
            .timestamp(record.timestamp)
            .headers(self.headers.clone());
        let Err(error) = producer.send(message) else {
            state.flow.sent();
            return true;
        };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        match fate(code) {
            Fate::Lost => {
                let market = record.market.as_str().to_owned();
                state.flow.discard();
                self.lose(state, &market, &error);
                true
            }
            _ if code == RDKafkaErrorCode::QueueFull => false,
            Fate::Pending | Fate::Again => {
                state.flow.close(now);
                self.look_at_topic(state, &error);
                false
            }
        }
    }

    fn reported(&self, number: u64, result: &DeliveryResult<'_>) {
        let (Ok(message) | Err((_, message))) = result;
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let mut state = self.lock();
        let error = match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::AcqRel);
                state.told.lost.remove(key);
                if state.flow.delivered() {
                    self.recovered(&mut state);
                }
                return;
            }
            Err((error, _)) => error,
        };
        // Our own records: the key is a market, and the value is there.
        let Ok(market) = Market::parse(key) else { return };
        let value = message.payload().unwrap_or_default().to_vec();
        let record = Record { market, value, timestamp: message.timestamp().to_millis().unwrap_or_default() };
        let fate = fate(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail));
        match state.flow.failed(Instant::now(), fate, number, record) {
            Failed::Pending => {}
            Failed::Lost => self.lose(&mut state, key, error),
            Failed::Fewer { dropped } => self.drop_oldest(&mut state, dropped),
            Failed::Again { dropped, is_first } => {
                self.drop_oldest(&mut state, dropped);
                if is_first {
                    self.look_at_topic(&mut state, error);
                }
            }
        }
    }

    fn drop_oldest(&self, state: &mut State, dropped: u64) {
        if dropped == 0 {
            return;
        }
        self.dropped.fetch_add(dropped, Ordering::AcqRel);
        if !std::mem::replace(&mut state.told.is_full, true) {
            log::error!("no room for books while Kafka is away, the oldest are dropped exchange={}", self.exchange);
        }
    }

    fn lose(&self, state: &mut State, market: &str, error: &KafkaError) {
        self.dropped.fetch_add(1, Ordering::AcqRel);
        let err = error.to_string();
        if state.told.lost.get(market) != Some(&err) {
            log::error!("book refused by Kafka and dropped exchange={} market={market} err={err:?}", self.exchange);
            state.told.lost.insert(market.to_owned(), err);
        }
    }

    fn look_at_topic(&self, state: &mut State, error: &KafkaError) {
        let err = error.to_string();
        if state.told.waits.as_ref() != Some(&err) {
            let (exchange, topic) = (&self.exchange, &self.topic);
            log::warn!("books wait, Kafka does not take them exchange={exchange} topic={topic} err={err:?}");
            state.told.waits = Some(err);
        }
        // A full channel has told it already.
        _ = self.topic_wanted.try_send(());
    }

    fn recovered(&self, state: &mut State) {
        let was_full = std::mem::take(&mut state.told.is_full);
        if state.told.waits.take().is_some() || was_full {
            let dropped = self.dropped.load(Ordering::Acquire);
            log::info!("books flow to Kafka again exchange={} dropped_so_far={dropped}", self.exchange);
        }
    }

    /// Why Kafka does not take the books, though it can be reached.
    pub(super) fn waits_for(&self) -> Option<String> {
        self.lock().told.waits.clone()
    }

    pub(super) fn topic_is_ready(&self) {
        self.lock().flow.topic_is_ready();
    }
}
