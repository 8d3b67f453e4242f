//! Markets that are polled together.

use std::collections::{BTreeSet, VecDeque};
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
///
/// When the exchange refuses the whole of it because it does not know one of its markets, all of them are suspects, and the
/// grid's polls go without them until it is clear which one it was. That takes one request for each halving: if the first
/// half is good, it is one of the other half; if not, the other half is let go, and the grid's next poll tells if that was
/// wrong.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) grid: Grid,
    /// Its place among the groups of the same interval; decides the phase of the grid.
    pub(super) slot: u32,
    pub(super) members: Vec<Member>,
    /// Normally one poll at most; a market that was moved here brings the one of its old group along.
    grid_polls: Vec<PollId>,
    /// Polls of parts, with those that are suspects as long as the part is; and of unknown markets that are tried again.
    part_polls: Vec<(PollId, Vec<Market>)>,
    /// Refused as a whole, and waiting for the list of markets.
    refused: Vec<Refused>,
    /// To be asked for, each by itself.
    parts: VecDeque<Part>,
    /// The present point of the grid could not be served for want of a worker or for the rate limit.
    waits_for_capacity: bool,
    /// Since when it has had to stand back behind others.
    behind_since: Instant,
    /// No point of the grid is served before: a late poll keeps its distance from the next one.
    not_before: Instant,
    /// Whether it had a known member when it was looked at last: without one it has no points to miss.
    had_known: bool,
    /// Polls in a row that ended without an answer.
    unanswered: u32,
    /// No point of the grid is served until then.
    held_until: Option<Instant>,
}

/// Why a point of the grid was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    Late,
    Overlap,
    Limit,
    Held,
}

/// A request that was refused for an unknown market.
#[derive(Debug)]
struct Refused {
    suspects: Vec<Market>,
    /// How many markets it asked for.
    asked: usize,
    /// When it went out.
    since: Instant,
}

/// Some of the suspects.
#[derive(Debug, Default)]
struct Part {
    asked: Vec<Market>,
    /// If those asked for are good, it is one of these.
    others: Vec<Market>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) market: Market,
    /// The exchange does not know it; it is tried again then.
    pub(super) unknown_until: Option<Instant>,
    /// Which one may have been meant.
    pub(super) nearest: Option<Market>,
    /// It is among those of which the exchange does not know at least one.
    pub(super) is_suspect: bool,
    /// In a row.
    pub(super) failures: u64,
    pub(super) is_failure_told: bool,
}

impl Member {
    fn is_known(&self) -> bool {
        self.unknown_until.is_none()
    }

    fn try_again(&mut self, next: Instant) -> Market {
        self.unknown_until = Some(next);
        self.market.clone()
    }

    /// Whether the grid's polls ask for it.
    fn is_due(&self) -> bool {
        self.is_known() && !self.is_suspect
    }
}

impl Group {
    pub(super) fn new(start: Instant, interval: Duration, slot: u32, now: Instant) -> Self {
        let grid = Grid::new(start, interval, slot, now);
        Self {
            behind_since: grid.next.checked_sub(interval).unwrap_or(now),
            grid,
            slot,
            members: Vec::new(),
            grid_polls: Vec::new(),
            part_polls: Vec::new(),
            refused: Vec::new(),
            parts: VecDeque::new(),
            waits_for_capacity: false,
            not_before: now,
            had_known: true,
            unanswered: 0,
            held_until: None,
        }
    }

    /// Adds a market; `flying`: polls of it that are still in flight from elsewhere.
    pub(super) fn add(&mut self, market: Market, flying: Vec<PollId>) {
        self.members.push(Member {
            market,
            unknown_until: None,
            nearest: None,
            is_suspect: false,
            failures: 0,
            is_failure_told: false,
        });
        if self.grid_polls.is_empty() {
            self.grid_polls = flying;
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Market) -> bool) {
        self.members.retain(|member| keep(&member.market));
        let queued = self.parts.iter_mut().flat_map(|part| [&mut part.asked, &mut part.others]);
        let flying = self.part_polls.iter_mut().map(|(_, others)| others);
        let refused = self.refused.iter_mut().map(|refused| &mut refused.suspects);
        queued.chain(flying).chain(refused).for_each(|markets| markets.retain(&keep));
        for part in &mut self.parts {
            if part.asked.is_empty() {
                std::mem::swap(&mut part.asked, &mut part.others);
            }
        }
        self.parts.retain(|part| !part.asked.is_empty());
    }

