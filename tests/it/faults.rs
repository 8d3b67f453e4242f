//! What an exchange may do wrong: each fault is told with exchange and market, nothing of it is published, and the schedule holds.

use std::time::Duration;

use coinflow_tests::exchange::api::Fault;
use coinflow_tests::wait::wait_until;
use serde_json::Value;

use crate::rig::{Rig, SOON, TOPIC, lines_at};

/// Books of one market in the topic.
fn published(rig: &Rig, market: &str) -> Vec<Value> {
    let records = rig.client().records(TOPIC).unwrap_or_default();
    let book = |value: &Vec<u8>| serde_json::from_slice::<Value>(value).expect("JSON");
    let books = records.iter().filter_map(|record| record.value.as_ref()).map(book);
    books.filter(|book| book["market"] == market).collect()
}

struct Case {
    name: &'static str,
    fault: Fault,
    /// In the line that tells of it; empty for a fault that is none to a client.
    told: &'static str,
}

/// Strikes one market for three polls, then looks at both.
fn check(rig: &Rig, case: &Case) {
    let Case { name, fault, told } = case;
    let control = rig.control();
    let mark = rig.producerd.stderr().mark();
    control.strike(Some("KRW-ETH"), fault.clone(), 3).expect("a fault");
    let spent = || control.faults().expect("faults").is_empty().then_some(());
    wait_until(SOON, &format!("{name} to strike"), spent).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    if !told.is_empty() {
        let line = rig.producerd.stderr().wait_for_after(mark, told, SOON);
        let line = line.unwrap_or_else(|error| panic!("{name}: {error}\n{}", rig.logs()));
        assert!(line.contains("bithumb") && line.contains("KRW-ETH"), "{name}: {line}");
        assert!(!line.contains(" ERROR "), "{name}: {line}");
    }
    // It is well again by itself.
    let served = control.served(0).expect("books").last().map_or(0, |book| book.sequence);
    let again = || control.served(served).expect("books").iter().any(|book| book.market == "KRW-ETH").then_some(());
    wait_until(SOON, "the next good book", again).unwrap_or_else(|error| panic!("{name}: {error}\n{}", rig.logs()));
}

#[test]
fn each_fault_is_told_and_costs_no_other_market_a_poll() {
    let mut rig = Rig::new();
    rig.configure_producerd("timeout = \"600ms\"\nmarkets_refresh = \"5s\"");
    rig.watch("500ms", &["BTC", "ETH"]);
    rig.start_daemons();
    rig.wait_rows(4, SOON);
    for case in [
        Case { name: "F-01", fault: Fault::StuckTimestamp, told: "" },
        Case { name: "F-02", fault: Fault::SameBody, told: "" },
        Case { name: "F-04", fault: Fault::Gateway { status: 502 }, told: "502" },
        Case { name: "F-04", fault: Fault::Gateway { status: 503 }, told: "503" },
        Case { name: "F-05", fault: Fault::TruncatedJson, told: "KRW-ETH" },
        Case { name: "F-06", fault: Fault::Trickle { bytes: 10, every_ms: 100 }, told: "600ms" },
        Case { name: "F-07", fault: Fault::Reset, told: "KRW-ETH" },
        Case { name: "F-08", fault: Fault::Huge { bytes: 64 << 20 }, told: "larger than" },
        Case { name: "F-09", fault: Fault::EmptyBody, told: "empty" },
        Case { name: "garbage", fault: Fault::reply(200, "application/json", "[1,2,3]"), told: "KRW-ETH" },
    ] {
        check(&rig, &case);
    }
    let summary = rig.stop_producerd();
    // Eight kinds struck three polls each; the two that are no faults to a client failed none.
    assert!((24..=26).contains(&summary["polls_failed"]), "{summary:?}\n{}", rig.logs());
    assert_eq!(summary["books_dropped"], 0);
    // Fifteen seconds or more without a gap in the other market's polls.
    let requests = rig.control().requests(0).expect("requests");
    let times: Vec<u64> =
        requests.iter().filter(|request| request.markets == ["KRW-BTC"]).map(|request| request.arrived_us).collect();
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("polls");
    assert!(widest < 750_000, "a gap of {widest} µs");
    rig.settle();
    // Whole books only: what was published has as many levels as the exchange served.
    let served = rig.control().served(0).expect("books");
    for book in published(&rig, "KRW-ETH") {
        assert_eq!(book["asks"].as_array().map(Vec::len), Some(30), "{book}");
    }
    let eth = served.iter().filter(|book| book.market == "KRW-ETH").count();
    assert!(published(&rig, "KRW-ETH").len() <= eth);
    assert_eq!(lines_at(&rig.producerd, "ERROR"), [""; 0]);
    rig.stop_consumerd();
}

