//! What the operator sees: the STATUS line and the summary.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::publish;
use crate::schedule::{self, Reason, Skipped};
use crate::unit::Unit;

/// Over which time books per second are counted.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Unknown markets that STATUS names.
const UNKNOWN_NAMED_MAX: usize = 3;

/// Books per second over the last while. Pure.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Notes a counter's value, and its growth per second.
    pub(crate) fn sample(&mut self, now: Instant, count: u64) -> f64 {
        self.samples.push_back((now, count));
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|(at, _)| now - *at >= RATE_WINDOW) {
            self.samples.pop_front();
        }
        match self.samples.front() {
            Some((first, before)) if *first < now => {
                count.saturating_sub(*before) as f64 / (now - *first).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

/// Polls and books of all exchanges since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    due: u64,
    done: u64,
    skipped: Skipped,
    failed: u64,
    pub(crate) books: publish::Counts,
    unchanged: u64,
}

impl Totals {
    pub(crate) fn of(units: &[Unit]) -> Self {
        let mut totals = Self::default();
        for unit in units {
            let schedule::Counts { due, done, failed, skipped } = unit.schedule.counts();
            totals.due += due;
            totals.done += done;
            totals.failed += failed;
            totals.skipped += skipped;
            totals.books += unit.books.publisher().counts();
            totals.unchanged += unit.books.unchanged();
        }
        totals
    }

    /// The line that tells whether anything is missing.
    pub(crate) fn summary(&self) -> String {
        let Self { due, done, skipped, failed, books, unchanged } = self;
        let mut line = format!(
            "summary polls_due={due} polls_done={done} polls_skipped={} polls_failed={failed} \
             books_accepted={} books_delivered={} books_dropped={} books_in_flight={}",
            skipped.total(),
            books.accepted,
            books.delivered,
            books.dropped,
            books.in_flight()
        );
        let Skipped { late, overlap, limit, held } = skipped;
        for (why, count) in [("late", late), ("overlap", overlap), ("limit", limit), ("held", held)] {
            if *count > 0 {
                // Writing to a String cannot fail.
                _ = write!(line, " skipped_{why}={count}");
            }
        }
        if *unchanged > 0 {
            _ = write!(line, " books_unchanged={unchanged}");
        }
        line
    }
}

/// The STATUS line of a running daemon.
pub(crate) fn line(units: &[Unit], rate: f64, last_reload: Option<&str>, symbols_file: &Path) -> String {
    let symbols: usize = units.iter().map(|unit| unit.schedule.symbols()).sum();
    let books = Totals::of(units).books;
    let mut parts = Vec::new();
    match symbols {
        0 => parts.push(format!("watches nothing: add symbols to {}", symbols_file.display())),
        1 => parts.push("1 symbol".to_owned()),
        _ => parts.push(format!("{symbols} symbols")),
    }
    if symbols > 0 {
        parts.push(format!("{rate:.1} books/s"));
    }
    parts.extend(kafka(units));
    parts.push(format!("{} in flight", books.in_flight()));
    for unit in units {
        match unit.schedule.held_for() {
            Some(Reason::RateLimit) => parts.push(format!("{} refuses requests", unit.exchange)),
            Some(Reason::Outage) => parts.push(format!("{} does not answer", unit.exchange)),
            None => {}
        }
        parts.extend(unknown(unit));
    }
    if books.dropped > 0 {
        parts.push(format!("{} books dropped", books.dropped));
    }
    parts.extend(last_reload.map(str::to_owned));
    parts.join(", ")
}

/// One state if all exchanges share it, else one for each.
fn kafka(units: &[Unit]) -> Vec<String> {
    let mut states: Vec<String> = units.iter().map(|unit| unit.books.publisher().cluster().describe()).collect();
    states.dedup();
    match states.len() {
        1 => states,
        _ => {
            let of_unit = |unit: &Unit| format!("{}: {}", unit.exchange, unit.books.publisher().cluster().describe());
            units.iter().map(of_unit).collect()
        }
    }
}

fn unknown(unit: &Unit) -> Option<String> {
    let markets: Vec<&str> = unit.schedule.unknown_markets().map(|market| market.as_str()).collect();
    let named = markets.iter().take(UNKNOWN_NAMED_MAX).copied().collect::<Vec<_>>().join(" ");
    match markets.len() {
        0 => None,
        count if count <= UNKNOWN_NAMED_MAX => Some(format!("unknown to {}: {named}", unit.exchange)),
        count => Some(format!("unknown to {}: {named} and {} more", unit.exchange, count - UNKNOWN_NAMED_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(rate.sample(at(0), 0), 0.0);
        assert_eq!(rate.sample(at(1), 17), 17.0);
        for second in 2..30 {
            rate.sample(at(second), 17 * second);
        }
        assert_eq!(rate.sample(at(30), 17 * 29), 17.0 * 9.0 / 10.0);
        assert!(rate.samples.len() <= 12);
    }

    #[test]
    fn the_summary_names_what_is_missing() {
        let books = publish::Counts { accepted: 10, delivered: 7, dropped: 1 };
        let skipped = Skipped { held: 6, ..Skipped::default() };
        let totals = Totals { due: 20, done: 10, skipped, failed: 4, books, unchanged: 3 };
        assert_eq!(
            totals.summary(),
            "summary polls_due=20 polls_done=10 polls_skipped=6 polls_failed=4 \
             books_accepted=10 books_delivered=7 books_dropped=1 books_in_flight=2 skipped_held=6 books_unchanged=3"
        );
    }
}
