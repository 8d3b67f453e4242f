//! What journalctl shows, and a journald that stalls or restarts.

use std::time::Duration;

use coinflow_tests::servers::{Release, StopMode};
use serde_json::Value;

use super::{CONSUMER, PRODUCER, Working, alone, beside_others, on_each_release, symbols_file};
use crate::rig::numbers;

on_each_release!(
    priorities_are_right_and_no_book_has_a_line,
    a_journald_that_stalls_holds_up_no_poll,
    lines_on_stderr_keep_their_priorities,
);

/// The entries of a unit with their fields.
fn entries(working: &Working, arguments: &str) -> Vec<Value> {
    let text = working.ok(&format!("journalctl --sync; journalctl --quiet --no-pager --output=json {arguments}"));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn field<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_default()
}

fn priorities_are_right_and_no_book_has_a_line(release: Release) {
    let _turn = beside_others();
    let mut working = Working::new(release);
    // librdkafka has its own say about a property without effect, as a warning.
    working.configure("[exchange.bithumb.kafka]\nlibrdkafka = { \"check.crcs\" = true }", "");
    working.ok(&format!("systemctl restart {PRODUCER}"));
    working.watch("200ms", &["BTC", "ETH", "NOPE"]);
    working.wait_rows(50);
    // An error, and a warning of consumerd.
    working.put("/etc/coinflow/symbols.toml", "[bithumb]\nsymbols = 1\n");
    working.machine.run("systemctl reload producerd").expect("it ends");
    working.rig.postgres.restart(StopMode::Fast).expect("PostgreSQL restarts");
    working.wait_journal(&format!("-u {CONSUMER} -p info"), "database is back");
    working.rig.kafka.restart().expect("Kafka restarts");
    working.wait_rows(50);

    for (unit, identifier) in [(PRODUCER, "producerd"), (CONSUMER, "consumerd")] {
        let entries = entries(&working, &format!("-u {unit}"));
        let own: Vec<&Value> = entries.iter().filter(|entry| field(entry, "SYSLOG_IDENTIFIER") == identifier).collect();
        let priority_of = |text: &str| {
            let entry = own.iter().find(|entry| field(entry, "MESSAGE").contains(text));
            entry.map(|entry| field(entry, "PRIORITY").to_owned())
        };
        let expected: &[(&str, &str)] = match unit {
            PRODUCER => &[
                ("producerd starts", "6"),
                ("reload ok", "6"),
                ("knows no such market", "4"),
                ("bithumb.symbols: expected an array", "3"),
                ("CONFWARN", "4"),
                ("kafka is not reachable", "4"),
            ],
            _ => &[("consumerd", "6"), ("database is not reachable", "4"), ("database is back", "6")],
        };
        for (text, priority) in expected {
            assert_eq!(priority_of(text).as_deref(), Some(*priority), "{unit}: {text}\n{}", working.logs());
        }
        // Hundreds of books, and every line is about something else.
        assert!(own.len() < 40, "{unit}: {} lines\n{}", own.len(), working.logs());
        // Nothing has come past the log: a line without a level would be an error.
        let errors: Vec<_> =
            own.iter().filter(|entry| field(entry, "PRIORITY") <= "3").map(|entry| field(entry, "MESSAGE")).collect();
        assert!(errors.iter().all(|line| line.contains("/etc/coinflow/symbols.toml")), "{errors:#?}");
    }
}

/// A library that says much, on a day when the journal does not listen. It says five lines for each book, so 8,400 in twelve
/// seconds: well over the 4,096 of the log's queue and the 512 of the socket's, and not all can be kept.
fn a_journald_that_stalls_holds_up_no_poll(release: Release) {
    const INTERVAL: Duration = Duration::from_millis(100);
    let _turn = alone();
    let working = Working::new(release);
    working.put(
        &format!("/etc/systemd/system/{PRODUCER}.service.d/verbose.conf"),
        "[Service]\nLogRateLimitIntervalSec=0\n",
    );
    let bithumb = "requests_per_second = 150\nkafka.librdkafka = { debug = \"all\" }\n[log]\nlevel = \"trace\"";
    working.configure(bithumb, "");
    let symbols =
        ["BTC", "ETH", "XRP", "SOL", "DOGE", "ADA", "BTC-ETH", "NFT", "BCH", "LINK", "TRX", "AVAX", "SUI", "XLM"];
    working.put("/etc/coinflow/symbols.toml", &symbols_file("100ms", &symbols));
    working.ok(&format!("systemctl daemon-reload; systemctl restart {PRODUCER}"));
    working.wait_rows(20);
    let before = working.rig.control().requests(0).expect("requests").len();
    working
        .ok("systemctl kill --signal=STOP systemd-journald; sleep 12; systemctl kill --signal=CONT systemd-journald");
    std::thread::sleep(Duration::from_secs(2));
    working.ok("systemctl restart systemd-journald");
    std::thread::sleep(Duration::from_secs(2));

    let requests = working.rig.control().requests(0).expect("requests");
    // A poll may take longer than an interval on a busy machine, and then one is left out; a stall would be of seconds.
    for symbol in ["KRW-BTC", "KRW-DOGE", "BTC-ETH"] {
        let times: Vec<u64> = requests[before..]
            .iter()
            .filter(|request| request.markets.iter().any(|market| market == symbol))
            .map(|request| request.arrived_us)
            .collect();
        let widest = times.windows(2).map(|pair| Duration::from_micros(pair[1] - pair[0])).max().expect("polls");
        assert!(times.len() >= 150 && widest <= INTERVAL * 3, "{symbol}: {} polls, {widest:?}", times.len());
    }
    // What did not find room is told, with its number.
    let dropped = working.wait_journal(&format!("-u {PRODUCER} -p warning"), "log lines dropped");
    show!("{dropped}");
    let mark = working.ok("date '+%F %T.%6N'");
    working.ok(&format!("systemctl stop {PRODUCER}"));
    let summary = working.wait_journal(&format!("-u {PRODUCER} --since '{}'", mark.trim()), "summary ");
    let of = numbers(&summary);
    assert!(of["polls_skipped"] * 100 <= of["polls_due"] && of["polls_failed"] == 0, "{summary}");
}

fn lines_on_stderr_keep_their_priorities(release: Release) {
    let _turn = beside_others();
    let working = Working::new(release);
    working.configure("[log]\ntarget = \"stderr\"", "[log]\ntarget = \"stderr\"");
    working.put("/etc/coinflow/symbols.toml", &symbols_file("200ms", &["BTC", "NOPE"]));
    working.ok(&format!("systemctl restart {PRODUCER} {CONSUMER}"));
    // Those that ran before may still have said something to syslog while they stopped.
    let main = |unit: &str| format!("_PID={}", working.property(unit, "MainPID"));
    working.wait_journal(&main(PRODUCER), "knows no such market");
    working.wait_journal(&main(CONSUMER), "database is reachable");
    let of = |unit: &str, text: &str| {
        let entries = entries(&working, &format!("{} -t {}", main(unit), &unit["coinflow-".len()..]));
        let entry = entries.iter().find(|entry| field(entry, "MESSAGE").contains(text)).expect("a line");
        assert_eq!(field(entry, "_TRANSPORT"), "stdout");
        (field(entry, "PRIORITY").to_owned(), field(entry, "MESSAGE").to_owned())
    };
    assert_eq!(of(PRODUCER, "producerd starts").0, "6");
    assert_eq!(of(CONSUMER, "database is reachable").0, "6");
    let (priority, message) = of(PRODUCER, "knows no such market");
    assert!(priority == "4" && message.starts_with("the exchange knows"), "{priority} {message}");
}
