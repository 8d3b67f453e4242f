//! When a whole exchange is left alone: after a refusal for its rate limit, and when nothing of it answers.

use std::time::{Duration, Instant};

use super::PollId;
use crate::exchange::ExchangeError;

/// So many failures in a row, over all markets, make an outage of the exchange out of troubles of markets.
const FAILURES_MAX: u32 = 5;
const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(30);
/// No longer than this between two tries, however often a block is met.
const BLOCK_MAX: Duration = Duration::from_secs(3600);

/// Why an exchange is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    RateLimit,
    Outage,
}

/// Lets requests through, or holds them off and after a while lets one probe, be it for books or for the list of markets.
/// Those that were under way before say nothing of how it is now, but what refuses them is heard.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    closed: Option<Closed>,
}

#[derive(Debug)]
struct Closed {
    reason: Reason,
    since: Instant,
    until: Instant,
    /// The longest of this time, from which a block grows.
    delay: Duration,
    is_block: bool,
    probe: Option<PollId>,
}

/// How long polls are held off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Until(Instant),
    /// Until the probe has ended.
    Probing,
}

/// A change that the operator should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Or a refusal has become a block, or a longer one.
    Closed {
        reason: Reason,
        delay: Duration,
    },
    Opened {
        after: Duration,
    },
}

impl Breaker {
    /// Whether polls are held off, and how long.
    pub(super) fn held(&self, now: Instant) -> Option<Held> {
        let closed = self.closed.as_ref()?;
        match closed.probe {
            Some(_) => Some(Held::Probing),
            None => (now < closed.until).then_some(Held::Until(closed.until)),
        }
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        self.closed.as_ref().map(|closed| closed.reason)
    }

    /// When the next request may try how it is, if the exchange is left alone until then.
    pub(super) fn until(&self) -> Option<Instant> {
        self.closed.as_ref().filter(|closed| closed.probe.is_none()).map(|closed| closed.until)
    }

    /// Notes that a request goes out. While the exchange is left alone, it is the probe.
    pub(super) fn started(&mut self, id: PollId) {
        if let Some(closed) = &mut self.closed {
            closed.probe = Some(id);
        }
    }

    /// Notes how a request ended. `jitter` is from 0 to 1: producers that failed together do not come back together.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        id: PollId,
        error: Option<&ExchangeError>,
        jitter: f64,
    ) -> Option<Change> {
        if let Some(ExchangeError::RateLimited { hold, is_block, .. }) = error {
            return self.refused(now, id, *hold, *is_block);
        }
        let is_outage = error.is_some_and(ExchangeError::is_outage);
        self.failures = if is_outage { self.failures.saturating_add(1) } else { 0 };
        match &mut self.closed {
            None if self.failures >= FAILURES_MAX => {
                self.close(now, Reason::Outage, jittered(DELAY_MIN, jitter));
                Some(Change::Closed { reason: Reason::Outage, delay: DELAY_MIN })
            }
            None => None,
            // What was under way before says nothing about now.
            Some(closed) if closed.probe != Some(id) => None,
            Some(closed) if is_outage => {
                closed.probe = None;
                closed.delay = (closed.delay * 2).clamp(DELAY_MIN, DELAY_MAX);
                closed.until = now + jittered(closed.delay, jitter);
                None
            }
            Some(closed) => {
                let after = now.saturating_duration_since(closed.since);
                self.closed = None;
                Some(Change::Opened { after })
            }
        }
    }

    /// A block that is tried in vain lasts longer each time.
    fn refused(&mut self, now: Instant, id: PollId, hold: Duration, is_block: bool) -> Option<Change> {
        let told = Change::Closed { reason: Reason::RateLimit, delay: hold };
        let Some(closed) = self.closed.as_mut().filter(|closed| closed.reason == Reason::RateLimit) else {
            self.close(now, Reason::RateLimit, hold);
            self.closed.iter_mut().for_each(|closed| closed.is_block = is_block);
            return Some(told);
        };
        let is_probe = closed.probe.take_if(|probe| *probe == id).is_some();
        let delay = if is_block && is_probe { hold.max((closed.delay * 2).min(BLOCK_MAX)) } else { hold };
        let is_news = (is_block && !closed.is_block) || delay > closed.delay;
        closed.is_block |= is_block;
        closed.delay = closed.delay.max(delay);
        closed.until = closed.until.max(now + delay);
        is_news.then_some(Change::Closed { reason: Reason::RateLimit, delay })
    }

    fn close(&mut self, now: Instant, reason: Reason, delay: Duration) {
        let is_block = false;
        self.closed = Some(Closed { reason, since: now, until: now + delay, delay, is_block, probe: None });
    }
}

