//! Records that wait for Kafka, in memory and bounded. Pure.

use std::collections::VecDeque;

use coinflow_common::orderbook::Market;

/// What a record takes beside its key and value.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// A record on its way to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) market: Market,
    pub(crate) value: Vec<u8>,
    /// When the book was received, in milliseconds since the Unix epoch.
    pub(crate) timestamp: i64,
}

impl Record {
    fn bytes(&self) -> usize {
        self.value.len() + self.market.as_str().len() + RECORD_OVERHEAD_BYTES
    }
}

/// First in, first out; beyond its bound the oldest go, for the newest book is worth most.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Records that Kafka gave back; they are older than all that wait.
    returned: VecDeque<Record>,
    waiting: VecDeque<Record>,
    bytes: usize,
    bytes_max: usize,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { returned: VecDeque::new(), waiting: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.waiting.is_empty()
    }

    /// Appends a record; how many of the oldest had to go for it.
    pub(crate) fn push(&mut self, record: Record) -> u64 {
        self.bytes += record.bytes();
        self.waiting.push_back(record);
        self.shrink()
    }

    /// Takes back a record that was taken out before; how many of the oldest had to go for it.
    pub(crate) fn put_back(&mut self, record: Record) -> u64 {
        self.bytes += record.bytes();
        self.returned.push_back(record);
        self.shrink()
    }

    pub(crate) fn pop(&mut self) -> Option<Record> {
        let record = self.returned.pop_front().or_else(|| self.waiting.pop_front())?;
        self.bytes -= record.bytes();
        Some(record)
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

    fn record(number: i64) -> Record {
        let market = Market::parse("KRW-BTC").expect("a market");
        Record { market, value: vec![0; 29], timestamp: number }
    }

    fn drain(outbox: &mut Outbox) -> Vec<i64> {
        std::iter::from_fn(|| outbox.pop()).map(|record| record.timestamp).collect()
    }

    #[test]
    fn first_in_first_out_and_what_came_back_before_all() {
        let mut outbox = Outbox::new(10_000);
        for number in 3..6 {
            assert_eq!(outbox.push(record(number)), 0);
        }
        outbox.put_back(record(1));
        outbox.put_back(record(2));
        assert_eq!(drain(&mut outbox), [1, 2, 3, 4, 5]);
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn beyond_its_bound_the_oldest_go() {
        // A record takes 100 bytes.
        let mut outbox = Outbox::new(350);
        let dropped: Vec<u64> = (0..5).map(|number| outbox.push(record(number))).collect();
        assert_eq!(dropped, [0, 0, 0, 1, 1]);
        assert_eq!(outbox.put_back(record(-1)), 1);
        assert_eq!(drain(&mut outbox), [2, 3, 4]);
        assert_eq!(Outbox::new(50).push(record(0)), 1);
    }
}
