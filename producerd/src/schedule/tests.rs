//! Simulated runs: a clock that jumps from one tick to the next, and an exchange that answers after a while.

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
        }
    }

    /// An exchange that answers all within `latency`.
    fn good(limits: Limits, latency: Duration) -> Self {
        Self::new(limits, move |_, markets| (latency, fine(markets)))
    }

    fn tick(&mut self) {
        self.ticks += 1;
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

#[test]
fn an_hour_without_drift() {
    let mut rig = Rig::good(LIMITS, 130 * MS);
    rig.schedule.watch(&many(17, SECOND), rig.now);
    rig.run(3600 * SECOND);
    let counts = rig.schedule.counts();
    assert_eq!(counts.skipped, Skipped::default());
    assert_eq!(rig.polls.len(), 17 * 3600);
    for index in 0..17 {
        let times = rig.times(&format!("M{index}"));
        assert_eq!(times.len(), 3600);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == SECOND));
    }
}

#[test]
fn polls_are_spread_over_the_interval() {
    let mut rig = Rig::good(LIMITS, 10 * MS);
    rig.schedule.watch(&many(50, SECOND), rig.now);
    rig.run(2 * SECOND);
    let times: Vec<Duration> = rig.polls.iter().map(|(at, _)| *at).collect();
    assert!(widest(&times) <= 40 * MS, "{:?}", widest(&times));
}

#[test]
fn the_schedule_ticks_no_more_than_it_must() {
    let mut rig = Rig::good(LIMITS, 10 * MS);
    rig.schedule.watch(&many(50, SECOND), rig.now);
    rig.run(60 * SECOND);
    // One tick to start a poll and one when it lands.
    assert!(rig.ticks <= 2 * 50 * 60 + 1, "{}", rig.ticks);
}

#[test]
fn polls_of_one_group_never_overlap() {
    let mut rig = Rig::good(LIMITS, 2700 * MS);
    rig.schedule.watch(&[watch("KRW-BTC", SECOND)], rig.now);
    rig.run(300 * SECOND);
    let times = rig.times("BTC");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 3 * SECOND));
    assert_eq!(rig.schedule.counts().skipped.overlap, 200);
}

#[test]
fn a_poll_that_ends_just_after_the_point_still_lets_the_next_one_start() {
    let mut rig = Rig::good(LIMITS, 1100 * MS);
    rig.schedule.watch(&[watch("KRW-BTC", SECOND)], rig.now);
    rig.run(10 * SECOND);
    assert!(rig.schedule.counts().skipped.overlap <= 5);
    assert!(rig.times("BTC").windows(2).all(|pair| pair[1] - pair[0] >= 1100 * MS));
}

#[test]
fn a_machine_that_stood_still_skips_and_counts() {
    let mut rig = Rig::good(LIMITS, 10 * MS);
    rig.schedule.watch(&many(10, SECOND), rig.now);
    rig.run(10 * SECOND);
    rig.now += 3600 * SECOND;
    rig.run(10 * SECOND);
    let counts = rig.schedule.counts();
    assert_eq!(counts.due, 10 * 3620);
    let (done, late) = (counts.done, counts.skipped.late);
    assert!((10 * 3600 - 5..=10 * 3600).contains(&late), "{late}");
    assert!(done >= 195, "{done}");
    // Back on the grid it was on before.
    let times = rig.times("M3");
    assert!(times.iter().rev().take(5).all(|at| (*at - times[0]).as_nanos() % SECOND.as_nanos() == 0));
}

#[test]
fn a_hiccup_delays_polls_but_skips_none() {
    let mut rig = Rig::good(LIMITS, 10 * MS);
    rig.schedule.watch(&many(10, 200 * MS), rig.now);
    for _ in 0..50 {
        rig.run(210 * MS);
        rig.now += 90 * MS;
    }
    assert_eq!(rig.schedule.counts().skipped, Skipped::default());
    for index in 0..10 {
        assert!(widest(&rig.times(&format!("M{index}"))) <= 300 * MS);
    }
}

