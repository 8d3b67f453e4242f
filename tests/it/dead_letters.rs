//! Records that can never be stored are kept with their reason; everything around them is stored.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::time::Duration;

use coinflow_common::orderbook::{OrderBook, Timestamp};
use coinflow_tests::servers::Finished;
use coinflow_tests::wait::wait_until;
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
    wait_until(SOON, "the schema", ready).expect("made");
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
    wait_until(LATER, "the topic", position).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    assert_eq!((rig.rows(), rig.dead_letters()), (4, 0));
    let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'coinflow.orderbook'::regclass";
    let ahead = || rig.number(days).filter(|days| *days == 2 + 5);
    wait_until(SOON, "five days around today, and two older ones", ahead)
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", rig.number(days), rig.logs()));
    let summary = rig.stop_consumerd();
    assert_eq!(summary["expired"], 2, "{summary:?}");
    // A shorter retention: the two older days go, while a reader has the table open.
    rig.consumerd.write("consumerd.toml", &text.replace("10d", "3d")).expect("consumerd.toml");
    rig.consumerd.start().expect("consumerd starts");
    let dropped =
        || rig.number("SELECT count(*) FROM pg_class WHERE relname ~ '^orderbook_[0-9]{8}$' AND relkind = 'r'");
    wait_until(LATER, "old days to be dropped", || dropped().filter(|days| *days == 5))
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", dropped(), rig.logs()));
    assert_eq!(rig.rows(), 2);
    rig.stop_consumerd();
}

fn command(rig: &Rig, arguments: &[&str]) -> (i32, Finished) {
    let arguments = [&["dead-letters"], arguments].concat();
    let finished = rig.consumerd.run(&arguments, LATER).expect("it ends");
    (finished.status.code().expect("an exit code"), finished)
}

fn id_of(rig: &Rig, offset: i64) -> String {
    let query = format!("SELECT id FROM coinflow.dead_letter WHERE kafka_offset = {offset}");
    rig.number(&query).expect("a dead letter").to_string()
}

/// A rule that makes dead letters of every tenth book, a record that is no book, and 200 books around it.
fn with_dead_letters() -> Rig {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    rig.consumerd.start().expect("consumerd starts");
    let ready = || rig.number("SELECT count(*) FROM coinflow.orderbook");
    wait_until(SOON, "the schema", ready).expect("made");
    let rule = "ALTER TABLE coinflow.orderbook ADD CONSTRAINT not_t3 CHECK (market <> 'KRW-T3')";
    rig.postgres.connect().expect("a connection").batch_execute(rule).expect("a constraint");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(100);
    writer.raw(b"key \0 \xff", b"\0\x01no book");
    writer.write(100);
    writer.finish();
    rig.wait_rows(180, LATER);
    rig.settle();
    assert_eq!((rig.rows(), rig.dead_letters()), (180, 21));
    rig
}

fn repair(rig: &Rig) {
    let repair = "ALTER TABLE coinflow.orderbook DROP CONSTRAINT not_t3";
    rig.postgres.connect().expect("a connection").batch_execute(repair).expect("dropped");
}

