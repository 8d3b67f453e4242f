//! Telling Kafka how far the database is.
//!
//! A manual asynchronous commit has no answer here: librdkafka 2.12 tells the result to a callback that rdkafka 0.39
//! does not set, and its event only for automatic commits. What it does tell is a failure, as a line of its log.

use std::time::{Duration, Instant};

/// Between two commits. They serve lag displays only, so they need not follow each batch.
const INTERVAL: Duration = Duration::from_millis(500);
/// How librdkafka's log names a commit that failed.
pub(super) const FAILURE: &str = "COMMITFAIL";

/// When the next commit is due.
#[derive(Debug, Default)]
pub(super) struct CommitPace {
    last: Option<Instant>,
}

impl CommitPace {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL)
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_too_often() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = CommitPace::default();
        assert!(pace.is_due(at(0)));
        pace.sent(at(0));
        assert!(!pace.is_due(at(499)));
        assert!(pace.is_due(at(500)));
    }
}
