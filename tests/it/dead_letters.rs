//! Records that can never be stored are kept with their reason; everything around them is stored.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::time::Duration;

use coinflow_common::orderbook::{OrderBook, Timestamp};
use uuid::Uuid;

use crate::books::{Writer, book, now};
use crate::rig::{LATER, Rig, SOON, TOPIC};

fn encoded(book: &OrderBook) -> Vec<u8> {
    let mut value = Vec::new();
    book.encode(&mut value);
    value
}

fn reason_of(rig: &Rig, offset: i64) -> Option<(String, Option<String>)> {
    let mut client = rig.postgres.connect().ok()?;
    let query = "SELECT reason, sqlstate FROM coinflow.dead_letter WHERE kafka_offset = $1";
    let row = client.query_opt(query, &[&offset]).ok()??;
    Some((row.get(0), row.get(1)))
}

#[test]
fn records_that_are_not_ours_or_outside_the_contract() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    let run = Uuid::now_v7();
    let good = |sequence| encoded(&book(run, "KRW-BTC", sequence));
    let text = String::from_utf8(good(1)).expect("JSON");
    let at = |time: &str| OrderBook { received_at: Timestamp::parse(time).expect("a time"), ..book(run, "KRW-BTC", 1) };
    let ahead = OrderBook { received_at: now().saturating_add(Duration::from_secs(7200)), ..book(run, "KRW-BTC", 1) };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "EOF"),
        (b"not JSON".to_vec(), "expected"),
        (b"\0\0\0\0\x01schema registry".to_vec(), "expected"),
        (vec![0xff; 64], "expected"),
        (b"{}".to_vec(), "is missing"),
        (text[..text.len() / 2].into(), "EOF"),
        (text.replacen("\"1000\"", "1000", 1).into(), "asks[0]: price"),
        (text.replacen("\"1000\"", "\"NaN\"", 1).into(), "asks[0]: price"),
        (text.replacen("\"1000\"", "\"1e100000\"", 1).into(), "asks[0]: price"),
        (text.replacen("\"1000\"", "\"100000000000000000000\"", 1).into(), "asks[0]: price"),
        (text.replacen("KRW-BTC", "KRW-BTC\\u0000", 1).into(), "market"),
        (text.replacen("\"sequence\"", "\"sequence\":1,\"sequence\"", 1).into(), "stands twice"),
        (encoded(&at("1970-01-01T00:00:00Z")), "received_at"),
        (encoded(&at("2300-01-01T00:00:00Z")), "received_at"),
        (encoded(&ahead), "received_at"),
        (format!("{{\"x\":{}", "[".repeat(200_000)).into(), "EOF"),
    ];
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    for (sequence, (value, _)) in (1..).zip(&cases) {
        writer.raw(b"KRW-BTC", &good(sequence));
        writer.raw(b"key \0 \xff", value);
    }
    writer.finish();
    // Another major version, and headers that are no text.
    let client = rig.client();
    let other = [("schema", &b"coinflow.orderbook/2"[..])];
    client.produce(TOPIC, Some(0), Some(b"KRW-BTC"), Some(&good(100)), &other).expect("a record");
    let headers = [("schema", &b"\xff\0"[..]), ("b\u{1}\"", b"\0")];
    client.produce(TOPIC, Some(0), None, Some(&good(101)), &headers).expect("a record");
    client.produce(TOPIC, Some(0), Some(b"KRW-BTC"), None, &[]).expect("a tombstone");
    client.produce(TOPIC, Some(0), None, Some(&good(cases.len() as i64 + 1)), &[]).expect("without schema and key");

    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(cases.len() as i64 + 1, LATER);
    rig.settle();
    assert_eq!(rig.rows(), cases.len() as i64 + 1);
    assert_eq!(rig.dead_letters(), cases.len() as i64 + 3);
    for (offset, (value, reason)) in (1..).step_by(2).zip(&cases) {
        let (told, sqlstate) = reason_of(&rig, offset).unwrap_or_else(|| panic!("no dead letter for {value:?}"));
        assert!(told.contains(reason), "{told:?} does not say {reason:?}");
        assert_eq!(sqlstate, None);
    }
    let kept = "SELECT count(*) FROM coinflow.dead_letter \
                WHERE payload = decode(repeat('ff', 64), 'hex') AND key = '\\x6b6579200020ff'";
    assert_eq!(rig.number(kept), Some(1), "key and payload are kept byte for byte");
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'coinflow.orderbook'::regclass AND \
                inhrelid::regclass::text ~ '_(1970|2300)'";
    assert_eq!(rig.number(days), Some(0), "no day is made for a dead letter");
    assert!(rig.consumerd.is_running());
    let summary = rig.stop_consumerd();
    assert_eq!(summary["dead_letters"], cases.len() as u64 + 3, "{summary:?}");
}

