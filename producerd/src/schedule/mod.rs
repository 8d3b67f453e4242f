//! What to poll and when, for one exchange. Pure: time comes as an argument, and what to do goes out as a value.
//!
//! Markets of one interval are polled in groups, as many as the exchange answers in one request. Each group stands on
//! a fixed grid. At each point of it the group is polled, or, when that cannot start in time, the poll is skipped and
//! counted, never queued. So for every moment: due = done + failed + skipped + in flight.

mod breaker;
mod grid;
mod group;
mod limiter;
mod listing;
mod model;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coinflow_common::config::nearest;
use coinflow_common::orderbook::Market;

pub(crate) use self::breaker::Reason;
use self::breaker::{Breaker, Change, Held};
use self::group::{Group, Member, Miss, codes_chars};
use self::limiter::{Free, Limiter};
use self::listing::Listing;
pub(crate) use self::model::{Answer, Ask, Counts, Diff, Event, Limits, Poll, PollId, Skipped, Watch};
use crate::exchange::{ExchangeError, RateHint};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct GroupId(u64);

/// The schedule of one exchange.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    limits: Limits,
    groups: BTreeMap<GroupId, Group>,
    in_flight: HashMap<PollId, Flight>,
    limiter: Limiter,
    breaker: Breaker,
    listing: Listing,
    /// Whether patterns follow the list.
    is_followed: bool,
    list: Option<Arc<BTreeSet<Market>>>,
    /// Unknown markets that the operator has not heard of: the list may tell what was meant.
    untold: Vec<Market>,
    counts: Counts,
    next_id: u64,
}

/// What is in flight.
#[derive(Debug)]
enum Flight {
    Books { markets: Arc<[Market]>, since: Instant },
    List,
}

impl Flight {
    fn markets(&self) -> &[Market] {
        match self {
            Self::Books { markets, .. } => markets,
            Self::List => &[],
        }
    }
}

impl Schedule {
    pub(crate) fn new(limits: Limits, start: Instant) -> Self {
        let limit = limits.requests_per_second_limit.max(limits.requests_per_second);
        Self {
            start,
            limits,
            groups: BTreeMap::new(),
            in_flight: HashMap::new(),
            limiter: Limiter::new(limits.requests_per_second, limit, start),
            breaker: Breaker::default(),
            listing: Listing::new(limits.markets_refresh),
            is_followed: false,
            list: None,
            untold: Vec::new(),
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
        for group in self.groups.values_mut() {
            let interval = group.grid.interval;
            group.retain(|market| intervals.get(market) == Some(&interval));
        }
        self.groups.retain(|_, group| !group.members.is_empty());
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
        diff
    }

    fn intervals(&self) -> impl Iterator<Item = (Market, Duration)> + '_ {
        self.groups
            .values()
            .flat_map(|group| group.members.iter().map(|member| (member.market.clone(), group.grid.interval)))
    }