#[test]
fn the_rate_limit_skips_what_is_too_much_and_starves_nobody() {
    let limits = Limits { requests_per_second: 20, ..LIMITS };
    let mut rig = Rig::good(limits, 10 * MS);
    rig.schedule.watch(&many(40, SECOND), rig.now);
    rig.run(60 * SECOND);
    assert!((1190..=1210).contains(&rig.polls.len()), "{}", rig.polls.len());
    let counts = rig.schedule.counts();
    assert!(counts.skipped.limit > 1100, "{counts:?}");
    for index in 0..40 {
        let times = rig.times(&format!("M{index}"));
        assert!((29..=31).contains(&times.len()), "M{index}: {}", times.len());
        assert!(widest(&times) <= 2100 * MS, "M{index}: {:?}", widest(&times));
    }
}

#[test]
fn an_overload_makes_all_intervals_longer_by_the_same_factor() {
    for (quick, slow, factor) in [(20, 0, 1.05), (44, 0, 1.47), (8, 80, 2.0), (6, 80, 1.4), (15, 50, 5.0)] {
        let needed = f64::from(quick) + f64::from(slow) / 10.0;
        let limits = Limits { requests_per_second: (needed / factor).round() as u32, ..LIMITS };
        let mut rig = Rig::good(limits, 10 * MS);
        let watches: Vec<Watch> = (0..quick)
            .map(|index| watch(&format!("KRW-Q{index}"), SECOND))
            .chain((0..slow).map(|index| watch(&format!("KRW-S{index}"), 10 * SECOND)))
            .collect();
        rig.schedule.watch(&watches, rig.now);
        rig.run(200 * SECOND);
        rig.polls.clear();
        rig.run(200 * SECOND);
        let mut times: HashMap<String, Vec<Duration>> = HashMap::new();
        for (at, markets) in &rig.polls {
            times.entry(markets[0].clone()).or_default().push(*at);
        }
        assert_eq!(times.len(), watches.len());
        for (market, times) in times {
            let interval = if market.starts_with('Q') { 1.0 } else { 10.0 };
            let first_to_last = times[times.len() - 1] - times[0];
            let mean = first_to_last.as_secs_f64() / (times.len() - 1) as f64 / interval;
            assert!((mean / factor - 1.0).abs() < 0.04, "{market}: {mean} instead of {factor}");
            let widest = widest(&times).as_secs_f64() / interval;
            assert!(widest < factor * 1.15, "{market}: {widest} instead of {factor}");
        }
    }
}

#[test]
fn two_polls_of_a_market_are_half_an_interval_apart_at_least() {
    let mut rig = Rig::good(LIMITS, 10 * MS);
    rig.schedule.watch(&many(10, SECOND), rig.now);
    for _ in 0..50 {
        rig.run(SECOND + 310 * MS);
        // The machine stands still for a while, or everything is taken by others.
        rig.now += 490 * MS;
    }
    for index in 0..10 {
        let times = rig.times(&format!("M{index}"));
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= SECOND / 2), "{times:?}");
    }
}

#[test]
fn no_more_polls_in_flight_than_workers() {
    let limits = Limits { workers: 2, ..LIMITS };
    let mut rig = Rig::good(limits, 400 * MS);
    rig.schedule.watch(&many(10, SECOND), rig.now);
    for _ in 0..100 {
        rig.run(33 * MS);
        assert!(rig.schedule.in_flight() <= 2);
    }
    assert!(rig.schedule.counts().skipped.limit > 0);
}

#[test]
fn a_reload_keeps_the_grid_of_what_stays() {
    let mut rig = Rig::good(LIMITS, 30 * MS);
    let first = many(50, SECOND);
    assert_eq!(rig.schedule.watch(&first, rig.now), Diff { added: 50, ..Diff::default() });
    rig.run(10_300 * MS);
    for round in 0..20 {
        // Takes out ten, puts in ten others, and changes the interval of one.
        let mut wanted: Vec<Watch> = first[10..].to_vec();
        wanted.extend((0..10).map(|index| watch(&format!("KRW-N{index}X{round}"), SECOND)));
        wanted[0].interval = if round % 2 == 0 { 500 * MS } else { SECOND };
        let diff = rig.schedule.watch(&wanted, rig.now);
        assert_eq!(diff, Diff { added: 10, removed: 10, changed: 1, unchanged: 39 });
        rig.run(777 * MS);
    }
    for index in 11..50 {
        let times = rig.times(&format!("M{index}"));
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == SECOND), "M{index}");
    }
}