#[test]
fn a_number_outside_the_contract_is_named_and_the_book_is_not_published() {
    let mut rig = Rig::new();
    rig.watch("200ms", &["BTC", "ETH"]);
    rig.producerd.start().expect("producerd starts");
    let control = rig.control();
    for (bad, field) in [
        ("-1", "bid_price"),
        ("1e20", "bid_price"),
        ("0.0000000000000000001", "bid_price"),
        ("\"NaN\"", "bid_price"),
        ("null", "bid_price"),
        ("[]", "bid_price"),
    ] {
        let mark = rig.producerd.stderr().mark();
        control.set_book("KRW-ETH", &[("100", "1"), ("101", "1")], &[("99", "1"), (bad, "1")]).expect("a book");
        let line = rig.producerd.stderr().wait_for_after(mark, "orderbook_units[1]", SOON);
        let line = line.unwrap_or_else(|error| panic!("{bad}: {error}\n{}", rig.logs()));
        assert!(line.contains("KRW-ETH") && line.contains(field), "{line}");
        control.generate_book("KRW-ETH").expect("a good book");
        let good = control.served(0).expect("books").last().map_or(0, |book| book.sequence) + 4;
        let served = || (control.served(good).expect("books").len() > 2).then_some(());
        wait_until(SOON, "good books", served).expect("served");
    }
    rig.stop_producerd();
    for book in published(&rig, "KRW-ETH") {
        assert_eq!(book["bids"].as_array().map(Vec::len), Some(30), "{book}");
    }
}

/// B2-07, B2-08 and B2-18: an unknown market is an error of the whole request, under status 200.
fn unknown(markets_per_request: u32, bithumb: &str) {
    let mut rig = Rig::new();
    rig.configure_producerd(&format!(
        "markets_per_request = {markets_per_request}\nmarkets_refresh = \"5s\"\n{bithumb}"
    ));
    rig.control().delist(&["KRW-XRP"]).expect("delisted");
    rig.watch("500ms", &["BTC", "ETH", "XRP", "SOL"]);
    rig.start_daemons();
    let line = rig.producerd.wait_for_line("KRW-XRP", SOON).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    assert!(line.contains(" WARN ") && line.contains("bithumb"), "{line}");
    rig.wait_rows(12, SOON);
    let per_market = |market: &str| {
        rig.number(&format!("SELECT count(*) FROM coinflow.orderbook WHERE market = '{market}'")).unwrap_or(0)
    };
    for market in ["KRW-BTC", "KRW-ETH", "KRW-SOL"] {
        assert!(per_market(market) > 2, "{market} goes on\n{}", rig.logs());
    }
    assert_eq!(per_market("KRW-XRP"), 0);
    let status =
        rig.producerd.notify().all().iter().rev().find_map(|message| message.value("STATUS").map(str::to_owned));
    assert!(status.as_deref().is_some_and(|status| status.contains("KRW-XRP")), "{status:?}");
    // It is tried again, and taken up when it is there.
    rig.control().list(&["KRW-XRP"]).expect("listed");
    let back = || (per_market("KRW-XRP") > 1).then_some(());
    wait_until(SOON, "the market that came back", back).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    let told = lines_at(&rig.producerd, "WARN").iter().filter(|line| line.contains("KRW-XRP")).count();
    assert_eq!(told, 1, "{}", rig.logs());
    // B2-18: one that goes while it is watched.
    rig.control().delist(&["KRW-SOL"]).expect("delisted");
    rig.producerd.wait_for_line("KRW-SOL", SOON).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    let btc = per_market("KRW-BTC");
    wait_until(SOON, "the others", || (per_market("KRW-BTC") > btc + 2).then_some(())).expect("the others go on");
    rig.stop_producerd();
    rig.settle();
}

#[test]
fn an_unknown_market_is_named_left_out_and_tried_again() {
    unknown(1, "");
}

#[test]
fn an_unknown_market_in_a_batch_is_found_and_the_others_go_on() {
    unknown(100, "");
}

#[test]
fn an_unknown_market_of_the_older_api() {
    unknown(1, "api = \"legacy\"");
}

#[test]
fn a_refusal_for_too_many_requests_is_held() {
    let mut rig = Rig::new();
    rig.watch("100ms", &["BTC", "ETH"]);
    rig.producerd.start().expect("producerd starts");
    let served = || (rig.control().served(0).expect("books").len() > 10).then_some(());
    wait_until(SOON, "books", served).expect("books");
    // Bithumb's headers tell its limit, so that it takes somebody else to bring us over it.
    let refusal = Fault::reply(429, "", "");
    rig.control().strike(None, refusal, 1).expect("a fault");
    let line = rig.producerd.wait_for_line("429", SOON).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    assert!(line.contains(" WARN ") && line.contains("bithumb") && line.contains("hold=1m"), "{line}");
    let refused = rig.control().requests(0).expect("requests").len();
    std::thread::sleep(Duration::from_secs(5));
    // One in flight may still have come; then none for a minute.
    let since = rig.control().requests(0).expect("requests").len() - refused;
    assert!(since <= 2, "{since} requests during the hold");
    rig.stop_producerd();
}