    fn add(&mut self, watch: &Watch, now: Instant) {
        let same: Vec<GroupId> =
            self.groups.iter().filter(|(_, group)| group.grid.interval == watch.interval).map(|(id, _)| *id).collect();
        // A poll of this market may still be in flight from before it was moved or taken out. A group that has nothing
        // to do with that poll is not to wait for it.
        let is_of_market = |flight: &Flight| flight.markets().contains(&watch.market);
        let flying: Vec<PollId> =
            self.in_flight.iter().filter(|(_, flight)| is_of_market(flight)).map(|(id, _)| *id).collect();
        let chars = codes_chars(&watch.market);
        let has_room = |id: &&GroupId| {
            let group = &self.groups[id];
            group.members.len() < self.limits.markets_per_request
                && group.codes_chars() + chars <= self.limits.codes_chars_max
                && group.has_polls(&flying)
        };
        let id = match same.iter().find(has_room) {
            Some(id) => *id,
            None => {
                let taken: Vec<u32> = same.iter().map(|id| self.groups[id].slot).collect();
                // There are fewer groups than slots.
                let slot = (0..).find(|slot| !taken.contains(slot)).unwrap_or(0);
                let id = GroupId(self.new_id());
                self.groups.insert(id, Group::new(self.start, watch.interval, slot, now));
                id
            }
        };
        if let Some(group) = self.groups.get_mut(&id) {
            group.add(watch.market.clone(), flying);
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The polls to start at this moment. Where not all of them can start, those of groups that have waited longest for
    /// their intervals go first, so that an overload hits all alike.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Poll> {
        let mut polls = Vec::new();
        let mut due: Vec<(u128, Reverse<(Instant, GroupId)>)> = Vec::new();
        let is_closed = self.breaker.held(now).is_some();
        for (id, group) in &mut self.groups {
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
            due.extend(group.wants(now).map(|since| (group.backlog(now), Reverse((since, *id)))));
        }
        if self.listing.due(now).is_some_and(|due| due <= now) && !is_closed && self.has_capacity(now) {
            let id = PollId(self.new_id());
            self.limiter.take(now, id, self.limits.requests_per_list);
            self.listing.started(now, id);
            self.in_flight.insert(id, Flight::List);
            polls.push(Poll { id, ask: Ask::List });
        }
        let mut due = BinaryHeap::from(due);
        while let Some((_, Reverse((_, id)))) = due.pop() {
            // One after the other: the parts of a search, and the grid's poll.
            while let Some(poll) = self.start(id, now) {
                polls.push(poll);
            }
        }
        polls
    }

    /// The next poll of a group, if it wants one and one may go out.
    fn start(&mut self, id: GroupId, now: Instant) -> Option<Poll> {
        if self.breaker.held(now).is_some() {
            return None;
        }
        let has_capacity = self.has_capacity(now);
        let poll_id = PollId(self.new_id());
        let group = self.groups.get_mut(&id).filter(|group| group.wants(now).is_some())?;
        if !has_capacity {
            group.wait_for_capacity(now);
            return None;
        }
        let markets: Arc<[Market]> = group.start(poll_id, now).into();
        self.limiter.take(now, poll_id, 1);
        self.breaker.started(poll_id);
        self.counts.due += 1;
        self.in_flight.insert(poll_id, Flight::Books { markets: Arc::clone(&markets), since: now });
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
        let list_at = self.listing.due(now).and_then(|due| Some(due.max(request_at?)));
        self.groups.values().filter_map(|group| group.next_tick(now, request_at)).chain(list_at).min()
    }

    /// Notes what came of a poll. `jitter` is a random number from 0 to 1.
    ///
    /// After [`Event::Listed`], [`settle`](Self::settle) has to be called.
    pub(crate) fn ended(&mut self, now: Instant, id: PollId, answer: Answer, jitter: f64) -> Vec<Event> {
        match (self.in_flight.remove(&id), answer) {
            (Some(Flight::Books { markets, since }), Answer::Books(outcome, hint)) => {
                self.limiter.ended(now, id, hint);
                self.polled(now, id, &markets, since, outcome, jitter)
            }
            (Some(Flight::List), Answer::List(outcome)) => {
                self.limiter.ended(now, id, RateHint::default());
                self.listed(now, id, outcome, jitter)
            }
            _ => Vec::new(),
        }
    }

    fn listed(
        &mut self,
        now: Instant,
        id: PollId,
        outcome: Result<Vec<Market>, ExchangeError>,
        jitter: f64,
    ) -> Vec<Event> {
        self.listing.ended(now, id, outcome.is_ok());
        let error = match outcome {
            Ok(markets) => {
                self.list = Some(Arc::new(markets.into_iter().collect()));
                return vec![Event::Listed];
            }
            Err(error) => error,
        };
        let mut events = Vec::new();
        if let ExchangeError::RateLimited { hold, .. } = &error {
            self.limiter.refused(now, *hold);
            if let Some(Change::Closed { reason, delay }) = self.breaker.ended(now, id, Some(&error), jitter) {
                events.push(Event::Held { reason, delay, error: error.clone() });
            }
        }
        if self.listing.failures() == 1 {
            events.push(Event::ListFailed { error });
        }
        events.extend(self.settle_with(now, None));
        events
    }

    /// Acts on the list of markets that has arrived.
    pub(crate) fn settle(&mut self, now: Instant) -> Vec<Event> {
        let list = self.list.clone();
        self.settle_with(now, list.as_deref())
    }

    /// What was refused is searched for what the exchange does not know, and what was unknown is tried again if it is listed.
    fn settle_with(&mut self, now: Instant, listed: Option<&BTreeSet<Market>>) -> Vec<Event> {
        let refresh = self.limits.markets_refresh;
        for group in self.groups.values_mut() {
            if let Some(listed) = listed {
                for member in group.members.iter_mut() {
                    if let Some(until) = &mut member.unknown_until {
                        // Where the list tells, there is no need to ask for it; without one it is asked for some day.
                        *until = if listed.contains(&member.market) { now } else { now + refresh * 2 };
                    }
                }
            }
            for market in group.settle(listed) {
                self.untold.push(market.clone());
                if let Some(member) = group.members.iter_mut().find(|member| member.market == market) {
                    (member.is_suspect, member.unknown_until) = (false, Some(now + refresh * 2));
                }
            }
        }
        self.update_need();
        self.tell_unknown()
    }

    /// Tells of unknown markets, with what may have been meant.
    fn tell_unknown(&mut self) -> Vec<Event> {
        let list = self.list.clone();
        let mut events = Vec::new();
        for market in std::mem::take(&mut self.untold) {
            let nearest = list.as_ref().and_then(|list| nearest_market(list, &market));
            let Some(member) = self.member(&market).filter(|member| member.unknown_until.is_some()) else { continue };
            member.nearest.clone_from(&nearest);
            events.push(Event::Unknown { market, nearest });
        }
        events
    }

    fn polled(
        &mut self,
        now: Instant,
        id: PollId,
        markets: &[Market],
        since: Instant,
        outcome: Result<Vec<Result<(), ExchangeError>>, ExchangeError>,
        jitter: f64,
    ) -> Vec<Event> {
        if outcome.as_ref().is_ok_and(|results| results.iter().any(Result::is_ok)) {
            self.counts.done += 1;
        } else {
            self.counts.failed += 1;
        }
        let mut events = Vec::new();
        let is_quiet = self.breaker.reason().is_some();
        let is_answered = !outcome.as_ref().is_err_and(ExchangeError::is_outage);
        let change = match is_answered || is_quiet || !self.is_old_news(id) {
            true => self.breaker.ended(now, id, outcome.as_ref().err(), jitter),
            false => None,
        };
        if let Some(Change::Opened { after }) = change {
            events.push(Event::Released { after });
        }
        let mut others = None;
        for group in self.groups.values_mut().filter(|group| group.has_poll(id)) {
            others = group.poll_ended(id).or(others);
            match is_answered {
                true => group.answered(),
                // While the exchange as a whole is left alone, its probes say nothing about one group.
                false if is_quiet || change.is_some() => {}
                false => group.unanswered(now, jitter),
            }
        }
        let is_part = others.is_some();
        if let Some(others) = others {
            self.judge(markets, &others, &outcome);
        }
        match outcome {
            Ok(results) => {
                let is_done = results.iter().any(Result::is_ok);
                let (mut back, mut failures) = (Vec::new(), 0);
                for (market, result) in markets.iter().zip(results) {
                    match result {
                        Ok(()) => events.extend(self.good(market, &mut back, &mut failures)),
                        Err(error) => {
                            self.counts.books_failed += u64::from(is_done);
                            events.extend(self.bad(std::slice::from_ref(market), error, is_quiet, now));
                        }
                    }
                }
                if !back.is_empty() {
                    events.push(Event::Back { markets: back, failures });
                }
            }
            Err(ExchangeError::UnknownMarket) => events.extend(self.unknown(markets, is_part, since, now)),
            Err(error) => {
                if let Some(Change::Closed { reason, delay }) = change {
                    events.push(Event::Held { reason, delay, error: error.clone() });
                }
                if let ExchangeError::RateLimited { hold, .. } = error {
                    self.limiter.refused(now, hold);
                } else {
                    events.extend(self.bad(markets, error, is_quiet || change.is_some(), now));
                }
            }
        }
        events
    }

    /// Whether this is a poll of a group that has not answered for long, which says nothing about the exchange as long
    /// as other groups get answers.
    fn is_old_news(&self, id: PollId) -> bool {
        self.groups.values().any(Group::is_sound)
            && self.groups.values().any(|group| group.has_poll(id) && !group.is_sound())
    }

    /// What a part's outcome says of it and of the other suspects.
    fn judge<T>(&mut self, asked: &[Market], others: &[Market], outcome: &Result<T, ExchangeError>) {
        match outcome {
            Err(ExchangeError::UnknownMarket) => {
                self.acquit(others);
                if asked.len() == 1 {
                    self.acquit(asked);
                } else {
                    self.groups.values_mut().for_each(|group| group.search(asked));
                }
            }
            Ok(_) => {
                self.acquit(asked);
                self.groups.values_mut().for_each(|group| group.search(others));
            }
            // The grid's next poll tells.
            Err(_) => [asked, others].into_iter().for_each(|markets| self.acquit(markets)),
        }
    }

    /// These are no suspects any more.
    fn acquit(&mut self, markets: &[Market]) {
        for market in markets {
            if let Some(member) = self.member(market) {
                member.is_suspect = false;
            }
        }
    }

    fn member(&mut self, market: &Market) -> Option<&mut Member> {
        self.groups.values_mut().find_map(|group| group.members.iter_mut().find(|member| member.market == *market))
    }

    fn good(&mut self, market: &Market, back: &mut Vec<Market>, failures: &mut u64) -> Option<Event> {
        let member = self.member(market)?;
        let failed = std::mem::take(&mut member.failures);
        if std::mem::take(&mut member.is_failure_told) {
            *failures = (*failures).max(failed);
            back.push(market.clone());
        }
        member.unknown_until.take()?;
        self.update_need();
        Some(Event::Known { market: market.clone() })
    }

    fn bad(&mut self, markets: &[Market], error: ExchangeError, is_quiet: bool, now: Instant) -> Option<Event> {
        let retry = self.limits.markets_refresh;
        let mut news = Vec::new();
        for market in markets {
            let Some(member) = self.member(market) else { continue };
            member.failures += 1;
            if let Some(until) = &mut member.unknown_until {
                *until = now + retry;
            }
            if !is_quiet && !member.is_failure_told {
                member.is_failure_told = true;
                news.push(market.clone());
            }
        }
        (!news.is_empty()).then_some(Event::Failed { markets: news, error })
    }

    /// One alone is left out for a while. Of several, the list of markets may tell which it is; a part of them that is not
    /// explained by it is asked for in halves.
    fn unknown(&mut self, markets: &[Market], is_part: bool, since: Instant, now: Instant) -> Vec<Event> {
        if let [market] = markets {
            let retry = self.limits.markets_refresh;
            let Some(member) = self.member(market) else { return Vec::new() };
            if member.unknown_until.replace(now + retry).is_none() {
                self.untold.push(market.clone());
            }
            self.update_need();
            // What was meant, any list tells; if none can be read, nothing does.
            let is_clear = self.list.is_some() || self.listing.failures() > 0;
            return if is_clear { self.tell_unknown() } else { Vec::new() };
        }
        if is_part {
            return Vec::new();
        }
        let mut has_suspects = false;
        for group in self.groups.values_mut() {
            has_suspects |= group.refuse(markets);
        }
        if has_suspects && self.listing.want(now, since) { self.settle(now) } else { Vec::new() }
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

    /// Counts what is in flight as failed: the daemon stops and no longer waits.
    pub(crate) fn abandon(&mut self) -> usize {
        let abandoned = self.in_flight();
        self.in_flight.clear();
        self.counts.failed += abandoned as u64;
        abandoned
    }
}

/// The listed market whose code is most like that of one that is not listed.
fn nearest_market(list: &BTreeSet<Market>, market: &Market) -> Option<Market> {
    if list.contains(market) {
        return None;
    }
    let code = nearest(market.as_str(), list.iter().map(Market::as_str))?;
    list.iter().find(|listed| listed.as_str() == code).cloned()
}
