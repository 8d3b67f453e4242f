//! A window of a partition's records, the rows that the table has for them, and what they come to. Pure.

use coinflow_common::orderbook::{OrderBook, Timestamp};

use super::report::{Counts, Difference, Kind};
use super::row::{self, Row, from_postgres};

/// Records of a window, and about how many bytes of them: memory is bounded by these.
pub(super) const RECORDS_MAX: usize = 4096;
const BYTES_MAX: usize = 16 << 20;
/// Records whose times are further apart than this are looked for in the table apart from each other.
const GAP_MICROS: i64 = 600_000_000;
/// Most spans of time that one window is looked for in.
const SPANS_MAX: usize = 16;

/// The bounds on time that were asked for, in microseconds since 1970: from the first, before the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
}

impl Bounds {
    pub(super) fn hold(self, micros: i64) -> bool {
        self.from.is_none_or(|from| micros >= from) && self.to.is_none_or(|to| micros < to)
    }
}

/// A record, and what was found for it.
#[derive(Debug)]
struct Entry {
    offset: i64,
    /// Within the bounds of time.
    is_wanted: bool,
    /// The book, or why it is none.
    book: Result<OrderBook, String>,
    /// The record's key, where there is no book to name the market.
    key: String,
    rows: u32,
    differs: Option<String>,
    letters: u32,
    is_retried: bool,
}

/// Consecutive records of a partition.
#[derive(Debug)]
pub(super) struct Window {
    /// The offsets: from the first, before the second.
    pub(super) from: i64,
    pub(super) to: i64,
    entries: Vec<Entry>,
    bytes: usize,
    /// Rows that were given.
    pub(super) seen: u64,
    /// Rows of offsets in the window that are no record of it, with their markets.
    others: Vec<(i64, String)>,
}

impl Window {
    pub(super) fn new(from: i64) -> Self {
        Self { from, to: from, entries: Vec::new(), bytes: 0, seen: 0, others: Vec::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= RECORDS_MAX || self.bytes >= BYTES_MAX
    }

    /// The next record. `at_ms` is Kafka's time, which counts where there is no book.
    pub(super) fn push(
        &mut self,
        offset: i64,
        book: Result<OrderBook, String>,
        key: Option<&[u8]>,
        at_ms: Option<i64>,
        bounds: Bounds,
    ) {
        let micros = match &book {
            Ok(book) => book.received_at.as_micros(),
            Err(_) => at_ms.unwrap_or(0).saturating_mul(1000),
        };
        let key = if book.is_err() { shown(key.unwrap_or_default()) } else { String::new() };
        self.bytes += match &book {
            Ok(book) => size_of_val(&*book.asks) + size_of_val(&*book.bids),
            Err(reason) => reason.len(),
        };
        self.entries.push(Entry {
            offset,
            is_wanted: bounds.hold(micros),
            book,
            key,
            rows: 0,
            differs: None,
            letters: 0,
            is_retried: false,
        });
        self.to = offset + 1;
    }

    /// The spans of time, both ends included, in which the rows of the window's records are, in microseconds.
    pub(super) fn spans(&self) -> Vec<(i64, i64)> {
        let wanted = self.entries.iter().filter(|entry| entry.is_wanted);
        let mut times: Vec<i64> =
            wanted.filter_map(|entry| Some(entry.book.as_ref().ok()?.received_at.as_micros())).collect();
        times.sort_unstable();
        let mut gap = GAP_MICROS;
        loop {
            let mut spans: Vec<(i64, i64)> = Vec::new();
            for time in &times {
                match spans.last_mut() {
                    Some(last) if time - last.1 <= gap => last.1 = *time,
                    _ => spans.push((*time, *time)),
                }
            }
            if spans.len() <= SPANS_MAX {
                return spans;
            }
            gap = gap.saturating_mul(4);
        }
    }

    fn entry(&mut self, offset: i64) -> Option<&mut Entry> {
        let at = self.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()?;
        self.entries.get_mut(at)
    }

    /// A row of the table whose offset is in the window.
    pub(super) fn row(&mut self, row: &Row<'_>) {
        self.seen += 1;
        let Some(entry) = self.entry(row.offset) else {
            self.others.push((row.offset, shown(row.market)));
            return;
        };
        entry.rows += 1;
        let difference = match &entry.book {
            Ok(book) => row::difference(book, row),
            Err(reason) => Some(format!("the record is no book ({reason}), and yet has a row")),
        };
        if difference.is_some() {
            entry.differs = difference;
        }
    }

    /// A dead letter whose offset is in the window.
    pub(super) fn letter(&mut self, offset: i64, is_retried: bool) {
        if let Some(entry) = self.entry(offset) {
            entry.letters += 1;
            entry.is_retried |= is_retried;
        }
    }

    /// Whether rows were found that are no record's: then it matters what Kafka has deleted in the meantime.
    pub(super) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// What it comes to, once all rows and then all dead letters are in. `low` is the oldest offset that Kafka holds;
    /// records received before `kept_since` may be gone from the table; `skipped` are offsets that somebody has decided
    /// to leave out.
    pub(super) fn settle(
        self,
        low: i64,
        kept_since: Option<Timestamp>,
        skipped: &[(i64, i64)],
        counts: &mut Counts,
        told: &mut Vec<Difference>,
    ) {
        for entry in self.entries {
            let (offset, market) = (entry.offset, entry.market());
            match entry.outcome(kept_since, skipped) {
                Outcome::None => {}
                Outcome::Book => counts.books += 1,
                Outcome::DeadLettered => counts.dead_lettered += 1,
                Outcome::Expired => counts.expired += 1,
                Outcome::Skipped => counts.skipped += 1,
                Outcome::Wrong(kind, what) => {
                    counts.add(kind);
                    told.push(Difference { kind, offset, market, what });
                }
            }
        }
        for (offset, market) in self.others {
            if offset < low {
                counts.gone += 1;
            } else {
                counts.extra += 1;
                let what = "the topic has no such record".to_owned();
                told.push(Difference { kind: Kind::Extra, offset, market, what });
            }
        }
    }
}

/// What one record comes to.
enum Outcome {
    /// Nothing was to be found for it, and nothing was.
    None,
    Book,
    DeadLettered,
    Expired,
    Skipped,
    Wrong(Kind, String),
}

impl Entry {
    fn market(&self) -> String {
        match &self.book {
            Ok(book) => book.market.to_string(),
            Err(_) => self.key.clone(),
        }
    }

