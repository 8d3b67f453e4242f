//! What had to go from the spool, for the log.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use coinflow_common::orderbook::{Market, Timestamp};

use crate::publish::Record;

/// Markets that a log line names.
const MARKETS_NAMED_MAX: usize = 100;

/// Records that are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) records: u64,
    /// Of each market, as far as they could be read: how many, and the times of the first and the last in milliseconds since
    /// the Unix epoch.
    pub(crate) markets: BTreeMap<Market, (u64, i64, i64)>,
}

impl AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        for (market, (more, begin, end)) in other.markets {
            let (count, first, last) = self.markets.entry(market).or_insert((0, begin, end));
            (*count, *first, *last) = (*count + more, begin.min(*first), end.max(*last));
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={} market=", self.records)?;
        for (at, (market, (count, first, last))) in self.markets.iter().take(MARKETS_NAMED_MAX).enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{market}:{count}:{}..{}", time(*first), time(*last))?;
        }
        match self.markets.len().saturating_sub(MARKETS_NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn time(millis: i64) -> String {
    Timestamp::from_micros(millis.saturating_mul(1000)).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

impl Loss {
    pub(crate) fn add(&mut self, record: &Record) {
        self.records += 1;
        let at = record.timestamp;
        let (count, first, last) = self.markets.entry(record.market.clone()).or_insert((0, at, at));
        (*count, *first, *last) = (*count + 1, at.min(*first), at.max(*last));
    }
}
