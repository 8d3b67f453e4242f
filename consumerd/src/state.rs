//! What a source is doing, for STATUS, for the last line of the log, and later for a metrics endpoint.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coinflow_common::orderbook::Timestamp;

use crate::record::Partition;
use crate::source::Overview;
use crate::store::Identity;

/// Goes up only.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a source, since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) books_stored: Counter,
    pub(crate) dead_letters: Counter,
    /// Records older than the retention, which are not stored.
    pub(crate) expired: Counter,
    /// Transactions.
    pub(crate) batches: Counter,
    /// Positions that somebody else had moved.
    pub(crate) fence_lost: Counter,
}

/// PostgreSQL, as a source's writer sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Database {
    #[default]
    Starting,
    Up,
    /// Not reached, or reached and not willing.
    Down {
        since: Timestamp,
        reached: bool,
        reason: String,
    },
}

/// Written by a source's threads, read by the supervisor.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) counters: Counters,
    view: Mutex<View>,
}

/// What has no place in a counter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) database: Database,
    pub(crate) overview: Overview,
    pub(crate) missing_topics: BTreeSet<String>,
    /// The database that stores.
    pub(crate) identity: Option<Identity>,
    /// Partitions for which another database commits to our group.
    pub(crate) strangers: Vec<(Partition, Identity)>,
}

impl State {
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        // A panic ends the process, so no half-made state is ever seen here.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
