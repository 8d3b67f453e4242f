//! When to tell Kafka how far the database is.

use std::time::{Duration, Instant};

/// Between two commits. They serve lag displays only, so they need not follow each batch.
const INTERVAL: Duration = Duration::from_millis(500);
/// An answer that has not come by then never will.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// No commit follows another before that is answered.
#[derive(Debug, Default)]
pub(crate) struct CommitPace {
    last: Option<Instant>,
    unanswered: u32,
}

impl CommitPace {
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let pause = if self.is_answered() { INTERVAL } else { ANSWER_MAX };
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= pause)
    }

    pub(crate) fn sent(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= ANSWER_MAX) {
            self.unanswered = 0;
        }
        self.last = Some(now);
        self.unanswered += 1;
    }

    pub(crate) fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_not_too_often() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = CommitPace::default();
        assert!(pace.is_due(at(0)));
        pace.sent(at(0));
        assert!(!pace.is_due(at(600)), "not answered yet");
        assert!(pace.is_due(at(10_000)), "the answer is lost");
        pace.answered();
        assert!(!pace.is_due(at(499)));
        assert!(pace.is_due(at(500)));
    }

    #[test]
    fn every_answer_is_waited_for_but_not_for_ever() {
        let start = Instant::now();
        let mut pace = CommitPace::default();
        pace.sent(start);
        pace.sent(start);
        pace.answered();
        assert!(!pace.is_answered(), "the one of a revocation");
        pace.sent(start + ANSWER_MAX);
        pace.answered();
        assert!(pace.is_answered());
    }
}
