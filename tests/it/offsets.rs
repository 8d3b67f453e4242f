//! `consumerd offsets`: what an operator sees of the positions, and sets.

use std::time::{Duration, Instant};

use coinflow_tests::servers::Finished;
use coinflow_tests::wait::wait_until;

use crate::books::Writer;
use crate::overrun::{produce, rows_of, wait_status};
use crate::rig::{LATER, Rig, SOON, TOPIC};

/// So soon the running daemon has to follow.
const FOLLOWS: Duration = Duration::from_secs(10);

/// The exit code and what was said.
fn offsets(rig: &Rig, arguments: &[&str]) -> (i32, Finished) {
    let arguments = [&["offsets"], arguments].concat();
    let finished = rig.consumerd.run(&arguments, SOON).expect("it ends");
    (finished.status.code().expect("an exit code"), finished)
}

/// The lines of `offsets show`, in columns.
fn shown(rig: &Rig, arguments: &[&str]) -> Vec<Vec<String>> {
    let (code, finished) = offsets(rig, &[&["show"], arguments].concat());
    assert_eq!(code, 0, "{}", finished.stderr);
    finished.stdout.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn positions_are_shown_beside_what_kafka_holds() {
    let mut rig = Rig::new();
    let (code, finished) = offsets(&rig, &["show"]);
    assert_eq!((code, finished.stdout.as_str()), (1, ""), "no tables yet");
    assert!(finished.stderr.contains("kafka_offset") && finished.stderr.contains("first start"), "{}", finished.stderr);
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(100);
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(100, LATER);
    rig.stop_consumerd();
    writer.write(7);
    writer.finish();
    rig.client().delete_before(TOPIC, 0, 40).expect("deleted");

    let lines = shown(&rig, &["--source", "main", "--log-level", "error"]);
    let heading = "SOURCE TOPIC PARTITION GENERATION NEXT_OFFSET LAST_RECORD_AT LOW HIGH LAG";
    assert_eq!(lines[0].join(" "), heading);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let time = lines[1][5].clone();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert_eq!(lines[1], ["main", TOPIC, "0", "0", "100", &time, "40", "107", "7"]);
    let (code, finished) = offsets(&rig, &["show", "--source", "other"]);
    assert_eq!((code, finished.stderr.as_str()), (2, "there is no source other\n"));

    // Nobody joined the group, and nothing was committed beside the daemon.
    assert_eq!(rig.client().committed(crate::rig::GROUP, TOPIC).expect("commits")[&0], 100);
    rig.kafka.stop().expect("Kafka stops");
    let (code, finished) = offsets(&rig, &["show"]);
    assert_eq!(code, 0, "{}", finished.stderr);
    let line: Vec<_> = finished.stdout.lines().nth(1).expect("a line").split_whitespace().collect();
    assert_eq!(line, ["main", TOPIC, "0", "0", "100", &time, "-", "-", "-"]);
    assert!(finished.stderr.contains("only the database's part is shown"), "{}", finished.stderr);
    refused(&rig, &["reset", "--topic", TOPIC, "--partition", "0", "--to", "100", "--reason", "x"], 1, "no answer");
}

fn reset(rig: &Rig, to: &str, more: &[&str]) -> (i32, Finished) {
    let arguments = ["reset", "--topic", TOPIC, "--partition", "0", "--to", to, "--reason", "a test"];
    offsets(rig, &[&arguments, more].concat())
}

/// Refused, and why; nothing is changed.
fn refused(rig: &Rig, arguments: &[&str], code: i32, why: &str) {
    let before = rig.number("SELECT count(*) FROM coinflow.offset_event");
    let (found, finished) = offsets(rig, arguments);
    assert_eq!((found, finished.stdout.as_str()), (code, ""), "{arguments:?}\n{}", finished.stderr);
    assert!(finished.stderr.contains(why), "{arguments:?}: {}", finished.stderr);
    assert_eq!(rig.number("SELECT count(*) FROM coinflow.offset_event"), before, "{arguments:?}");
}

/// Waits until partition 0 has so many rows in this generation, and no longer than it may take.
fn follows(rig: &Rig, generation: i32, rows: i64) {
    let began = Instant::now();
    let query = format!(
        "SELECT count(*) FROM coinflow.orderbook WHERE kafka_partition = 0 AND kafka_generation = {generation}"
    );
    let stored = || rig.number(&query).unwrap_or(0);
    let waited = wait_until(FOLLOWS, "the daemon to follow", || (stored() >= rows).then_some(()));
    waited.unwrap_or_else(|error| panic!("{error}: {} of {rows}\n{}", stored(), rig.logs()));
    assert_eq!(stored(), rows);
    show!("followed after {:.1} s", began.elapsed().as_secs_f64());
    let doubled =
        "SELECT count(*) - count(DISTINCT (kafka_partition, kafka_generation, kafka_offset)) FROM coinflow.orderbook";
    assert_eq!(rig.number(doubled), Some(0));
}

#[test]
fn a_partition_that_was_overrun_goes_on_where_the_operator_says() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 2, 1, &[]).expect("a topic");
    produce(&rig, 0, 1..6);
    produce(&rig, 1, 1..6);
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(10, LATER);
    rig.stop_consumerd();
    produce(&rig, 0, 6..16);
    rig.client().delete_before(TOPIC, 0, 12).expect("deleted");
    rig.consumerd.start().expect("consumerd starts");
    wait_status(&rig, "STOPPED coinflow.orderbook.bithumb/0");

    let of = |topic, partition, to, reason| {
        ["reset", "--topic", topic, "--partition", partition, "--to", to, "--reason", reason]
    };
    refused(&rig, &of("other", "0", "earliest", "x"), 2, "no source reads topic other");
    refused(&rig, &of("coinflow.orderbook.upbit", "0", "earliest", "x"), 1, "has no position");
    refused(
        &rig,
        &of(TOPIC, "2", "earliest", "x"),
        1,
        "has no position of topic=coinflow.orderbook.bithumb partition=2",
    );
    refused(&rig, &of(TOPIC, "0", "11", "x"), 1, "offset 11 is outside of what Kafka holds, 12 to 15");
    refused(&rig, &of(TOPIC, "0", "16", "x"), 1, "outside");
    refused(&rig, &of(TOPIC, "0", "earliest", " "), 2, "say why");
    refused(&rig, &of(TOPIC, "0", "begin", "x"), 2, "earliest");
    refused(&rig, &of(TOPIC, "0", "earliest", "x")[..7], 2, "--reason");
    let elsewhere = [&of(TOPIC, "0", "earliest", "x")[..], &["--source", "other"]].concat();
    refused(&rig, &elsewhere, 2, "no source other");

    let (code, finished) = reset(&rig, "earliest", &[]);
    assert_eq!(code, 0, "{}", finished.stderr);
    let expected = format!("reset source=main topic={TOPIC} partition=0 generation=1 from=5 to=12\n");
    assert_eq!(finished.stdout, expected);
    follows(&rig, 1, 3);
    produce(&rig, 0, 16..20);
    produce(&rig, 1, 6..8);
    follows(&rig, 1, 7);
    rig.wait_rows(19, SOON);
    assert_eq!((rows_of(&rig, 0), rows_of(&rig, 1)), (12, 7));
    let event = "SELECT count(*) FROM coinflow.offset_event WHERE kind = 'reset' AND reason = 'a test' \
                 AND (kafka_source, kafka_partition, generation, from_offset, to_offset) = ('main', 0, 1, 5, 12)";
    assert_eq!(rig.number(event), Some(1));
    rig.stop_consumerd();
    let committed = rig.client().committed(crate::rig::GROUP, TOPIC).expect("commits");
    assert_eq!((committed[&0], committed[&1]), (19, 7));
}

