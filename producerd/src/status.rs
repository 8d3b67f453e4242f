//! What the operator sees: the STATUS line and the summary.

use std::collections::VecDeque;
use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use coinflow_common::orderbook::{Exchange, Market, Timestamp};

use crate::publish;
use crate::schedule::{self, Reason, Skipped};
use crate::unit::{LeftAlone, Unit};

/// Over which time books per second are counted.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Markets of one kind that STATUS names.
const NAMED_MAX: usize = 3;

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
    books_failed: u64,
}

impl Totals {
    pub(crate) fn of(units: &[Unit]) -> Self {
        let mut totals = Self::default();
        for unit in units {
            let schedule::Counts { due, done, failed, skipped, books_failed } = unit.schedule.counts();
            totals.due += due;
            totals.done += done;
            totals.failed += failed;
            totals.skipped += skipped;
            totals.books += unit.books.publisher().counts();
            totals.unchanged += unit.books.unchanged();
            totals.books_failed += books_failed;
        }
        totals
    }

    /// The line that tells whether anything is missing.
    pub(crate) fn summary(&self) -> String {
        let Self { due, done, skipped, failed, books, unchanged, books_failed } = self;
        let mut line = format!(
            "summary polls_due={due} polls_done={done} polls_skipped={} polls_failed={failed} \
             books_accepted={} books_delivered={} books_dropped={} books_in_flight={}",
            skipped.total(),
            books.accepted,
            books.delivered,
            books.dropped,
            books.in_flight
        );
        let Skipped { late, overlap, limit, held } = skipped;
        for (what, count) in [
            ("books_spooled", &books.spooled),
            ("books_taken_over", &books.taken_over),
            ("books_unknown", &books.unknown),
            ("skipped_late", late),
            ("skipped_overlap", overlap),
            ("skipped_limit", limit),
            ("skipped_held", held),
            ("books_failed", books_failed),
            ("books_unchanged", unchanged),
        ] {
            if *count > 0 {
                // Writing to a String cannot fail.
                _ = write!(line, " {what}={count}");
            }
        }
        line
    }
}

/// The STATUS line of a running daemon.
pub(crate) fn line(units: &[Unit], rate: f64, last_reload: Option<&str>, symbols_file: &Path) -> String {
    let symbols: usize = units.iter().map(|unit| unit.schedule.symbols()).sum();
    let books = Totals::of(units).books;
    let mut parts = Vec::new();
    let is_used = units.iter().any(Unit::is_used);
    match symbols {
        0 if is_used => parts.push("0 symbols".to_owned()),
        0 => parts.push(format!("watches nothing: add symbols to {}", symbols_file.display())),
        1 => parts.push("1 symbol".to_owned()),
        _ => parts.push(format!("{symbols} symbols")),
    }
    if symbols > 0 {
        parts.push(format!("{rate:.1} books/s"));
    }
    parts.extend(kafka(units));
    parts.push(format!("{} in flight", books.in_flight));
    parts.extend(spool(units));
    for unit in units {
        parts.extend(exchange(unit));
    }
    if books.dropped > 0 {
        parts.push(format!("{} books dropped", books.dropped));
    }
    parts.extend(last_reload.map(str::to_owned));
    parts.join(", ")
}

/// One state if all exchanges share it, else one for each; and what Kafka does not let us do.
fn kafka(units: &[Unit]) -> Vec<String> {
    let mut states: Vec<String> = units.iter().map(|unit| unit.books.publisher().cluster().describe()).collect();
    states.dedup();
    if states.len() > 1 {
        let of_unit = |unit: &Unit| format!("{}: {}", unit.exchange, unit.books.publisher().cluster().describe());
        states = units.iter().map(of_unit).collect();
    }
    let refusal = |unit: &Unit| {
        let publisher = unit.books.publisher();
        publisher.cluster().refusal().or_else(|| publisher.waits_for())
    };
    let mut refusals: Vec<String> = units.iter().filter_map(refusal).collect();
    refusals.dedup();
    states.extend(refusals.iter().map(|refusal| format!("Kafka refuses: {refusal}")));
    states
}

/// What waits on disk, or that it cannot.
fn spool(units: &[Unit]) -> Vec<String> {
    let mut parts = Vec::new();
    for unit in units {
        let (trouble, waiting) = unit.books.publisher().spool_state();
        if waiting > 0 {
            parts.push(format!("{}: {waiting} books in the spool", unit.exchange));
        }
        if let Some(trouble) = trouble.filter(|_| unit.is_used()) {
            parts.push(format!("{}: the spool cannot be used: {trouble}", unit.exchange));
        }
    }
    parts
}

