//! How many requests may go out: no faster than configured, and never more than the exchange takes.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::PollId;
use crate::exchange::RateHint;

/// Requests may come this much of a second's worth at once, at least one.
const BURST_PART: u32 = 10;
/// Every exchange counts its requests by the second.
const WINDOW: Duration = Duration::from_secs(1);
/// How long a reply's word on what is left bounds what follows. Others at the same address may come and go.
const HINT_TIME: Duration = Duration::from_secs(5);
/// After a refusal, requests stay below what led to it for this long behind the hold.
const CAUTION: Duration = Duration::from_secs(60);

/// When a request may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Free {
    /// A time in the past means now.
    At(Instant),
    /// Not before one that is in flight has ended.
    AfterReply,
}

/// The limiter of one exchange.
#[derive(Debug)]
pub(super) struct Limiter {
    pace: Pace,
    window: Window,
}

impl Limiter {
    /// `requests_per_second` is what is configured, `limit` what the exchange takes; both at least 1.
    pub(super) fn new(requests_per_second: u32, limit: u32, now: Instant) -> Self {
        Self { pace: Pace::new(requests_per_second, now), window: Window::new(limit.max(1)) }
    }

    pub(super) fn free(&self, now: Instant) -> Free {
        match self.window.free(now) {
            Free::At(at) => Free::At(at.max(self.pace.free_at())),
            Free::AfterReply => Free::AfterReply,
        }
    }

    /// Counts `requests` that go out now, one after the other.
    pub(super) fn take(&mut self, now: Instant, id: PollId, requests: u32) {
        for _ in 0..requests {
            self.pace.take(now);
        }
        self.window.take(now, id, requests);
    }

    /// Notes that they have ended, and what the reply said.
    pub(super) fn ended(&mut self, now: Instant, id: PollId, hint: RateHint) {
        self.window.ended(now, id, hint);
    }

    /// Notes that the exchange has refused a request that went out at `since`, and holds all for so long.
    pub(super) fn refused(&mut self, now: Instant, since: Instant, hold: Duration) {
        self.window.refused(now, since, hold);
    }

    /// Requests a second that the exchange takes at present, as far as it has told.
    #[cfg(test)]
    fn allowed(&self, now: Instant) -> usize {
        self.window.allowed(now)
    }
}

/// Spaces requests out, with a little burst: the generic cell rate algorithm. In any second there are at most
/// `1 + 1/10` times the rate, and over longer times the rate.
#[derive(Debug)]
struct Pace {
    period: Duration,
    tolerance: Duration,
    /// When the next request would be due if requests came evenly.
    expected: Instant,
}

impl Pace {
    fn new(requests_per_second: u32, now: Instant) -> Self {
        let period = Duration::from_secs(1) / requests_per_second.max(1);
        let burst = (requests_per_second / BURST_PART).max(1);
        Self { period, tolerance: period * (burst - 1), expected: now }
    }

    fn free_at(&self) -> Instant {
        // Instants near the clock's origin have no past.
        self.expected.checked_sub(self.tolerance).unwrap_or(self.expected)
    }

    fn take(&mut self, now: Instant) {
        self.expected = self.expected.max(now) + self.period;
    }
}

/// The requests that the exchange may still count: each from when it goes out until a second after its reply.
///
/// The exchange counts a request at some moment between the two. So however long the way there and back is, and wherever
/// its seconds begin, no second of the exchange sees more requests than are here at once. (One without a reply, for it timed
/// out, may be counted later than is known here.)
#[derive(Debug)]
struct Window {
    limit: u32,
    in_flight: HashMap<PollId, Flight>,
    /// Until when each request counts that has its reply; in order.
    counted: VecDeque<Instant>,
    /// Requests ever taken.
    taken: u64,
    /// The limit as the last reply gave it.
    declared: Option<u32>,
    /// The least of what replies of the last while leave: later ones are larger.
    bounds: VecDeque<(Instant, u32)>,
    /// At most so many until then.
    caution: Option<(Instant, u32)>,
    /// When that was concluded.
    reduced_at: Option<Instant>,
}