#[test]
fn the_operator_sees_and_retries_them() {
    let rig = with_dead_letters();
    let (code, listed) = command(&rig, &["list"]);
    assert_eq!(code, 0, "{}", listed.stderr);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>().join(" "),
        "ID TIME TOPIC PARTITION OFFSET SQLSTATE REASON"
    );
    assert_eq!(lines.len(), 22);
    let offset_of = |line: &str| line.split_whitespace().nth(4).map(str::to_owned);
    assert_eq!(lines.iter().filter(|line| line.contains(" 23514 ") && line.contains("not_t3")).count(), 20);
    let (_, newest) = command(&rig, &["list", "--limit", "2"]);
    assert_eq!(
        newest.stdout.lines().skip(1).map(offset_of).collect::<Vec<_>>(),
        lines[20..].iter().map(|line| offset_of(line)).collect::<Vec<_>>()
    );
    assert!(newest.stderr.contains("only the newest 2"), "{}", newest.stderr);
    assert_eq!(listed.stderr, "");

    let (nonsense, book) = (id_of(&rig, 100), id_of(&rig, 2));
    let (code, shown) = command(&rig, &["show", &nonsense]);
    assert_eq!(code, 0, "{}", shown.stderr);
    for text in [
        "key           \\x6b6579200020ff",
        "header        schema=coinflow.orderbook/1",
        "payload       9 bytes",
        "00 01 6e 6f 20 62 6f 6f 6b",
    ] {
        assert!(shown.stdout.contains(text), "{text}\n{}", shown.stdout);
    }
    let (_, shown) = command(&rig, &["show", &book]);
    for text in [
        "offset        2\n",
        "key           KRW-T3",
        "sqlstate      23514",
        "\n\n{\"exchange\":\"bithumb\",\"market\":\"KRW-T3\"",
    ] {
        assert!(shown.stdout.contains(text), "{text}\n{}", shown.stdout);
    }
    let (code, shown) = command(&rig, &["show", "999999"]);
    assert_eq!((code, shown.stdout.as_str(), shown.stderr.as_str()), (1, "", "there is no dead letter 999999\n"));
    for wrong in [&["retry"][..], &["retry", "--all", "1"], &["retry", "x"], &["show"], &["list", "--limit", "0"], &[]]
    {
        assert_eq!(command(&rig, wrong).0, 2, "{wrong:?}");
    }

    // The rule is still there.
    let (code, retried) = command(&rig, &["retry", &book]);
    assert_eq!(code, 1, "{}", retried.stderr);
    assert!(
        retried.stdout.starts_with(&format!("{book} not stored: ")) && retried.stdout.contains("not_t3"),
        "{}",
        retried.stdout
    );
    assert_eq!((rig.rows(), rig.dead_letters()), (180, 21));

    repair(&rig);
    let (code, retried) = command(&rig, &["retry", &book]);
    assert_eq!((code, retried.stdout), (0, format!("{book} stored\n")), "{}", retried.stderr);
    let same = "SELECT count(*) FROM coinflow.orderbook o JOIN coinflow.dead_letter d USING (kafka_source, kafka_topic, \
                kafka_partition, kafka_generation, kafka_offset) WHERE d.retried_at IS NOT NULL AND o.market = convert_from(d.key, 'UTF8') \
                AND o.received_at = (convert_from(d.payload, 'UTF8')::jsonb ->> 'received_at')::timestamptz AND o.ask_price[1] = 1000 \
                AND o.received_at BETWEEN d.record_at - interval '1 minute' AND d.record_at + interval '1 minute'";
    assert_eq!(rig.number(same), Some(1));
    assert_eq!(rig.number("SELECT count(*) FROM coinflow.market WHERE market = 'KRW-T3'"), Some(1));
    let (code, retried) = command(&rig, &["retry", &book, "999999"]);
    assert_eq!(code, 1);
    let lines: Vec<&str> = retried.stdout.lines().collect();
    assert!(lines[0].starts_with(&format!("{book} was stored at 20")), "{lines:?}");
    assert_eq!(lines[1..], ["999999 not stored: there is no such dead letter"]);

    let (code, retried) = command(&rig, &["retry", "--all"]);
    assert_eq!(code, 1, "one is no book");
    assert_eq!(retried.stdout.lines().count(), 20);
    assert_eq!(retried.stdout.lines().filter(|line| line.ends_with(" stored")).count(), 19);
    assert!(retried.stdout.contains(&format!("{nonsense} not stored: ")), "{}", retried.stdout);
    assert_eq!((rig.rows(), rig.number(same)), (200, Some(20)));
    let (_, listed) = command(&rig, &["list"]);
    assert_eq!(listed.stdout.lines().count(), 2, "{}", listed.stdout);
    let (_, listed) = command(&rig, &["list", "--all"]);
    assert_eq!(listed.stdout.lines().count(), 22, "{}", listed.stdout);
}

#[test]
fn retries_at_once_and_after_a_reset_store_each_book_once() {
    let rig = with_dead_letters();
    repair(&rig);
    let retries: Vec<Finished> = std::thread::scope(|scope| {
        let retries: Vec<_> = (0..4).map(|_| scope.spawn(|| command(&rig, &["retry", "--all"]).1)).collect();
        retries.into_iter().map(|retry| retry.join().expect("it ends")).collect()
    });
    let said =
        |text: &str| retries.iter().flat_map(|retry| retry.stdout.lines()).filter(|line| line.ends_with(text)).count();
    show!("stored {}, left to another {}", said(" stored"), said("at work on it"));
    assert_eq!(said(" stored"), 20);
    let doubled = "SELECT count(*) - count(DISTINCT kafka_offset) FROM coinflow.orderbook";
    assert_eq!((rig.rows(), rig.number(doubled)), (200, Some(0)));

    // A letter whose record has been read again since, and stored in a new generation.
    let again = "UPDATE coinflow.dead_letter SET retried_at = NULL WHERE kafka_offset = 2; \
                 UPDATE coinflow.orderbook SET kafka_generation = 1 WHERE kafka_offset = 2";
    rig.postgres.connect().expect("a connection").batch_execute(again).expect("changed");
    let id = id_of(&rig, 2);
    let (code, retried) = command(&rig, &["retry", &id]);
    assert_eq!((code, retried.stdout), (0, format!("{id} was stored meanwhile, in generation 1\n")));
    assert_eq!((rig.rows(), rig.number(doubled)), (200, Some(0)));

    // Somebody holds the letter.
    let free = "UPDATE coinflow.dead_letter SET retried_at = NULL WHERE kafka_offset = 2";
    let mut other = rig.postgres.connect().expect("a connection");
    other.batch_execute(free).expect("changed");
    let mut transaction = other.transaction().expect("a transaction");
    transaction.execute("SELECT FROM coinflow.dead_letter WHERE kafka_offset = 2 FOR UPDATE", &[]).expect("locked");
    let (code, retried) = command(&rig, &["retry", &id]);
    assert_eq!(
        (code, retried.stdout),
        (1, format!("{id} not stored: left to another retry, which is at work on it\n"))
    );
}
