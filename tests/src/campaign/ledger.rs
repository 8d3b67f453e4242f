//! What happened to producerd, as far as it tells which books may be missing or doubled.

use std::collections::HashMap;

use super::plan::{Fault, Kind};
use crate::exchange::now_us;
use crate::servers::Daemon;

/// A poll takes at most so long, and a little more.
const POLL_US: u64 = 3_500_000;
/// Books that have waited for a second are on disk a quarter of a second later; on a busy machine it takes longer.
const UNKNOWN_US: u64 = 3_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Running,
    Killed {
        at_us: u64,
    },
    /// With the numbers of its last summary.
    Stopped(HashMap<String, u64>),
}

/// One life of producerd.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) from_us: u64,
    /// Lines of producerd's log before it.
    pub(super) log_from: usize,
    pub(super) end: End,
    /// What ended it; none: the account.
    pub(super) by: Option<Kind>,
}

impl Run {
    pub(super) fn number(&self, key: &str) -> u64 {
        match &self.end {
            End::Stopped(numbers) => numbers.get(key).copied().unwrap_or(0),
            End::Running | End::Killed { .. } => 0,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) runs: Vec<Run>,
    /// From and to: what the exchange served then, producerd may not have accepted.
    uneasy: Vec<(u64, u64)>,
}

impl Ledger {
    /// To be called just before it starts.
    pub(super) fn started(&mut self, producerd: &Daemon) {
        let log_from = producerd.stderr().all().len();
        self.runs.push(Run { from_us: now_us(), log_from, end: End::Running, by: None });
    }

    fn end(&mut self, end: End, by: Option<Kind>) {
        if let Some(run) = self.runs.last_mut() {
            (run.end, run.by) = (end, by);
        }
    }

    pub(super) fn killed(&mut self, by: Fault) {
        self.end(End::Killed { at_us: now_us() }, Some(by.kind));
    }

    /// It has ended in order.
    pub(super) fn stopped(&mut self, producerd: &Daemon, by: Option<Kind>) -> Result<(), String> {
        let lines = producerd.stderr().all();
        let summary = lines.iter().rev().find_map(|line| line.split_once(" INFO  summary "));
        let (_, numbers) = summary.ok_or("producerd's log has no summary")?;
        let pair = |word: &str| {
            let (key, value) = word.split_once('=')?;
            Some((key.to_owned(), value.parse().ok()?))
        };
        self.end(End::Stopped(numbers.split_whitespace().filter_map(pair).collect()), by);
        Ok(())
    }

    pub(super) fn uneasy_from_now(&mut self) {
        self.uneasy.push((now_us().saturating_sub(POLL_US), u64::MAX));
    }

    /// The fault is over; its traces are soon.
    pub(super) fn easy_soon(&mut self) {
        for (_, to) in self.uneasy.iter_mut().filter(|(_, to)| *to == u64::MAX) {
            *to = now_us() + POLL_US;
        }
    }

    pub(super) fn is_uneasy(&self, at_us: u64) -> bool {
        self.uneasy.iter().any(|(from, to)| (*from..*to).contains(&at_us))
    }

    /// Whether a book served then may have been lost in memory: the place of the run that was killed.
    pub(super) fn unknown_at(&self, at_us: u64) -> Option<usize> {
        self.runs.iter().position(|run| match run.end {
            End::Killed { at_us: killed } => (killed.saturating_sub(UNKNOWN_US)..=killed).contains(&at_us),
            End::Running | End::Stopped(_) => false,
        })
    }

    /// The run that began last before this moment; the clock of a UUIDv7 has milliseconds.
    pub(super) fn run_of(&self, began_ms: u64) -> Option<usize> {
        self.runs.iter().rposition(|run| run.from_us / 1000 <= began_ms)
    }

    /// A round is over, and accounted for.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.uneasy.clear();
    }
}
