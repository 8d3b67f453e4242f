//! How the outlet ends: what is left is put into the spool.

use std::ops::Range;
use std::time::Instant;

use super::{End, Outlet};
use crate::publish::outbox::Record;
use crate::spool::Loss;

/// What the end has left to be kept.
#[derive(Debug, Default)]
pub(in crate::publish) struct Rest {
    /// In the order in which they were accepted; before all that is in the spool unread.
    pub(in crate::publish) under_way: Vec<Record>,
    /// So many of these, from the first on, Kafka may have.
    pub(in crate::publish) maybe_delivered: usize,
    /// Behind all that is in the spool.
    pub(in crate::publish) queued: Vec<Record>,
    /// Numbers in the spool of those under way that are counted as spooled.
    spooled: Vec<u64>,
}

impl Outlet {
    /// The daemon stops: nothing more is read from the spool.
    pub(in crate::publish) fn stop_reading(&self) {
        self.lock().end = End::Near;
    }

    /// librdkafka is about to give back what it has: what comes behind that must not go out now.
    pub(in crate::publish) fn stop_sending(&self) {
        self.lock().end = End::TakingBack;
    }

    /// Records that librdkafka has.
    pub(in crate::publish) fn on_its_way(&self) -> u64 {
        self.lock().flow.on_its_way().len() as u64
    }

    /// What is left is to be put into the spool.
    pub(in crate::publish) fn put_away(&self) {
        self.lock().end = End::Here;
        self.want_spool();
    }

    pub(in crate::publish) fn is_to_be_put_away(&self) -> bool {
        self.lock().end == End::Here
    }

    pub(in crate::publish) fn is_put_away(&self) -> bool {
        self.lock().end == End::Over
    }

    /// All that is left in memory.
    pub(in crate::publish) fn take_rest(&self) -> Rest {
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

    /// As [`left_spool`](Self::left_spool), at the end.
    pub(in crate::publish) fn rest_left_spool(&self, rest: &mut Rest, numbers: &Range<u64>) {
        let before = rest.spooled.len();
        rest.spooled.retain(|number| !numbers.contains(number));
        self.lock().counts.leave_spool((before - rest.spooled.len()) as u64);
    }

    /// What was queued lies behind all that is in the spool.
    pub(in crate::publish) fn queued_is_kept(&self, rest: &Rest) {
        let mut state = self.lock();
        state.backlog.written(0);
        state.counts.spooled(rest.queued.len() as u64);
    }

    /// What was under way comes first in the next run.
    pub(in crate::publish) fn under_way_is_kept(&self, rest: &Rest) {
        self.lock().counts.spooled((rest.under_way.len() - rest.spooled.len()) as u64);
    }

    /// All that could be kept is.
    pub(in crate::publish) fn ends(&self) {
        let mut state = self.lock();
        state.told.loss_at = None;
        self.tell_loss(&mut state, Loss::default(), Instant::now());
        state.end = End::Over;
    }
}
