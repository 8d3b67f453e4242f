//! Positions that are not ours any more, were set by an operator, or went back with the database.

use std::time::{Duration, Instant};

use super::plan::set_otherwise;
use super::{TELL_AGAIN, Writer};
use crate::handover::News;
use crate::record::Partition;
use crate::store::{PgFault, Position};

/// How often the database is asked whether a position was set by hand, or went back or away with what was stored, as
/// after a restore. The compare-and-set would tell, but only when a record comes.
pub(super) const LOOK: Duration = Duration::from_secs(5);

impl Writer {
    /// Starts over where a position is another one than any that we have set, or a held partition was accepted.
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
        for (partition, at) in set_otherwise(&self.positions, &found) {
            self.lost(&partition, at);
        }
        self.look_at_held()
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
        let went_back = found.is_none_or(|at| at.generation <= held.at.generation && at.next < held.at.next);
        let what = match went_back {
            true => "database has gone back to an older state, reading on from its position",
            false => "position moved by somebody else, reading on from there",
        };
        let found = found.map_or_else(|| "none".to_owned(), |found| found.next.to_string());
        // Two groups that store the same topic fence each other all the time.
        let may_tell = self.fence_told_at.is_none_or(|at| at.elapsed() >= TELL_AGAIN);
        let level = if may_tell { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "{what} source={} {partition} expected={} found={found}", self.resolver.name, held.at.next);
        if may_tell {
            self.fence_told_at = Some(Instant::now());
        }
        self.state.counters.fence_lost.add(1);
        if let Some(store) = &mut self.store {
            store.forget();
        }
        self.handover.post(partition, held.epoch, News::Lost);
    }
}
