//! What goes into a schedule and what comes out of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coinflow_common::config::show_duration;
use coinflow_common::orderbook::Market;

use super::Reason;
use super::group::codes_chars;
use crate::exchange::{ExchangeError, RateHint};

/// A market and how often to poll it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) market: Market,
    pub(crate) interval: Duration,
}

/// The bounds of a schedule; all of them at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// As configured, all workers together.
    pub(crate) requests_per_second: u32,
    /// What the exchange takes, as documented.
    pub(crate) requests_per_second_limit: u32,
    pub(crate) markets_per_request: usize,
    /// The market codes of one request, one character for each separator among them.
    pub(crate) codes_chars_max: usize,
    /// Requests that it takes to read the list of markets.
    pub(crate) requests_per_list: u32,
    /// Most polls in flight.
    pub(crate) workers: usize,
    /// How often the list of markets is read where it is needed, and a market that the exchange does not know is tried again.
    pub(crate) markets_refresh: Duration,
}

impl Limits {
    /// These markets as requests, in their order.
    pub(crate) fn batches<'a>(&self, markets: impl Iterator<Item = &'a Market>) -> Vec<Vec<Market>> {
        let (mut batches, mut chars): (Vec<Vec<Market>>, usize) = (Vec::new(), 0);
        for market in markets {
            let more = codes_chars(market);
            match batches.last_mut() {
                Some(batch) if batch.len() < self.markets_per_request && chars + more <= self.codes_chars_max => {
                    batch.push(market.clone());
                    chars += more;
                }
                _ => {
                    batches.push(vec![market.clone()]);
                    chars = more;
                }
            }
        }
        batches
    }

    /// Requests a second that it takes to poll these markets.
    pub(crate) fn requests_needed(&self, watches: &[Watch]) -> f64 {
        let intervals: BTreeSet<Duration> = watches.iter().map(|watch| watch.interval).collect();
        let requests = |interval: &Duration| {
            let markets = watches.iter().filter(|watch| watch.interval == *interval).map(|watch| &watch.market);
            self.batches(markets).len() as f64 / interval.as_secs_f64()
        };
        intervals.iter().map(requests).sum()
    }

    /// What to tell the operator if that is more than may go out: then all are polled less often, by the same factor.
    pub(crate) fn overload(&self, watches: &[Watch]) -> Option<String> {
        let (needed, allowed) = (self.requests_needed(watches), f64::from(self.requests_per_second));
        let quickest = watches.iter().min_by_key(|watch| watch.interval).filter(|_| needed > allowed)?;
        let interval = quickest.interval.as_secs_f64();
        // So that it does not read "needs 10, allows 10".
        let digits = if needed < allowed + 10.0 && needed.fract() != 0.0 { 1 } else { 0 };
        let needed_text = format!("{needed:.digits$}");
        Some(format!(
            "needs {needed_text} requests/s, requests_per_second allows {allowed}: {} will be polled every {:.2} s instead of {}",
            quickest.market,
            interval * needed / allowed,
            show_duration(quickest.interval),
        ))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PollId(pub(crate) u64);

/// Something to ask the exchange now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Poll {
    pub(crate) id: PollId,
    pub(crate) ask: Ask,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// One request for the books of these markets.
    Books(Arc<[Market]>),
    /// The list of all markets.
    List,
}

impl Ask {
    /// The answer to it when it could not be asked.
    pub(crate) fn failed(&self, error: ExchangeError) -> Answer {
        match self {
            Self::Books(_) => Answer::Books(Err(error), RateHint::default()),
            Self::List => Answer::List(Err(error)),
        }
    }
}

/// What came of an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A result for each market in the poll's order, or what went wrong with it as a whole.
    Books(Result<Vec<Result<(), ExchangeError>>, ExchangeError>, RateHint),
    List(Result<Vec<Market>, ExchangeError>),
}

/// What the operator should hear of; each once per change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// These markets were fine before.
    Failed { markets: Vec<Market>, error: ExchangeError },
    /// These markets had failed, the first of them this many times in a row.
    Back { markets: Vec<Market>, failures: u64 },
    /// Left out from now on; the one on the exchange's list that is most like it, if any is.
    Unknown { market: Market, nearest: Option<Market> },
    /// Had been unknown.
    Known { market: Market },
    /// The whole exchange is left alone.
    Held { reason: Reason, delay: Duration, error: ExchangeError },
    /// The whole exchange answers again, after so long.
    Released { after: Duration },
    /// The list of markets has been read. What it changes is to be told to the schedule before [`settle`].
    ///
    /// [`settle`]: super::Schedule::settle
    Listed,
    /// And could not be read before, which was told.
    ListBack,
    /// The list of markets cannot be read.
    ListFailed { error: ExchangeError },
}

/// Polls since the start. `due` counts each when it starts or is skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) due: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: Skipped,
    /// Markets without a book in polls that were done, for others in them had one.
    pub(crate) books_failed: u64,
}

/// Polls that were not made, by what stood in their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// The daemon or the machine stood still.
    pub(crate) late: u64,
    /// The group's last poll was still in flight.
    pub(crate) overlap: u64,
    /// All workers were busy, or the rate limit was reached.
    pub(crate) limit: u64,
    /// The exchange, or one market or batch of it, was being left alone.
    pub(crate) held: u64,
}

impl Skipped {
    pub(crate) fn total(&self) -> u64 {
        self.late + self.overlap + self.limit + self.held
    }
}

/// What a new set of symbols changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Diff {
    pub(crate) added: usize,
    pub(crate) removed: usize,
    pub(crate) changed: usize,
    pub(crate) unchanged: usize,
}

impl std::ops::AddAssign for Diff {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.removed += other.removed;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
    }
}

impl std::ops::AddAssign for Skipped {
    fn add_assign(&mut self, other: Self) {
        self.late += other.late;
        self.overlap += other.overlap;
        self.limit += other.limit;
        self.held += other.held;
    }
}
