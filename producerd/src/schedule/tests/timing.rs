//! When markets are polled.

use super::*;

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
fn a_tick_looks_only_at_groups_that_may_want_something() {
    let mut rig = Rig::good(LIMITS, 10 * MS);
    rig.schedule.watch(&many(500, 10 * SECOND), rig.now);
    rig.run(SECOND);
    rig.looked = 0;
    rig.run(60 * SECOND);
    // One group for each poll that starts and for each that lands.
    let polls = 500 * 6;
    assert!(rig.polls.len() >= polls && rig.looked <= 2 * polls + 2, "{} looks", rig.looked);
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
