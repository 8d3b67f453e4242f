//! What the breaker has the writer do.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{WAITS_ON, Writer};
use crate::breaker::{Entry, Phase, Run};
use crate::handover::News;
use crate::record::{Epoch, Partition};
use crate::store::PgFault;

impl Writer {
    /// A partition is to be read, and the database has this run of it. False: it is held.
    pub(super) fn enter(&mut self, partition: &Partition, epoch: Epoch, run: Option<Run>) -> bool {
        let source = &self.resolver.name;
        match self.breaker.enter(partition, run, Instant::now()) {
            Entry::Free { is_released } => {
                if is_released {
                    log::info!("held partition goes on, it was accepted or set source={source} {partition}");
                    self.handover.post(partition, epoch, News::Released);
                }
                true
            }
            Entry::Try(reason) => {
                self.handover.post(partition, epoch, News::Held { reason });
                true
            }
            Entry::Wait { reason, is_new } => {
                if is_new {
                    log::error!("partition held source={source} {partition} reason={reason:?}");
                }
                self.handover.post(partition, epoch, News::Held { reason });
                false
            }
        }
    }

    /// A held partition may have no record to try. The poll thread does not ask then, and STATUS would not be true.
    pub(super) fn look_at_held(&mut self) -> Result<(), PgFault> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let mut freed = Vec::new();
        for (partition, held) in self.positions.iter().filter(|(partition, _)| self.breaker.is_held(partition)) {
            let run = {
                let _waiting = self.beat.waiting(WAITS_ON);
                store.run(&held.cluster, partition, held.at.generation)?
            };
            if run.is_none_or(|run| run.phase != Phase::Held) {
                freed.push(partition.clone());
            }
        }
        freed.iter().for_each(|partition| self.read_again(partition));
        Ok(())
    }

    /// Nothing of the partition from this offset on may be stored now. What is before it is tried without the rest.
    pub(super) fn cut(&mut self, partition: &Partition, at: i64) {
        self.records.retain(|record| record.partition != *partition || record.offset < at);
        if let Some(held) = self.positions.get_mut(partition) {
            held.until = Some(at);
        }
        self.end_of_cut(partition);
    }

    /// A batch that changed these runs is stored.
    pub(super) fn turned(&mut self, changed: BTreeMap<Partition, Option<Run>>) {
        let turned = self.breaker.turn(changed, Instant::now());
        for partition in &turned.released {
            log::info!("held partition goes on source={} {partition}", self.resolver.name);
            if let Some(held) = self.positions.get(partition) {
                self.handover.post(partition, held.epoch, News::Released);
            }
        }
        turned.held.iter().for_each(|partition| self.read_again(partition));
        let cut = self.positions.iter().filter(|(_, held)| held.until.is_some());
        let cut: Vec<Partition> = cut.map(|(partition, _)| partition.clone()).collect();
        cut.iter().for_each(|partition| self.end_of_cut(partition));
    }

    /// When all before the cut is stored, what is behind it is read again, or not, as the answer will be.
    fn end_of_cut(&mut self, partition: &Partition) {
        if self.records.iter().all(|record| record.partition != *partition) {
            self.read_again(partition);
        }
    }

    /// Nothing that was read of the partition counts any more: the poll thread asks for its position.
    fn read_again(&mut self, partition: &Partition) {
        let Some(held) = self.positions.remove(partition) else { return };
        self.records.retain(|record| record.partition != *partition);
        self.handover.post(partition, held.epoch, News::Lost);
    }
}
