//! The trouble of one exchange, or of one cluster, is no other's.

use std::time::{Duration, Instant};

use coinflow_tests::exchange::api::{Fault, FaultRule, Target};
use coinflow_tests::exchange::now_us;
use coinflow_tests::servers::Kafka;
use coinflow_tests::wait::wait_until;

use super::{NAMES, Three, polls};
use crate::rig::{LATER, SOON};

/// So long one cluster is frozen, and then away.
const TROUBLE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(500);

/// What one exchange's books did in a span of time.
#[derive(Debug)]
struct Figures {
    /// Polls a second.
    polls: f64,
    /// How far polls were off their grid, in ms: the median, and 99 of 100.
    late_ms: [f64; 2],
    /// Rows a second.
    rows: f64,
}

/// Runs `trouble` and looks at Upbit meanwhile.
fn watch(three: &Three, mut trouble: impl FnMut(), time: Duration) -> Figures {
    let control = three.upbit.control();
    let seen = || control.requests(0).expect("requests").len();
    let rows = || {
        let query = "SELECT count(*) FROM coinflow.orderbook WHERE exchange = 'upbit'";
        three.rig.number(query).expect("rows")
    };
    let (requests_before, rows_before, began) = (seen(), rows(), Instant::now());
    trouble();
    std::thread::sleep(time.saturating_sub(began.elapsed()));
    let seconds = began.elapsed().as_secs_f64();
    let (requests, rows) = (control.requests(0).expect("requests"), rows() - rows_before);
    let polls = requests.len() - requests_before;
    let mut late = lateness(&requests[requests_before..].iter().map(|request| request.arrived_us).collect::<Vec<_>>());
    late.sort_by(f64::total_cmp);
    let at = |part: usize| late[late.len() * part / 100];
    Figures { polls: polls as f64 / seconds, late_ms: [at(50), at(99)], rows: rows as f64 / seconds }
}

/// How far the times of one group are off a grid of the interval, in ms; the earliest are on it.
fn lateness(times: &[u64]) -> Vec<f64> {
    let step = INTERVAL.as_micros() as u64;
    let mut phases: Vec<u64> = times.iter().map(|time| (time - times[0] + step / 2) % step).collect();
    phases.sort_unstable();
    let on_time = phases[phases.len() / 20];
    times.iter().map(|time| ((time - times[0] + step / 2) % step).saturating_sub(on_time) as f64 / 1000.0).collect()
}

fn rows(three: &Three, exchange: &str) -> i64 {
    three.rig.number(&format!("SELECT count(*) FROM coinflow.orderbook WHERE exchange = '{exchange}'")).unwrap_or(0)
}

/// Waits until Bithumb's books come again.
fn flows_again(three: &Three, kafka: &Kafka, stopped: i64) {
    let flows = || (rows(three, "bithumb") > stopped + 100).then_some(());
    let log = || std::fs::read_to_string(kafka.log(0)).unwrap_or_default();
    wait_until(LATER, "Bithumb's books again", flows)
        .unwrap_or_else(|error| panic!("{error}\n{}\n--- Kafka\n{}", three.rig.logs(), log()));
}

