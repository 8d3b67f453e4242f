//! What goes into a schedule and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use coinflow_common::orderbook::Market;

use super::Reason;
use crate::exchange::ExchangeError;

/// A market and how often to poll it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) market: Market,
    pub(crate) interval: Duration,
}

/// The bounds of a schedule; all of them at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// All workers together.
    pub(crate) requests_per_second: u32,
    pub(crate) markets_per_request: usize,
    /// Most polls in flight.
    pub(crate) workers: usize,
    /// When a market that the exchange does not know is tried again.
    pub(crate) unknown_retry: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PollId(pub(crate) u64);

/// One request to make now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Poll {
    pub(crate) id: PollId,
    pub(crate) markets: Arc<[Market]>,
}

/// How a poll ended: a result for each market in the poll's order, or what went wrong with it as a whole.
pub(crate) type Outcome = Result<Vec<Result<(), ExchangeError>>, ExchangeError>;

/// What the operator should hear of; each once per change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// These markets were fine before.
    Failed { markets: Vec<Market>, error: ExchangeError },
    /// These markets had failed, the first of them this many times in a row.
    Back { markets: Vec<Market>, failures: u64 },
    /// Left out from now on, and tried again after so long.
    Unknown { market: Market, retry: Duration },
    /// Had been unknown.
    Known { market: Market },
    /// The whole exchange is left alone.
    Held { reason: Reason, delay: Duration, error: ExchangeError },
    /// The whole exchange answers again, after so long.
    Released { after: Duration },
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

impl std::ops::AddAssign for Skipped {
    fn add_assign(&mut self, other: Self) {
        self.late += other.late;
        self.overlap += other.overlap;
        self.limit += other.limit;
        self.held += other.held;
    }
}
