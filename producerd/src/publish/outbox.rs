//! Records that wait for Kafka, in memory and bounded. Pure.

use std::collections::VecDeque;

use coinflow_common::orderbook::Market;

/// What a record takes beside its key and value.
const RECORD_OVERHEAD_BYTES: usize = 80;

/// A record on its way to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) market: Market,
    pub(crate) value: Vec<u8>,
    /// When the book was received, in milliseconds since the Unix epoch.
    pub(crate) timestamp: i64,
}

/// A record that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) record: Record,
    /// Its place in the order of all records.
    pub(super) number: u64,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.record.value.capacity() + self.record.market.as_str().len() + RECORD_OVERHEAD_BYTES
    }
}

/// In the order in which records were accepted, also those that came back; beyond its bound the oldest go, for the
/// newest book is worth most.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    next_number: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Outbox {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { waiting: VecDeque::new(), next_number: 0, bytes: 0, bytes_max }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Appends a new record; how many of the oldest had to go for it.
    pub(super) fn push(&mut self, record: Record) -> u64 {
        let waiting = Waiting { record, number: self.next_number };
        self.next_number += 1;
        self.bytes += waiting.bytes();
        self.waiting.push_back(waiting);
        self.shrink()
    }

    /// Takes back a record that was taken out before, to its place; how many of the oldest had to go for it.
    pub(super) fn put_back(&mut self, waiting: Waiting) -> u64 {
        self.bytes += waiting.bytes();
        // Near the front, for all that came after it is behind.
        let place = self.waiting.partition_point(|other| other.number < waiting.number);
        self.waiting.insert(place, waiting);
        self.shrink()
    }

    pub(super) fn front(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.bytes();
        Some(waiting)
    }

    fn shrink(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes > self.bytes_max && self.pop().is_some() {
            dropped += 1;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes 100 bytes.
    fn record() -> Record {
        let market = Market::parse("KRW-BTC").unwrap();
        Record { market, value: vec![0; 13], timestamp: 0 }
    }

    fn filled(bytes_max: usize, count: usize) -> Outbox {
        let mut outbox = Outbox::new(bytes_max);
        (0..count).for_each(|_| _ = outbox.push(record()));
        outbox
    }

    fn drain(outbox: &mut Outbox) -> Vec<u64> {
        std::iter::from_fn(|| outbox.pop()).map(|waiting| waiting.number).collect()
    }

    #[test]
    fn what_came_back_keeps_its_place() {
        let mut outbox = filled(10_000, 6);
        let mut taken: Vec<Waiting> = (0..4).filter_map(|_| outbox.pop()).collect();
        // Two come back, one of them goes out and comes back once more, behind the others' reports.
        outbox.put_back(taken.remove(0));
        outbox.put_back(taken.remove(0));
        assert_eq!(outbox.front().map(|waiting| waiting.number), Some(0));
        taken.extend(outbox.pop());
        taken.into_iter().for_each(|waiting| _ = outbox.put_back(waiting));
        assert_eq!(drain(&mut outbox), [0, 1, 2, 3, 4, 5]);
        assert_eq!((outbox.len(), outbox.bytes), (0, 0));
    }

    #[test]
    fn beyond_its_bound_the_oldest_go() {
        let mut outbox = Outbox::new(350);
        let dropped: Vec<u64> = (0..5).map(|_| outbox.push(record())).collect();
        assert_eq!(dropped, [0, 0, 0, 1, 1]);
        let oldest = outbox.pop().unwrap();
        assert_eq!(outbox.push(record()), 0);
        assert_eq!(outbox.put_back(oldest), 1);
        assert_eq!(drain(&mut outbox), [3, 4, 5]);
        assert_eq!(Outbox::new(50).push(record()), 1);
    }

    #[test]
    fn a_value_counts_with_all_the_memory_it_holds() {
        let mut value = Vec::with_capacity(2560);
        value.push(0);
        let mut outbox = Outbox::new(1000);
        assert_eq!(outbox.push(Record { value, ..record() }), 1);
    }
}
