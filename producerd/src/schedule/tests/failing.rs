//! Markets and exchanges that do not answer.

use super::*;

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
