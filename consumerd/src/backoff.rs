//! How long to wait before the next try.

use std::time::Duration;

/// Grows from try to try up to a limit, with jitter, so that many clients of one server do not come back at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    tries: u32,
}

/// How a kind of error is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Another transaction was in the way.
    AtOnce,
    /// The server may be back any moment.
    Quick,
    /// Somebody has to do something first.
    Slow,
}

impl Pace {
    fn bounds(self) -> (Duration, Duration) {
        match self {
            Self::AtOnce => (Duration::from_millis(10), Duration::from_secs(1)),
            Self::Quick => (Duration::from_millis(100), Duration::from_secs(2)),
            Self::Slow => (Duration::from_millis(500), Duration::from_secs(15)),
        }
    }
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { tries: 0 }
    }

    /// The pause after a failure. `chance` is any number; its low bits choose within the upper half of the pause.
    pub(crate) fn next(&mut self, pace: Pace, chance: u32) -> Duration {
        let (first, most) = pace.bounds();
        let pause = first.saturating_mul(1 << self.tries.min(10)).min(most);
        self.tries = self.tries.saturating_add(1);
        pause / 2 + (pause / 2).mul_f64(f64::from(chance % 1024) / 1024.0)
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..8).map(|_| backoff.next(Pace::Quick, 0).as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(Pace::Slow, 0).as_millis(), 250);
    }

    #[test]
    fn chance_stays_within_the_upper_half() {
        for chance in [0, 1, 511, 1023, 1024, u32::MAX] {
            let pause = Backoff::new().next(Pace::Quick, chance);
            assert!((50..=100).contains(&pause.as_millis()), "{pause:?}");
        }
    }

    #[test]
    fn a_thousand_tries_are_no_overflow() {
        let mut backoff = Backoff::new();
        for _ in 0..1000 {
            assert!(backoff.next(Pace::Slow, 1023) <= Duration::from_secs(15));
        }
    }
}
