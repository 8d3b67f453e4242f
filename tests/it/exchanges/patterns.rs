//! `KRW-*`: whole exchanges, with their listings and delistings; and symbols that an exchange does not know.

use std::time::{Duration, Instant};

use coinflow_tests::exchange::api::{Fault, FaultRule, Target};
use coinflow_tests::wait::wait_until;

use super::{NAMES, Three, polls, status};
use crate::rig::SOON;

const INTERVAL: Duration = Duration::from_secs(1);
const REFRESH: Duration = Duration::from_secs(5);

/// Upbit with 150 markets in KRW: those with a name, and generated ones.
fn of_150(three: &Three) -> Vec<String> {
    let finished = three.rig.producerd.run(&["markets", "upbit"], SOON).expect("it ends");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let krw: Vec<String> = finished.stdout.lines().filter(|code| code.starts_with("KRW-")).map(str::to_owned).collect();
    let (named, generated): (Vec<String>, Vec<String>) = krw.into_iter().partition(|code| !code.starts_with("KRW-G"));
    let keep = 150 - named.len();
    let gone: Vec<&str> = generated[keep..].iter().map(String::as_str).collect();
    three.upbit.control().delist(&gone).expect("delisted");
    [&named[..], &generated[..keep]].concat()
}

fn widest(times: &[u64]) -> Duration {
    times.windows(2).map(|pair| Duration::from_micros(pair[1] - pair[0])).max().unwrap_or_default()
}

#[test]
fn a_whole_exchange_follows_its_list() {
    let mut three = Three::new();
    three.configure(["", "markets_refresh = \"5s\"", ""]);
    let markets = of_150(&three);
    three.symbols("[upbit]\nsymbols = [\"KRW-*\"]\n");
    // Without a list the daemon runs, and says what it waits for.
    let rule = FaultRule { target: Target::List, fault: Fault::Gateway { status: 502 }, times: None };
    three.upbit.control().add_fault(&rule).expect("a fault");
    three.rig.producerd.start().expect("producerd starts");
    three.rig.producerd.wait_for_line("market list cannot be read", SOON).expect("a warning");
    let waits = || status(&three.rig.producerd).contains("upbit: KRW-* waits for the market list").then_some(());
    wait_until(SOON, "STATUS to tell", waits).expect("told");
    three.upbit.control().clear_faults().expect("no faults");
    let all = || status(&three.rig.producerd).starts_with("150 symbols").then_some(());
    wait_until(SOON, "all markets", all).unwrap_or_else(|error| panic!("{error}\n{}", three.rig.logs()));

    // Two requests a second, and each market in one of them.
    let control = three.upbit.control();
    std::thread::sleep(Duration::from_secs(1));
    let before = control.requests(0).expect("requests").len();
    std::thread::sleep(Duration::from_secs(10));
    let requests = control.requests(0).expect("requests");
    let books: Vec<_> = requests[before..].iter().filter(|request| !request.markets.is_empty()).collect();
    assert!((19..=21).contains(&books.len()), "{} requests in 10 s", books.len());
    let seen = polls(&control);
    for market in &markets {
        assert!(widest(&seen[market]) < INTERVAL * 3 / 2, "{market}: a gap of {:?}", widest(&seen[market]));
    }

    // A listing is followed within a refresh.
    let listed = Instant::now();
    control.list(&["KRW-BRANDNEW"]).expect("listed");
    let polled = || polls(&control).contains_key("KRW-BRANDNEW").then_some(());
    wait_until(SOON, "a poll of the new market", polled)
        .unwrap_or_else(|error| panic!("{error}\n{}", three.rig.logs()));
    assert!(listed.elapsed() < REFRESH + INTERVAL * 2, "after {:?}", listed.elapsed());
    let line = three.rig.producerd.wait_for_line("market=KRW-BRANDNEW", SOON).expect("a line");
    assert!(line.contains(" INFO  listed, watched from now on exchange=upbit count=1"), "{line}");

    // A delisting is told, and costs nobody a tick.
    let mark = control.served(0).expect("books").last().map_or(0, |book| book.sequence);
    std::thread::sleep(Duration::from_secs(3));
    control.delist(&["KRW-SOL"]).expect("delisted");
    let line = three.rig.producerd.wait_for_line("market=KRW-SOL", SOON).expect("a line");
    assert!(line.contains(" INFO  delisted, watched no longer exchange=upbit count=1"), "{line}");
    std::thread::sleep(Duration::from_secs(4));
    let served = control.served(mark).expect("books");
    for market in markets.iter().filter(|market| *market != "KRW-SOL") {
        let times: Vec<u64> = served.iter().filter(|book| book.market == *market).map(|book| book.arrived_us).collect();
        assert!(
            times.len() >= 6 && widest(&times) < INTERVAL * 3 / 2,
            "{market}: {:?} in {}",
            widest(&times),
            times.len()
        );
    }
    // Of the two requests a second, at most one was refused, once: the list may have told before.
    let refused = control.requests(0).expect("requests").iter().filter(|request| request.status == 404).count();
    assert!(refused <= 1, "{refused}");
    let summary = three.rig.stop_producerd();
    assert_eq!(
        (summary["polls_failed"], summary["polls_skipped"]),
        (refused as u64, 0),
        "{summary:?}\n{}",
        three.rig.logs()
    );
}

