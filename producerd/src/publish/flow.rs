//! What waits for Kafka, what is on its way there, and whether more may go. Pure.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use super::outbox::{Outbox, Record, Waiting};

/// After an error that concerns more than one record, the next try waits so long, longer each time.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// With nothing reported for so long, no more goes out: it waits where it is safe.
const STALL: Duration = Duration::from_secs(1);
/// What may be on its way at once, in bytes: enough for a distant Kafka, and no more than the operator can lose at a SIGKILL.
pub(super) const WINDOW_BYTES: usize = 1 << 20;

/// What to do with a record that could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The producer is being taken down: the record stays counted as in flight.
    Pending,
    /// A record's own fault; it can never be delivered.
    Lost,
    /// Tried again, once the topic has been looked at.
    Again,
}

pub(super) fn fate(code: RDKafkaErrorCode) -> Fate {
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

/// What became of a record that was not delivered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It is taken back for good.
    Pending(Waiting),
    Lost(Waiting),
    /// It waits again, to go out with fewer others.
    Fewer,
    /// It waits again, and nothing goes out for a while.
    Again {
        is_first: bool,
    },
}

/// The records of one topic.
#[derive(Debug)]
pub(super) struct Flow {
    outbox: Outbox,
    is_topic_ready: bool,
    /// Handed on and not yet reported, by number.
    on_its_way: BTreeMap<u64, Waiting>,
    on_its_way_bytes: usize,
    /// The most that were on their way at once since that was last asked.
    on_its_way_most: usize,
    /// When the last of them was reported, or the first one handed on.
    progress_at: Instant,
    /// Most records on their way. Kafka refuses a batch as a whole, and none has more records than these.
    window: u64,
    /// Deliveries since the window was changed.
    delivered: u64,
    /// Records were refused together: nothing goes out before all that is on its way has been reported.
    is_draining: bool,
    /// Nothing goes out until then, nor before all that is on its way has been reported: records that come back would
    /// be overtaken.
    closed_until: Option<Instant>,
    pause: Duration,
    /// Deliveries that are still to come before the last error counts as over.
    unproven: u64,
}

