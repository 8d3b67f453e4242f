//! Markets that the exchange does not know, and its list.

use super::*;

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
fn a_group_of_unknown_markets_misses_no_points() {
    let limits = Limits { markets_per_request: 100, ..LIMITS };
    let mut rig = Rig::new(limits, knows_all_but(&["NOPE"]));
    let watched = [watch("KRW-NOPE", SECOND), watch("KRW-ETH", 5 * SECOND), watch("KRW-BTC", SECOND)];
    rig.schedule.watch(&watched[..2], rig.now);
    rig.run(500 * SECOND);
    assert_eq!(unknown(&rig), ["NOPE"]);
    // It joins the group, on the group's grid.
    rig.schedule.watch(&watched, rig.now);
    rig.run(60 * SECOND);
    assert_eq!(rig.times("BTC").len(), 60);
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