#[derive(Debug)]
struct Flight {
    requests: u32,
    /// How many were here when it went out, itself among them.
    beside: usize,
    /// `taken` at that time.
    taken: u64,
}

impl Window {
    fn new(limit: u32) -> Self {
        Self {
            limit,
            in_flight: HashMap::new(),
            counted: VecDeque::new(),
            taken: 0,
            declared: None,
            bounds: VecDeque::new(),
            caution: None,
            reduced_at: None,
        }
    }

    fn allowed(&self, now: Instant) -> usize {
        let bound = self.bounds.iter().find(|(at, _)| now.saturating_duration_since(*at) < HINT_TIME);
        let caution = self.caution.filter(|(until, _)| now < *until);
        let bounds = [self.declared, bound.map(|(_, bound)| *bound), caution.map(|(_, most)| most)];
        let allowed = bounds.into_iter().flatten().fold(self.limit, u32::min);
        allowed.max(1) as usize
    }

    /// Requests with a reply that still count.
    fn still_counted(&self, now: Instant) -> usize {
        self.counted.len() - self.counted.partition_point(|until| *until <= now)
    }

    fn flying(&self) -> usize {
        self.in_flight.values().map(|flight| flight.requests as usize).sum()
    }

    fn free(&self, now: Instant) -> Free {
        let (counted, allowed) = (self.still_counted(now), self.allowed(now));
        // So many have to leave first.
        match (self.flying() + counted + 1).saturating_sub(allowed) {
            0 => Free::At(now),
            leaving if leaving > counted => Free::AfterReply,
            leaving => Free::At(self.counted[self.counted.len() - counted + leaving - 1]),
        }
    }

    fn take(&mut self, now: Instant, id: PollId, requests: u32) {
        while self.counted.front().is_some_and(|until| *until <= now) {
            self.counted.pop_front();
        }
        self.taken += u64::from(requests);
        let beside = self.flying() + self.counted.len() + requests as usize;
        self.in_flight.insert(id, Flight { requests, beside, taken: self.taken });
    }

    fn ended(&mut self, now: Instant, id: PollId, hint: RateHint) {
        let Some(flight) = self.in_flight.remove(&id) else { return };
        self.counted.extend(std::iter::repeat_n(now + WINDOW, flight.requests as usize));
        self.declared = hint.per_second.or(self.declared);
        if let Some(remaining) = hint.remaining {
            // What it had counted when it answered is among these, so no more than this fits into its second.
            let counted = flight.beside as u64 + (self.taken - flight.taken);
            let bound = u64::from(remaining).saturating_add(counted);
            self.bound(now, u32::try_from(bound).unwrap_or(u32::MAX));
        }
    }