#[test]
fn exceptions_and_names_go_before_patterns() {
    let mut three = Three::new();
    three.symbols(
        "[upbit]\nsymbols = [\"BTC-*\", \"!BTC-LWP\", { symbol = \"BTC-ETH\", interval = \"200ms\" }, \"KRW-BTC\"]\n\
         [korbit]\ninterval = \"10s\"\nsymbols = [\"KRW-*\"]\n",
    );
    three.rig.producerd.start().expect("producerd starts");
    // 328 markets in BTC less one, and one in KRW; 193 pairs of Korbit are launched.
    let all = || status(&three.rig.producerd).starts_with(&format!("{} symbols", 327 + 1 + 193)).then_some(());
    wait_until(SOON, "all markets", all).unwrap_or_else(|error| panic!("{error}: {}", status(&three.rig.producerd)));
    std::thread::sleep(Duration::from_secs(5));
    let seen = polls(&three.upbit.control());
    assert!(!seen.contains_key("BTC-LWP") && !seen.contains_key("KRW-ETH"));
    assert!(seen["BTC-ETH"].len() > 3 * seen["BTC-XRP"].len(), "{} {}", seen["BTC-ETH"].len(), seen["BTC-XRP"].len());
    assert!(!polls(&three.korbit.control()).contains_key("KRW-KLAY"), "a stopped pair is in no pattern");
    three.rig.stop_producerd();
}

#[test]
fn what_matches_nothing_is_told_once() {
    let mut three = Three::new();
    three.configure(["", "markets_refresh = \"5s\"", ""]);
    three.symbols("[upbit]\nsymbols = [\"BTC-*\", \"KWR-*\", \"!BTC-HET\"]\n");
    let finished = three.rig.producerd.run(&["--dry-run"], SOON).expect("it ends");
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    let expected = [
        "KWR-* matches no market of the exchange; did you mean KRW-*?",
        "!BTC-HET matches no market of the exchange; did you mean !BTC-ETH?",
    ];
    for line in expected {
        assert!(finished.stderr.contains(&format!("upbit: {line}")), "{}", finished.stderr);
    }
    three.rig.producerd.start().expect("producerd starts");
    for line in expected {
        three.rig.producerd.wait_for_line(&format!("WARN  {line} exchange=upbit"), SOON).expect("a warning");
    }
    let is_shown = || status(&three.rig.producerd).contains("upbit: nothing matches KWR-*, !BTC-HET").then_some(());
    wait_until(SOON, "STATUS to tell", is_shown).expect("told");
    // The list has been read again meanwhile.
    std::thread::sleep(REFRESH + INTERVAL);
    let told = three.rig.producerd.stderr().all();
    assert_eq!(told.iter().filter(|line| line.contains("matches no market")).count(), 2, "{told:#?}");
    three.rig.stop_producerd();
}

#[test]
fn an_unknown_symbol_is_told_with_the_nearest_and_taken_up_when_it_comes() {
    let mut three = Three::new();
    three.configure(["markets_refresh = \"5s\""; 3]);
    three.symbols(
        "[bithumb]\nsymbols = [\"BTC\", \"DOEG\"]\n[upbit]\nsymbols = [\"BTC\", \"DOEG\"]\n[korbit]\nsymbols = [\"BTC\", \"DOEG\"]\n",
    );
    three.rig.producerd.start().expect("producerd starts");
    let rig = &three.rig;
    for exchange in NAMES {
        let told = format!(
            "WARN  the exchange knows no such market, left out exchange={exchange} market=KRW-DOEG nearest=KRW-DOGE"
        );
        rig.producerd.wait_for_line(&told, SOON).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
        let shown = format!("unknown to {exchange}: KRW-DOEG (nearest: KRW-DOGE)");
        let is_shown = || status(&rig.producerd).contains(&shown).then_some(());
        wait_until(SOON, "STATUS to tell", is_shown)
            .unwrap_or_else(|error| panic!("{error}: {}", status(&rig.producerd)));
    }
    for control in three.controls() {
        control.list(&["KRW-DOEG"]).expect("listed");
    }
    for (control, exchange) in three.controls().iter().zip(NAMES) {
        let served = || control.served(0).expect("books").iter().any(|book| book.market == "KRW-DOEG").then_some(());
        wait_until(SOON, "its books", served).unwrap_or_else(|error| panic!("{exchange}: {error}\n{}", rig.logs()));
    }
    let told = rig.producerd.stderr().all();
    assert_eq!(told.iter().filter(|line| line.contains(" WARN ") && line.contains("KRW-DOEG")).count(), 3);
    three.rig.stop_producerd();
}