#[test]
fn a_topic_that_was_made_anew_is_stored_in_a_new_generation() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    produce(&rig, 0, 1..21);
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(20, LATER);
    rig.stop_consumerd();
    rig.client().delete_topic(TOPIC).expect("deleted");
    std::thread::sleep(Duration::from_secs(1));
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("made anew");
    produce(&rig, 0, 1..4);
    rig.consumerd.start().expect("consumerd starts");
    wait_status(&rig, "STOPPED");
    let lines = shown(&rig, &[]);
    assert_eq!(lines[1][6..], ["0", "3", "-"], "no lag");

    let (code, finished) = reset(&rig, "earliest", &[]);
    assert_eq!((code, finished.stdout.as_str()), (1, ""));
    assert!(finished.stderr.contains("20 rows and 0 dead letters of offset 0 and behind"), "{}", finished.stderr);
    let (code, finished) = reset(&rig, "earliest", &["--force"]);
    assert_eq!(code, 0, "{}", finished.stderr);
    follows(&rig, 1, 3);
    produce(&rig, 0, 4..30);
    follows(&rig, 1, 29);
    assert_eq!(rig.rows(), 20 + 29);
    rig.stop_consumerd();
}

#[test]
fn a_partition_that_is_being_read_starts_over_from_the_new_position() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(100);
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(100, LATER);
    let (code, finished) = reset(&rig, "90", &[]);
    assert_eq!(code, 1);
    assert!(finished.stderr.contains("refused: 10 rows"), "{}", finished.stderr);
    // Where no record comes, no compare-and-set fails.
    let (code, finished) = reset(&rig, "90", &["--force"]);
    assert_eq!(code, 0, "{}", finished.stderr);
    follows(&rig, 1, 10);

    // Under load, back and forth.
    writer.write(20_000);
    let (code, finished) = reset(&rig, "50", &["--force"]);
    assert_eq!(code, 0, "{}", finished.stderr);
    writer.write(5_000);
    writer.finish();
    let end = 25_100;
    let done = || (rig.positions().get(&0) == Some(&end)).then_some(());
    wait_until(LATER, "the end of the topic", done).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    follows(&rig, 2, end - 50);
    let holes = "SELECT count(*) FROM generate_series(0, 25099) AS o (kafka_offset) \
                 WHERE NOT EXISTS (SELECT FROM coinflow.orderbook b WHERE b.kafka_offset = o.kafka_offset)";
    assert_eq!(rig.number(holes), Some(0));
    // What is not stored yet may be passed over without force.
    let (code, finished) = reset(&rig, "latest", &[]);
    assert_eq!(code, 0, "{}", finished.stderr);
    produce(&rig, 0, 1..4);
    follows(&rig, 3, 3);
    assert!(rig.consumerd.is_running());
    rig.stop_consumerd();

    // Nor has anybody to look through the table for it, which could not be done here.
    produce(&rig, 0, 4..9);
    let mut other = rig.postgres.connect().expect("a connection");
    let mut transaction = other.transaction().expect("a transaction");
    transaction.batch_execute("LOCK TABLE coinflow.orderbook").expect("locked");
    let (code, finished) = reset(&rig, "latest", &[]);
    assert_eq!(code, 0, "{}", finished.stderr);
    transaction.rollback().expect("given free");
    // A position that is removed leaves no trace of how far it was.
    other.batch_execute("DELETE FROM coinflow.kafka_offset").expect("deleted");
    rig.consumerd.start().expect("consumerd starts");
    wait_until(SOON, "the position", || rig.positions().get(&0).copied()).expect("a position");
    rig.stop_consumerd();
    other.batch_execute("UPDATE coinflow.kafka_offset SET next_offset = 40").expect("set back");
    let (code, finished) = reset(&rig, "50", &[]);
    assert_eq!(code, 1);
    assert!(finished.stderr.contains("refused: "), "{}", finished.stderr);
}