#[test]
fn batches_keep_their_members() {
    let limits = Limits { markets_per_request: 4, ..LIMITS };
    let mut rig = Rig::good(limits, 30 * MS);
    rig.schedule.watch(&many(10, SECOND), rig.now);
    rig.run(SECOND);
    let mut sizes: Vec<usize> = rig.polls.iter().map(|(_, markets)| markets.len()).collect();
    sizes.sort();
    assert_eq!(sizes, [2, 4, 4]);
    let mut wanted = many(10, SECOND);
    wanted.remove(1);
    wanted.push(watch("KRW-NEW", SECOND));
    rig.schedule.watch(&wanted, rig.now);
    rig.polls.clear();
    rig.run(SECOND);
    let mut groups: Vec<String> = rig.polls.iter().map(|(_, markets)| markets.join(" ")).collect();
    groups.sort();
    assert_eq!(groups, ["M0 M2 M3 NEW", "M4 M5 M6 M7", "M8 M9"]);
}

#[test]
fn a_market_that_moves_while_it_is_polled_is_not_polled_twice() {
    let mut rig = Rig::good(LIMITS, 900 * MS);
    rig.schedule.watch(&[watch("KRW-BTC", SECOND)], rig.now);
    while rig.polls.is_empty() {
        rig.run(10 * MS);
    }
    rig.schedule.watch(&[watch("KRW-BTC", 100 * MS)], rig.now);
    rig.run(850 * MS);
    assert_eq!(rig.polls.len(), 1);
    rig.schedule.watch(&[], rig.now);
    rig.run(SECOND);
    assert_eq!(rig.schedule.counts().done, 1);
    assert_eq!(rig.schedule.in_flight(), 0);
    assert_eq!(rig.schedule.next_tick(rig.now), None);
}

#[test]
fn a_market_that_moves_while_it_is_polled_makes_no_other_wait() {
    let limits = Limits { markets_per_request: 4, ..LIMITS };
    let mut rig = Rig::good(limits, 900 * MS);
    let mut wanted = many(2, 200 * MS);
    wanted.extend([watch("KRW-A", SECOND), watch("KRW-B", SECOND)]);
    rig.schedule.watch(&wanted, rig.now);
    while !rig.polls.iter().any(|(_, markets)| markets.join(" ") == "A B") {
        rig.run(10 * MS);
    }
    rig.answer = Box::new(|_, markets| (10 * MS, fine(markets)));
    rig.run(SECOND / 2);
    wanted[2].interval = 200 * MS;
    wanted[3].interval = 200 * MS;
    // Both go into one group of their own, which waits for the poll of before, and then joins the other.
    assert_eq!(rig.schedule.watch(&wanted, rig.now).changed, 2);
    rig.run(SECOND / 5);
    rig.polls.clear();
    rig.run(SECOND);
    let mut groups: Vec<String> = rig.polls.iter().map(|(_, markets)| markets.join(" ")).collect();
    groups.sort();
    groups.dedup();
    assert_eq!(groups, ["M0 M1", "M0 M1 A B"]);
    assert_eq!(rig.times("M0").len(), 5);
}

/// What the exchange does not know, sorted.
fn unknown(rig: &Rig) -> Vec<String> {
    let mut unknown: Vec<String> = rig.schedule.unknown_markets().map(|(market, _)| market.base().to_owned()).collect();
    unknown.sort();
    unknown
}

/// An exchange that fails every request which names a market of `unknown`.
fn knows_all_but(unknown: &'static [&'static str]) -> impl FnMut(Instant, &[Market]) -> (Duration, Outcome) {
    move |_, markets| {
        let bad = markets.iter().any(|market| unknown.contains(&market.base()));
        (20 * MS, if bad { Err(ExchangeError::UnknownMarket) } else { fine(markets) })
    }
}

