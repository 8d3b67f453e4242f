//! Records that wait for Kafka, in memory. Pure.

use std::collections::VecDeque;
use std::time::Instant;

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
    /// Its place in the order of all records that came by here.
    pub(super) number: u64,
    /// Its number in the spool, where it has been read from.
    pub(super) spooled: Option<u64>,
    /// Since when it waits here.
    pub(super) since: Instant,
    /// A copy of it is on its way to the spool.
    pub(super) is_copied: bool,
}

impl Record {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.value.capacity() + self.market.as_str().len() + RECORD_OVERHEAD_BYTES
    }
}

/// In the order in which records were accepted, also those that came back.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Waiting>,
    next_number: u64,
    bytes: usize,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a record.
    pub(super) fn push(&mut self, record: Record, spooled: Option<u64>, now: Instant) {
        self.bytes += record.bytes();
        self.waiting.push_back(Waiting { record, number: self.next_number, spooled, since: now, is_copied: false });
        self.next_number += 1;
    }

    /// Takes back a record that was taken out before, to its place.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        self.bytes += waiting.record.bytes();
        // Near the front, for all that came after it is behind.
        let place = self.waiting.partition_point(|other| other.number < waiting.number);
        self.waiting.insert(place, waiting);
    }

    /// A record that waits here.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Waiting> {
        let place = self.waiting.binary_search_by_key(&number, |waiting| waiting.number).ok()?;
        self.waiting.get_mut(place)
    }

    /// All that waits, in its order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Waiting> {
        self.waiting.iter_mut()
    }

    /// Takes the youngest out, unless it is in the spool already, or comes before another number.
    pub(super) fn pop_fresh(&mut self, above: Option<u64>) -> Option<Record> {
        self.waiting.back().filter(|waiting| waiting.spooled.is_none() && above < Some(waiting.number))?;
        let waiting = self.waiting.pop_back()?;
        self.bytes -= waiting.record.bytes();
        Some(waiting.record)
    }

    pub(super) fn front(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.record.bytes();
        Some(waiting)
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

    fn filled(count: usize) -> Outbox {
        let mut outbox = Outbox::default();
        (0..count).for_each(|_| outbox.push(record(), None, Instant::now()));
        outbox
    }

    fn drain(outbox: &mut Outbox) -> Vec<u64> {
        std::iter::from_fn(|| outbox.pop()).map(|waiting| waiting.number).collect()
    }

    #[test]
    fn what_came_back_keeps_its_place() {
        let mut outbox = filled(6);
        let mut taken: Vec<Waiting> = (0..4).filter_map(|_| outbox.pop()).collect();
        // Two come back, one of them goes out and comes back once more, behind the others' reports.
        outbox.put_back(taken.remove(0));
        outbox.put_back(taken.remove(0));
        assert_eq!(outbox.front().map(|waiting| waiting.number), Some(0));
        taken.extend(outbox.pop());
        taken.into_iter().for_each(|waiting| outbox.put_back(waiting));
        assert_eq!(drain(&mut outbox), [0, 1, 2, 3, 4, 5]);
        assert_eq!((outbox.len(), outbox.bytes), (0, 0));
    }

    #[test]
    fn only_what_is_in_memory_alone_is_taken_from_the_back() {
        let mut outbox = filled(2);
        outbox.push(record(), Some(7), Instant::now());
        outbox.push(record(), None, Instant::now());
        assert_eq!(outbox.pop_fresh(Some(3)), None);
        assert!(outbox.pop_fresh(Some(2)).is_some());
        assert_eq!(outbox.pop_fresh(None), None);
        assert_eq!((outbox.len(), outbox.bytes), (3, 300));
    }

    #[test]
    fn a_value_counts_with_all_the_memory_it_holds() {
        let mut value = Vec::with_capacity(2560);
        value.push(0);
        let mut outbox = Outbox::default();
        outbox.push(Record { value, ..record() }, None, Instant::now());
        assert_eq!(outbox.bytes(), 2560 + 7 + RECORD_OVERHEAD_BYTES);
    }
}
