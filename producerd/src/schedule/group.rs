//! Markets that are polled together.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use coinflow_common::orderbook::Market;

use super::PollId;
use super::breaker::jittered;
use super::grid::Grid;

/// So many polls in a row without an answer leave the schedule as it is; from the next one on the group is held, for a
/// poll that times out keeps a worker from others.
const UNANSWERED_MAX: u32 = 3;
const HOLD_MAX: Duration = Duration::from_secs(30);

/// One group on its grid.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) grid: Grid,
    /// Its place among the groups of the same interval; decides the phase of the grid.
    pub(super) slot: u32,
    pub(super) members: Vec<Member>,
    /// Normally one poll at most; a market that was moved here brings the one of its old group along.
    pub(super) in_flight: Vec<PollId>,
    /// Parts to ask for one by one, in search of a market that the exchange does not know.
    parts: VecDeque<Vec<Market>>,
    /// The present point of the grid could not be served for want of a worker or for the rate limit.
    pub(super) waited_for_capacity: bool,
    /// Points of the grid since the last one that was served.
    pub(super) missed_in_a_row: u64,
    /// Polls in a row that ended without an answer.
    unanswered: u32,
    /// No point of the grid is served until then.
    held_until: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) market: Market,
    /// The exchange does not know it; it is tried again then.
    pub(super) unknown_until: Option<Instant>,
    /// In a row.
    pub(super) failures: u64,
    pub(super) is_failure_told: bool,
}

impl Group {
    pub(super) fn new(start: Instant, interval: Duration, slot: u32, now: Instant) -> Self {
        Self {
            grid: Grid::new(start, interval, slot, now),
            slot,
            members: Vec::new(),
            in_flight: Vec::new(),
            parts: VecDeque::new(),
            waited_for_capacity: false,
            missed_in_a_row: 0,
            unanswered: 0,
            held_until: None,
        }
    }

    pub(super) fn add(&mut self, market: Market) {
        self.members.push(Member { market, unknown_until: None, failures: 0, is_failure_told: false });
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Market) -> bool) {
        self.members.retain(|member| keep(&member.market));
        for part in &mut self.parts {
            part.retain(&keep);
        }
        self.parts.retain(|part| !part.is_empty());
    }

    /// Whether a poll has to wait for the end of another.
    pub(super) fn is_busy(&self) -> bool {
        !self.in_flight.is_empty() || !self.parts.is_empty()
    }

    /// Notes that a poll was answered, if only with an error.
    pub(super) fn answered(&mut self) {
        (self.unanswered, self.held_until) = (0, None);
    }

    /// Notes that a poll was not answered. `jitter` is from 0 to 1: groups that fail together do not come back together.
    pub(super) fn unanswered(&mut self, now: Instant, jitter: f64) {
        self.unanswered = self.unanswered.saturating_add(1);
        if let Some(doublings) = self.unanswered.checked_sub(UNANSWERED_MAX).filter(|count| *count > 0) {
            let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
            self.held_until = Some(now + jittered(self.grid.interval.saturating_mul(factor).min(HOLD_MAX), jitter));
        }
    }

    /// Whether its next failure would say more about the exchange than about itself.
    pub(super) fn is_sound(&self) -> bool {
        self.unanswered < UNANSWERED_MAX && self.has_known()
    }

    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    fn has_known(&self) -> bool {
        self.members.iter().any(|member| member.unknown_until.is_none())
    }

    /// Leaves the missed points of the grid behind, and how many polls that were. A hold misses a point at once.
    pub(super) fn miss(&mut self, now: Instant, held: bool) -> u64 {
        let mut missed = self.grid.skip_missed(now);
        if self.grid.next <= now && (held || !self.has_known()) {
            self.grid.advance();
            missed += 1;
        }
        if !self.has_known() {
            return 0;
        }
        // What it missed by itself gives it no precedence.
        if !self.is_held(now) {
            self.missed_in_a_row += missed;
        }
        missed
    }

    /// Since when it wants to be polled, if it does and no poll of it is in flight.
    pub(super) fn wants(&self, now: Instant) -> Option<Instant> {
        if !self.in_flight.is_empty() {
            return None;
        }
        if !self.parts.is_empty() {
            return Some(now);
        }
        let retry = self.members.iter().filter_map(|member| member.unknown_until).min();
        let point = self.has_known().then_some(self.grid.next);
        point.into_iter().chain(retry).filter(|since| *since <= now).min()
    }

    /// The markets to ask for now: a part in search, else those of the grid, else one that was unknown.
    pub(super) fn start(&mut self, id: PollId, now: Instant) -> Vec<Market> {
        self.in_flight.push(id);
        if let Some(part) = self.parts.pop_front() {
            return part;
        }
        if self.has_known() && self.grid.next <= now {
            self.grid.advance();
            self.waited_for_capacity = false;
            self.missed_in_a_row = 0;
            let known = self.members.iter().filter(|member| member.unknown_until.is_none());
            return known.map(|member| member.market.clone()).collect();
        }
        let unknown = self.members.iter().filter(|member| member.unknown_until.is_some_and(|at| at <= now));
        unknown.min_by_key(|member| member.unknown_until).map(|member| member.market.clone()).into_iter().collect()
    }

    /// Takes up its members among these markets for a request of their own.
    pub(super) fn search(&mut self, markets: &[Market]) {
        let is_member = |market: &&Market| self.members.iter().any(|member| member.market == **market);
        let part: Vec<Market> = markets.iter().filter(is_member).cloned().collect();
        if !part.is_empty() {
            self.parts.push_back(part);
        }
    }

    /// When something changes by time alone. `request_at` is when a request may go out as far as workers, rate limit
    /// and the exchange's state are concerned; none where that depends on the end of a poll.
    pub(super) fn next_tick(&self, now: Instant, request_at: Option<Instant>) -> Option<Instant> {
        // A group whose members are all unknown has no points to keep.
        let point = match self.grid.next {
            _ if !self.has_known() => None,
            next if next > now => Some(next),
            _ => Some(self.grid.deadline()),
        };
        let retry = self.members.iter().filter_map(|member| member.unknown_until).min();
        let request = match (self.wants(now), request_at) {
            (Some(_), Some(request_at)) => Some(request_at),
            (None, Some(request_at)) if !self.is_busy() => retry.map(|retry| retry.max(request_at)),
            _ => None,
        };
        point.into_iter().chain(request).min()
    }
}
