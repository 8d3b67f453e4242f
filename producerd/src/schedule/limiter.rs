//! How many requests a second, all workers of an exchange together.

use std::time::{Duration, Instant};

/// Requests may come this much of a second's worth at once, at least one.
const BURST_PART: u32 = 10;

/// Spaces requests out, with a little burst: the generic cell rate algorithm. In any second there are at most
/// `1 + 1/10` times the rate, and over longer times the rate.
#[derive(Debug)]
pub(super) struct Limiter {
    period: Duration,
    tolerance: Duration,
    /// When the next request would be due if requests came evenly.
    expected: Instant,
}

impl Limiter {
    /// `requests_per_second` is at least 1.
    pub(super) fn new(requests_per_second: u32, now: Instant) -> Self {
        let period = Duration::from_secs(1) / requests_per_second.max(1);
        let burst = (requests_per_second / BURST_PART).max(1);
        Self { period, tolerance: period * (burst - 1), expected: now }
    }

    /// When the next request may go out; a time in the past means now.
    pub(super) fn free_at(&self) -> Instant {
        // Instants near the clock's origin have no past.
        self.expected.checked_sub(self.tolerance).unwrap_or(self.expected)
    }

    /// Counts a request that goes out now.
    pub(super) fn take(&mut self, now: Instant) {
        self.expected = self.expected.max(now) + self.period;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many requests go out in each second when as many as possible are wanted, asked for every millisecond.
    fn greedy(rate: u32, seconds: u32) -> Vec<u32> {
        let start = Instant::now() + Duration::from_secs(100);
        let mut limiter = Limiter::new(rate, start);
        let mut taken = Vec::new();
        for second in 0..seconds {
            let mut count = 0;
            for ms in 0..1000 {
                let now = start + Duration::from_millis(u64::from(second * 1000 + ms));
                while limiter.free_at() <= now {
                    limiter.take(now);
                    count += 1;
                }
            }
            taken.push(count);
        }
        taken
    }

    #[test]
    fn the_rate_is_kept_with_a_burst_at_the_start() {
        for (rate, first, then) in [(1, 1, 1), (9, 9, 9), (100, 109, 100), (150, 164, 150)] {
            let taken = greedy(rate, 5);
            assert!(taken[0].abs_diff(first) <= 1, "{rate}: {taken:?}");
            assert!(taken[1..].iter().all(|n| n.abs_diff(then) <= 1), "{rate}: {taken:?}");
        }
    }
}
