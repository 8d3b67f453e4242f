//! Positions that are not ours any more, or were set by an operator.

use std::time::{Duration, Instant};

use super::plan::raised;
use super::{TELL_AGAIN, Writer};
use crate::handover::News;
use crate::record::Partition;
use crate::store::{PgFault, Position};

/// How often the database is asked whether a position was set by hand. The compare-and-set would tell, but only when a
/// record comes.
pub(super) const LOOK: Duration = Duration::from_secs(5);

impl Writer {
    /// Starts over where a position has another generation than ours.
    pub(super) fn look(&mut self) -> Result<(), PgFault> {
        self.looked_at = Instant::now();
        let Some(store) = &mut self.store else { return Ok(()) };
        let mut topics: Vec<&str> = self.positions.keys().map(|partition| &*partition.topic).collect();
        topics.dedup();
        if topics.is_empty() {
            return Ok(());
        }
        let found = {
            let _waiting = self.beat.waiting(super::WAITS_ON);
            store.look_at(&topics)?
        };
        for (partition, at) in raised(&self.positions, &found) {
            self.lost(&partition, Some(at));
        }
        Ok(())
    }

    /// Somebody else has moved a position: nothing that was read of it counts, and it is read from where it is now.
    pub(super) fn lost(&mut self, partition: &Partition, found: Option<Position>) {
        let Some(held) = self.positions.remove(partition) else { return };
        self.records.retain(|record| record.partition != *partition);
        if self.handover.is_forgotten(partition) {
            // Its next owner has gone on, as it should, before what we still had of it.
            log::debug!("position moved by its new owner source={} {partition}", self.resolver.name);
            return;
        }
        let found = found.map_or_else(|| "none".to_owned(), |found| found.next.to_string());
        // Two groups that store the same topic fence each other all the time.
        let may_tell = self.fence_told_at.is_none_or(|at| at.elapsed() >= TELL_AGAIN);
        let level = if may_tell { log::Level::Warn } else { log::Level::Debug };
        log::log!(
            level,
            "position moved by somebody else, reading on from there source={} {partition} expected={} found={found}",
            self.resolver.name,
            held.at.next
        );
        if may_tell {
            self.fence_told_at = Some(Instant::now());
        }
        self.state.counters.fence_lost.add(1);
        self.handover.post(partition, held.epoch, News::Lost);
    }
}