    fn outcome(self, kept_since: Option<Timestamp>, skipped: &[(i64, i64)]) -> Outcome {
        let wrong = |kind, what: String| Outcome::Wrong(kind, what);
        let is_skipped = skipped.iter().any(|(from, to)| (*from..*to).contains(&self.offset));
        match (self.rows, self.letters, self.book, self.differs) {
            (0, ..) if !self.is_wanted => Outcome::None,
            (0, 1, Ok(book), _) if self.is_retried => match kept_since.is_some_and(|since| book.received_at < since) {
                true => Outcome::Expired,
                false => wrong(Kind::Missing, "no row, though its dead letter was stored by a retry".to_owned()),
            },
            (0, 1, ..) => Outcome::DeadLettered,
            (0, 0, ..) if is_skipped => Outcome::Skipped,
            (0, 0, Ok(book), _) if kept_since.is_some_and(|since| book.received_at < since) => Outcome::Expired,
            (0, 0, Ok(_), _) => wrong(Kind::Missing, "no row and no dead letter".to_owned()),
            (0, 0, Err(reason), _) => wrong(Kind::Missing, format!("no dead letter, though it is no book: {reason}")),
            (0, letters, ..) => wrong(Kind::Doubled, format!("{letters} dead letters")),
            (1, letters, ..) if letters > 0 && !self.is_retried => {
                wrong(Kind::Doubled, "a row and a dead letter".to_owned())
            }
            (1, _, _, Some(differs)) => wrong(Kind::Differs, differs),
            (1, _, _, None) => Outcome::Book,
            (rows, _, _, Some(differs)) => wrong(Kind::Doubled, format!("{rows} rows; one of them differs, {differs}")),
            (rows, _, _, None) => wrong(Kind::Doubled, format!("{rows} rows")),
        }
    }
}

/// Where the rows of a window were looked for.
#[derive(Debug)]
pub(super) struct Looked {
    from: i64,
    to: i64,
    spans: Box<[(i64, i64)]>,
}

impl Looked {
    pub(super) fn of(window: &Window) -> Self {
        Self { from: window.from, to: window.to, spans: window.spans().into() }
    }
}

/// Whether a row was out of sight of all windows: they are in the order of their offsets. The time is PostgreSQL's.
pub(super) fn is_stray(looked: &[Looked], offset: i64, received_at: i64) -> bool {
    let received_at = from_postgres(received_at);
    let at = looked.partition_point(|window| window.to <= offset);
    let seen = looked.get(at).filter(|window| window.from <= offset);
    !seen.is_some_and(|window| window.spans.iter().any(|(from, to)| (*from..=*to).contains(&received_at)))
}

/// A key or a market for a line of text; any client may write anything.
pub(super) fn shown(bytes: &[u8]) -> String {
    const CHARS_MAX: usize = 64;
    let text = String::from_utf8_lossy(bytes);
    let is_odd = |c: char| c.is_control() || c.is_whitespace();
    let shown: String = text.chars().take(CHARS_MAX).map(|c| if is_odd(c) { '\u{fffd}' } else { c }).collect();
    if shown.is_empty() { "-".to_owned() } else { shown }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
