//! From the outlet into librdkafka, and what is reported back.

use std::sync::Arc;
use std::time::Instant;

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DeliveryResult};
use rdkafka::types::RDKafkaErrorCode;

use super::{DRAIN_MAX, End, OPEN_MAX, Outlet, READ_AHEAD_BYTES, State, Ticket};
use crate::publish::backlog::Queued;
use crate::publish::flow::{Failed, Fate, fate};
use crate::publish::outbox::Waiting;
use crate::publish::producer::Producer;
use crate::spool::Loss;

impl Outlet {
    /// Hands on what waits, as far as the producer's window has room.
    pub(in crate::publish) fn drain(self: &Arc<Self>, producer: &Producer) {
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
    pub(in crate::publish) fn is_waiting(&self) -> bool {
        let state = self.lock();
        state.flow.is_topic_ready() && (state.flow.waiting() > 0 || state.backlog.is_open())
    }

    /// Hands a record to librdkafka. False if none waits, or none may go now.
    pub(super) fn send_next(self: &Arc<Self>, state: &mut State, producer: &Producer, now: Instant) -> bool {
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

    pub(super) fn reported(&self, number: u64, result: &DeliveryResult<'_>) {
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

    pub(super) fn drop_oldest(&self, state: &mut State, dropped: u64) {
        if dropped == 0 {
            return;
        }
        state.counts.dropped(dropped);
        if !std::mem::replace(&mut state.told.is_full, true) {
            let (exchange, why) = (&self.exchange, state.told.spool.as_deref().unwrap_or("the disk is too slow"));
            log::error!("no room for books in memory, the oldest are dropped exchange={exchange} err={why:?}");
        }
    }

    pub(super) fn lose(&self, state: &mut State, market: &str, spooled: Option<u64>, error: &KafkaError) {
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
}