#[test]
fn an_unknown_market_is_left_out_and_tried_again() {
    let start = Instant::now();
    let mut rig = Rig::new(LIMITS, move |now, markets| {
        let is_listed = markets[0].base() != "NOPE" || now - start > 1500 * SECOND;
        (20 * MS, if is_listed { fine(markets) } else { Err(ExchangeError::UnknownMarket) })
    });
    rig.schedule.watch(&[watch("KRW-BTC", SECOND), watch("KRW-NOPE", SECOND)], rig.now);
    rig.run(1400 * SECOND);
    assert_eq!(unknown(&rig), ["NOPE"]);
    assert_eq!(rig.times("NOPE").len(), 3);
    rig.run(1000 * SECOND);
    assert_eq!(rig.times("BTC").len(), 2400);
    let times = rig.times("NOPE");
    assert!((590..=600).contains(&(times.len() - 4)), "{}", times.len());
    // Its grid is the old one.
    assert_eq!((times[9] - times[0]).as_nanos() % SECOND.as_nanos(), 0);
    let market = market("KRW-NOPE");
    let events: Vec<Event> =
        rig.events.iter().filter(|event| !matches!(event, Event::ListFailed { .. })).cloned().collect();
    assert_eq!(events, [Event::Unknown { market: market.clone(), nearest: None }, Event::Known { market }]);
    assert_eq!(rig.schedule.counts().skipped, Skipped::default());
}

#[test]
fn a_batch_is_searched_for_the_unknown_ones() {
    let limits = Limits { markets_per_request: 100, ..LIMITS };
    let mut rig = Rig::new(limits, knows_all_but(&["M13", "M77"]));
    rig.schedule.watch(&many(100, SECOND), rig.now);
    rig.run(3 * SECOND);
    assert_eq!(unknown(&rig), ["M13", "M77"]);
    assert_eq!(rig.events.len(), 3, "{:?}", rig.events);
    rig.run(60 * SECOND);
    assert_eq!(rig.polls.last().unwrap().1.len(), 98);
    for index in (0..100).filter(|index| ![13, 77].contains(index)) {
        assert!(rig.widest_served(&format!("M{index}"), 3 * SECOND) <= SECOND, "M{index}");
    }
    // For each of the two, the grid's poll and at most one for each halving.
    assert!(rig.schedule.counts().failed <= 2 * (1 + 7), "{:?}", rig.schedule.counts());
}

/// More is due than may go out, and a market that the exchange has not known is asked for again nonetheless.
#[test]
fn an_overload_does_not_keep_unknown_markets_from_being_tried() {
    let limits = Limits { requests_per_second: 10, ..LIMITS };
    let mut rig = Rig::new(limits, knows_all_but(&["M0", "M1"]));
    rig.list = Box::new(|_| Some(many(1, SECOND).into_iter().map(|watch| watch.market).collect()));
    rig.schedule.watch(&many(20, SECOND), rig.now);
    rig.run(30 * SECOND);
    assert_eq!(unknown(&rig), ["M0", "M1"]);
    // M0 is on the list, so it is asked for each time that the list has been read.
    let before = rig.times("M0").len();
    rig.run(1300 * SECOND);
    let tries = rig.times("M0").len() - before;
    assert!((2..=6).contains(&tries), "{tries}");
    // It is known again, and has its share of the capacity; of the other, the list says that it is not there.
    rig.answer = Box::new(|_, markets| (20 * MS, fine(markets)));
    rig.run(700 * SECOND);
    assert_eq!(unknown(&rig), ["M1"]);
    let from = rig.now - rig.start;
    rig.run(60 * SECOND);
    for index in (0..20).filter(|index| *index != 1) {
        assert!(rig.widest_served(&format!("M{index}"), from) < SECOND * 5 / 2, "M{index}");
    }
}

/// The other markets of the batch are asked for at once, though more is due than may go out.
#[test]
fn a_delisting_under_overload_costs_its_batch_little() {
    let limits = Limits { requests_per_second: 3, requests_per_second_limit: 10, markets_per_request: 10, ..LIMITS };
    let mut rig = Rig::good(limits, 20 * MS);
    // Five batches, of which three a second may go out.
    delists(&mut rig, &["M13", "M27"], 30 * SECOND, true);
    rig.schedule.watch(&many(50, SECOND), rig.now);
    rig.run(60 * SECOND);
    assert_eq!(unknown(&rig), ["M13", "M27"]);
    for index in (0..50).filter(|index| ![13, 27].contains(index)) {
        let widest = rig.widest_served(&format!("M{index}"), 5 * SECOND);
        assert!(widest < SECOND * 7 / 2, "M{index}: {widest:?}");
    }
}

