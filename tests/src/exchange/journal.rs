//! A bounded log whose entries are kept as JSON: compact, and ready to be sent.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::value::RawValue;

use super::api::Page;

pub(crate) const ENTRIES_MAX: usize = 1_000_000;
pub(crate) const BYTES_MAX: usize = 512 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    /// An entry that was taken back is empty.
    entries: VecDeque<Box<str>>,
    bytes: usize,
    /// The sequence of the last entry; the first one ever has 1. A reset does not turn it back.
    last: u64,
    dropped: u64,
    entries_max: usize,
    bytes_max: usize,
}

impl Journal {
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Journal {
        Journal { entries: VecDeque::new(), bytes: 0, last: 0, dropped: 0, entries_max, bytes_max }
    }

    /// Adds the entry that `make` returns for its sequence number.
    pub(crate) fn push<T: Serialize>(&mut self, make: impl FnOnce(u64) -> T) -> u64 {
        self.last += 1;
        let entry = serde_json::to_string(&make(self.last)).expect("entries have string keys and no failing Serialize");
        self.bytes += entry.len();
        self.entries.push_back(entry.into_boxed_str());
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.len();
            self.dropped += 1;
        }
        self.last
    }

    pub(crate) fn retract(&mut self, sequence: u64) {
        let first = self.last + 1 - self.entries.len() as u64;
        if let Some(entry) = sequence.checked_sub(first).and_then(|at| self.entries.get_mut(at as usize)) {
            self.bytes -= entry.len();
            *entry = Box::default();
        }
    }

    /// At most `limit` entries after `since`.
    pub(crate) fn page(&self, since: u64, limit: usize) -> Page<Box<RawValue>> {
        let first = self.last + 1 - self.entries.len() as u64;
        let skip = (since + 1).saturating_sub(first) as usize;
        let mut next = since.max(first - 1).min(self.last);
        let mut entries = Vec::new();
        for entry in self.entries.iter().skip(skip) {
            if entries.len() == limit {
                break;
            }
            next += 1;
            if !entry.is_empty() {
                let json = RawValue::from_string(entry.to_string()).expect("serde_json made it");
                entries.push(json);
            }
        }
        Page { entries, next, dropped: self.dropped }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        self.dropped = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(journal: &Journal, since: u64, limit: usize) -> (Vec<String>, u64, u64) {
        let page = journal.page(since, limit);
        (page.entries.iter().map(|entry| entry.get().to_owned()).collect(), page.next, page.dropped)
    }

    fn texts(numbers: &[u64]) -> Vec<String> {
        numbers.iter().map(u64::to_string).collect()
    }

    #[test]
    fn pages_follow_each_other() {
        let mut journal = Journal::new(10, 1000);
        assert_eq!(read(&journal, 0, 2), (texts(&[]), 0, 0));
        for _ in 0..3 {
            journal.push(|sequence| sequence);
        }
        assert_eq!(read(&journal, 0, 2), (texts(&[1, 2]), 2, 0));
        assert_eq!(read(&journal, 2, 2), (texts(&[3]), 3, 0));
        assert_eq!(read(&journal, 3, 2), (texts(&[]), 3, 0));
        journal.retract(2);
        assert_eq!(read(&journal, 0, 2), (texts(&[1, 3]), 3, 0));
        journal.clear();
        journal.push(|sequence| sequence);
        assert_eq!(read(&journal, 0, 2), (texts(&[4]), 4, 0));
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let mut journal = Journal::new(2, 1000);
        for _ in 0..5 {
            journal.push(|sequence| sequence);
        }
        assert_eq!(read(&journal, 0, 9), (texts(&[4, 5]), 5, 3));
        let mut journal = Journal::new(100, 3);
        for _ in 0..5 {
            journal.push(|sequence| sequence);
        }
        assert_eq!(read(&journal, 0, 9), (texts(&[3, 4, 5]), 5, 2));
    }
}
