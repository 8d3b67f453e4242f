//! What lies between the workers, the spool and the outbox. Pure.
//!
//! While books flow, it is closed and empty. Once books have to wait, it is open: new books go in here, from here into the
//! spool, and out of the spool into the outbox, each behind those before it. When nothing is left, it closes again.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::outbox::Record;

/// A record that waits to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) record: Record,
    /// It is on its way to Kafka with this number, and is written for the case that the process or the machine ends.
    pub(super) copy_of: Option<u64>,
}

impl Queued {
    fn new(record: Record) -> Self {
        Self { record, copy_of: None }
    }
}

/// What waits here to be written, in bytes; beyond it the oldest go, for the newest book is worth most.
pub(super) const QUEUE_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Backlog {
    is_open: bool,
    /// Whether it is known what an earlier run has left in the spool.
    is_known: bool,
    queue: VecDeque<Queued>,
    bytes: usize,
    /// Taken from the queue, and not known to be on disk.
    writing: u64,
    /// On disk, and not read.
    unread: u64,
    /// Numbers of those that were read, and neither delivered nor given up.
    read: BTreeSet<u64>,
}

impl Backlog {
    /// Open, for what an earlier run has left is not known yet.
    pub(super) fn new() -> Self {
        let (queue, read) = (VecDeque::new(), BTreeSet::new());
        Self { is_open: true, is_known: false, queue, bytes: 0, writing: 0, unread: 0, read }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Opens with copies of what is on its way, and with what waits, the youngest first: all this comes before what is here.
    pub(super) fn open(&mut self, copies: Vec<(u64, Record)>, youngest_first: Vec<Record>) {
        self.is_open = true;
        let copies = copies.into_iter().rev().map(|(number, record)| Queued { record, copy_of: Some(number) });
        for queued in youngest_first.into_iter().map(Queued::new).chain(copies) {
            self.bytes += queued.record.bytes();
            self.queue.push_front(queued);
        }
    }

    /// Whether what comes before the queue would be the next to be written and to be read.
    pub(super) fn takes_copies(&self) -> bool {
        self.unread + self.writing == 0
    }

    /// Takes a new record; how many of the oldest had to go for it.
    pub(super) fn push(&mut self, record: Record) -> u64 {
        self.bytes += record.bytes();
        self.queue.push_back(Queued::new(record));
        self.shrink()
    }

    fn shrink(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes > QUEUE_BYTES_MAX
            && let Some(queued) = self.pop()
        {
            // The loss of a copy is none.
            dropped += u64::from(queued.copy_of.is_none());
        }
        dropped
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.bytes -= queued.record.bytes();
        Some(queued)
    }

    /// Bytes in the queue.
    pub(super) fn queued_bytes(&self) -> usize {
        self.bytes
    }

    /// Takes records out to be written.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<Queued> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(queued) = self.pop()
        {
            // Behind records that are still to be read, copies would be read with them.
            if self.unread == 0 || queued.copy_of.is_none() {
                bytes += queued.record.bytes();
                taken.push(queued);
            }
        }
        self.writing = taken.len() as u64;
        taken
    }

    /// What was taken is on disk; so many of it were copies, which nobody has to read.
    pub(super) fn written(&mut self, copies: u64) {
        self.unread += std::mem::take(&mut self.writing).saturating_sub(copies);
    }

    /// What was taken could not be written; how many of the oldest had to go.
    pub(super) fn not_written(&mut self, taken: Vec<Queued>) -> u64 {
        self.writing = 0;
        for queued in taken.into_iter().rev() {
            self.bytes += queued.record.bytes();
            self.queue.push_front(queued);
        }
        self.shrink()
    }

    /// A copy has this number in the spool, and its original is still on its way.
    pub(super) fn is_copied(&mut self, spooled: u64) {
        self.read.insert(spooled);
    }

    /// The spool has been opened, with so many records in it; or cannot be, and books go on without it.
    pub(super) fn found(&mut self, records: u64) {
        self.is_known = true;
        self.unread += records;
        self.is_open |= records > 0;
    }

    pub(super) fn unread(&self) -> u64 {
        self.unread
    }

    /// A record was read from the spool.
    pub(super) fn was_read(&mut self, number: u64) {
        self.unread = self.unread.saturating_sub(1);
        self.read.insert(number);
    }