/// Groups of which little is left go where there is room, and no market waits longer for it.
#[test]
fn what_is_taken_out_takes_its_requests_along() {
    let limits = Limits { markets_per_request: 10, ..LIMITS };
    let mut rig = Rig::good(limits, 20 * MS);
    let all = many(100, SECOND);
    rig.schedule.watch(&all, rig.now);
    rig.run(10 * SECOND);
    let few: Vec<Watch> = all.iter().step_by(5).cloned().collect();
    rig.schedule.watch(&few, rig.now);
    rig.run(12 * SECOND);
    for watch in &few {
        let base = watch.market.base();
        let times = rig.times(base);
        assert!(widest(&times) <= SECOND, "{base}: {:?}", widest(&times));
    }
    rig.polls.clear();
    rig.run(10 * SECOND);
    assert_eq!(rig.polls.len(), 2 * 10);
    let counts = rig.schedule.counts();
    assert_eq!(counts.skipped, Skipped::default());
}

/// A block that the list meets grows as one that books meet, and each try is a single request.
#[test]
fn a_block_is_probed_by_one_request_whatever_it_asks_for() {
    for watches in [many(3, SECOND), Vec::new()] {
        let refused =
            || ExchangeError::RateLimited { refusal: "HTTP 418".to_owned(), hold: 60 * SECOND, is_block: true };
        let mut rig = Rig::new(LIMITS, move |_, _| (20 * MS, Err(refused())));
        rig.refuse_lists = Some(refused);
        rig.schedule.follow_list(true);
        rig.schedule.watch(&watches, rig.now);
        rig.run(60 * SECOND);
        let (polls, lists) = (rig.polls.len(), rig.lists.len());
        rig.run(3600 * SECOND);
        // After 60 s, then 2, 4, 8, 16 and 32 minutes.
        let tries = rig.polls.len() - polls + rig.lists.len() - lists;
        assert!((4..=6).contains(&tries), "{tries}");
        if !watches.is_empty() {
            assert_eq!(rig.lists.len(), lists);
        }
        rig.answer = Box::new(|_, markets| (20 * MS, fine(markets)));
        rig.refuse_lists = None;
        rig.list = Box::new(|_| Some(Vec::new()));
        rig.run(3600 * SECOND);
        let released = rig.events.iter().filter(|event| matches!(event, Event::Released { .. })).count();
        assert_eq!(released, 1, "{:?}", rig.events);
    }
}

/// An exchange that has these markets, and at some time has delisted some of them. The list tells it, unless it is wrong.
fn delists(rig: &mut Rig, gone: &'static [&'static str], at: Duration, is_list_right: bool) {
    let start = rig.start;
    let is_gone = move |market: &Market, now: Instant| now >= start + at && gone.contains(&market.base());
    rig.answer = Box::new(move |now, markets| {
        let is_bad = markets.iter().any(|market| is_gone(market, now));
        (20 * MS, if is_bad { Err(ExchangeError::UnknownMarket) } else { fine(markets) })
    });
    let all: Vec<Market> = many(150, SECOND).into_iter().map(|watch| watch.market).collect();
    rig.list = Box::new(move |now| {
        Some(all.iter().filter(|market| !is_list_right || !is_gone(market, now)).cloned().collect())
    });
}