/// Any client may write names of headers that are no text, though not ours.
fn produce_with_header(rig: &Rig, value: &[u8], header: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("value");
    std::fs::write(&file, value).expect("a file");
    let broker = rig.kafka.bootstrap();
    let status = Command::new("kcat")
        .args(["-P", "-b", &broker, "-t", TOPIC, "-p", "0", "-H"])
        .arg(OsStr::from_bytes(header))
        .arg(&file)
        .status()
        .expect("kcat runs");
    assert!(status.success());
}

#[test]
fn headers_whose_names_are_no_text() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    produce_with_header(&rig, &encoded(&book(Uuid::now_v7(), "KRW-BTC", 1)), b"\xff\xfe=value");
    produce_with_header(&rig, b"no book", b"\xff\xfe=\xff");
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(1, LATER);
    rig.settle();
    assert_eq!((rig.rows(), rig.dead_letters()), (1, 1));
    rig.stop_consumerd();
}

#[test]
fn rows_that_postgresql_refuses_are_found_by_bisection() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 2, 1, &[]).expect("a topic");
    rig.consumerd.start().expect("consumerd starts");
    let ready = || rig.number("SELECT count(*) FROM coinflow.orderbook");
    coinflow_tests::wait::wait_until(SOON, "the schema", ready).expect("made");
    // An operator's own rule.
    let rule = "ALTER TABLE coinflow.orderbook ADD CONSTRAINT not_t3 CHECK (market <> 'KRW-T3' OR producer_sequence % 50 <> 0)";
    rig.postgres.connect().expect("a connection").batch_execute(rule).expect("a constraint");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(10_000);
    writer.finish();
    rig.wait_rows(9_900, LATER);
    assert_eq!(rig.settle(), 10_000);
    assert_eq!(rig.dead_letters(), 20);
    let wrong = "SELECT count(*) FROM coinflow.dead_letter WHERE sqlstate <> '23514' OR reason NOT LIKE '%not_t3%'";
    assert_eq!(rig.number(wrong), Some(0));
    rig.stop_consumerd();
}

#[test]
fn days_are_made_ahead_and_on_demand_and_retired_by_dropping() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    let connection = rig.postgres.connection();
    let text = format!(
        "[postgres]\nconnection = \"{connection}\"\nretention = \"10d\"\n[source.main]\nbrokers = [\"{}\"]\n",
        rig.kafka.bootstrap()
    );
    rig.consumerd.write("consumerd.toml", &text).expect("consumerd.toml");
    let run = Uuid::now_v7();
    let aged = |days: u64, sequence| {
        let received_at = now().saturating_sub(Duration::from_secs(86_400 * days));
        encoded(&OrderBook { received_at, ..book(run, "KRW-BTC", sequence) })
    };
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    for (sequence, days) in (1..).zip([0, 1, 5, 9, 30, 400]) {
        writer.raw(b"KRW-BTC", &aged(days, sequence));
    }
    writer.finish();
    rig.consumerd.start().expect("consumerd starts");
    let position = || rig.positions().get(&0).copied().filter(|next| *next == 6);
    coinflow_tests::wait::wait_until(LATER, "the topic", position)
        .unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    assert_eq!((rig.rows(), rig.dead_letters()), (4, 0));
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'coinflow.orderbook'::regclass";
    let ahead = || rig.number(days).filter(|days| *days == 2 + 5);
    coinflow_tests::wait::wait_until(SOON, "five days around today, and two older ones", ahead)
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", rig.number(days), rig.logs()));
    let summary = rig.stop_consumerd();
    assert_eq!(summary["expired"], 2, "{summary:?}");
    // A shorter retention: the two older days go, while a reader has the table open.
    rig.consumerd.write("consumerd.toml", &text.replace("10d", "3d")).expect("consumerd.toml");
    rig.consumerd.start().expect("consumerd starts");
    let dropped =
        || rig.number("SELECT count(*) FROM pg_class WHERE relname ~ '^orderbook_[0-9]{8}$' AND relkind = 'r'");
    coinflow_tests::wait::wait_until(LATER, "old days to be dropped", || dropped().filter(|days| *days == 5))
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", dropped(), rig.logs()));
    assert_eq!(rig.rows(), 2);
    rig.stop_consumerd();
}