/// What is wrong with an exchange or its markets.
fn exchange(unit: &Unit) -> Vec<String> {
    let name = &unit.exchange;
    let mut parts = Vec::new();
    let failing: Vec<&Market> = unit.schedule.failing_markets().collect();
    match unit.left_alone() {
        // Then its markets have no state of their own.
        Some(left_alone) => parts.push(describe(name, left_alone, unit.next_try())),
        None if failing.is_empty() => {}
        None if failing.len() == 1 => parts.push(format!("{name}: 1 symbol fails: {}", named(&failing))),
        None => parts.push(format!("{name}: {} symbols fail: {}", failing.len(), named(&failing))),
    }
    let unknown: Vec<String> =
        unit.schedule.unknown_markets().map(|(market, nearest)| maybe(market, nearest)).collect();
    if !unknown.is_empty() {
        parts.push(format!("unknown to {name}: {}", named(&unknown)));
    }
    let waiting = unit.waiting_patterns();
    if !waiting.is_empty() {
        parts.push(format!("{name}: {} waits for the market list", named(waiting)));
    }
    let idle: Vec<&str> = unit.idle().iter().map(|idle| idle.symbol.as_str()).collect();
    if !idle.is_empty() {
        parts.push(format!("{name}: nothing matches {}", named(&idle)));
    }
    parts
}

fn describe(exchange: &Exchange, left_alone: &LeftAlone, next_try: Option<Timestamp>) -> String {
    let LeftAlone { reason, since, error } = left_alone;
    let what = match reason {
        Reason::RateLimit => "refuses requests",
        Reason::Outage => "does not answer",
    };
    let next = match (reason, next_try) {
        (Reason::RateLimit, Some(at)) => format!(", next try {}", at.to_clock_text()),
        _ => String::new(),
    };
    format!("{exchange} {what} since {}{next}: {error}", since.to_clock_text())
}

/// An unknown market, with the one that may have been meant.
fn maybe(market: &Market, nearest: Option<&Market>) -> String {
    nearest.map_or_else(|| market.to_string(), |nearest| format!("{market} (nearest: {nearest})"))
}

fn named(markets: &[impl Display]) -> String {
    let first: Vec<String> = markets.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let first = first.join(", ");
    match markets.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::exchange::ExchangeError;

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
        let books = publish::Counts {
            accepted: 10,
            taken_over: 2,
            in_flight: 1,
            spooled: 2,
            delivered: 7,
            dropped: 1,
            unknown: 1,
        };
        assert!(books.is_balanced());
        let skipped = Skipped { held: 6, ..Skipped::default() };
        let totals = Totals { due: 20, done: 10, skipped, failed: 4, books, unchanged: 3, books_failed: 5 };
        assert_eq!(
            totals.summary(),
            "summary polls_due=20 polls_done=10 polls_skipped=6 polls_failed=4 \
             books_accepted=10 books_delivered=7 books_dropped=1 books_in_flight=1 books_spooled=2 books_taken_over=2 books_unknown=1 \
             skipped_held=6 books_failed=5 \
             books_unchanged=3"
        );
    }

    #[test]
    fn troubles_are_named_with_time_and_reason() {
        let exchange = Exchange::parse("bithumb").unwrap();
        let since = Timestamp::parse("2026-11-23T10:00:05.5Z").unwrap();
        let left_alone = LeftAlone { reason: Reason::Outage, since, error: ExchangeError::Status(502) };
        let next = Timestamp::parse("2026-11-23T10:02:05Z").unwrap();
        let told = "bithumb does not answer since 10:00:05: HTTP status 502";
        assert_eq!(describe(&exchange, &left_alone, Some(next)), told);
        let refused = LeftAlone { reason: Reason::RateLimit, ..left_alone };
        let told = "bithumb refuses requests since 10:00:05, next try 10:02:05: HTTP status 502";
        assert_eq!(describe(&exchange, &refused, Some(next)), told);
        let markets = ["KRW-A", "KRW-B", "KRW-C", "KRW-D"].map(|code| Market::parse(code).unwrap());
        let markets: Vec<&Market> = markets.iter().collect();
        assert_eq!(named(&markets[..2]), "KRW-A, KRW-B");
        assert_eq!(named(&markets), "KRW-A, KRW-B, KRW-C and 1 more");
    }
}