#[test]
fn a_delisting_costs_no_other_market_a_tick() {
    let limits = Limits { requests_per_second: 9, requests_per_second_limit: 10, markets_per_request: 100, ..LIMITS };
    let mut rig = Rig::good(limits, 20 * MS);
    delists(&mut rig, &["M13", "M77"], 10 * SECOND, true);
    rig.schedule.watch(&many(150, SECOND), rig.now);
    rig.run(20 * SECOND);
    assert_eq!(unknown(&rig), ["M13", "M77"]);
    for index in (0..150).filter(|index| ![13, 77].contains(index)) {
        let widest = rig.widest_served(&format!("M{index}"), Duration::ZERO);
        // The list and the second request take their time.
        assert!(widest < SECOND + SECOND / 2, "M{index}: {widest:?}");
    }
    assert_eq!(rig.lists.len(), 1);
    assert_eq!(rig.schedule.counts().failed, 1, "{:?}", rig.schedule.counts());
    assert_eq!(rig.schedule.counts().skipped, Skipped::default());
    // The list is read again by and by, and a market that is listed again is taken up.
    delists(&mut rig, &[], Duration::ZERO, true);
    rig.run(1200 * SECOND);
    assert_eq!(rig.schedule.unknown_markets().count(), 0);
    assert_eq!(rig.lists.len(), 2, "{:?}", rig.lists);
    let is_known = |event: &Event| matches!(event, Event::Known { .. });
    assert_eq!(rig.events.iter().filter(|event| is_known(event)).count(), 2);
}

#[test]
fn what_the_list_does_not_explain_costs_others_one_tick_at_most() {
    let limits = Limits { requests_per_second: 9, requests_per_second_limit: 10, markets_per_request: 100, ..LIMITS };
    let mut rig = Rig::good(limits, 20 * MS);
    delists(&mut rig, &["M13"], 10 * SECOND, false);
    rig.schedule.watch(&many(150, SECOND), rig.now);
    rig.run(30 * SECOND);
    assert_eq!(unknown(&rig), ["M13"]);
    for index in (0..150).filter(|index| *index != 13) {
        let widest = rig.widest_served(&format!("M{index}"), Duration::ZERO);
        // One point of the grid is missed; the next one may be served a little late.
        assert!(widest < 2 * SECOND + SECOND / 2, "M{index}: {widest:?}");
    }
    assert_eq!(rig.lists.len(), 1);
    assert_eq!(rig.events, [Event::Unknown { market: market("KRW-M13"), nearest: None }]);
}

#[test]
fn an_unknown_market_is_told_with_the_nearest_on_the_list() {
    let mut rig = Rig::good(LIMITS, 20 * MS);
    let listed = || vec![market("KRW-BTC"), market("KRW-DOGE")];
    rig.answer = Box::new(move |_, markets| {
        let is_known = listed().contains(&markets[0]);
        (20 * MS, if is_known { fine(markets) } else { Err(ExchangeError::UnknownMarket) })
    });
    rig.list = Box::new(move |_| Some(listed()));
    rig.schedule.watch(&[watch("KRW-DOEG", SECOND), watch("KRW-QQQQQ", SECOND), watch("KRW-BTC", SECOND)], rig.now);
    rig.run(10 * SECOND);
    let [doeg, doge, odd] = ["KRW-DOEG", "KRW-DOGE", "KRW-QQQQQ"].map(market);
    let mut told: Vec<(Market, Option<Market>)> = Vec::new();
    for event in &rig.events {
        let Event::Unknown { market, nearest } = event else { panic!("{event:?}") };
        told.push((market.clone(), nearest.clone()));
    }
    told.sort();
    assert_eq!(told, [(doeg.clone(), Some(doge.clone())), (odd, None)]);
    let shown: Vec<_> = rig.schedule.unknown_markets().filter(|(market, _)| **market == doeg).collect();
    assert_eq!(shown, [(&doeg, Some(&doge))]);
    // The list alone is asked, while it tells that they are not there.
    let polls = rig.polls.len();
    rig.run(3600 * SECOND);
    assert_eq!(rig.polls.len() - polls, 3600);
    assert!((6..=8).contains(&rig.lists.len()), "{:?}", rig.lists);
}

#[test]
fn a_list_that_is_followed_is_read_again_and_again() {
    let mut rig = Rig::good(LIMITS, 20 * MS);
    rig.schedule.follow_list(true);
    rig.run(10 * SECOND);
    // It cannot be read: later each time.
    assert_eq!(rig.lists.len(), 2);
    assert_eq!(rig.events, [Event::ListFailed { error: ExchangeError::Status(404) }]);
    rig.list = Box::new(|_| Some(vec![market("KRW-BTC")]));
    rig.run(3600 * SECOND);
    assert_eq!(rig.lists.len(), 2 + 6, "{:?}", rig.lists);
    assert_eq!(rig.schedule.list().map(|list| list.len()), Some(1));
    rig.schedule.follow_list(false);
    rig.lists.clear();
    rig.run(3600 * SECOND);
    assert!(rig.lists.len() <= 1);
}

