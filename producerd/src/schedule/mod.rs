//! What to poll and when, for one exchange. Pure: time comes as an argument, and what to do goes out as a value.
//!
//! Markets of one interval are polled in groups, as many as the exchange answers in one request. Each group stands on
//! a fixed grid. At each point of it the group is polled, or, when that cannot start within a small tolerance, the
//! poll is skipped and counted, never queued. So for every moment: due = done + failed + skipped + in flight.

mod breaker;
mod grid;
mod group;
mod limiter;
mod model;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coinflow_common::orderbook::Market;

pub(crate) use self::breaker::Reason;
use self::breaker::{Breaker, Change, Held};
use self::group::Group;
use self::limiter::Limiter;
pub(crate) use self::model::{Counts, Diff, Event, Limits, Outcome, Poll, PollId, Skipped, Watch};
use crate::exchange::ExchangeError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct GroupId(u64);

/// The schedule of one exchange.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    limits: Limits,
    groups: BTreeMap<GroupId, Group>,
    in_flight: HashMap<PollId, Arc<[Market]>>,
    limiter: Limiter,
    breaker: Breaker,
    counts: Counts,
    next_id: u64,
}

impl Schedule {
    pub(crate) fn new(limits: Limits, start: Instant) -> Self {
        Self {
            start,
            limits,
            groups: BTreeMap::new(),
            in_flight: HashMap::new(),
            limiter: Limiter::new(limits.requests_per_second, start),
            breaker: Breaker::default(),
            counts: Counts::default(),
            next_id: 0,
        }
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
        let flying: Vec<PollId> =
            self.in_flight.iter().filter(|(_, markets)| markets.contains(&watch.market)).map(|(id, _)| *id).collect();
        let has_room = |id: &&GroupId| {
            let group = &self.groups[id];
            group.members.len() < self.limits.markets_per_request
                && flying.iter().all(|poll| group.in_flight.contains(poll))
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
            group.add(watch.market.clone());
            if group.in_flight.is_empty() {
                group.in_flight = flying;
            }
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The polls to start at this moment. Where not all of them can start, those of groups that have missed most go
    /// first, so that an overload hits all alike.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Poll> {
        let mut polls = Vec::new();
        let mut due: Vec<(Reverse<u64>, Instant, GroupId)> = Vec::new();
        let is_closed = self.breaker.held(now).is_some();
        for (id, group) in &mut self.groups {
            let held = is_closed || group.is_held(now);
            let missed = group.miss(now, held);
            let reason = match () {
                () if held => &mut self.counts.skipped.held,
                () if group.is_busy() => &mut self.counts.skipped.overlap,
                () if group.waited_for_capacity => &mut self.counts.skipped.limit,
                () => &mut self.counts.skipped.late,
            };
            *reason += missed;
            self.counts.due += missed;
            if missed > 0 {
                group.waited_for_capacity = false;
            }
            due.extend(group.wants(now).map(|since| (Reverse(group.missed_in_a_row), since, *id)));
        }
        due.sort();
        for (_, _, id) in due {
            if self.breaker.held(now).is_some() {
                break;
            }
            let has_capacity = self.in_flight.len() < self.limits.workers && self.limiter.free_at() <= now;
            let poll_id = PollId(self.new_id());
            let Some(group) = self.groups.get_mut(&id) else { continue };
            if !has_capacity {
                group.waited_for_capacity = true;
                continue;
            }
            let markets: Arc<[Market]> = group.start(poll_id, now).into();
            self.limiter.take(now);
            self.breaker.started(poll_id);
            self.counts.due += 1;
            self.in_flight.insert(poll_id, Arc::clone(&markets));
            polls.push(Poll { id: poll_id, markets });
        }
        polls
    }

    /// When to call [`tick`](Self::tick) next; it is also due after each [`ended`](Self::ended).
    pub(crate) fn next_tick(&self, now: Instant) -> Option<Instant> {
        let free_at = (self.in_flight.len() < self.limits.workers).then(|| self.limiter.free_at());
        let request_at = match self.breaker.held(now) {
            None => free_at,
            Some(Held::Until(until)) => free_at.map(|free_at| free_at.max(until)),
            Some(Held::Probing) => None,
        };
        self.groups.values().filter_map(|group| group.next_tick(now, request_at)).min()
    }

    /// Notes how a poll ended. `jitter` is a random number from 0 to 1.
    pub(crate) fn ended(&mut self, now: Instant, id: PollId, outcome: Outcome, jitter: f64) -> Vec<Event> {
        let Some(markets) = self.in_flight.remove(&id) else { return Vec::new() };
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
        for group in self.groups.values_mut().filter(|group| group.in_flight.contains(&id)) {
            group.in_flight.retain(|flying| *flying != id);
            match is_answered {
                true => group.answered(),
                // While the exchange as a whole is left alone, its probes say nothing about one group.
                false if is_quiet || change.is_some() => {}
                false => group.unanswered(now, jitter),
            }
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
            Err(ExchangeError::UnknownMarket) => events.extend(self.unknown(&markets, now)),
            Err(error) => {
                if let Some(Change::Closed { reason, delay }) = change {
                    events.push(Event::Held { reason, delay, error: error.clone() });
                }
                if !matches!(error, ExchangeError::RateLimited { .. }) {
                    events.extend(self.bad(&markets, error, is_quiet || change.is_some(), now));
                }
            }
        }
        events
    }

    /// Whether this is a poll of a group that has not answered for long, which says nothing about the exchange as long
    /// as other groups get answers.
    fn is_old_news(&self, id: PollId) -> bool {
        self.groups.values().any(Group::is_sound)
            && self.groups.values().any(|group| group.in_flight.contains(&id) && !group.is_sound())
    }

    fn member(&mut self, market: &Market) -> Option<&mut group::Member> {
        self.groups.values_mut().find_map(|group| group.members.iter_mut().find(|member| member.market == *market))
    }

    fn good(&mut self, market: &Market, back: &mut Vec<Market>, failures: &mut u64) -> Option<Event> {
        let member = self.member(market)?;
        let failed = std::mem::take(&mut member.failures);
        if std::mem::take(&mut member.is_failure_told) {
            *failures = (*failures).max(failed);
            back.push(market.clone());
        }
        member.unknown_until.take().map(|_| Event::Known { market: market.clone() })
    }

    fn bad(&mut self, markets: &[Market], error: ExchangeError, is_quiet: bool, now: Instant) -> Option<Event> {
        let retry = self.limits.unknown_retry;
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

    /// One of several unknown: asks for each half. One alone: leaves it out for a while.
    fn unknown(&mut self, markets: &[Market], now: Instant) -> Option<Event> {
        let retry = self.limits.unknown_retry;
        if let [market] = markets {
            let member = self.member(market)?;
            let is_news = member.unknown_until.is_none();
            member.unknown_until = Some(now + retry);
            return is_news.then(|| Event::Unknown { market: market.clone(), retry });
        }
        let (left, right) = markets.split_at(markets.len() / 2);
        for group in self.groups.values_mut() {
            group.search(left);
            group.search(right);
        }
        None
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn symbols(&self) -> usize {
        self.groups.values().map(|group| group.members.len()).sum()
    }

    /// The markets that the exchange does not know.
    pub(crate) fn unknown_markets(&self) -> impl Iterator<Item = &Market> {
        let members = self.groups.values().flat_map(|group| &group.members);
        members.filter(|member| member.unknown_until.is_some()).map(|member| &member.market)
    }

    /// The markets whose last poll failed.
    pub(crate) fn failing_markets(&self) -> impl Iterator<Item = &Market> {
        let members = self.groups.values().flat_map(|group| &group.members);
        members.filter(|member| member.failures > 0 && member.unknown_until.is_none()).map(|member| &member.market)
    }

    /// Counts what is in flight as failed: the daemon stops and no longer waits.
    pub(crate) fn abandon(&mut self) -> usize {
        let abandoned = self.in_flight.drain().count();
        self.counts.failed += abandoned as u64;
        abandoned
    }
}
