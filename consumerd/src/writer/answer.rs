//! Answers of the writer to the poll thread: from where a partition is to be read.

use std::time::Instant;

use super::plan::Held;
use super::resolve::{Resolved, Unresolved};
use super::{ASK_AGAIN_MAX, IDLE, UNANSWERED_TOLD_AT, Unanswered, WAITS_ON, Writer};
use crate::handover::News;
use crate::record::{Epoch, Partition};
use crate::store::{PgFault, Position};

impl Writer {
    /// Answers for a position, if Kafka and the database can be asked now.
    pub(super) fn answer(&mut self, partition: &Partition, epoch: Epoch) -> Result<(), PgFault> {
        if let Some(held) = self.positions.get(partition).filter(|held| held.epoch == epoch) {
            // Asked twice in one stay: it may be read already, and what was read is not to be thrown away.
            let Position { generation, next } = held.at;
            self.handover.post(partition, epoch, News::Position { generation, next, before: None });
            return Ok(());
        }
        // What was read of it in an earlier stay is read again from the position, whatever that is.
        self.records.retain(|record| record.partition != *partition);
        self.positions.remove(partition);
        let Some(store) = &mut self.store else { return Ok(()) };
        let resolved = {
            let _waiting = self.beat.waiting("positions");
            self.resolver.resolve(store, &self.consumer, partition)
        };
        let news = match resolved {
            Ok(Resolved::From { cluster, at, before }) => {
                let run = {
                    let _waiting = self.beat.waiting(WAITS_ON);
                    store.run(&cluster, partition, at.generation)?
                };
                if self.enter(partition, epoch, run) {
                    self.positions.insert(partition.clone(), Held { epoch, cluster, at, doubt: None, until: None });
                    let Position { generation, next } = at;
                    self.handover.post(partition, epoch, News::Position { generation, next, before });
                }
                self.unanswered.remove(partition);
                return Ok(());
            }
            Ok(Resolved::Unfit(reason)) => News::Unfit { reason },
            Err(Unresolved::Database(fault)) => return Err(fault),
            Err(Unresolved::Kafka(reason)) => {
                self.not_answered(partition, &reason);
                return Ok(());
            }
        };
        self.unanswered.remove(partition);
        self.handover.post(partition, epoch, news);
        Ok(())
    }

    /// Asks again later, and later each time.
    fn not_answered(&mut self, partition: &Partition, reason: &str) {
        let first = Unanswered { tries: 0, ask_at: Instant::now() };
        let unanswered = self.unanswered.entry(partition.clone()).or_insert(first);
        unanswered.tries += 1;
        unanswered.ask_at = Instant::now() + ASK_AGAIN_MAX.min(IDLE * unanswered.tries);
        let level = if unanswered.tries == UNANSWERED_TOLD_AT { log::Level::Warn } else { log::Level::Debug };
        log::log!(
            level,
            "kafka does not tell where a partition begins, asking on source={} {partition} reason={reason:?}",
            self.resolver.name
        );
    }
}
