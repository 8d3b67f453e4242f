//! What to poll and when, for one exchange. Pure: time comes as an argument, and what to do goes out as a value.
//!
//! Markets of one interval are polled in groups, as many as the exchange answers in one request. Each group stands on
//! a fixed grid. At each point of it the group is polled, or, when that cannot start in time, the poll is skipped and
//! counted, never queued. So for every moment: due = done + failed + skipped + in flight.

mod breaker;
mod grid;
mod group;
mod groups;
mod limiter;
mod listing;
mod merge;
mod model;
mod outcome;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coinflow_common::orderbook::Market;

pub(crate) use self::breaker::Reason;
use self::breaker::{Breaker, Held};
use self::group::{Group, Miss, codes_chars};
use self::groups::{GroupId, Groups};
use self::limiter::{Free, Limiter};
use self::listing::Listing;
pub(crate) use self::model::{Answer, Ask, Counts, Diff, Event, Limits, Poll, PollId, Skipped, Watch};

/// The schedule of one exchange.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    limits: Limits,
    groups: Groups,
    in_flight: HashMap<PollId, Flight>,
    limiter: Limiter,
    breaker: Breaker,
    listing: Listing,
    /// Whether patterns follow the list.
    is_followed: bool,
    list: Option<Arc<BTreeSet<Market>>>,
    is_list_failure_told: bool,
    /// Unknown markets that the operator has not heard of: the list may tell what was meant.
    untold: BTreeSet<Market>,
    /// Intervals of which some groups may fit into others.
    sparse: BTreeSet<Duration>,
    counts: Counts,
    next_id: u64,
}

/// What is in flight.
#[derive(Debug)]
enum Flight {
    /// `groups`: those whose poll it is; more than one where a market was moved meanwhile.
    Books {
        markets: Arc<[Market]>,
        groups: Vec<GroupId>,
        since: Instant,
    },
    List {
        since: Instant,
    },
}

impl Flight {
    fn markets(&self) -> &[Market] {
        match self {
            Self::Books { markets, .. } => markets,
            Self::List { .. } => &[],
        }
    }

    fn is_of(&self, group: GroupId) -> bool {
        matches!(self, Self::Books { groups, .. } if groups.contains(&group))
    }
}

impl Schedule {
    pub(crate) fn new(limits: Limits, start: Instant) -> Self {
        let limit = limits.requests_per_second_limit.max(limits.requests_per_second);
        Self {
            start,
            limits,
            groups: Groups::default(),
            in_flight: HashMap::new(),
            limiter: Limiter::new(limits.requests_per_second, limit, start),
            breaker: Breaker::default(),
            listing: Listing::new(limits.markets_refresh),
            is_followed: false,
            list: None,
            is_list_failure_told: false,
            untold: BTreeSet::new(),
            sparse: BTreeSet::new(),
            counts: Counts::default(),
            next_id: 0,
        }
    }

    /// Whether the list of markets is to be read again and again, for patterns follow it.
    pub(crate) fn follow_list(&mut self, is_followed: bool) {
        self.is_followed = is_followed;
        self.update_need();
    }

    /// The markets that the exchange lists, as far as that is known.
    pub(crate) fn list(&self) -> Option<&Arc<BTreeSet<Market>>> {
        self.list.as_ref()
    }

    fn update_need(&mut self) {
        let is_needed = self.is_followed || self.unknown_markets().next().is_some();
        self.listing.set_needed(is_needed);
    }

    /// Watches these markets, each named once, and no others. What stays keeps its group and its grid.
    pub(crate) fn watch(&mut self, wanted: &[Watch], now: Instant) -> Diff {
        let intervals: HashMap<&Market, Duration> =
            wanted.iter().map(|watch| (&watch.market, watch.interval)).collect();
        let before: HashMap<Market, Duration> = self.intervals().collect();
        self.groups.retain(|market, interval| intervals.get(market) == Some(&interval));
        let mut diff = Diff::default();
        for watch in wanted {
            match before.get(&watch.market) {
                Some(interval) if *interval == watch.interval => {
                    diff.unchanged += 1;
                    continue;
                }
                Some(_) => diff.changed += 1,
                None => diff.added += 1,
            }
            self.add(watch, now);
        }
        diff.removed = before.len() - diff.unchanged - diff.changed;
        self.update_need();
        self.sparse = self.groups.values().map(|group| group.grid.interval).collect();
        diff
    }

