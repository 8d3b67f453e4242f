//! Records between the poll thread and the writer.

use std::collections::VecDeque;

use crate::config::Batch;
use crate::record::{Partition, Record};

/// How full the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// At most half full.
    Low,
    Some,
    Full,
}

/// Records in the order of their arrival, bounded in number and in bytes.
///
/// A batch grows only while the writer is busy: an idle one takes what there is, be it a single record.
#[derive(Debug)]
pub(crate) struct Queue {
    records: VecDeque<Record>,
    bytes: usize,
    batch: Batch,
}

impl Queue {
    pub(crate) fn new(batch: Batch) -> Self {
        Self { records: VecDeque::new(), bytes: 0, batch }
    }

    /// Takes a record even when full: whoever asks for [`Queue::fill`] first exceeds the bound by one record at most.
    pub(crate) fn push(&mut self, record: Record) {
        self.bytes += record.size();
        self.records.push_back(record);
    }

    pub(crate) fn fill(&self) -> Fill {
        let Batch { max_books, max_size } = self.batch;
        // It holds one batch: that is filled while the writer stores the one before it.
        let reaches =
            |halves: usize| self.records.len() * 2 >= max_books * halves || self.bytes * 2 >= max_size * halves;
        match () {
            () if reaches(2) => Fill::Full,
            () if reaches(1) => Fill::Some,
            () => Fill::Low,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The next batch: at least one record if there is any.
    pub(crate) fn take(&mut self) -> Vec<Record> {
        let mut bytes = 0;
        let fits = |(index, record): &(usize, &Record)| {
            bytes += record.size();
            *index == 0 || (*index < self.batch.max_books && bytes <= self.batch.max_size)
        };
        let number = self.records.iter().enumerate().take_while(fits).count();
        let batch: Vec<Record> = self.records.drain(..number).collect();
        self.bytes -= batch.iter().map(Record::size).sum::<usize>();
        batch
    }

    /// Drops the records of a partition that is not ours any more, or is to be read again.
    pub(crate) fn purge(&mut self, partition: &Partition) {
        self.records.retain(|record| record.partition != *partition);
        self.bytes = self.records.iter().map(Record::size).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Epoch, Fate, Raw};

    fn record(number: i32, offset: i64, payload: usize) -> Record {
        let raw = Raw::new(None, None, Some(&vec![0; payload]), Vec::new());
        Record { partition: Partition::new("t", number), epoch: Epoch(0), offset, fate: Fate::Expired, raw }
    }

    fn offsets(records: &[Record]) -> Vec<i64> {
        records.iter().map(|record| record.offset).collect()
    }

    fn queue(max_books: usize, max_size: usize) -> Queue {
        Queue::new(Batch { max_books, max_size })
    }

    #[test]
    fn a_single_record_is_a_batch() {
        let mut queue = queue(10, 1 << 20);
        queue.push(record(0, 7, 10));
        assert_eq!(offsets(&queue.take()), [7]);
        assert!(queue.is_empty() && queue.take().is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_batch_is_bounded_in_number() {
        let mut queue = queue(2, 1 << 20);
        (0..5).for_each(|offset| queue.push(record(0, offset, 10)));
        let batches: Vec<_> = (0..3).map(|_| offsets(&queue.take())).collect();
        assert_eq!(batches, [vec![0, 1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_never_empty() {
        let mut queue = queue(100, 3000);
        for (offset, payload) in [(0, 10_000), (1, 1000), (2, 1000), (3, 1000)] {
            queue.push(record(0, offset, payload));
        }
        assert_eq!(offsets(&queue.take()), [0]);
        assert_eq!(offsets(&queue.take()), [1, 2]);
        assert_eq!(offsets(&queue.take()), [3]);
    }

    #[test]
    fn fill_goes_by_number_or_bytes_whichever_is_more() {
        let mut by_number = queue(4, 1 << 30);
        let fills: Vec<_> = (0..4)
            .map(|offset| {
                by_number.push(record(0, offset, 1));
                by_number.fill()
            })
            .collect();
        assert_eq!(fills, [Fill::Low, Fill::Some, Fill::Some, Fill::Full]);
        let mut by_bytes = queue(100, 1000);
        assert_eq!(by_bytes.fill(), Fill::Low);
        by_bytes.push(record(0, 0, 5000));
        assert_eq!(by_bytes.fill(), Fill::Full);
    }

    #[test]
    fn a_purge_takes_one_partition_only() {
        let mut queue = queue(10, 1 << 20);
        for (number, offset) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
            queue.push(record(number, offset, 10));
        }
        queue.purge(&Partition::new("t", 0));
        assert_eq!(offsets(&queue.take()), [2, 4]);
        assert_eq!(queue.bytes, 0);
    }
}
