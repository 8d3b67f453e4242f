//! Between the poll thread and the writer of a source: records one way, what became of them the other.

mod gate;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use gate::{Gate, Step};
pub(crate) use queue::{Fill, Queue};

use crate::config::Batch;
use crate::record::{Epoch, Partition, Record, Spare};

/// What the writer tells the poll thread about a partition's stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Where to read on; and Kafka's time, in milliseconds since 1970, of the record before it, if it is to be the same still.
    Position { generation: i32, next: i64, before: Option<i64> },
    /// The position does not fit what Kafka holds, or may not be used: an operator has to decide.
    Unfit { reason: String },
    /// Everything before `next` is stored.
    Stored { next: i64, last_record_ms: Option<i64> },
    /// Somebody else has moved the position, or the breaker wants what was read thrown away: read it again.
    Lost,
    /// The breaker holds the partition. With a position behind this, it is tried.
    Held { reason: String },
    /// It does not any more.
    Released,
}

/// A message of the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    pub(crate) news: News,
}

/// Bounded by the queue's bounds and the number of partitions.
#[derive(Debug)]
pub(crate) struct Handover {
    inner: Mutex<Inner>,
    /// The writer waits here for something to do.
    work: Condvar,
    /// The poll thread waits here for room, and for the writer's end.
    room: Condvar,
}

#[derive(Debug)]
struct Inner {
    queue: Queue,
    /// Partitions whose position is asked for.
    asks: BTreeMap<Partition, Epoch>,
    /// Whether `asks` has changed since the writer saw it.
    new_asks: bool,
    /// Partitions that were taken from us.
    forgotten: BTreeSet<Partition>,
    mail: Vec<Mail>,
    database_seen: bool,
    finish_by: Option<Instant>,
    finished: bool,
    spare: Spare,
}

/// What there is to do for the writer.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) asks: Vec<(Partition, Epoch)>,
    pub(crate) records: Vec<Record>,
    /// Set when the source is to end; nothing is to be begun after it.
    pub(crate) finish_by: Option<Instant>,
}

impl Handover {
    pub(crate) fn new(batch: Batch) -> Self {
        let inner = Inner {
            queue: Queue::new(batch),
            asks: BTreeMap::new(),
            new_asks: false,
            forgotten: BTreeSet::new(),
            mail: Vec::new(),
            database_seen: false,
            finish_by: None,
            finished: false,
            spare: Spare::default(),
        };
        Self { inner: Mutex::new(inner), work: Condvar::new(), room: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the process, so no half-made state is ever seen here.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The poll thread's side.
impl Handover {
    pub(crate) fn push(&self, record: Record) -> Fill {
        let mut inner = self.lock();
        inner.queue.push(record);
        self.work.notify_one();
        inner.queue.fill()
    }

    pub(crate) fn fill(&self) -> Fill {
        self.lock().queue.fill()
    }

    /// Until the queue is no longer full.
    pub(crate) fn wait_for_room(&self, at_most: Duration) {
        let full = |inner: &mut Inner| inner.queue.fill() == Fill::Full && inner.finish_by.is_none();
        drop(self.room.wait_timeout_while(self.lock(), at_most, full));
    }

    pub(crate) fn ask(&self, partition: Partition, epoch: Epoch) {
        let mut inner = self.lock();
        inner.forgotten.remove(&partition);
        inner.asks.insert(partition, epoch);
        inner.new_asks = true;
        self.work.notify_one();
    }

    /// The partition is not ours any more, or is to be read again from its position.
    pub(crate) fn forget(&self, partition: &Partition) {
        let mut inner = self.lock();
        inner.queue.purge(partition);
        inner.asks.remove(partition);
        inner.forgotten.insert(partition.clone());
        self.room.notify_one();
    }

    /// The buffers of records that are done.
    pub(crate) fn take_spare(&self) -> Spare {
        std::mem::take(&mut self.lock().spare)
    }

    pub(crate) fn mail(&self) -> Vec<Mail> {
        std::mem::take(&mut self.lock().mail)
    }

    /// Whether the database has answered once, with its schema in place.
    pub(crate) fn database_seen(&self) -> bool {
        self.lock().database_seen
    }

    /// Tells the writer to store what is queued, as far as that can be done in time, and to end.
    pub(crate) fn finish(&self, by: Instant) {
        self.lock().finish_by = Some(by);
        self.work.notify_one();
    }

    /// Waits for the writer's end; false if it has not ended by then.
    pub(crate) fn wait_finished(&self, at_most: Duration) -> bool {
        let waited = self.room.wait_timeout_while(self.lock(), at_most, |inner| !inner.finished);
        waited.map_or_else(|poisoned| poisoned.into_inner().0.finished, |(inner, _)| inner.finished)
    }
}

/// The writer's side.
impl Handover {
    /// Waits for something new to do, at most so long. `with_records` is false while a batch is still at hand.
    pub(crate) fn work(&self, with_records: bool, at_most: Duration) -> Work {
        let idle = |inner: &mut Inner| {
            let has_records = with_records && !inner.queue.is_empty();
            inner.finish_by.is_none() && !inner.new_asks && !has_records
        };
        let waited = self.work.wait_timeout_while(self.lock(), at_most, idle);
        let mut inner = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(inner, _)| inner);
        inner.new_asks = false;
        let asks = inner.asks.iter().map(|(partition, epoch)| (partition.clone(), *epoch)).collect();
        let records = if with_records { inner.queue.take() } else { Vec::new() };
        if !records.is_empty() {
            self.room.notify_one();
        }
        Work { asks, records, finish_by: inner.finish_by }
    }

    /// A pause before the next try. It ends early when the source is to end.
    pub(crate) fn pause(&self, pause: Duration) -> Option<Instant> {
        let waited = self.work.wait_timeout_while(self.lock(), pause, |inner| inner.finish_by.is_none());
        waited.map_or_else(|poisoned| poisoned.into_inner().0.finish_by, |(inner, _)| inner.finish_by)
    }

    pub(crate) fn post(&self, partition: &Partition, epoch: Epoch, news: News) {
        let mut inner = self.lock();
        let is_answer = matches!(news, News::Position { .. } | News::Unfit { .. } | News::Held { .. });
        if is_answer && inner.asks.get(partition) == Some(&epoch) {
            inner.asks.remove(partition);
        }
        inner.mail.push(Mail { partition: partition.clone(), epoch, news });
    }

    /// The writer is done with these.
    pub(crate) fn recycle(&self, records: impl Iterator<Item = Record>) {
        let mut spare = Spare::default();
        records.for_each(|record| record.give_buffers(&mut spare));
        self.lock().spare.append(spare);
    }

    /// Whether the partition is not ours any more, though its position may still be held here.
    pub(crate) fn is_forgotten(&self, partition: &Partition) -> bool {
        self.lock().forgotten.contains(partition)
    }

    pub(crate) fn set_database_seen(&self) {
        self.lock().database_seen = true;
    }

    pub(crate) fn set_finished(&self) {
        self.lock().finished = true;
        self.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_forgotten_until_it_is_asked_for_again() {
        let handover = Handover::new(Batch { max_books: 10, max_size: 1000 });
        let partition = Partition::new("t", 0);
        assert!(!handover.is_forgotten(&partition));
        handover.ask(partition.clone(), Epoch(1));
        handover.forget(&partition);
        assert!(handover.is_forgotten(&partition) && !handover.is_forgotten(&Partition::new("t", 1)));
        handover.ask(partition.clone(), Epoch(2));
        assert!(!handover.is_forgotten(&partition));
    }
}