#[test]
fn a_cluster_that_is_frozen_or_killed_changes_nothing_for_the_other() {
    let mut three = Three::new();
    let mut kafka = Kafka::start().expect("a second cluster");
    // Bithumb has the second cluster to itself; consumerd reads both.
    three.configure([&format!("kafka.brokers = [\"{}\"]", kafka.bootstrap()), "", ""]);
    let consumerd = format!(
        "[postgres]\nconnection = \"{}\"\n[source.main]\nbrokers = [\"{}\"]\ntopics = [\"coinflow.orderbook.upbit\"]\n\
         [source.bithumb]\nbrokers = [\"{}\"]\ntopics = [\"coinflow.orderbook.bithumb\"]\n",
        three.rig.postgres.connection(),
        three.rig.kafka.bootstrap(),
        kafka.bootstrap()
    );
    three.rig.consumerd.write("consumerd.toml", &consumerd).expect("consumerd.toml");
    let bithumb: Vec<String> = (1..=25).map(|number| format!("\"G{number:03}\"")).collect();
    three.symbols(&format!(
        "interval = \"500ms\"\n[bithumb]\nsymbols = [{}]\n[upbit]\nsymbols = [\"BTC\", \"ETH\", \"XRP\", \"SOL\", \"DOGE\"]\n",
        bithumb.join(", ")
    ));
    three.rig.start_daemons();
    let both = || (rows(&three, "bithumb") > 50 && rows(&three, "upbit") > 20).then_some(());
    wait_until(LATER, "books of both", both).unwrap_or_else(|error| panic!("{error}\n{}", three.rig.logs()));

    let calm = watch(&three, || (), TROUBLE / 2);
    let frozen = watch(&three, || kafka.sigstop().expect("frozen"), TROUBLE);
    let stopped = rows(&three, "bithumb");
    kafka.sigcont().expect("thawed");
    flows_again(&three, &kafka, stopped);
    let killed = watch(&three, || kafka.kill9().expect("killed"), TROUBLE);
    let stopped = rows(&three, "bithumb");
    kafka.start_all().expect("back again");
    flows_again(&three, &kafka, stopped);

    let table =
        format!("Upbit while Bithumb's cluster is\n  calm   {calm:?}\n  frozen {frozen:?}\n  killed {killed:?}");
    show!("{table}");
    for other in [&frozen, &killed] {
        assert!(other.polls > calm.polls.min(2.0) * 0.98 && other.polls < 2.05, "{table}");
        // More rows than were polled have waited since before.
        assert!(other.rows > calm.rows.min(10.0) * 0.96, "{table}");
        // A busy machine has its moments, in calm times as well.
        assert!(other.late_ms[0] < calm.late_ms[0] + 10.0 && other.late_ms[1] < calm.late_ms[1] + 100.0, "{table}");
    }

    // What Bithumb had accepted meanwhile is there, too, and in order.
    let summary = three.rig.stop_producerd();
    assert_eq!((summary["books_dropped"], summary["books_in_flight"]), (0, 0), "{summary:?}\n{}", three.rig.logs());
    let all = || (rows(&three, "bithumb") + rows(&three, "upbit") == summary["books_accepted"] as i64).then_some(());
    wait_until(LATER, "all books in PostgreSQL", all).unwrap_or_else(|error| panic!("{error}\n{}", three.rig.logs()));
    let holes = "SELECT count(*) FROM (SELECT market, max(producer_sequence) - count(*) AS missing FROM coinflow.orderbook \
                   GROUP BY exchange, market, producer_run) AS runs WHERE missing <> 0";
    assert_eq!(three.rig.number(holes), Some(0));
    three.rig.stop_consumerd();
}

#[test]
fn an_exchange_that_fails_in_every_way_costs_the_others_no_poll() {
    let mut three = Three::new();
    let symbols = "[\"BTC\", \"ETH\", \"XRP\", \"SOL\", \"DOGE\"]";
    three.symbols(&format!(
        "interval = \"500ms\"\n[bithumb]\nsymbols = {symbols}\n[upbit]\nsymbols = {symbols}\n[korbit]\nsymbols = {symbols}\n"
    ));
    three.rig.producerd.start().expect("producerd starts");
    three.rig.producerd.wait_for_notify("READY=1", SOON).expect("ready");
    std::thread::sleep(Duration::from_secs(2));
    let controls = three.controls();
    let faults = [Fault::Delay { ms: 3000 }, Fault::TruncatedJson, Fault::Reset, Fault::Gateway { status: 500 }];
    // Whose turn it was, from when to when.
    let mut phases = Vec::new();
    let mut compared = 0;
    for (whose, failing) in controls.iter().enumerate() {
        for fault in &faults {
            let began = now_us();
            failing
                .add_fault(&FaultRule { target: Target::Books, fault: fault.clone(), times: None })
                .expect("a fault");
            std::thread::sleep(Duration::from_secs(4));
            phases.push((whose, format!("while {} has {fault:?}", NAMES[whose]), began, now_us()));
            failing.clear_faults().expect("no faults");
        }
        // It was left alone for half a minute at most; then all of it is back.
        let good_at = now_us();
        let recovered = || {
            let is_polled = |times: &Vec<u64>| times.iter().filter(|time| **time > good_at).count() >= 3;
            polls(failing).values().all(is_polled).then_some(())
        };
        wait_until(Duration::from_secs(40), "polls of all its markets again", recovered)
            .unwrap_or_else(|error| panic!("{error}\n{}", three.rig.logs()));
    }

    for (healthy, control) in controls.iter().enumerate() {
        let polls = polls(control);
        assert_eq!(polls.len(), 5);
        for (whose, what, began, ended) in &phases {
            if *whose == healthy {
                continue;
            }
            for (market, times) in &polls {
                let seen: Vec<u64> = times.iter().copied().filter(|time| (*began..*ended).contains(time)).collect();
                // With both edges: one that stops would have no gap of its own.
                let edges = std::iter::once(began).chain(&seen).chain(std::iter::once(ended)).collect::<Vec<_>>();
                let widest = edges.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
                assert!(
                    (7..=9).contains(&seen.len()) && widest < 850_000,
                    "{} {market}: {} polls in 4 s, a gap of {widest} us, {what}\n{}",
                    NAMES[healthy],
                    seen.len(),
                    three.rig.logs()
                );
                compared += 1;
            }
        }
    }
    // Five markets of each, in the four troubles of both others.
    assert_eq!(compared, 3 * 5 * 2 * 4);
    three.rig.stop_producerd();
}

