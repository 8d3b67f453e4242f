//! `consumerd verify` finds what differs between topic and table, and nothing else.

use std::time::{Duration, Instant};

use coinflow_common::orderbook::{OrderBook, Timestamp};
use coinflow_tests::servers::{Finished, StopMode};
use coinflow_tests::wait::wait_until;
use uuid::Uuid;

use crate::books::{Writer, book, now};
use crate::rig::{GROUP, LATER, Rig, SOON, TOPIC};

const END: Duration = Duration::from_secs(60);

/// The exit code, what differs, and the last line.
fn verify(rig: &Rig, arguments: &[&str]) -> (i32, Vec<String>, String) {
    let Finished { status, stdout, stderr } =
        rig.consumerd.run(&[&["verify"], arguments].concat(), END).expect("it ends");
    let code = status.code().expect("an exit code");
    let mut lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
    let total = lines.pop().unwrap_or_default();
    assert!(code > 1 || total.starts_with("total partitions="), "{stdout}\n{stderr}");
    lines.retain(|line| !line.starts_with("topic="));
    (code, lines, if code > 1 { stderr } else { total })
}

fn sql(rig: &Rig, statement: &str) {
    rig.postgres.connect().expect("a connection").batch_execute(statement).unwrap_or_else(|error| panic!("{error}"));
}

/// Checks that this, and only this, is found, and that it is gone once it is taken back.
fn finds(rig: &Rig, change: &str, expected: &[&str], counted: &str) {
    sql(rig, &format!("CREATE TABLE coinflow.kept AS SELECT * FROM coinflow.orderbook; {change}"));
    let (code, lines, total) = verify(rig, &[]);
    assert_eq!((code, lines.len()), (1, expected.len()), "{change}\n{lines:#?}\n{total}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{change}: {line:?} is not {expected:?}");
    }
    assert!(total.contains(": NOT EQUAL, ") && total.contains(counted), "{total}");
    sql(
        rig,
        "TRUNCATE coinflow.orderbook; INSERT INTO coinflow.orderbook SELECT * FROM coinflow.kept; DROP TABLE coinflow.kept",
    );
}

/// The partition and the offset of the record that the test changes, which is one of the first of KRW-T3.
const ONE: &str = "market = 'KRW-T3' AND producer_sequence = 2";

#[test]
fn every_kind_of_difference_is_found_and_named() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 3, 1, &[]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(990);
    writer.raw(b"KRW-BTC", b"no book");
    writer.finish();
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(990, LATER);
    assert_eq!(rig.settle(), 991);
    let commits = rig.client().committed(GROUP, TOPIC).expect("commits");
    let equal = "total partitions=3: equal, books=990 missing=0 doubled=0 differs=0 extra=0 dead_lettered=1 expired=0 skipped=0 gone_from_topic=0";
    assert_eq!(verify(&rig, &[]), (0, vec![], equal.to_owned()), "while the daemon is running");
    rig.stop_consumerd();
    assert_eq!(verify(&rig, &["--topic", TOPIC, "--source", "main"]), (0, vec![], equal.to_owned()));
    let (state, members) = rig.client().group(GROUP).expect("the group");
    assert!(members.is_empty(), "{state}: {members:?}");
    let after = rig.client().committed(GROUP, TOPIC).expect("commits");
    assert!(commits.iter().all(|(partition, offset)| after[partition] >= *offset), "{after:?}");

    let place = format!(
        "SELECT 'topic=' || kafka_topic || ' partition=' || kafka_partition || ' offset=' || kafka_offset || ' market=KRW-T3: ' FROM coinflow.orderbook WHERE {ONE}"
    );
    let place: String =
        rig.postgres.connect().expect("a connection").query_one(&place, &[]).expect("the record").get(0);
    let line = |kind: &str, what: &str| format!("{kind} {place}{what}");
    let update = |change: &str| format!("UPDATE coinflow.orderbook SET {change} WHERE {ONE}");
    let insert =
        |columns: &str| format!("INSERT INTO coinflow.orderbook SELECT {columns} FROM coinflow.orderbook WHERE {ONE}");
    finds(
        &rig,
        &format!("DELETE FROM coinflow.orderbook WHERE {ONE}"),
        &[&line("missing", "no row and no dead letter")],
        "books=989 missing=1 ",
    );
    finds(&rig, &insert("*"), &[&line("doubled", "2 rows")], " doubled=1 ");
    let differences = [
        ("ask_price[3] = 1002.5", "asks level 3 price: 1002 in the topic, 1002.5 in the table"),
        ("ask_price[3] = 1002.0", "asks level 3 price: 1002 in the topic, 1002.0 in the table"),
        (
            "ask_quantity[1] = ask_quantity[1] + 0.00001",
            "asks level 1 quantity: 0.00021 in the topic, 0.00022 in the table",
        ),
        ("bid_price[5] = -1", "bids level 5 price: 995 in the topic, -1 in the table"),
        ("bid_quantity[2] = 'NaN'", "bids level 2 quantity: 0.00021 in the topic, another number in the table"),
        ("bid_quantity[2] = NULL", "bids level 2 quantity: 0.00021 in the topic, null in the table"),
        ("bid_quantity = bid_quantity[1:4]", "bids quantity: 5 levels in the topic, 4 levels in the table"),
        ("ask_price = '{}'", "asks price: 5 levels in the topic, 0 levels in the table"),
        ("exchange_ts = 'infinity'", "exchange_ts: null in the topic, a time outside the years 0 to 9999 in the table"),
        ("requested_at = received_at", "requested_at: null in the topic, 2"),
        ("received_at = received_at + interval '1 microsecond'", "received_at: 2"),
        ("producer_sequence = 3", "producer_sequence: 2 in the topic, 3 in the table"),
        ("producer_run = gen_random_uuid()", "producer_run: "),
        ("market = 'KRW-T4'", "market: KRW-T3 in the topic, KRW-T4 in the table"),
    ];
    for (change, what) in differences {
        finds(&rig, &update(change), &[&line("differs", what)], " differs=1 ");
    }
    // Where no window looks: another day, and a market that nobody knows.
    for change in ["received_at = received_at + interval '2 days'", "exchange = 'elsewhere'"] {
        let expected = [line("missing", ""), line("extra", "a row whose time or market is not that of the record")];
        finds(&rig, &update(change), &[&expected[0], &expected[1]], "missing=1 doubled=0 differs=0 extra=1 ");
    }
    // Another generation, and what is not stored yet, are not compared.
    let columns = "exchange, market, exchange_ts, requested_at, received_at, producer_run, producer_sequence, ask_price, \
                   ask_quantity, bid_price, bid_quantity, kafka_source, kafka_topic, kafka_partition";
    sql(&rig, &insert(&format!("{columns}, kafka_generation + 1, kafka_offset, stored_at")));
    sql(&rig, &insert(&format!("{columns}, kafka_generation, kafka_offset + 100000, stored_at")));
    let (code, lines, total) = verify(&rig, &[]);
    assert_eq!((code, total.as_str()), (0, equal), "{lines:?}");
}

