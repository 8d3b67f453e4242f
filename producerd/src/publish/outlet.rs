//! The way of one exchange's books into its topic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coinflow_common::orderbook::{Exchange, HEADER_EXCHANGE, HEADER_PRODUCER, HEADER_SCHEMA, Market, SCHEMA, topic};
use crossbeam_channel::Sender;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult};
use rdkafka::types::RDKafkaErrorCode;

use super::outbox::{Outbox, Record};
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
    /// Tells the topic thread to look again.
    topic_wanted: Sender<()>,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    is_topic_ready: bool,
    told: Told,
}

/// What the log has said already; each once per change.
#[derive(Debug, Default)]
struct Told {
    /// The outbox is full and the oldest records go.
    is_full: bool,
    /// Why records wait.
    waits: Option<String>,
    /// Why the last records were lost that can never be delivered.
    lost: Option<String>,
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

/// What to do with a record that could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The producer is being taken down: the record stays counted as in flight.
    Pending,
    /// The record's own fault; it can never be delivered.
    Lost,
    /// Tried again, once the topic has been looked at.
    Again,
}

fn fate(code: RDKafkaErrorCode) -> Fate {
    use RDKafkaErrorCode as Code;
    match code {
        Code::PurgeQueue | Code::PurgeInflight => Fate::Pending,
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp => Fate::Lost,
        _ => Fate::Again,
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
            state: Mutex::new(State {
                outbox: Outbox::new(OUTBOX_BYTES_MAX),
                is_topic_ready: false,
                told: Told::default(),
            }),
            accepted: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            topic_wanted,
        }
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
        let passes = state.is_topic_ready && state.outbox.is_empty();
        if !passes || !self.send(&mut state, producer, &record) {
            let dropped = state.outbox.push(record);
            self.drop_oldest(&mut state, dropped);
        }
    }

    /// Hands on what waits, as far as the producer's window has room.
    pub(super) fn drain(self: &Arc<Self>, producer: &Producer) {
        loop {
            let mut state = self.lock();
            for _ in 0..DRAIN_MAX {
                if !state.is_topic_ready {
                    return;
                }
                let Some(record) = state.outbox.pop() else {
                    self.recovered(&mut state);
                    return;
                };
                if !self.send(&mut state, producer, &record) {
                    let dropped = state.outbox.put_back(record);
                    self.drop_oldest(&mut state, dropped);
                    return;
                }
            }
        }
    }

    /// Whether records wait that could be sent.
    pub(super) fn is_waiting(&self) -> bool {
        let state = self.lock();
        state.is_topic_ready && !state.outbox.is_empty()
    }

    /// Hands a record to librdkafka. False if it is to wait.
    fn send(self: &Arc<Self>, state: &mut State, producer: &Producer, record: &Record) -> bool {
        let message = BaseRecord::with_opaque_to(&self.topic, Arc::clone(self))
            .key(record.market.as_str())
            .payload(&record.value)
            .timestamp(record.timestamp)
            .headers(self.headers.clone());
        let Err(error) = producer.send(message) else { return true };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        match fate(code) {
            Fate::Lost => {
                self.lose(state, record.market.as_str(), &error);
                true
            }
            _ if code == RDKafkaErrorCode::QueueFull => false,
            Fate::Pending | Fate::Again => {
                self.look_at_topic(state, &error);
                false
            }
        }
    }

    /// A delivery report.
    pub(super) fn reported(&self, result: &DeliveryResult<'_>) {
        let (error, message) = match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::AcqRel);
                return;
            }
            Err((error, message)) => (error, message),
        };
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
        let mut state = self.lock();
        match fate(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)) {
            Fate::Pending => {}
            Fate::Lost => self.lose(&mut state, key, error),
            Fate::Again => {
                // Our own records: the key is a market, and the value is there.
                let Ok(market) = Market::parse(key) else { return };
                let value = message.payload().unwrap_or_default().to_vec();
                let timestamp = message.timestamp().to_millis().unwrap_or_default();
                let dropped = state.outbox.put_back(Record { market, value, timestamp });
                self.drop_oldest(&mut state, dropped);
                self.look_at_topic(&mut state, error);
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
        if state.told.lost.as_ref() != Some(&err) {
            log::error!("book refused by Kafka and dropped exchange={} market={market} err={err:?}", self.exchange);
            state.told.lost = Some(err);
        }
    }

    fn look_at_topic(&self, state: &mut State, error: &KafkaError) {
        state.is_topic_ready = false;
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

    pub(super) fn is_topic_ready(&self) -> bool {
        self.lock().is_topic_ready
    }

    pub(super) fn topic_is_ready(&self) {
        self.lock().is_topic_ready = true;
    }
}
