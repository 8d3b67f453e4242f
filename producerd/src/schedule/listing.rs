//! When the exchange's list of markets is read. Pure.

use std::time::{Duration, Instant};

use super::PollId;

/// A list that could not be read is tried again so soon, later each time.
const RETRY_MIN: Duration = Duration::from_secs(5);

/// The list is read where it is needed: all the time where patterns follow it or a market is unknown, and at once where a
/// batch was refused.
#[derive(Debug)]
pub(super) struct Listing {
    refresh: Duration,
    /// Something needs it for good.
    is_needed: bool,
    /// When to read it next as long as it is needed; none: at once.
    next: Option<Instant>,
    /// Somebody waits for it since then.
    wanted_since: Option<Instant>,
    /// And since when it has been asked for.
    in_flight: Option<(PollId, Instant)>,
    /// When the last list that arrived was asked for.
    asked_at: Option<Instant>,
    failures: u32,
}

impl Listing {
    pub(super) fn new(refresh: Duration) -> Self {
        Self { refresh, is_needed: false, next: None, wanted_since: None, in_flight: None, asked_at: None, failures: 0 }
    }

    /// Whether it is needed for good.
    pub(super) fn set_needed(&mut self, is_needed: bool) {
        self.is_needed = is_needed;
    }

    /// Somebody waits for a list that is newer than `since`. Whether it has come already.
    pub(super) fn want(&mut self, now: Instant, since: Instant) -> bool {
        if self.asked_at.is_some_and(|at| at >= since) {
            return true;
        }
        self.wanted_since.get_or_insert(now);
        false
    }

    /// When the last list that arrived was asked for.
    pub(super) fn asked_at(&self) -> Option<Instant> {
        self.asked_at
    }

    /// When to ask for it, unless that is under way; a time in the past means now.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let needed = self.is_needed.then(|| self.next.unwrap_or(now));
        needed.into_iter().chain(self.wanted_since).min().filter(|_| self.in_flight.is_none())
    }

    pub(super) fn started(&mut self, now: Instant, id: PollId) {
        (self.in_flight, self.wanted_since) = (Some((id, now)), None);
    }

    pub(super) fn ended(&mut self, now: Instant, id: PollId, is_good: bool) {
        let Some((_, asked_at)) = self.in_flight.take_if(|(flying, _)| *flying == id) else { return };
        let pause = if is_good {
            (self.failures, self.asked_at) = (0, Some(asked_at));
            self.refresh
        } else {
            self.failures += 1;
            let factor = 1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX);
            RETRY_MIN.saturating_mul(factor).min(self.refresh.max(RETRY_MIN))
        };
        self.next = Some(now + pause);
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(600);

    fn due_in(listing: &Listing, now: Instant) -> Option<u64> {
        listing.due(now).map(|due| due.saturating_duration_since(now).as_secs())
    }

    #[test]
    fn nobody_needs_it_nobody_reads_it() {
        let now = Instant::now();
        let mut listing = Listing::new(REFRESH);
        assert_eq!(listing.due(now), None);
        assert!(!listing.want(now, now));
        assert_eq!(listing.due(now), Some(now));
        listing.started(now, PollId(1));
        assert_eq!(listing.due(now), None);
        listing.ended(now, PollId(1), true);
        assert_eq!(listing.due(now), None);
        // It is new enough for what was refused before it was asked for.
        assert!(listing.want(now, now));
        assert!(!listing.want(now, now + Duration::from_secs(1)));
    }

    #[test]
    fn it_is_followed_and_a_failure_is_tried_again() {
        let now = Instant::now();
        let mut listing = Listing::new(REFRESH);
        listing.set_needed(true);
        let mut waits = Vec::new();
        for id in 0..9 {
            waits.push(due_in(&listing, now).expect("due"));
            listing.started(now, PollId(id));
            listing.ended(now, PollId(id), false);
        }
        assert_eq!(waits, [0, 5, 10, 20, 40, 80, 160, 320, 600]);
        assert_eq!(listing.failures(), 9);
        listing.started(now, PollId(9));
        listing.ended(now, PollId(9), true);
        assert_eq!((due_in(&listing, now), listing.failures()), (Some(600), 0));
        listing.set_needed(true);
        assert_eq!(due_in(&listing, now), Some(600));
    }

    #[test]
    fn what_is_wanted_meanwhile_is_read_anew() {
        let now = Instant::now();
        let mut listing = Listing::new(REFRESH);
        listing.want(now, now);
        listing.started(now, PollId(1));
        let later = now + Duration::from_secs(1);
        assert!(!listing.want(later, later));
        listing.ended(later, PollId(1), true);
        assert_eq!(listing.due(later), Some(later));
    }
}