impl Flow {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            outbox: Outbox::default(),
            is_topic_ready: false,
            on_its_way: BTreeMap::new(),
            on_its_way_bytes: 0,
            on_its_way_most: 0,
            progress_at: now,
            window: u64::MAX,
            delivered: 0,
            is_draining: false,
            closed_until: None,
            pause: PAUSE_MIN,
            unproven: 0,
        }
    }

    pub(super) fn is_topic_ready(&self) -> bool {
        self.is_topic_ready
    }

    pub(super) fn topic_is_ready(&mut self) {
        self.is_topic_ready = true;
    }

    pub(super) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Neither waits anything nor is anything on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.outbox.len() == 0 && self.on_its_way.is_empty()
    }

    /// Records on their way, by number.
    pub(super) fn on_its_way(&self) -> &BTreeMap<u64, Waiting> {
        &self.on_its_way
    }

    /// The most records that were on their way at once since this was last asked.
    pub(super) fn take_on_its_way_most(&mut self) -> usize {
        std::mem::replace(&mut self.on_its_way_most, self.on_its_way.len())
    }

    /// A record that is on its way, if it still is, has been written into the spool too, with this number. Whether it still is.
    pub(super) fn was_spooled(&mut self, number: u64, spooled: u64) -> bool {
        let waiting = self.on_its_way.get_mut(&number).or_else(|| self.outbox.get_mut(number));
        waiting.map(|waiting| waiting.spooled = Some(spooled)).is_some()
    }

    /// These numbers are no longer in the spool. How many records with one of them wait here, in memory alone now.
    pub(super) fn left_spool(&mut self, numbers: &Range<u64>) -> u64 {
        let mut waiting_here = 0;
        let is_gone = |waiting: &Waiting| waiting.spooled.is_some_and(|number| numbers.contains(&number));
        for waiting in self.outbox.iter_mut().filter(|waiting| is_gone(waiting)) {
            (waiting.spooled, waiting.is_copied) = (None, false);
            waiting_here += 1;
        }
        for waiting in self.on_its_way.values_mut().filter(|waiting| is_gone(waiting)) {
            (waiting.spooled, waiting.is_copied) = (None, false);
        }
        waiting_here
    }

    /// Bytes that wait here.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Takes a record, and its number in the spool where it comes from there.
    pub(super) fn push(&mut self, record: Record, spooled: Option<u64>, now: Instant) {
        self.outbox.push(record, spooled, now);
    }

    /// Takes the youngest back, unless it is in the spool already, or some that come behind it are on their way.
    pub(super) fn pop_fresh(&mut self) -> Option<Record> {
        self.outbox.pop_fresh(self.on_its_way.last_key_value().map(|(number, _)| *number))
    }

    /// Copies of all that is here and not in the spool, in their order, with their numbers; each once.
    pub(super) fn copies(&mut self) -> Vec<(u64, Record)> {
        let all = self.on_its_way.values_mut().chain(self.outbox.iter_mut());
        let mut copies = Vec::new();
        for waiting in all.filter(|waiting| waiting.spooled.is_none() && !waiting.is_copied) {
            waiting.is_copied = true;
            copies.push((waiting.number, waiting.record.clone()));
        }
        copies.sort_by_key(|(number, _)| *number);
        copies
    }

    /// The copy of this one did not come into the spool.
    pub(super) fn was_not_spooled(&mut self, number: u64) {
        if let Some(waiting) = self.on_its_way.get_mut(&number).or_else(|| self.outbox.get_mut(number)) {
            waiting.is_copied = false;
        }
    }

    /// Gives up what is on its way.
    pub(super) fn take_on_its_way(&mut self) -> impl Iterator<Item = Waiting> + use<> {
        self.on_its_way_bytes = 0;
        std::mem::take(&mut self.on_its_way).into_values()
    }

    /// Takes the oldest back.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.outbox.pop()
    }

    /// Since when the oldest waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.outbox.front().map(|waiting| waiting.since)
    }

    /// Whether a record could go out now, as far as is known.
    pub(super) fn is_flowing(&self, now: Instant) -> bool {
        self.is_topic_ready && self.closed_until.is_none() && !self.is_stalled(now) && self.has_room()
    }

    /// Whether nothing of what is on its way has been reported for too long.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        !self.on_its_way.is_empty() && now.saturating_duration_since(self.progress_at) >= STALL
    }

    fn has_room(&self) -> bool {
        !self.is_draining && self.together() < self.window && self.on_its_way_bytes < WINDOW_BYTES
    }

    fn together(&self) -> u64 {
        self.on_its_way.len() as u64
    }

    /// The record to hand on now, if one may go; then either [`sent`](Self::sent) or [`discard`](Self::discard) it.
    pub(super) fn front(&mut self, now: Instant) -> Option<&Waiting> {
        if !self.is_topic_ready {
            return None;
        }
        if let Some(until) = self.closed_until {
            if now < until || !self.on_its_way.is_empty() {
                return None;
            }
            self.closed_until = None;
            self.unproven = (self.outbox.len() as u64).max(1);
        }
        self.is_draining &= !self.on_its_way.is_empty();
        let is_free = self.has_room() && !self.is_stalled(now);
        self.outbox.front().filter(|_| is_free)
    }

    /// The front has been handed on.
    pub(super) fn sent(&mut self, now: Instant) {
        if let Some(waiting) = self.outbox.pop() {
            if self.on_its_way.is_empty() {
                self.progress_at = now;
            }
            self.on_its_way_bytes += waiting.record.bytes();
            self.on_its_way.insert(waiting.number, waiting);
            self.on_its_way_most = self.on_its_way_most.max(self.on_its_way.len());
        }
    }

    fn reported(&mut self, now: Instant, number: u64) -> Option<Waiting> {
        self.progress_at = now;
        let waiting = self.on_its_way.remove(&number)?;
        self.on_its_way_bytes -= waiting.record.bytes();
        Some(waiting)
    }

    /// The front can never be handed on.
    pub(super) fn discard(&mut self) {
        self.outbox.pop();
    }

    /// Nothing goes out for a while, and the topic is looked at. Whether that is news.
    pub(super) fn close(&mut self, now: Instant) -> bool {
        if self.closed_until.is_some() {
            return false;
        }
        self.is_topic_ready = false;
        self.closed_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }

    /// A report of a delivery: the record. Each is reported once.
    pub(super) fn delivered(&mut self, now: Instant, number: u64) -> Option<Waiting> {
        let waiting = self.reported(now, number);
        self.delivered += 1;
        if self.delivered >= self.window {
            (self.window, self.delivered) = (self.window.saturating_add(1), 0);
        }
        if self.closed_until.is_none() {
            self.unproven = self.unproven.saturating_sub(1);
            if self.unproven == 0 {
                self.pause = PAUSE_MIN;
            }
        }
        waiting
    }

    /// Whether all is well, as far as this flow can tell.
    pub(super) fn is_well(&self) -> bool {
        self.closed_until.is_none() && self.unproven == 0 && self.outbox.len() == 0
    }

    /// A report that a record was not delivered; none if it was not on its way.
    pub(super) fn failed(&mut self, now: Instant, fate: Fate, number: u64) -> Option<Failed> {
        let together = self.together();
        let waiting = self.reported(now, number)?;
        Some(match fate {
            Fate::Pending => Failed::Pending(waiting),
            Fate::Lost if together <= 1 && !self.is_draining => Failed::Lost(waiting),
            // It may be the innocent one of a batch.
            Fate::Lost => {
                if !std::mem::replace(&mut self.is_draining, true) {
                    (self.window, self.delivered) = ((together / 2).max(1), 0);
                }
                self.outbox.put_back(waiting);
                Failed::Fewer
            }
            Fate::Again => {
                let is_first = self.close(now);
                self.outbox.put_back(waiting);
                Failed::Again { is_first }
            }
        })
    }
}
