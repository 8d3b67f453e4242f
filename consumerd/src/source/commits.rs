//! Telling Kafka how far the database is.
//!
//! A manual asynchronous commit has no answer here: librdkafka 2.12 tells the result to a callback that rdkafka 0.39
//! does not set, and its event only for automatic commits. What it does tell is a failure, as a line of its log.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::Consumer;

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

/// The last commit before the end, which is worth waiting for.
pub(super) struct LastCommit {
    answer: Receiver<()>,
}

impl LastCommit {
    /// Waits for the answer on a thread of its own: librdkafka sets no limit to that, so it may have to be abandoned.
    pub(super) fn send(consumer: &Arc<Consumer>, list: TopicPartitionList) -> Self {
        let (done, answer) = channel();
        let consumer = Arc::clone(consumer);
        let thread = std::thread::Builder::new().name("last-commit".to_owned()).spawn(move || {
            if let Err(error) = consumer.commit(&list, CommitMode::Sync) {
                log::warn!("last commit to kafka failed, the next start commits again err={error}");
            }
            // The client is let go before its owner hears of it.
            drop(consumer);
            _ = done.send(());
        });
        if let Err(error) = thread {
            log::warn!("no thread for the last commit to kafka err={error}");
        }
        Self { answer }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answer.try_recv() != Err(TryRecvError::Empty)
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
