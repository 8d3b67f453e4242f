//! The outlet as the thread that has the spool sees it.

use std::ops::Range;
use std::time::Instant;

use super::{End, Outlet, READ_AHEAD_BYTES, State, TELL_INTERVAL, WAIT_MAX, WRITE_BYTES_MAX};
use crate::publish::backlog::Queued;
use crate::spool::{Batch, Loss, Opened};

impl Outlet {
    /// What is to be written into the spool now. What could go to Kafka directly is left to do so.
    pub(in crate::publish) fn take_for_spool(&self) -> Vec<Queued> {
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
    pub(in crate::publish) fn written(&self, taken: &[Queued], first: u64) {
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
    pub(in crate::publish) fn lost_in_spool(&self, loss: Loss) {
        if loss.records > 0 {
            let mut state = self.lock();
            self.gone(&mut state, loss.records);
            self.tell_loss(&mut state, loss, Instant::now());
        }
    }

    /// These numbers had to go from the full spool: what was read of them is in memory alone now.
    pub(in crate::publish) fn left_spool(&self, numbers: &Range<u64>) {
        let mut state = self.lock();
        let waiting = state.flow.left_spool(numbers);
        state.counts.leave_spool(waiting);
        state.backlog.left_spool(numbers);
    }

    /// The folder was removed: what was read from there is in memory alone, and new numbers mean other records.
    pub(in crate::publish) fn folder_is_gone(&self) {
        self.spool_is_gone();
        self.left_spool(&(0..u64::MAX));
    }

    /// Nothing of what should be in the spool is there.
    pub(in crate::publish) fn spool_is_gone(&self) {
        let mut state = self.lock();
        let unread = state.backlog.unread();
        if unread > 0 {
            log::error!("books in the spool are gone exchange={} count={unread}", self.exchange);
            self.gone(&mut state, unread);
        }
    }

    /// Tells what had to go, at once and then once in a while.
    pub(super) fn tell_loss(&self, state: &mut State, loss: Loss, now: Instant) {
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

    pub(in crate::publish) fn not_written(&self, taken: Vec<Queued>, error: &std::io::Error) {
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

    pub(in crate::publish) fn spool_failed(&self, error: &std::io::Error) {
        let mut state = self.lock();
        self.spool_fails(&mut state, error);
    }

    /// The spool does its work.
    pub(in crate::publish) fn spool_works(&self) {
        if self.lock().told.spool.take().is_some() {
            log::info!("the spool can be used again exchange={}", self.exchange);
        }
    }

    pub(in crate::publish) fn opened(&self, opened: &Opened) {
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
    pub(in crate::publish) fn has_no_spool(&self) {
        self.lock().backlog.found(0);
    }

    /// How many bytes of records to read from the spool now.
    pub(in crate::publish) fn read_room(&self) -> usize {
        Self::room(&self.lock(), Instant::now())
    }

    pub(super) fn room(state: &State, now: Instant) -> usize {
        if state.end != End::No || state.backlog.unread() == 0 || !state.flow.is_flowing(now) {
            return 0;
        }
        READ_AHEAD_BYTES.saturating_sub(state.flow.waiting_bytes())
    }

    /// Takes what was read from the spool.
    pub(in crate::publish) fn fill(&self, batch: Batch) {
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
    pub(in crate::publish) fn done_before(&self) -> Option<u64> {
        self.lock().backlog.done_before()
    }

    /// What is wrong with the spool, and what waits there: for STATUS.
    pub(in crate::publish) fn spool_state(&self) -> (Option<String>, u64) {
        let state = self.lock();
        (state.told.spool.clone(), state.counts.spooled)
    }
}