    /// How long the codes of its members are in a request.
    pub(super) fn codes_chars(&self) -> usize {
        self.members.iter().map(|member| codes_chars(&member.market)).sum()
    }

    /// Whether all of these polls are its own.
    pub(super) fn has_polls(&self, polls: &[PollId]) -> bool {
        polls.iter().all(|poll| self.has_poll(*poll))
    }

    pub(super) fn has_poll(&self, id: PollId) -> bool {
        self.grid_polls.contains(&id) || self.part_polls.iter().any(|(poll, _)| *poll == id)
    }

    /// If it was the poll of a part, who else is among the suspects.
    pub(super) fn poll_ended(&mut self, id: PollId) -> Option<Vec<Market>> {
        self.grid_polls.retain(|poll| *poll != id);
        let at = self.part_polls.iter().position(|(poll, _)| *poll == id)?;
        Some(self.part_polls.swap_remove(at).1)
    }

    /// Whether nothing of it is under way or in doubt.
    pub(super) fn is_calm(&self) -> bool {
        let polls = self.grid_polls.len() + self.part_polls.len();
        polls + self.refused.len() + self.parts.len() == 0
            && self.unanswered == 0
            && !self.members.iter().any(|member| member.is_suspect)
    }

    /// Whether a poll of it could tell how the exchange is.
    pub(super) fn can_poll(&self) -> bool {
        !self.parts.is_empty() || self.members.iter().any(Member::is_due)
    }

    /// Whether the grid's next poll has to wait for the end of another.
    pub(super) fn is_busy(&self) -> bool {
        !self.grid_polls.is_empty() || !self.members.iter().any(Member::is_due)
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
        self.members.iter().any(Member::is_known)
    }

    /// Leaves the missed points of the grid behind: how many polls that were, and what stood in their way. A hold misses a
    /// point at once, and what only waits for others misses it when the next one comes.
    pub(super) fn miss(&mut self, now: Instant, held: bool) -> (u64, Miss) {
        let reason = match () {
            () if held => Miss::Held,
            () if self.is_busy() => Miss::Overlap,
            () if self.waits_for_capacity => Miss::Limit,
            () => Miss::Late,
        };
        let mut missed = self.grid.skip_missed(now, self.tolerance());
        if self.grid.next <= now && (held || !self.has_known()) {
            self.grid.advance();
            missed += 1;
        }
        // What it missed by itself gives it no precedence; what it missed while it was searched does.
        let is_own = reason != Miss::Limit && (reason != Miss::Overlap || !self.grid_polls.is_empty());
        if missed > 0 && is_own {
            self.behind_since = now;
        }
        self.waits_for_capacity &= missed == 0;
        let has_known = self.has_known();
        let had_known = std::mem::replace(&mut self.had_known, has_known);
        (if had_known && has_known { missed } else { 0 }, reason)
    }

    fn tolerance(&self) -> Duration {
        if self.waits_for_capacity { self.grid.interval } else { self.grid.tolerance() }
    }

    /// Notes that it wants a poll, and none may go out.
    pub(super) fn wait_for_capacity(&mut self, now: Instant) {
        self.waits_for_capacity |= self.grid_wants(now).is_some();
    }

    /// Whether parts of it wait, of which the rest of its markets wants to know.
    pub(super) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Intervals, in millionths, that it has stood behind others. Where those that have most of it go first, an overload
    /// makes all intervals longer by the same factor, and those after which unknown markets are tried again.
    pub(super) fn backlog(&self, now: Instant) -> u128 {
        let grid = self.grid_wants(now).map(|_| self.behind_since);
        let since = grid.into_iter().chain(self.retry()).min().unwrap_or(now);
        let behind = now.saturating_duration_since(since);
        behind.as_nanos() * 1_000_000 / self.grid.interval.as_nanos().max(1)
    }

    /// Since when the grid wants a poll, if it does and none of it is in flight.
    fn grid_wants(&self, now: Instant) -> Option<Instant> {
        let since = self.grid.next.max(self.not_before);
        (!self.is_busy() && since <= now).then_some(since)
    }

    /// When the next of its unknown markets is to be tried again.
    fn retry(&self) -> Option<Instant> {
        self.members.iter().filter(|member| !member.is_suspect).filter_map(|member| member.unknown_until).min()
    }

    /// Since when it wants a poll.
    pub(super) fn wants(&self, now: Instant) -> Option<Instant> {
        if !self.parts.is_empty() {
            return Some(now);
        }
        let retry = self.retry().filter(|retry| *retry <= now);
        self.grid_wants(now).into_iter().chain(retry).min()
    }

