//! SIGHUP: all or nothing, and what stays is polled on without a gap.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coinflow_tests::wait::wait_until;
use rustix::process::Signal;

use crate::rig::{Rig, SOON, lines_at};

/// When each market was asked for, in microseconds.
fn polls(rig: &Rig) -> BTreeMap<String, Vec<u64>> {
    let mut polls: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for request in rig.control().requests(0).expect("requests") {
        for market in request.markets {
            polls.entry(market).or_default().push(request.arrived_us);
        }
    }
    polls
}

fn reload(rig: &mut Rig) -> Duration {
    let mark = rig.producerd.notify().mark();
    let sent = Instant::now();
    rig.producerd.signal(Signal::HUP).expect("SIGHUP");
    let (ready, _) = rig.producerd.notify().wait_for_after(mark, "READY=1", SOON).expect("ready again");
    ready.at.duration_since(sent)
}

#[test]
fn under_50_polls_a_second_what_stays_keeps_its_grid() {
    let interval = Duration::from_millis(200);
    let mut rig = Rig::new();
    let symbols = ["BTC", "ETH", "XRP", "SOL", "DOGE", "ADA", "BTC-ETH", "NFT", "BCH"];
    rig.watch("200ms", &[&symbols[..], &["BTC-XRP"]].concat());
    rig.producerd.start().expect("producerd starts");
    rig.producerd.wait_for_notify("READY=1", SOON).expect("ready");
    std::thread::sleep(Duration::from_secs(2));
    // In turn one market comes and another goes; the others stay.
    let others = ["KRW-XLM", "KRW-TRX", "KRW-LINK"];
    for round in 0..10 {
        rig.watch("200ms", &[&symbols[..], &[others[round % 3]]].concat());
        let took = reload(&mut rig);
        assert!(took < Duration::from_millis(500), "a reload took {took:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let summary = rig.stop_producerd();
    assert_eq!(summary["polls_failed"], 0, "{summary:?}");
    let polls = polls(&rig);
    for symbol in ["KRW-BTC", "KRW-ETH", "KRW-XRP", "KRW-SOL", "KRW-DOGE", "KRW-ADA", "BTC-ETH", "KRW-NFT"] {
        let times = &polls[symbol];
        assert!(times.len() > 30, "{symbol}: {} polls", times.len());
        let gaps = times.windows(2).map(|pair| Duration::from_micros(pair[1] - pair[0]));
        let widest = gaps.max().expect("gaps");
        assert!(widest <= interval * 3 / 2, "{symbol}: a gap of {widest:?}\n{}", rig.logs());
        // The grid itself: every poll at a whole number of intervals behind the first.
        let step = interval.as_micros() as u64;
        let off = times.iter().map(|time| (time - times[0] + step / 2) % step).map(|off| off.abs_diff(step / 2));
        let mut off: Vec<u64> = off.collect();
        off.sort_unstable();
        // A single one may start late on a busy machine; drift would move them all.
        let median = off[off.len() / 2];
        assert!(median < 20_000, "{symbol}: {median} µs off its grid");
    }
    let reloads = lines_at(&rig.producerd, "INFO").iter().filter(|line| line.contains("reload ok")).count();
    assert_eq!(reloads, 10);
}

#[test]
fn symbols_come_and_go() {
    let mut rig = Rig::new();
    rig.watch("200ms", &["BTC", "ETH"]);
    rig.start_daemons();
    rig.wait_rows(6, SOON);
    rig.watch("200ms", &["BTC", "XRP"]);
    reload(&mut rig);
    let added = || polls(&rig).contains_key("KRW-XRP").then_some(());
    wait_until(SOON, "a poll of the new symbol", added).expect("polled");
    let before = polls(&rig)["KRW-ETH"].len();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(polls(&rig)["KRW-ETH"].len(), before, "the removed symbol is polled no more");
    let line = rig.producerd.wait_for_line("reload ok", SOON).expect("a line");
    assert!(line.contains("added=1 removed=1") && line.contains("unchanged=1"), "{line}");
    // A symbol that comes back goes on counting: within a run no sequence number is used twice.
    rig.watch("200ms", &["BTC", "ETH"]);
    reload(&mut rig);
    std::thread::sleep(Duration::from_secs(1));
    rig.stop_producerd();
    rig.settle();
    let doubled = "SELECT count(*) - count(DISTINCT (market, producer_run, producer_sequence)) FROM coinflow.orderbook";
    assert_eq!(rig.number(doubled), Some(0));
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let mut rig = Rig::new();
    rig.watch("200ms", &["BTC"]);
    rig.producerd.start().expect("producerd starts");
    rig.producerd.wait_for_notify("READY=1", SOON).expect("ready");
    let bad = "interval = \"1ms\"\n[bithumb]\nsymbols = [\"ETH\", \"KRW_XRP\"]\n[bithum]\n";
    let path = rig.producerd.write("symbols.toml", bad).expect("a file");
    reload(&mut rig);
    let refused = rig.producerd.wait_for_notify("STATUS=", SOON).and_then(|_| {
        wait_until(SOON, "a STATUS that says so", || {
            let all = rig.producerd.notify().all();
            all.iter()
                .filter_map(|message| message.value("STATUS"))
                .find(|status| status.contains("refused"))
                .map(str::to_owned)
        })
    });
    assert!(refused.is_ok(), "{refused:?}\n{}", rig.logs());
    // The log has a thread of its own, and this is its last line.
    rig.producerd.wait_for_line("reload refused", SOON).expect("told");
    let errors = lines_at(&rig.producerd, "ERROR");
    for problem in [
        ":1:12: interval: 1ms is not between 100ms and 1h",
        ":3:19: bithumb.symbols[1]: \"KRW_XRP\" is not a market code; write KRW-XRP",
        ":4:2: bithum: unknown key; did you mean bithumb?",
    ] {
        let line = format!("{}{problem}", path.display());
        assert_eq!(errors.iter().filter(|error| error.contains(&line)).count(), 1, "{line}: {errors:#?}");
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(polls(&rig).keys().collect::<Vec<_>>(), ["KRW-BTC"], "the old set is polled on, and only that");
    // Keys of producerd.toml are named, not taken.
    rig.watch("200ms", &["BTC"]);
    rig.configure_producerd("timeout = \"1s\"\nlevels = 5");
    reload(&mut rig);
    let line = rig.producerd.wait_for_line("needs a restart", SOON).expect("a warning");
    assert!(
        line.contains("WARN") && line.contains("exchange.bithumb.timeout") && line.contains("exchange.bithumb.levels"),
        "{line}"
    );
    assert!(rig.producerd.stop().expect("it ends").success());
}
