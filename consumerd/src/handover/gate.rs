//! When to read on, and when to hold Kafka back.

use std::time::{Duration, Instant};

use super::queue::Fill;

/// A queue that is full for less is left to drain: pausing throws away what librdkafka has fetched already.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the poll thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Poll; records are welcome.
    Read,
    /// Wait for room, without polling, for at most so long.
    Wait(Duration),
    /// Pause all partitions, and poll for everything but records.
    Pause,
    /// Resume them.
    Resume,
}

/// Holds Kafka back while the writer cannot follow, with hysteresis.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    full_since: Option<Instant>,
    paused: bool,
}

impl Gate {
    pub(crate) fn step(&mut self, fill: Fill, now: Instant) -> Step {
        match (self.paused, fill) {
            (true, Fill::Low) => {
                *self = Self::default();
                Step::Resume
            }
            (true, _) => Step::Read,
            (false, Fill::Full) => {
                let since = *self.full_since.get_or_insert(now);
                let left = PATIENCE.saturating_sub(now.saturating_duration_since(since));
                if left.is_zero() {
                    self.paused = true;
                    return Step::Pause;
                }
                Step::Wait(left)
            }
            (false, _) => {
                self.full_since = None;
                Step::Read
            }
        }
    }

    /// Whether a partition that is assigned now has to be paused at once.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_jam_is_waited_out_and_a_long_one_pauses() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let wait = |ms| Step::Wait(Duration::from_millis(ms));
        let mut gate = Gate::default();
        let table = [
            (0, Fill::Some, Step::Read),
            (1, Fill::Full, wait(1000)),
            (400, Fill::Full, wait(601)),
            (500, Fill::Some, Step::Read),
            (600, Fill::Full, wait(1000)),
            (1600, Fill::Full, Step::Pause),
            (1700, Fill::Full, Step::Read),
            (1800, Fill::Some, Step::Read),
            (1900, Fill::Low, Step::Resume),
            (1900, Fill::Low, Step::Read),
            (2000, Fill::Full, wait(1000)),
        ];
        for (ms, fill, step) in table {
            assert_eq!(gate.step(fill, at(ms)), step, "at {ms} ms");
        }
    }
}