#[test]
fn bounds_of_time_and_what_is_gone_on_either_side() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    let run = Uuid::now_v7();
    let start = now();
    let hours = |hours: u64| start.saturating_sub(Duration::from_secs(3600 * hours));
    let at = |received_at: Timestamp, sequence| {
        let mut value = Vec::new();
        OrderBook { received_at, ..book(run, "KRW-BTC", sequence) }.encode(&mut value);
        value
    };
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    // Not in the order of their times, as after a spool was emptied beside a second producer.
    for (sequence, ago) in (1..).zip([96, 30, 29, 5, 4, 28, 3, 2, 1]) {
        writer.raw(b"KRW-BTC", &at(hours(ago), sequence));
    }
    writer.finish();
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(9, LATER);
    rig.settle();
    rig.stop_consumerd();
    let total = |arguments: &[&str]| {
        let (code, lines, total) = verify(&rig, arguments);
        assert_eq!((code, lines.len()), (0, 0), "{lines:?} {total}");
        total.split_once("equal, ").expect("equal").1.to_owned()
    };
    let zeros = "missing=0 doubled=0 differs=0 extra=0 dead_lettered=0";
    let (from, to) = (hours(30).to_string(), hours(4).to_string());
    assert_eq!(total(&[]), format!("books=9 {zeros} expired=0 skipped=0 gone_from_topic=0"));
    assert_eq!(total(&["--from", &from]), format!("books=8 {zeros} expired=0 skipped=0 gone_from_topic=0"));
    assert_eq!(total(&["--to", &to]), format!("books=5 {zeros} expired=0 skipped=0 gone_from_topic=0"));
    assert_eq!(
        total(&["--from", &from, "--to", &to]),
        format!("books=4 {zeros} expired=0 skipped=0 gone_from_topic=0")
    );
    assert_eq!(total(&["--to", "2020-01-01"]), format!("books=0 {zeros} expired=0 skipped=0 gone_from_topic=0"));
    // Kafka's retention has been there.
    rig.client().delete_before(TOPIC, 0, 2).expect("records are deleted");
    assert_eq!(total(&[]), format!("books=7 {zeros} expired=0 skipped=0 gone_from_topic=2"));
    assert_eq!(total(&["--from", &from]), format!("books=7 {zeros} expired=0 skipped=0 gone_from_topic=1"));
    // And so has that of the table.
    sql(&rig, "DELETE FROM coinflow.orderbook WHERE kafka_offset IN (2, 5)");
    let file = std::fs::read_to_string(rig.consumerd.folder().join("consumerd.toml")).expect("consumerd.toml");
    let shorter = file.replace("[postgres]", "[postgres]\nretention = \"1d\"");
    rig.consumerd.write("consumerd.toml", &shorter).expect("consumerd.toml");
    assert_eq!(total(&[]), format!("books=5 {zeros} expired=2 skipped=0 gone_from_topic=2"));
    rig.consumerd.write("consumerd.toml", &file).expect("consumerd.toml");
    assert_eq!(verify(&rig, &[]).0, 1, "without a retention they are missing");
    // A position behind the end of the topic, and a row of a record that it never had.
    sql(&rig, "UPDATE coinflow.kafka_offset SET next_offset = 12");
    sql(&rig, "UPDATE coinflow.orderbook SET kafka_offset = 11 WHERE kafka_offset = 8");
    let (code, lines, _) = verify(&rig, &["--from", &hours(3).to_string()]);
    assert_eq!((code, lines.len()), (1, 2), "{lines:?}");
    assert!(lines[0].starts_with("missing ") && lines[0].contains(" offset=8 "), "{lines:?}");
    assert!(lines[1].starts_with("extra ") && lines[1].contains(" offset=11 "), "{lines:?}");
}

