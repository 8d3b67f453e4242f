//! What the schedule makes of answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use coinflow_common::config::nearest;
use coinflow_common::orderbook::Market;

use super::breaker::Change;
use super::group::Group;
use super::{Answer, Event, Flight, GroupId, PollId, Schedule};
use crate::exchange::{ExchangeError, RateHint};

impl Schedule {
    /// Notes what came of a poll. `jitter` is a random number from 0 to 1.
    ///
    /// After [`Event::Listed`], [`settle`](Self::settle) has to be called.
    pub(crate) fn ended(&mut self, now: Instant, id: PollId, answer: Answer, jitter: f64) -> Vec<Event> {
        match (self.in_flight.remove(&id), answer) {
            (Some(Flight::Books { markets, groups, since }), Answer::Books(outcome, hint)) => {
                self.limiter.ended(now, id, hint);
                self.polled(now, (id, &groups), &markets, since, outcome, jitter)
            }
            (Some(Flight::List { since }), Answer::List(outcome)) => {
                self.limiter.ended(now, id, RateHint::default());
                self.listed(now, id, since, outcome, jitter)
            }
            _ => Vec::new(),
        }
    }

    fn listed(
        &mut self,
        now: Instant,
        id: PollId,
        since: Instant,
        outcome: Result<Vec<Market>, ExchangeError>,
        jitter: f64,
    ) -> Vec<Event> {
        self.listing.ended(now, id, outcome.is_ok());
        let mut events = Vec::new();
        let change = self.breaker.ended(now, id, outcome.as_ref().err(), jitter);
        if let Some(Change::Opened { after }) = change {
            events.push(Event::Released { after });
        }
        let error = match outcome {
            Ok(markets) => {
                self.list = Some(Arc::new(markets.into_iter().collect()));
                if std::mem::take(&mut self.is_list_failure_told) {
                    events.push(Event::ListBack);
                }
                events.push(Event::Listed);
                return events;
            }
            Err(error) => error,
        };
        if let ExchangeError::RateLimited { hold, .. } = &error {
            self.limiter.refused(now, since, *hold);
        }
        if let Some(Change::Closed { reason, delay }) = change {
            events.push(Event::Held { reason, delay, error: error.clone() });
        }
        // An exchange that is left alone is told of by itself.
        if !self.is_list_failure_told && self.breaker.reason().is_none() {
            self.is_list_failure_told = true;
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
            for market in group.settle(listed.zip(self.listing.asked_at())) {
                self.untold.insert(market.clone());
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
            let Some(member) = self.groups.member(&market).filter(|member| member.unknown_until.is_some()) else {
                continue;
            };
            member.nearest.clone_from(&nearest);
            events.push(Event::Unknown { market, nearest });
        }
        events
    }

    fn polled(
        &mut self,
        now: Instant,
        (id, groups): (PollId, &[GroupId]),
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
        let change = match is_answered || is_quiet || !self.is_old_news(groups) {
            true => self.breaker.ended(now, id, outcome.as_ref().err(), jitter),
            false => None,
        };
        if let Some(Change::Opened { after }) = change {
            events.push(Event::Released { after });
        }
        let mut others = None;
        for group in groups {
            let Some(group) = self.groups.get_mut(*group) else { continue };
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
                    self.limiter.refused(now, since, hold);
                } else {
                    events.extend(self.bad(markets, error, is_quiet || change.is_some(), now));
                }
            }
        }
        groups.iter().for_each(|group| self.merge(*group));
        events
    }

    /// Whether this is a poll of a group that has not answered for long, which says nothing about the exchange as long
    /// as other groups get answers.
    fn is_old_news(&self, groups: &[GroupId]) -> bool {
        self.groups.values().any(Group::is_sound)
            && groups.iter().filter_map(|group| self.groups.get(*group)).any(|group| !group.is_sound())
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
            if let Some(member) = self.groups.member(market) {
                member.is_suspect = false;
            }
        }
    }

    fn good(&mut self, market: &Market, back: &mut Vec<Market>, failures: &mut u64) -> Option<Event> {
        let member = self.groups.member(market)?;
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
            let Some(member) = self.groups.member(market) else { continue };
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
            let Some(member) = self.groups.member(market) else { return Vec::new() };
            if member.unknown_until.replace(now + retry).is_none() {
                self.untold.insert(market.clone());
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
            has_suspects |= group.refuse(markets, since);
        }
        if has_suspects && self.listing.want(now, since) { self.settle(now) } else { Vec::new() }
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