#[test]
fn codes_that_are_too_long_for_one_request_take_two() {
    let limits = Limits { markets_per_request: 100, codes_chars_max: 40, ..LIMITS };
    let mut rig = Rig::good(limits, 20 * MS);
    let long: Vec<Watch> = (0..6).map(|index| watch(&format!("KRW-LONGNAME{index}"), SECOND)).collect();
    rig.schedule.watch(&long, rig.now);
    rig.run(SECOND);
    assert_eq!(rig.polls.iter().map(|(_, markets)| markets.len()).collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(limits.requests_needed(&long), 3.0);
}

#[test]
fn what_cannot_be_asked_in_time_is_told_with_its_numbers() {
    let limits = Limits { requests_per_second: 10, ..LIMITS };
    assert_eq!(limits.overload(&many(10, SECOND)), None);
    let mut watches = many(13, SECOND);
    watches.push(watch("KRW-SLOW", 2 * SECOND));
    watches.push(watch("KRW-SLOW2", 2 * SECOND));
    assert_eq!(
        limits.overload(&watches).as_deref(),
        Some("needs 14 requests/s, requests_per_second allows 10: KRW-M0 will be polled every 1.40 s instead of 1s")
    );
}

#[test]
fn a_market_that_fails_keeps_its_schedule_and_is_told_once() {
    let mut rig = Rig::new(LIMITS, |_, markets| {
        let error = ExchangeError::BadReply("empty body".to_owned());
        (20 * MS, if markets[0].base() == "ETH" { Err(error) } else { fine(markets) })
    });
    rig.schedule.watch(&[watch("KRW-BTC", SECOND), watch("KRW-ETH", SECOND)], rig.now);
    rig.run(60 * SECOND);
    assert_eq!(rig.times("ETH").len(), 60);
    assert_eq!(rig.times("BTC").len(), 60);
    let error = ExchangeError::BadReply("empty body".to_owned());
    assert_eq!(rig.events, [Event::Failed { markets: vec![market("KRW-ETH")], error }]);
    rig.answer = Box::new(|_, markets| (20 * MS, fine(markets)));
    rig.run(10 * SECOND);
    assert_eq!(rig.events[1..], [Event::Back { markets: vec![market("KRW-ETH")], failures: 60 }]);
}

#[test]
fn a_market_without_an_answer_is_held_from_the_fourth_failure_on() {
    let mut rig = Rig::new(LIMITS, |_, markets| {
        let error = ExchangeError::Timeout(300 * MS);
        (300 * MS, if markets[0].base() == "ETH" { Err(error) } else { fine(markets) })
    });
    rig.schedule.watch(&[watch("KRW-BTC", SECOND), watch("KRW-ETH", SECOND)], rig.now);
    rig.run(120 * SECOND);
    let times = rig.times("ETH");
    let gaps: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    // Held for 2, 4, 8, 16, 30, … seconds after the failure; then the grid's next point.
    assert_eq!(gaps, [1, 1, 1, 3, 5, 9, 17, 31, 31]);
    assert_eq!(rig.times("BTC").len(), 120);
    assert_eq!(rig.schedule.failing_markets().map(Market::base).collect::<Vec<_>>(), ["ETH"]);
    assert_eq!(rig.events.len(), 1, "{:?}", rig.events);
    let skipped = rig.schedule.counts().skipped;
    assert_eq!((skipped.held, skipped.total()), (120 - times.len() as u64, skipped.held));
    // One good answer, and it is back on its grid.
    rig.answer = Box::new(|_, markets| (20 * MS, fine(markets)));
    rig.run(31 * SECOND);
    rig.polls.clear();
    rig.run(10 * SECOND);
    assert_eq!(rig.times("ETH").len(), 10);
    assert_eq!((rig.times("ETH")[0] - times[0]).as_nanos() % SECOND.as_nanos(), 0);
}

#[test]
fn markets_that_time_out_do_not_starve_the_others() {
    let limits = Limits { workers: 8, ..LIMITS };
    let mut rig = Rig::new(limits, |_, markets| {
        let is_slow = markets[0].base()[1..].parse::<u32>().is_ok_and(|number| number < 12);
        if is_slow { (3 * SECOND, Err(ExchangeError::Timeout(3 * SECOND))) } else { (20 * MS, fine(markets)) }
    });
    rig.jitter = |id| (id.0 as f64 * 0.618).fract();
    rig.schedule.watch(&many(50, SECOND), rig.now);
    rig.run(120 * SECOND);
    rig.polls.clear();
    rig.run(60 * SECOND);
    for index in 12..50 {
        assert!(rig.times(&format!("M{index}")).len() >= 58, "M{index} {:?}", rig.schedule.counts());
    }
}

#[test]
fn an_unknown_market_that_fails_when_it_is_tried_again_waits_as_long() {
    let mut first = true;
    let mut rig = Rig::new(LIMITS, move |_, _| {
        let unknown = std::mem::take(&mut first);
        (20 * MS, Err(if unknown { ExchangeError::UnknownMarket } else { ExchangeError::BadReply("?".to_owned()) }))
    });
    rig.schedule.watch(&[watch("KRW-NOPE", SECOND)], rig.now);
    rig.run(1900 * SECOND);
    assert_eq!(rig.polls.len(), 4);
}

#[test]
fn a_market_missing_in_a_good_reply_is_counted() {
    let limits = Limits { markets_per_request: 2, ..LIMITS };
    let mut rig = Rig::new(limits, |_, _| (20 * MS, Ok(vec![Ok(()), Err(ExchangeError::NotInReply)])));
    rig.schedule.watch(&many(2, SECOND), rig.now);
    rig.run(10 * SECOND);
    let counts = rig.schedule.counts();
    assert_eq!((counts.done, counts.failed, counts.books_failed), (10, 0, 10));
}

#[test]
fn an_exchange_that_is_down_is_probed() {
    let mut rig = Rig::new(LIMITS, |_, _| (20 * MS, Err(ExchangeError::Status(502))));
    rig.schedule.watch(&many(17, SECOND), rig.now);
    rig.run(300 * SECOND);
    // Five failures, then probes 1, 2, 4, 8, 16, 30, 30, … seconds apart.
    assert!((15..=20).contains(&rig.polls.len()), "{}", rig.polls.len());
    assert_eq!(rig.events.len(), 5, "{:?}", rig.events);
    assert!(matches!(rig.events[4], Event::Held { reason: Reason::Outage, .. }));
    assert!(rig.schedule.counts().skipped.held > 5000);
    rig.answer = Box::new(|_, markets| (20 * MS, fine(markets)));
    rig.polls.clear();
    rig.run(40 * SECOND);
    assert!(matches!(rig.events[5], Event::Released { .. }));
    let told_again =
        rig.events[6..].iter().map(|event| matches!(event, Event::Back { .. })).filter(|back| *back).count();
    assert_eq!(told_again, 4);
    assert_eq!(rig.schedule.failing_markets().count(), 0);
}

#[test]
fn a_refusal_for_the_rate_holds_the_whole_exchange() {
    let start = Instant::now();
    let mut rig = Rig::new(LIMITS, move |now, markets| {
        let refused = ExchangeError::RateLimited { refusal: "HTTP 429".to_owned(), hold: 60 * SECOND, is_block: false };
        (20 * MS, if now - start < 10 * SECOND { Err(refused) } else { fine(markets) })
    });
    rig.schedule.watch(&many(17, SECOND), rig.now);
    rig.run(59 * SECOND);
    assert!(rig.polls.len() <= 2, "{:?}", rig.polls);
    rig.run(11 * SECOND);
    assert!(matches!(rig.events[..], [Event::Held { reason: Reason::RateLimit, .. }, Event::Released { .. }]));
    assert!(rig.polls.len() > 100);
}

#[test]
fn polls_abandoned_at_shutdown_have_failed() {
    let mut rig = Rig::good(LIMITS, 3 * SECOND);
    rig.schedule.watch(&many(5, SECOND), rig.now);
    rig.run(SECOND);
    assert_eq!(rig.schedule.abandon(), 5);
    let counts = rig.schedule.counts();
    assert_eq!(counts.due, counts.done + counts.failed + counts.skipped.total());
}