    /// The markets to ask for now: a part in search, else those of the grid, else one that was unknown. Until its answer tells
    /// more, that one is tried again at `retry`.
    pub(super) fn start(&mut self, id: PollId, now: Instant, retry: Instant) -> Vec<Market> {
        if let Some(part) = self.parts.pop_front() {
            self.part_polls.push((id, part.others));
            return part.asked;
        }
        if self.grid_wants(now).is_some() {
            self.grid_polls.push(id);
            self.grid.advance();
            self.waits_for_capacity = false;
            self.behind_since = now;
            self.not_before = now + self.grid.tolerance();
            let due = self.members.iter().filter(|member| member.is_due());
            return due.map(|member| member.market.clone()).collect();
        }
        self.part_polls.push((id, Vec::new()));
        let unknown = self.members.iter_mut().filter(|member| member.unknown_until.is_some_and(|at| at <= now));
        let first = unknown.min_by_key(|member| member.unknown_until);
        first.into_iter().map(|member| member.try_again(retry)).collect()
    }

    /// The exchange does not know at least one of these markets, which it was asked for at `since`. Those that are its members become suspects, and wait for the
    /// list of markets. Whether there are any.
    pub(super) fn refuse(&mut self, markets: &[Market], since: Instant) -> bool {
        let suspects = self.own(markets);
        for member in self.members.iter_mut().filter(|member| suspects.contains(&member.market)) {
            member.is_suspect = true;
        }
        let has_suspects = !suspects.is_empty();
        if has_suspects {
            self.refused.push(Refused { suspects, asked: markets.len(), since });
        }
        has_suspects
    }

    /// Those of these markets that are its members.
    fn own(&self, markets: &[Market]) -> Vec<Market> {
        let is_member = |market: &&Market| self.members.iter().any(|member| member.market == **market);
        markets.iter().filter(is_member).cloned().collect()
    }

    /// Takes up what waits for the list of markets, which was asked for at the time beside it: what is not on it is left out,
    /// and returned; the rest is asked for again, as one. If the list explains nothing, or there is none, they are searched.
    /// What was asked for after the list waits for the next one.
    pub(super) fn settle(&mut self, listed: Option<(&BTreeSet<Market>, Instant)>) -> Vec<Market> {
        let mut missing = Vec::new();
        for Refused { suspects, asked, since } in std::mem::take(&mut self.refused) {
            if listed.is_some_and(|(_, asked_at)| asked_at < since) {
                self.refused.push(Refused { suspects, asked, since });
                continue;
            }
            let is_listed = |market: &Market| listed.is_none_or(|(listed, _)| listed.contains(market));
            let (good, bad): (Vec<Market>, Vec<Market>) = suspects.into_iter().partition(is_listed);
            // One that was taken out meanwhile may have been it.
            if good.len() == asked {
                self.search(&good);
            } else if !good.is_empty() {
                self.parts.push_back(Part { asked: good, others: Vec::new() });
            }
            missing.extend(bad);
        }
        missing
    }

    /// Searches those of these markets that are its members: the exchange does not know at least one of them.
    pub(super) fn search(&mut self, markets: &[Market]) {
        let suspects = self.own(markets);
        let (asked, others) = suspects.split_at(suspects.len().div_ceil(2));
        if !asked.is_empty() {
            self.parts.push_back(Part { asked: asked.to_vec(), others: others.to_vec() });
        }
    }

    /// When something changes by time alone. `request_at` is when a request may go out as far as workers, rate limit
    /// and the exchange's state are concerned; none where that depends on the end of a poll.
    pub(super) fn next_tick(&self, now: Instant, request_at: Option<Instant>) -> Option<Instant> {
        // A group whose members are all unknown has no points to keep.
        let point = match self.grid.next {
            _ if !self.has_known() => None,
            next if next > now => Some(next),
            _ if self.not_before > now => Some(self.not_before),
            next => Some(next + self.tolerance()),
        };
        let request = match (self.wants(now), request_at) {
            (Some(_), Some(request_at)) => Some(request_at),
            (None, Some(request_at)) => self.retry().map(|retry| retry.max(request_at)),
            _ => None,
        };
        point.into_iter().chain(request).min()
    }
}

/// What a market's code takes of a request: its characters and a separator.
pub(super) fn codes_chars(market: &Market) -> usize {
    market.as_str().len() + 1
}