#[test]
fn beside_a_daemon_at_work() {
    let mut rig = Rig::new();
    rig.watch("100ms", &["BTC", "ETH", "XRP", "BTC-ETH"]);
    rig.start_daemons();
    rig.wait_rows(20, LATER);
    let begin = Instant::now();
    let mut books = 0;
    while begin.elapsed() < Duration::from_secs(5) {
        let (code, lines, total) = verify(&rig, &[]);
        assert_eq!((code, lines.len()), (0, 0), "{lines:?} {total}");
        let now = total.split_once("books=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).unwrap_or(0);
        assert!(now >= books && now > 0, "{now} after {books}");
        books = now;
    }
    rig.stop_producerd();
    rig.settle();
    rig.stop_consumerd();
    let (code, _, total) = verify(&rig, &[]);
    assert_eq!(code, 0);
    assert!(total.contains(&format!("books={} ", rig.rows())), "{total}");
}

#[test]
fn wrong_usage_and_servers_that_are_away() {
    let mut rig = Rig::new();
    let (code, _, stderr) = verify(&rig, &[]);
    assert_eq!(code, 3);
    assert!(stderr.contains("cannot compare: PostgreSQL: there is no table \"coinflow\".\"kafka_offset\""), "{stderr}");
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    rig.consumerd.start().expect("consumerd starts");
    wait_until(SOON, "the position", || rig.positions().get(&0).copied()).expect("a position");
    rig.stop_consumerd();
    let (code, _, total) = verify(&rig, &[]);
    assert_eq!(code, 0, "nothing is stored yet");
    assert!(total.contains("partitions=1: equal, books=0 "), "{total}");
    for (arguments, expected) in [
        (&["--source", "mian"][..], "\"mian\" is not a source; known: main"),
        (&["--topic", "t"], "\"t\" is not a topic; known: coinflow.orderbook.bithumb, coinflow.orderbook.upbit, "),
        (&["--from", "yesterday"], "not a UTC time such as 2026-11-23T10:00:00Z, nor a date such as 2026-11-23"),
        (&["--from", "2026-11-24", "--to", "2026-11-24"], "--from is not before --to"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let (code, _, stderr) = verify(&rig, arguments);
        assert_eq!(code, 2, "{arguments:?} {stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    // Where nothing is compared, nothing is equal.
    let (code, _, stderr) = verify(&rig, &["--topic", "coinflow.orderbook.upbit"]);
    assert_eq!(code, 3);
    let expected =
        ["nothing of topic coinflow.orderbook.upbit is stored yet", "cannot compare: there is nothing to compare"];
    assert!(expected.iter().all(|expected| stderr.contains(expected)), "{stderr}");
    sql(&rig, "UPDATE coinflow.kafka_offset SET cluster_id = 'of-last-year'");
    let (code, _, stderr) = verify(&rig, &[]);
    assert_eq!(code, 3);
    let expected = ["has no position of topic coinflow.orderbook.bithumb in Kafka's cluster ", "only in of-last-year"];
    assert!(expected.iter().all(|expected| stderr.contains(expected)), "{stderr}");
    rig.kafka.stop().expect("Kafka stops");
    let (code, lines, stderr) = verify(&rig, &[]);
    assert_eq!((code, lines.len()), (3, 0), "{stderr}");
    assert!(stderr.contains("cannot compare: Kafka does not answer at ") && stderr.contains("refused"), "{stderr}");
    rig.postgres.stop(StopMode::Fast).expect("PostgreSQL stops");
    let (code, lines, stderr) = verify(&rig, &[]);
    assert_eq!((code, lines.len()), (3, 0), "{stderr}");
    assert!(stderr.contains("cannot compare: PostgreSQL: "), "{stderr}");
}

/// By hand, with a release build: `COINFLOW_BIN_DIR=… cargo test --test it -- verify::rate --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn rate() {
    const BOOKS: i64 = 60_000;
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 3, 1, &[]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    rig.consumerd.start().expect("consumerd starts");
    (0..60).for_each(|_| writer.write_deep(1000, 30));
    writer.finish();
    rig.wait_rows(BOOKS, LATER);
    rig.stop_consumerd();
    for _ in 0..3 {
        let begin = Instant::now();
        let (code, _, total) = verify(&rig, &[]);
        let took = begin.elapsed();
        assert_eq!(code, 0, "{total}");
        show!("{BOOKS} books in {took:?}, {:.0} a second: {total}", BOOKS as f64 / took.as_secs_f64());
    }
}
