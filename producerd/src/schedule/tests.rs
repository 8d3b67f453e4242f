//! Simulated runs: a clock that jumps from one tick to the next, and an exchange that answers after a while.

mod failing;
mod timing;
mod unknown;

use coinflow_common::orderbook::Market;

use super::*;
use crate::exchange::{ExchangeError, RateHint};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn market(code: &str) -> Market {
    Market::parse(code).unwrap()
}

fn watch(code: &str, interval: Duration) -> Watch {
    Watch { market: market(code), interval }
}

/// `KRW-M0`, `KRW-M1`, …
fn many(count: usize, interval: Duration) -> Vec<Watch> {
    (0..count).map(|index| watch(&format!("KRW-M{index}"), interval)).collect()
}

const LIMITS: Limits = Limits {
    requests_per_second: 1000,
    requests_per_second_limit: 1000,
    markets_per_request: 1,
    codes_chars_max: 100_000,
    requests_per_list: 1,
    workers: 100,
    markets_refresh: Duration::from_secs(600),
};

type Outcome = Result<Vec<Result<(), ExchangeError>>, ExchangeError>;
type Answers = Box<dyn FnMut(Instant, &[Market]) -> (Duration, Outcome)>;
/// The list of markets at a time; none where it cannot be read.
type Lists = Box<dyn Fn(Instant) -> Option<Vec<Market>>>;

/// A schedule, its clock, and what became of its polls.
struct Rig {
    schedule: Schedule,
    start: Instant,
    now: Instant,
    answer: Answers,
    list: Lists,
    flying: Vec<(Instant, PollId, Answer)>,
    polls: Vec<(Duration, Vec<String>)>,
    lists: Vec<Duration>,
    refuse_lists: Option<fn() -> ExchangeError>,
    /// Books that came, and when.
    served: Vec<(Duration, String)>,
    events: Vec<Event>,
    jitter: fn(PollId) -> f64,
    ticks: u64,
    /// At how many groups ticks have looked.
    looked: usize,
}

fn fine(markets: &[Market]) -> Outcome {
    Ok(markets.iter().map(|_| Ok(())).collect())
}

impl Rig {
    fn new(limits: Limits, answer: impl FnMut(Instant, &[Market]) -> (Duration, Outcome) + 'static) -> Self {
        let start = Instant::now();
        Self {
            schedule: Schedule::new(limits, start),
            start,
            now: start,
            answer: Box::new(answer),
            list: Box::new(|_| None),
            flying: Vec::new(),
            polls: Vec::new(),
            lists: Vec::new(),
            refuse_lists: None,
            served: Vec::new(),
            events: Vec::new(),
            jitter: |_| 1.0,
            ticks: 0,
            looked: 0,
        }
    }

    /// An exchange that answers all within `latency`.
    fn good(limits: Limits, latency: Duration) -> Self {
        Self::new(limits, move |_, markets| (latency, fine(markets)))
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.looked += self.schedule.groups.wake(self.now).len();
        for poll in self.schedule.tick(self.now) {
            match &poll.ask {
                Ask::Books(markets) => {
                    let codes = markets.iter().map(|market| market.base().to_owned()).collect();
                    self.polls.push((self.now - self.start, codes));
                    let (latency, outcome) = (self.answer)(self.now, markets);
                    for (market, result) in markets.iter().zip(outcome.iter().flatten()) {
                        if result.is_ok() {
                            self.served.push((self.now + latency - self.start, market.base().to_owned()));
                        }
                    }
                    self.flying.push((self.now + latency, poll.id, Answer::Books(outcome, RateHint::default())));
                }
                Ask::List => {
                    self.lists.push(self.now - self.start);
                    let refused = self.refuse_lists.map_or(ExchangeError::Status(404), |refused| refused());
                    let list = (self.list)(self.now).filter(|_| self.refuse_lists.is_none()).ok_or(refused);
                    self.flying.push((self.now + 20 * MS, poll.id, Answer::List(list)));
                }
            }
        }
        self.schedule.groups.check(self.now);
        let counts = self.schedule.counts();
        assert_eq!(
            counts.due,
            counts.done + counts.failed + counts.skipped.total() + self.schedule.in_flight() as u64,
            "{counts:?}"
        );
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.tick();
            let landing = self.flying.iter().map(|(at, ..)| *at).min();
            let next = self.schedule.next_tick(self.now).into_iter().chain(landing).min();
            let Some(next) = next.filter(|next| *next < end) else { break };
            assert!(next > self.now || landing.is_some_and(|at| at <= self.now), "the schedule spins");
            self.now = self.now.max(next);
            let (landed, flying) = std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= self.now);
            self.flying = flying;
            let landed: Vec<(Instant, PollId, Answer)> = landed;
            for (_, id, answer) in landed {
                let events = self.schedule.ended(self.now, id, answer, (self.jitter)(id));
                let is_listed = events.contains(&Event::Listed);
                self.events.extend(events.into_iter().filter(|event| *event != Event::Listed));
                if is_listed {
                    self.events.extend(self.schedule.settle(self.now));
                }
            }
        }
        self.now = end;
    }

    /// When a market was polled.
    fn times(&self, base: &str) -> Vec<Duration> {
        self.polls.iter().filter(|(_, bases)| bases.iter().any(|b| b == base)).map(|(at, _)| *at).collect()
    }
}

impl Rig {
    /// The widest gap between two books of a market from this time on.
    fn widest_served(&self, base: &str, from: Duration) -> Duration {
        let times = self.served.iter().filter(|(at, served)| *at >= from && served == base).map(|(at, _)| *at);
        widest(&times.collect::<Vec<_>>())
    }
}

/// The widest gap between neighbours.
fn widest(times: &[Duration]) -> Duration {
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}