    /// So many records in the spool cannot be read any more; at most as many as are there.
    pub(super) fn vanished(&mut self, records: u64) -> u64 {
        let records = records.min(self.unread);
        self.unread -= records;
        records
    }

    /// A record that came from the spool has been delivered or given up.
    pub(super) fn done(&mut self, spooled: Option<u64>) {
        if let Some(number) = spooled {
            self.read.remove(&number);
        }
    }

    /// These numbers are no longer in the spool, so nothing there waits for them to be done.
    pub(super) fn left_spool(&mut self, numbers: &Range<u64>) {
        self.read.retain(|number| !numbers.contains(number));
    }

    /// All that was read and comes before this number is done.
    pub(super) fn done_before(&self) -> Option<u64> {
        self.read.first().copied()
    }

    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The next record, or copy of one, that needs no way over the disk, for nothing is there before it.
    pub(super) fn pop_direct(&mut self) -> Option<Queued> {
        if self.is_known && self.unread + self.writing == 0 { self.pop() } else { None }
    }

    /// Closes if nothing is left. Whether it has closed now.
    pub(super) fn close_if_empty(&mut self) -> bool {
        let is_empty = self.is_known && self.queue.is_empty() && self.unread + self.writing == 0;
        let was_open = self.is_open;
        self.is_open &= !is_empty;
        was_open && is_empty
    }
}

#[cfg(test)]
mod tests {
    use coinflow_common::orderbook::Market;

    use super::*;

    fn record(timestamp: i64) -> Record {
        Record { market: Market::parse("KRW-BTC").unwrap(), value: vec![0; 1000], timestamp }
    }

    impl Backlog {
        /// As if so many had been taken.
        pub(in super::super) fn push_taken(&mut self, records: u64) {
            self.writing = records;
        }
    }

    fn times(taken: &[Queued]) -> Vec<i64> {
        taken.iter().map(|queued| queued.record.timestamp).collect()
    }

    #[test]
    fn order_is_kept_over_a_write_that_fails() {
        let mut backlog = Backlog::new();
        assert!(!backlog.close_if_empty());
        backlog.found(0);
        assert!(backlog.close_if_empty() && !backlog.close_if_empty());
        (4..9).for_each(|at| _ = backlog.push(record(at)));
        backlog.open(vec![(17, record(1))], vec![record(3), record(2)]);
        let taken = backlog.take(3000);
        assert_eq!(times(&taken), [1, 2, 3]);
        assert_eq!((backlog.pop_direct(), backlog.not_written(taken)), (None, 0));
        assert_eq!(times(&backlog.take(5000)), [1, 2, 3, 4, 5]);
        backlog.written(1);
        backlog.is_copied(0);
        assert_eq!((backlog.unread(), backlog.pop_direct()), (4, None));
        (1..5).for_each(|number| backlog.was_read(number));
        backlog.done(Some(0));
        backlog.done(Some(3));
        assert_eq!(backlog.done_before(), Some(1));
        assert_eq!(backlog.pop_direct().map(|queued| queued.record.timestamp), Some(6));
        assert!(!backlog.close_if_empty());
        assert_eq!(times(&backlog.take(9000)), [7, 8]);
        backlog.written(0);
        assert_eq!((backlog.vanished(5), backlog.queued_bytes()), (2, 0));
        assert!(backlog.close_if_empty() && !backlog.is_open());
        backlog.found(0);
        assert!(!backlog.is_open());
        backlog.found(1);
        assert!(backlog.is_open());
    }

    #[test]
    fn beyond_its_bound_the_oldest_go() {
        let mut backlog = Backlog::new();
        backlog.found(0);
        let most = (QUEUE_BYTES_MAX / record(0).bytes()) as i64;
        let dropped: u64 = (0..most + 3).map(|at| backlog.push(record(at))).sum();
        assert_eq!(dropped, 3);
        let taken = backlog.take(5000);
        assert_eq!(taken[0].record.timestamp, 3);
        (0..5).for_each(|at| _ = backlog.push(record(most + 3 + at)));
        assert_eq!(backlog.not_written(taken), 5);
        assert_eq!(backlog.pop_direct().map(|queued| queued.record.timestamp), Some(8));
    }
}