    fn bound(&mut self, now: Instant, bound: u32) {
        while self.bounds.back().is_some_and(|(_, other)| *other >= bound) {
            self.bounds.pop_back();
        }
        self.bounds.push_back((now, bound));
        while self.bounds.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= HINT_TIME) {
            self.bounds.pop_front();
        }
    }

    fn refused(&mut self, now: Instant, since: Instant, hold: Duration) {
        let until = now + hold + CAUTION;
        if let Some((cautious_until, _)) = &mut self.caution
            && self.reduced_at.is_some_and(|at| since <= at)
        {
            // From before the last refusal, which has been drawn the conclusion from.
            *cautious_until = until.max(*cautious_until);
            return;
        }
        let here = u32::try_from(self.flying() + self.still_counted(now)).unwrap_or(u32::MAX);
        let most = here.min(u32::try_from(self.allowed(now)).unwrap_or(u32::MAX)) * 4 / 5;
        // So few can hardly have been the reason; others are at the same address.
        self.caution = Some((until, most.max(self.limit / 10)));
        self.reduced_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// An exchange that counts requests by fixed seconds, and a client that asks as often as it may.
    struct Rig {
        limiter: Limiter,
        start: Instant,
        next_id: u64,
        /// On their way there: (arrives, takes so long back, id).
        going: Vec<(Duration, Duration, PollId)>,
        /// On their way back: (arrives, id, what the reply says).
        coming: Vec<(Duration, PollId, RateHint)>,
        limit: u32,
        /// Which second, and how many in it.
        second: (u64, u32),
        tells_limit: bool,
        tells_remaining: bool,
        held_until: Duration,
        refused: Vec<Duration>,
        served: Vec<u32>,
    }

    impl Rig {
        fn new(requests_per_second: u32, limit: u32) -> Self {
            let start = Instant::now() + Duration::from_secs(100);
            Self {
                limiter: Limiter::new(requests_per_second, limit, start),
                start,
                next_id: 0,
                going: Vec::new(),
                coming: Vec::new(),
                limit,
                second: (0, 0),
                tells_limit: false,
                tells_remaining: false,
                held_until: Duration::ZERO,
                refused: Vec::new(),
                served: Vec::new(),
            }
        }

        /// Runs from one second to another. Each request takes a while there and a while back, by its number.
        fn run(&mut self, from: u64, to: u64, there: impl Fn(u64) -> u64, back: impl Fn(u64) -> u64) {
            for ms in from * 1000..to * 1000 {
                let at = Duration::from_millis(ms);
                let now = self.start + at;
                let (mut landed, coming): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.coming).into_iter().partition(|(arrives, ..)| *arrives <= at);
                self.coming = coming;
                landed.sort_by_key(|(arrives, ..)| *arrives);
                for (_, id, hint) in landed {
                    self.limiter.ended(now, id, hint);
                }
                let (arrived, going): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.going).into_iter().partition(|(arrives, ..)| *arrives <= at);
                self.going = going;
                for (_, back, id) in arrived {
                    let hint = self.arrive(at);
                    self.coming.push((at + back, id, hint));
                }
                while at >= self.held_until && matches!(self.limiter.free(now), Free::At(free) if free <= now) {
                    let id = PollId(self.next_id);
                    self.next_id += 1;
                    self.limiter.take(now, id, 1);
                    self.going.push((at + MS * there(id.0) as u32, MS * back(id.0) as u32, id));
                }
            }
        }

        fn arrive(&mut self, at: Duration) -> RateHint {
            let second = at.as_secs();
            if self.second.0 != second {
                self.second = (second, 0);
            }
            self.second.1 += 1;
            if self.served.len() <= second as usize {
                self.served.resize(second as usize + 1, 0);
            }
            if self.second.1 > self.limit {
                self.refused.push(at);
                self.held_until = at + WINDOW;
            } else {
                self.served[second as usize] += 1;
            }
            RateHint {
                per_second: self.tells_limit.then_some(self.limit),
                remaining: self.tells_remaining.then_some(self.limit.saturating_sub(self.second.1)),
            }
        }
    }

    #[test]
    fn the_pace_is_kept_with_a_burst_at_the_start() {
        for (rate, first, then) in [(1, 1, 1), (9, 9, 9), (100, 109, 100)] {
            let mut rig = Rig::new(rate, 1000);
            rig.run(0, 5, |_| 0, |_| 0);
            let served = &rig.served;
            assert!(served[0].abs_diff(first) <= 1, "{rate}: {served:?}");
            assert!(served[1..].iter().all(|n| n.abs_diff(then) <= 1), "{rate}: {served:?}");
        }
    }

    #[test]
    fn no_second_of_the_exchange_sees_too_many_whatever_the_network_does() {
        for limit in [10, 50, 150] {
            // As much as there may be, with times that differ much from request to request.
            let mut rig = Rig::new(limit, limit);
            rig.run(0, 60, |id| id * 7919 % 300, |id| id * 104_729 % 200);
            assert!(rig.refused.is_empty(), "limit {limit}: {:?}", rig.refused);
            let served: u32 = rig.served.iter().sum();
            assert!(served > limit * 60 * 7 / 10, "limit {limit}: {served}");
        }
        // On a good line, nearly all of it is used.
        let mut rig = Rig::new(150, 150);
        rig.run(0, 60, |_| 1, |_| 1);
        assert!(rig.refused.is_empty(), "{:?}", rig.refused);
        assert!(rig.served.iter().sum::<u32>() > 150 * 60 * 97 / 100);
    }

    #[test]
    fn a_limit_that_replies_declare_is_kept() {
        let mut rig = Rig::new(50, 50);
        rig.tells_limit = true;
        rig.run(0, 5, |_| 2, |_| 2);
        rig.limit = 25;
        rig.run(5, 6, |_| 2, |_| 2);
        rig.refused.clear();
        rig.run(6, 20, |_| 2, |_| 2);
        assert!(rig.refused.is_empty(), "{:?}", rig.refused);
        assert!(rig.served[10..].iter().all(|served| (22..=25).contains(served)), "{:?}", rig.served);
        rig.limit = 50;
        rig.run(20, 30, |_| 2, |_| 2);
        assert!(rig.served[25..].iter().all(|served| *served > 45), "{:?}", rig.served);
    }

    #[test]
    fn a_limit_is_learned_from_what_is_left() {
        let mut rig = Rig::new(10, 10);
        rig.tells_remaining = true;
        rig.run(0, 5, |_| 20, |_| 20);
        assert!(rig.served[1..].iter().all(|served| *served >= 9), "{:?}", rig.served);
        rig.limit = 5;
        rig.run(5, 6, |_| 20, |_| 20);
        assert!(rig.refused.len() <= 3, "{:?}", rig.refused);
        rig.refused.clear();
        rig.run(6, 20, |_| 20, |_| 20);
        assert!(rig.refused.is_empty(), "{:?}", rig.refused);
        assert!(rig.served[10..].iter().all(|served| *served >= 4), "{:?}", rig.served);
        // Others at this address have gone: a few seconds later all of it is ours.
        rig.limit = 10;
        rig.run(20, 40, |_| 20, |_| 20);
        assert!(rig.served[30..].iter().all(|served| *served >= 9), "{:?}", rig.served);
    }

    #[test]
    fn after_a_refusal_requests_stay_below_what_led_to_it() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut limiter = Limiter::new(100, 100, start);
        for id in 0..50 {
            limiter.take(start, PollId(id), 1);
        }
        limiter.refused(start, start, Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(limiter.allowed(at(1)), 40);
        assert_eq!(limiter.allowed(at(119)), 40);
        assert_eq!(limiter.allowed(at(120)), 100);
        limiter.refused(at(61), at(61), Duration::from_secs(60));
        assert_eq!(limiter.allowed(at(62)), 32);
        // One more of those that were out together says nothing new.
        limiter.refused(at(62), at(60), Duration::from_secs(60));
        assert_eq!((limiter.allowed(at(63)), limiter.allowed(at(181))), (32, 32));
        assert_eq!(limiter.allowed(at(182)), 100);
    }

    #[test]
    fn with_all_places_in_flight_a_reply_comes_first() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut limiter = Limiter::new(100, 2, start);
        limiter.take(start, PollId(0), 1);
        limiter.take(start, PollId(1), 1);
        assert_eq!(limiter.free(start + WINDOW * 9), Free::AfterReply);
        limiter.ended(start + MS * 20, PollId(0), RateHint::default());
        assert_eq!(limiter.free(start + MS * 30), Free::At(start + MS * 1020));
        assert!(matches!(limiter.free(start + MS * 1020), Free::At(at) if at <= start + MS * 1020));
    }
}