/// From half of a delay to all of it.
pub(super) fn jittered(delay: Duration, jitter: f64) -> Duration {
    delay.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        breaker: Breaker,
        now: Instant,
        next: u64,
    }

    impl Rig {
        fn new() -> Self {
            Self { breaker: Breaker::default(), now: Instant::now(), next: 0 }
        }

        fn poll(&mut self, error: Option<ExchangeError>) -> Option<Change> {
            let id = PollId(self.next);
            self.next += 1;
            assert_eq!(self.breaker.held(self.now), None);
            self.breaker.started(id);
            self.breaker.ended(self.now, id, error.as_ref(), 1.0)
        }

        /// Waits until a poll may go out; how long that was, in seconds.
        fn wait(&mut self) -> f64 {
            let Some(Held::Until(until)) = self.breaker.held(self.now) else { panic!("not held") };
            let waited = until - self.now;
            self.now = until;
            waited.as_secs_f64()
        }
    }

    fn down() -> Option<ExchangeError> {
        Some(ExchangeError::Status(502))
    }

    fn limited() -> Option<ExchangeError> {
        Some(ExchangeError::RateLimited {
            refusal: "HTTP 429".to_owned(),
            hold: Duration::from_secs(60),
            is_block: false,
        })
    }

    fn blocked(secs: u64) -> Option<ExchangeError> {
        let hold = Duration::from_secs(secs);
        Some(ExchangeError::RateLimited { refusal: "HTTP 418".to_owned(), hold, is_block: true })
    }

    #[test]
    fn an_outage_backs_off_until_a_probe_is_answered() {
        let mut rig = Rig::new();
        for _ in 0..4 {
            assert_eq!(rig.poll(down()), None);
        }
        assert_eq!(rig.poll(down()), Some(Change::Closed { reason: Reason::Outage, delay: DELAY_MIN }));
        let mut waits = Vec::new();
        for _ in 0..7 {
            waits.push(rig.wait());
            assert_eq!(rig.poll(down()), None);
        }
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        rig.wait();
        assert_eq!(rig.poll(None), Some(Change::Opened { after: Duration::from_secs(121) }));
        assert_eq!(rig.breaker.held(rig.now), None);
    }

    #[test]
    fn any_answer_between_keeps_it_open() {
        let mut rig = Rig::new();
        for error in
            [down(), down(), down(), down(), Some(ExchangeError::UnknownMarket), down(), down(), down(), down()]
        {
            assert_eq!(rig.poll(error), None);
        }
    }

    #[test]
    fn only_one_probe_at_a_time_and_only_its_answer_counts() {
        let mut rig = Rig::new();
        (0..5).for_each(|_| _ = rig.poll(down()));
        rig.wait();
        rig.breaker.started(PollId(100));
        assert_eq!(rig.breaker.held(rig.now), Some(Held::Probing));
        assert_eq!(rig.breaker.ended(rig.now, PollId(99), None, 1.0), None);
        assert_eq!(rig.breaker.held(rig.now), Some(Held::Probing));
        assert!(matches!(rig.breaker.ended(rig.now, PollId(100), None, 1.0), Some(Change::Opened { .. })));
    }

    #[test]
    fn a_refusal_holds_and_is_told_once() {
        let mut rig = Rig::new();
        let told = Change::Closed { reason: Reason::RateLimit, delay: Duration::from_secs(60) };
        assert_eq!(rig.poll(limited()), Some(told));
        assert_eq!(rig.breaker.ended(rig.now, PollId(77), limited().as_ref(), 1.0), None);
        assert_eq!(rig.wait(), 60.0);
        assert_eq!(rig.poll(limited()), None);
        assert_eq!(rig.wait(), 60.0);
        assert_eq!(rig.poll(None), Some(Change::Opened { after: Duration::from_secs(120) }));
    }

    #[test]
    fn a_block_that_is_tried_in_vain_grows() {
        let mut rig = Rig::new();
        let (mut waits, mut told) = (Vec::new(), 0);
        for _ in 0..9 {
            told += usize::from(rig.poll(blocked(60)).is_some());
            waits.push(rig.wait());
        }
        assert_eq!(waits, [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0, 3600.0]);
        assert_eq!(told, 7);
    }

    #[test]
    fn only_a_refused_probe_makes_a_block_longer_and_nothing_makes_it_shorter() {
        let mut rig = Rig::new();
        rig.poll(blocked(60));
        rig.wait();
        rig.poll(blocked(60));
        rig.wait();
        rig.breaker.started(PollId(100));
        // From before the block: the probe is still out, and the block no longer.
        assert_eq!(rig.breaker.ended(rig.now, PollId(99), blocked(60).as_ref(), 1.0), None);
        assert_eq!(rig.breaker.held(rig.now), Some(Held::Probing));
        rig.breaker.ended(rig.now, PollId(100), limited().as_ref(), 1.0);
        assert_eq!(rig.wait(), 60.0);
        rig.poll(blocked(1));
        assert_eq!(rig.wait(), 240.0);
    }

    #[test]
    fn a_refusal_that_becomes_a_block_is_told() {
        let mut rig = Rig::new();
        rig.poll(limited());
        rig.wait();
        assert_eq!(rig.poll(limited()), None);
        rig.wait();
        let told = Change::Closed { reason: Reason::RateLimit, delay: Duration::from_secs(120) };
        assert_eq!(rig.poll(blocked(1)), Some(told));
    }

    #[test]
    fn jitter_shortens_by_half_at_most() {
        assert_eq!(jittered(DELAY_MAX, 0.0), Duration::from_secs(15));
        assert_eq!(jittered(DELAY_MAX, 1.0), DELAY_MAX);
    }
}