#[test]
fn a_reload_that_swaps_half_of_500_symbols_misses_no_poll_of_the_rest() {
    let mut three = Three::new();
    let codes = |quote: &str, from: usize, count: usize| -> String {
        let codes: Vec<String> = (from..from + count).map(|number| format!("\"{quote}-G{number:03}\"")).collect();
        codes.join(", ")
    };
    let symbols = |other: usize| {
        format!(
            "[bithumb]\ninterval = \"5s\"\nsymbols = [{}, {}]\n[upbit]\nsymbols = [{}, {}]\n[korbit]\ninterval = \"5s\"\nsymbols = [{}, {}]\n",
            codes("KRW", 1, 75),
            codes("KRW", 80 + other * 75, 75),
            codes("KRW", 1, 125),
            codes("BTC", 1 + other * 125, 125),
            codes("KRW", 1, 50),
            codes("KRW", 60 + other * 50, 50),
        )
    };
    three.symbols(&symbols(0));
    let (mut check, begun) = (Duration::MAX, Instant::now());
    // At best, for other tests run beside this one.
    while check > Duration::from_millis(50) && begun.elapsed() < SOON {
        let began = Instant::now();
        let finished = three.rig.producerd.run(&["--check"], SOON).expect("it ends");
        check = check.min(began.elapsed());
        assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(0), ""));
    }
    show!("--check of 500 symbols: {check:?} at best");
    assert!(check < Duration::from_millis(50), "{check:?}");
    three.rig.producerd.start().expect("producerd starts");
    three.rig.producerd.wait_for_notify("READY=1", SOON).expect("ready");
    std::thread::sleep(Duration::from_secs(6));
    for round in 1..=6 {
        three.symbols(&symbols(round % 2));
        let mark = three.rig.producerd.notify().mark();
        three.rig.producerd.signal(coinflow_tests::servers::Signal::HUP).expect("SIGHUP");
        three.rig.producerd.notify().wait_for_after(mark, "READY=1", SOON).expect("ready again");
        std::thread::sleep(Duration::from_secs(2));
    }
    std::thread::sleep(Duration::from_secs(6));
    let summary = three.rig.stop_producerd();
    // On a machine that stands still for a second, one reply may outlast its interval; that is no reload's doing, and six
    // reloads that cost a poll would cost more than one.
    let overlaps = summary.get("skipped_overlap").copied().unwrap_or(0);
    assert!(overlaps <= 1, "{summary:?}\n{}", three.rig.logs());
    assert_eq!((summary["polls_failed"], summary["polls_skipped"]), (0, overlaps), "{summary:?}\n{}", three.rig.logs());
    for (control, (stay, seconds)) in three.controls().iter().zip([(75, 5), (125, 1), (50, 5)]) {
        let (seen, interval) = (polls(control), Duration::from_secs(seconds));
        let gap_max = interval * 5 / 4 + interval * overlaps as u32;
        for number in 1..=stay {
            let times = &seen[&format!("KRW-G{number:03}")];
            let widest = times.windows(2).map(|pair| Duration::from_micros(pair[1] - pair[0])).max().expect("polls");
            assert!(widest < gap_max, "KRW-G{number:03}: a gap of {widest:?}");
        }
    }
}