    fn intervals(&self) -> impl Iterator<Item = (Market, Duration)> + '_ {
        self.groups
            .values()
            .flat_map(|group| group.members.iter().map(|member| (member.market.clone(), group.grid.interval)))
    }

    fn add(&mut self, watch: &Watch, now: Instant) {
        let same: Vec<(GroupId, &Group)> =
            self.groups.iter().filter(|(_, group)| group.grid.interval == watch.interval).collect();
        // A poll of this market may still be in flight from before it was moved or taken out. A group that has nothing
        // to do with that poll is not to wait for it.
        let is_of_market = |flight: &Flight| flight.markets().contains(&watch.market);
        let flying: Vec<PollId> =
            self.in_flight.iter().filter(|(_, flight)| is_of_market(flight)).map(|(id, _)| *id).collect();
        let chars = codes_chars(&watch.market);
        let has_room = |(_, group): &&(GroupId, &Group)| {
            group.members.len() < self.limits.markets_per_request
                && group.codes_chars() + chars <= self.limits.codes_chars_max
                && group.has_polls(&flying)
        };
        let id = match same.iter().find(has_room) {
            Some((id, _)) => *id,
            None => {
                let taken: Vec<u32> = same.iter().map(|(_, group)| group.slot).collect();
                // There are fewer groups than slots.
                let slot = (0..).find(|slot| !taken.contains(slot)).unwrap_or(0);
                let id = GroupId(self.new_id());
                self.groups.insert(id, Group::new(self.start, watch.interval, slot, now));
                id
            }
        };
        for poll in &flying {
            if let Some(Flight::Books { groups, .. }) = self.in_flight.get_mut(poll).filter(|flight| !flight.is_of(id))
            {
                groups.push(id);
            }
        }
        if let Some(group) = self.groups.joined(id) {
            group.add(watch.market.clone(), flying);
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The polls to start at this moment. Where not all of them can start, what the rest of a group waits for goes first, and
    /// then groups that have waited longest for their intervals, so that an overload hits all alike.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Poll> {
        let mut polls = Vec::new();
        let mut due = BinaryHeap::new();
        let is_closed = self.breaker.held(now).is_some();
        for id in self.groups.wake(now) {
            let Some(group) = self.groups.get_mut(id) else { continue };
            let held = is_closed || group.is_held(now);
            let (missed, reason) = group.miss(now, held);
            let skipped = match reason {
                Miss::Late => &mut self.counts.skipped.late,
                Miss::Overlap => &mut self.counts.skipped.overlap,
                Miss::Limit => &mut self.counts.skipped.limit,
                Miss::Held => &mut self.counts.skipped.held,
            };
            *skipped += missed;
            self.counts.due += missed;
            let key = |since| (group.has_parts(), group.backlog(now), Reverse((since, id)));
            due.extend(group.wants(now).map(key));
        }
        if self.list_due(now).is_some_and(|due| due <= now) && !is_closed && self.has_capacity(now) {
            let id = PollId(self.new_id());
            self.limiter.take(now, id, self.limits.requests_per_list);
            self.breaker.started(id);
            self.listing.started(now, id);
            self.in_flight.insert(id, Flight::List { since: now });
            polls.push(Poll { id, ask: Ask::List });
        }
        while let Some((_, _, Reverse((_, id)))) = due.pop() {
            // One after the other: the parts of a search, and the grid's poll.
            while let Some(poll) = self.start(id, now) {
                polls.push(poll);
            }
        }
        self.groups.rest(now);
        polls
    }

    /// When to read the list of markets. An exchange that is left alone is probed with books, if there are any to ask for: these
    /// tell what matters, and a list may take several requests.
    fn list_due(&self, now: Instant) -> Option<Instant> {
        let is_left_to_books = self.breaker.reason().is_some() && self.groups.values().any(Group::can_poll);
        self.listing.due(now).filter(|_| !is_left_to_books)
    }

    /// The next poll of a group, if it wants one and one may go out.
    fn start(&mut self, id: GroupId, now: Instant) -> Option<Poll> {
        if self.breaker.held(now).is_some() {
            return None;
        }
        let has_capacity = self.has_capacity(now);
        let poll_id = PollId(self.new_id());
        let retry = now + self.limits.markets_refresh;
        let group = self.groups.get_mut(id).filter(|group| group.wants(now).is_some())?;
        if !has_capacity {
            group.wait_for_capacity(now);
            return None;
        }
        let markets: Arc<[Market]> = group.start(poll_id, now, retry).into();
        self.limiter.take(now, poll_id, 1);
        self.breaker.started(poll_id);
        self.counts.due += 1;
        self.in_flight.insert(poll_id, Flight::Books { markets: Arc::clone(&markets), groups: vec![id], since: now });
        Some(Poll { id: poll_id, ask: Ask::Books(markets) })
    }

    fn has_capacity(&self, now: Instant) -> bool {
        self.in_flight.len() < self.limits.workers && matches!(self.limiter.free(now), Free::At(at) if at <= now)
    }

    /// When to call [`tick`](Self::tick) next; it is also due after each [`ended`](Self::ended).
    pub(crate) fn next_tick(&self, now: Instant) -> Option<Instant> {
        let free_at = match self.limiter.free(now) {
            Free::At(at) if self.in_flight.len() < self.limits.workers => Some(at),
            _ => None,
        };
        let request_at = match self.breaker.held(now) {
            None => free_at,
            Some(Held::Until(until)) => free_at.map(|free_at| free_at.max(until)),
            Some(Held::Probing) => None,
        };
        let list_at = self.list_due(now).and_then(|due| Some(due.max(request_at?)));
        self.groups.next_tick(now, request_at).into_iter().chain(list_at).min()
    }

    /// Whether a poll waits for a worker or for the rate limit, or a group is to be looked at anew.
    pub(crate) fn is_waiting(&self) -> bool {
        self.groups.are_any_awake()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Polls for books in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.values().filter(|flight| matches!(flight, Flight::Books { .. })).count()
    }

    pub(crate) fn busy_workers(&self) -> usize {
        self.in_flight.len()
    }

    /// What to tell the operator if more is watched than can be asked for in time.
    pub(crate) fn overload(&self) -> Option<String> {
        let watches: Vec<Watch> = self.intervals().map(|(market, interval)| Watch { market, interval }).collect();
        self.limits.overload(&watches)
    }

    pub(crate) fn markets(&self) -> impl Iterator<Item = &Market> {
        self.groups.values().flat_map(|group| group.members.iter().map(|member| &member.market))
    }

    pub(crate) fn symbols(&self) -> usize {
        self.markets().count()
    }

    /// The markets that the exchange does not know, each with the one that may have been meant.
    pub(crate) fn unknown_markets(&self) -> impl Iterator<Item = (&Market, Option<&Market>)> {
        let members = self.groups.values().flat_map(|group| &group.members);
        let unknown = members.filter(|member| member.unknown_until.is_some());
        unknown.map(|member| (&member.market, member.nearest.as_ref()))
    }

    /// The markets whose last poll failed.
    pub(crate) fn failing_markets(&self) -> impl Iterator<Item = &Market> {
        let members = self.groups.values().flat_map(|group| &group.members);
        members.filter(|member| member.failures > 0 && member.unknown_until.is_none()).map(|member| &member.market)
    }

    /// When an exchange that is left alone is tried again, if that is not under way.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.breaker.until()
    }

    /// Counts what is in flight as failed: the daemon stops and no longer waits.
    pub(crate) fn abandon(&mut self) -> usize {
        let abandoned = self.in_flight();
        self.in_flight.clear();
        self.counts.failed += abandoned as u64;
        abandoned
    }
}
