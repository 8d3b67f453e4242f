//! The way of one exchange's books into its topic.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coinflow_common::orderbook::{Exchange, HEADER_EXCHANGE, HEADER_PRODUCER, HEADER_SCHEMA, SCHEMA, topic};
use crossbeam_channel::Sender;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult};
use rdkafka::types::RDKafkaErrorCode;

use super::backlog::{Backlog, Queued};
use super::counts::Counts;
use super::flow::{Failed, Fate, Flow, fate};
use super::live::Difference;
use super::outbox::{Record, Waiting};
use super::producer::Producer;
use crate::config::KafkaConfig;
use crate::spool::{Batch, Loss, Opened};

/// Beyond this, what waits for Kafka goes into the spool, and so does what has waited for so long.
const OUTBOX_BYTES_MAX: usize = 1 << 20;
const WAIT_MAX: Duration = Duration::from_secs(1);
/// What is read from the spool ahead of what Kafka takes.
const READ_AHEAD_BYTES: usize = 1 << 20;
/// So much of what waits to be written wakes the writer before its time.
const WRITE_BYTES: usize = 512 << 10;
/// What is written at once.
const WRITE_BYTES_MAX: usize = 1 << 20;
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

/// What the end has left to be kept.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// In the order in which they were accepted; before all that is in the spool unread.
    pub(super) under_way: Vec<Record>,
    /// So many of these, from the first on, Kafka may have.
    pub(super) maybe_delivered: usize,
    /// Behind all that is in the spool.
    pub(super) queued: Vec<Record>,
    /// Numbers in the spool of those under way that are counted as spooled.
    spooled: Vec<u64>,
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

    /// Hands on what waits, as far as the producer's window has room.
    pub(super) fn drain(self: &Arc<Self>, producer: &Producer) {
        loop {
            let now = Instant::now();
            let mut state = self.lock();
            if !state.backlog.is_known() && now.saturating_duration_since(self.made_at) >= OPEN_MAX {
                // A disk that does not answer is no reason to hold books back.
                state.backlog.found(0);
            }
            for _ in 0..DRAIN_MAX {
                if self.send_next(&mut state, producer, now) {
                    continue;
                }
                if state.end <= End::Near
                    && state.flow.waiting() == 0
                    && state.flow.is_flowing(now)
                    && let Some(Queued { record, copy_of }) = state.backlog.pop_direct()
                {
                    match copy_of {
                        None => state.flow.push(record, None, now),
                        Some(number) => state.flow.was_not_spooled(number),
                    }
                    continue;
                }
                self.close_or_open(&mut state, now);
                return;
            }
        }
    }

    fn close_or_open(&self, state: &mut State, now: Instant) {
        let is_closed = state.backlog.close_if_empty();
        if is_closed {
            state.told.loss_at = None;
            self.tell_loss(state, Loss::default(), now);
        }
        if is_closed
            && let Some(since) = state.told.spooling.take()
            && state.told.spooling_at.is_some_and(|at| at >= since)
        {
            let (exchange, after) = (&self.exchange, now.saturating_duration_since(since).as_secs_f64());
            log::info!("no book waits in the spool any more exchange={exchange} after={after:.1}s");
        }
        self.open_if_stuck(state, now);
        if state.backlog.unread() > 0 && Self::room(state, now) > READ_AHEAD_BYTES / 2 {
            self.want_spool();
        }
    }

    /// Whether records wait that are to be sent soon.
    pub(super) fn is_waiting(&self) -> bool {
        let state = self.lock();
        state.flow.is_topic_ready() && (state.flow.waiting() > 0 || state.backlog.is_open())
    }

    /// Hands a record to librdkafka. False if none waits, or none may go now.
    fn send_next(self: &Arc<Self>, state: &mut State, producer: &Producer, now: Instant) -> bool {
        if state.end > End::Near {
            return false;
        }
        let Some(Waiting { record, number, spooled, .. }) = state.flow.front(now) else { return false };
        let spooled = *spooled;
        let ticket = Ticket { outlet: Arc::clone(self), number: *number };
        let message = BaseRecord::with_opaque_to(&self.topic, Box::new(ticket))
            .key(record.market.as_str())
            .payload(&record.value)
            .timestamp(record.timestamp)
            .headers(self.headers.clone());
        let Err(error) = producer.send(message) else {
            state.flow.sent(now);
            state.counts.leaves_spool(spooled.is_some());
            return true;
        };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        match fate(code) {
            Fate::Lost => {
                let market = record.market.as_str().to_owned();
                state.flow.discard();
                state.counts.leaves_spool(spooled.is_some());
                self.lose(state, &market, spooled, &error);
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
        let now = Instant::now();
        let mut state = self.lock();
        let error = match result {
            Ok(_) => {
                if let Some(Waiting { record, spooled, .. }) = state.flow.delivered(now, number) {
                    state.counts.delivered();
                    state.backlog.done(spooled);
                    state.told.lost.remove(record.market.as_str());
                }
                if state.flow.is_well() {
                    self.recovered(&mut state);
                }
                return;
            }
            Err((error, _)) => error,
        };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let is_spooled = state.flow.on_its_way().get(&number).is_some_and(|waiting| waiting.spooled.is_some());
        match state.flow.failed(now, fate(code), number) {
            None => {}
            // One in librdkafka's queue may have been sent before, and be there for a retry.
            Some(Failed::Pending(waiting)) => state.taken_back.push((waiting, true)),
            Some(Failed::Lost(Waiting { record, spooled, .. })) => {
                self.lose(&mut state, record.market.as_str(), spooled, error);
            }
            Some(Failed::Fewer) => state.counts.returns_to_spool(is_spooled),
            Some(Failed::Again { is_first }) => {
                state.counts.returns_to_spool(is_spooled);
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
        state.counts.dropped(dropped);
        if !std::mem::replace(&mut state.told.is_full, true) {
            let (exchange, why) = (&self.exchange, state.told.spool.as_deref().unwrap_or("the disk is too slow"));
            log::error!("no room for books in memory, the oldest are dropped exchange={exchange} err={why:?}");
        }
    }

    fn lose(&self, state: &mut State, market: &str, spooled: Option<u64>, error: &KafkaError) {
        state.counts.dropped(1);
        state.backlog.done(spooled);
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
            let dropped = state.counts.dropped;
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

    // What follows is for the thread that has the spool.

    /// What is to be written into the spool now. What could go to Kafka directly is left to do so.
    pub(super) fn take_for_spool(&self) -> Vec<Queued> {
        let now = Instant::now();
        let mut state = self.lock();
        let is_new = now.saturating_duration_since(self.made_at) < WAIT_MAX;
        let is_soon = state.backlog.unread() == 0 && (is_new || state.flow.is_flowing(now));
        if !state.backlog.is_open() || is_soon {
            return Vec::new();
        }
        state.backlog.take(WRITE_BYTES_MAX)
    }

    /// The records have these numbers in the spool, from `first` on.
    pub(super) fn written(&self, taken: &[Queued], first: u64) {
        let now = Instant::now();
        let mut state = self.lock();
        let mut copies = 0;
        for (spooled, queued) in (first..).zip(taken) {
            let Some(number) = queued.copy_of else { continue };
            copies += 1;
            if state.flow.was_spooled(number, spooled) {
                state.backlog.is_copied(spooled);
                if !state.flow.on_its_way().contains_key(&number) {
                    state.counts.spooled(1);
                }
            }
        }
        state.backlog.written(copies);
        state.counts.spooled(taken.len() as u64 - copies);
        // Once for each time, and not for each of many short ones.
        let is_time = state.told.spooling_at.is_none_or(|at| now.saturating_duration_since(at) >= TELL_INTERVAL);
        if is_time && state.told.spooling_at < state.told.spooling {
            let Self { exchange, topic, .. } = self;
            log::warn!("books wait in the spool until Kafka takes them exchange={exchange} topic={topic}");
            state.told.spooling_at = Some(now);
        }
    }

    /// These had to go from the full spool.
    pub(super) fn lost_in_spool(&self, loss: Loss) {
        if loss.records > 0 {
            let mut state = self.lock();
            self.gone(&mut state, loss.records);
            self.tell_loss(&mut state, loss, Instant::now());
        }
    }

    /// These numbers had to go from the full spool: what was read of them is in memory alone now.
    pub(super) fn left_spool(&self, numbers: &Range<u64>) {
        let mut state = self.lock();
        let waiting = state.flow.left_spool(numbers);
        state.counts.leave_spool(waiting);
        state.backlog.left_spool(numbers);
    }

    /// As [`left_spool`](Self::left_spool), at the end.
    pub(super) fn rest_left_spool(&self, rest: &mut Rest, numbers: &Range<u64>) {
        let before = rest.spooled.len();
        rest.spooled.retain(|number| !numbers.contains(number));
        self.lock().counts.leave_spool((before - rest.spooled.len()) as u64);
    }

    /// The folder was removed: what was read from there is in memory alone, and new numbers mean other records.
    pub(super) fn folder_is_gone(&self) {
        self.spool_is_gone();
        self.left_spool(&(0..u64::MAX));
    }

    /// Nothing of what should be in the spool is there.
    pub(super) fn spool_is_gone(&self) {
        let mut state = self.lock();
        let unread = state.backlog.unread();
        if unread > 0 {
            log::error!("books in the spool are gone exchange={} count={unread}", self.exchange);
            self.gone(&mut state, unread);
        }
    }

    /// Tells what had to go, at once and then once in a while.
    fn tell_loss(&self, state: &mut State, loss: Loss, now: Instant) {
        state.told.loss += loss;
        let is_time = state.told.loss_at.is_none_or(|at| now.saturating_duration_since(at) >= TELL_INTERVAL);
        if state.told.loss.records > 0 && is_time {
            let loss = std::mem::take(&mut state.told.loss);
            log::error!("the spool is full, the oldest books are dropped exchange={} {loss}", self.exchange);
            state.told.loss_at = Some(now);
        }
    }

    /// Records in the spool are no longer there.
    fn gone(&self, state: &mut State, records: u64) {
        let gone = state.backlog.vanished(records);
        state.counts.leave_spool(gone);
        state.counts.dropped(gone);
    }

    pub(super) fn not_written(&self, taken: Vec<Queued>, error: &std::io::Error) {
        let mut state = self.lock();
        let dropped = state.backlog.not_written(taken);
        self.spool_fails(&mut state, error);
        self.drop_oldest(&mut state, dropped);
    }

    fn spool_fails(&self, state: &mut State, error: &std::io::Error) {
        state.backlog.found(0);
        let err = error.to_string();
        if state.told.spool.as_ref() != Some(&err) {
            log::error!("the spool cannot be used, books wait in memory exchange={} err={err:?}", self.exchange);
            state.told.spool = Some(err);
        }
    }

    pub(super) fn spool_failed(&self, error: &std::io::Error) {
        let mut state = self.lock();
        self.spool_fails(&mut state, error);
    }

    /// The spool does its work.
    pub(super) fn spool_works(&self) {
        if self.lock().told.spool.take().is_some() {
            log::info!("the spool can be used again exchange={}", self.exchange);
        }
    }

    pub(super) fn opened(&self, opened: &Opened) {
        let Opened { records, maybe_sent, torn_bytes, missing } = *opened;
        let exchange = &self.exchange;
        if torn_bytes > 0 {
            log::warn!("the spool's end was not written whole and has been cut exchange={exchange} bytes={torn_bytes}");
        }
        if records > 0 {
            log::info!(
                "books of an earlier run wait in the spool exchange={exchange} count={records} maybe_delivered={maybe_sent}"
            );
            self.set_used();
        }
        if missing > 0 {
            log::error!("books in the spool cannot be read exchange={exchange} count={missing}");
        }
        let mut state = self.lock();
        state.counts.taken_over += records + missing;
        state.counts.dropped += missing;
        state.counts.spooled += records;
        state.backlog.found(records);
        state.told.spooling = (records > 0).then(Instant::now);
        state.told.spooling_at = state.told.spooling;
    }

    /// There is no spool, and nothing is published that would need one.
    pub(super) fn has_no_spool(&self) {
        self.lock().backlog.found(0);
    }

    /// How many bytes of records to read from the spool now.
    pub(super) fn read_room(&self) -> usize {
        Self::room(&self.lock(), Instant::now())
    }

    fn room(state: &State, now: Instant) -> usize {
        if state.end != End::No || state.backlog.unread() == 0 || !state.flow.is_flowing(now) {
            return 0;
        }
        READ_AHEAD_BYTES.saturating_sub(state.flow.waiting_bytes())
    }

    /// Takes what was read from the spool.
    pub(super) fn fill(&self, batch: Batch) {
        let now = Instant::now();
        let mut state = self.lock();
        for numbered in batch.records {
            state.backlog.was_read(numbered.number);
            state.flow.push(numbered.record, Some(numbered.number), now);
        }
        if batch.damaged > 0 {
            log::error!("books in the spool cannot be read exchange={} count={}", self.exchange, batch.damaged);
            self.gone(&mut state, batch.damaged);
        }
    }

    /// All that was read from the spool and has a smaller number has been delivered; none: all that was read.
    pub(super) fn done_before(&self) -> Option<u64> {
        self.lock().backlog.done_before()
    }

    /// The daemon stops: nothing more is read from the spool.
    pub(super) fn stop_reading(&self) {
        self.lock().end = End::Near;
    }

    /// librdkafka is about to give back what it has: what comes behind that must not go out now.
    pub(super) fn stop_sending(&self) {
        self.lock().end = End::TakingBack;
    }

    /// Records that librdkafka has.
    pub(super) fn on_its_way(&self) -> u64 {
        self.lock().flow.on_its_way().len() as u64
    }

    /// What is left is to be put into the spool.
    pub(super) fn put_away(&self) {
        self.lock().end = End::Here;
        self.want_spool();
    }

    pub(super) fn is_to_be_put_away(&self) -> bool {
        self.lock().end == End::Here
    }

    pub(super) fn is_put_away(&self) -> bool {
        self.lock().end == End::Over
    }

    /// All that is left in memory.
    pub(super) fn take_rest(&self) -> Rest {
        let mut state = self.lock();
        let mut rest = std::mem::take(&mut state.taken_back);
        // Of these, nothing more will be heard.
        rest.extend(state.flow.take_on_its_way().map(|waiting| (waiting, true)));
        let mut spooled = Vec::new();
        while let Some(waiting) = state.flow.pop() {
            spooled.extend(waiting.spooled);
            rest.push((waiting, false));
        }
        rest.sort_by_key(|(waiting, _)| waiting.number);
        let maybe_delivered = rest.iter().rposition(|(_, maybe)| *maybe).map_or(0, |last| last + 1);
        // What they are copies of is under way.
        let queued = state.backlog.take(usize::MAX).into_iter().filter(|queued| queued.copy_of.is_none());
        let queued = queued.map(|queued| queued.record).collect();
        let under_way = rest.into_iter().map(|(waiting, _)| waiting.record).collect();
        Rest { under_way, maybe_delivered, queued, spooled }
    }

    /// What was queued lies behind all that is in the spool.
    pub(super) fn queued_is_kept(&self, rest: &Rest) {
        let mut state = self.lock();
        state.backlog.written(0);
        state.counts.spooled(rest.queued.len() as u64);
    }

    /// What was under way comes first in the next run.
    pub(super) fn under_way_is_kept(&self, rest: &Rest) {
        self.lock().counts.spooled((rest.under_way.len() - rest.spooled.len()) as u64);
    }

    /// All that could be kept is.
    pub(super) fn ends(&self) {
        let mut state = self.lock();
        state.told.loss_at = None;
        self.tell_loss(&mut state, Loss::default(), Instant::now());
        state.end = End::Over;
    }

    /// What is wrong with the spool, and what waits there: for STATUS.
    pub(super) fn spool_state(&self) -> (Option<String>, u64) {
        let state = self.lock();
        (state.told.spool.clone(), state.counts.spooled)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use coinflow_common::orderbook::Market;
    use crossbeam_channel::bounded;

    use super::*;
    use crate::spool::Store;

    const MAX_BYTES: u64 = 64 << 10;

    fn records(count: usize) -> Vec<Record> {
        let market = Market::parse("KRW-BTC").unwrap();
        (0..count).map(|_| Record { market: market.clone(), value: vec![0; 1000], timestamp: 0 }).collect()
    }

    fn outlet() -> Outlet {
        let exchange = Exchange::parse("bithumb").unwrap();
        Outlet::new(&exchange, &KafkaConfig::default(), "producerd/0@host", bounded(1).0, bounded(1).0)
    }

    /// A spool of 50 records, of which 20 have been read ahead.
    fn read_ahead(folder: &Path) -> (Outlet, Store) {
        let (mut store, _) = Store::open(folder, MAX_BYTES).unwrap();
        records(50).chunks(5).for_each(|some| store.append(some.iter(), 0).unwrap());
        let outlet = outlet();
        outlet.opened(&Opened { records: 50, ..Opened::default() });
        outlet.fill(store.read(19_001).unwrap());
        assert_eq!((store.waiting(), outlet.lock().flow.waiting()), (30, 20));
        (outlet, store)
    }

    /// Whether what is counted as spooled is on disk, and all is counted once.
    fn check(outlet: &Outlet, spooled: u64, in_flight: u64, dropped: u64) {
        let counts = outlet.counts();
        assert_eq!((counts.spooled, counts.in_flight, counts.dropped), (spooled, in_flight, dropped));
        assert!(counts.is_balanced(), "{counts:?}");
    }

    #[test]
    fn what_was_read_ahead_of_a_segment_that_had_to_go_is_in_memory_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (outlet, mut store) = read_ahead(folder.path());
        check(&outlet, 50, 0, 0);
        // 25 more come, and most of what was read has to go for them.
        let fresh = records(25);
        outlet.lock().counts.accepted += 25;
        outlet.lock().counts.in_flight += 25;
        let first = store.end();
        fresh.chunks(5).for_each(|some| store.append(some.iter(), 0).unwrap());
        let taken: Vec<Queued> = fresh.into_iter().map(|record| Queued { record, copy_of: None }).collect();
        outlet.lock().backlog.push_taken(taken.len() as u64);
        outlet.written(&taken, first);
        assert_eq!(store.take_loss(), Loss::default());
        let gone = store.take_dropped().unwrap();
        let left = gone.end - (first - 50);
        assert!((1..20).contains(&left), "{left}");
        outlet.left_spool(&gone);
        assert_eq!(store.take_dropped(), None);
        check(&outlet, 75 - left, left, 0);
        assert_eq!(outlet.done_before(), Some(gone.end));
        // Told once more, it is the same.
        outlet.left_spool(&gone);
        check(&outlet, 75 - left, left, 0);
        // Handed on, each leaves the state in which it was counted.
        let mut state = outlet.lock();
        state.flow.topic_is_ready();
        let now = Instant::now();
        while let Some(is_spooled) = state.flow.front(now).map(|waiting| waiting.spooled.is_some()) {
            state.flow.sent(now);
            state.counts.leaves_spool(is_spooled);
        }
        drop(state);
        check(&outlet, 55, 20, 0);
    }

    #[test]
    fn a_folder_that_was_removed_leaves_what_was_read_in_memory_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (outlet, _store) = read_ahead(folder.path());
        outlet.folder_is_gone();
        check(&outlet, 0, 20, 30);
        assert_eq!(outlet.done_before(), None);
    }

    #[test]
    fn what_has_to_go_at_the_end_is_counted_as_kept_only_once_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (outlet, mut store) = read_ahead(folder.path());
        let mut rest = outlet.take_rest();
        records(25).chunks(5).for_each(|some| store.append(some.iter(), 0).unwrap());
        let gone = store.take_dropped().unwrap();
        outlet.rest_left_spool(&mut rest, &gone);
        let left = outlet.counts().in_flight;
        check(&outlet, 50 - left, left, 0);
        assert!((1..20).contains(&left), "{left}");
        outlet.under_way_is_kept(&rest);
        check(&outlet, 50, 0, 0);
    }
}
