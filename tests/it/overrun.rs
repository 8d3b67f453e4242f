//! A position that does not fit what Kafka holds stops its partition, and only that one.

use std::time::Duration;

use coinflow_tests::wait::wait_until;
use uuid::Uuid;

use crate::books::{Writer, book};
use crate::rig::{LATER, Rig, SOON, TOPIC, lines_at};

pub(crate) fn status(rig: &Rig) -> String {
    let all = rig.consumerd.notify().all();
    all.iter().rev().find_map(|message| message.value("STATUS").map(str::to_owned)).unwrap_or_default()
}

pub(crate) fn wait_status(rig: &Rig, text: &str) {
    let waited = wait_until(SOON, &format!("STATUS with {text}"), || status(rig).contains(text).then_some(()));
    waited.unwrap_or_else(|error| panic!("{error}: {}\n{}", status(rig), rig.logs()));
}

pub(crate) fn produce(rig: &Rig, partition: i32, sequences: std::ops::Range<i64>) {
    let run = Uuid::now_v7();
    for sequence in sequences {
        let mut value = Vec::new();
        book(run, "KRW-BTC", sequence).encode(&mut value);
        rig.client().produce(TOPIC, Some(partition), Some(b"KRW-BTC"), Some(&value), &[]).expect("a record");
    }
}

pub(crate) fn rows_of(rig: &Rig, partition: i32) -> i64 {
    let query = format!("SELECT count(*) FROM coinflow.orderbook WHERE kafka_partition = {partition}");
    rig.number(&query).unwrap_or(0)
}

#[test]
fn deleted_before_it_was_read() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 2, 1, &[]).expect("a topic");
    produce(&rig, 0, 1..6);
    produce(&rig, 1, 1..6);
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(10, LATER);
    rig.stop_consumerd();
    produce(&rig, 0, 6..16);
    produce(&rig, 1, 6..16);
    rig.client().delete_before(TOPIC, 0, 12).expect("deleted");

    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(20, LATER);
    assert_eq!((rows_of(&rig, 0), rows_of(&rig, 1)), (5, 15), "the other partition goes on");
    wait_status(&rig, "STOPPED coinflow.orderbook.bithumb/0");
    let errors = lines_at(&rig.consumerd, "ERROR");
    let told = errors.iter().filter(|line| line.contains("partition stopped") && line.contains("partition=0")).count();
    assert_eq!(told, 1, "{errors:#?}");
    assert_eq!(rig.positions()[&0], 5, "nothing is skipped by itself");
    rig.stop_consumerd();

    rig.configure_consumerd(&rig.consumerd, "on_overrun = \"continue\"");
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(23, LATER);
    assert_eq!(rows_of(&rig, 0), 8);
    let event = "SELECT count(*) FROM coinflow.offset_event WHERE kind = 'overrun' AND kafka_partition = 0 \
                 AND (from_offset, to_offset) = (5, 12)";
    assert_eq!(rig.number(event), Some(1));
    rig.consumerd.wait_for_line("records=7", SOON).expect("an error line that counts them");
    rig.stop_consumerd();
}

#[test]
fn deleted_while_others_flow() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 2, 1, &[]).expect("a topic");
    // Kafka's log of partition 0 moves on under a consumerd that is frozen for that long.
    produce(&rig, 0, 1..4);
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(3, LATER);
    rig.consumerd.sigstop().expect("frozen");
    produce(&rig, 0, 4..40);
    rig.client().delete_before(TOPIC, 0, 39).expect("deleted");
    rig.consumerd.sigcont().expect("thawed");
    let mut sequence = 0;
    let stopped = || {
        sequence += 1;
        produce(&rig, 1, sequence..sequence + 1);
        let fits = rows_of(&rig, 0) == 39;
        (fits || status(&rig).contains("STOPPED")).then_some(())
    };
    wait_until(LATER, "the partition to be stopped, or to have been fetched before", stopped)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", status(&rig), rig.logs()));
    let stored = rows_of(&rig, 1);
    produce(&rig, 1, 1000..1005);
    wait_until(SOON, "the other partition", || (rows_of(&rig, 1) >= stored + 5).then_some(())).expect("it goes on");
    rig.stop_consumerd();
}

#[test]
fn made_anew() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(100);
    writer.finish();
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(100, LATER);
    rig.stop_consumerd();
    rig.client().delete_topic(TOPIC).expect("deleted");
    std::thread::sleep(Duration::from_secs(1));
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("made anew");
    produce(&rig, 0, 1..4);
    rig.consumerd.start().expect("consumerd starts");
    wait_status(&rig, "STOPPED");
    let line = rig.consumerd.wait_for_line("partition stopped", SOON).expect("a line");
    assert!(line.contains(" ERROR ") && line.contains("beyond the end"), "{line}");
    assert_eq!((rig.rows(), rig.positions()[&0]), (100, 100), "nothing is skipped, nothing is taken for stored");
    rig.stop_consumerd();
}

#[test]
fn made_anew_and_grown_beyond_the_position() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 2, 1, &[]).expect("a topic");
    produce(&rig, 0, 1..11);
    produce(&rig, 1, 1..11);
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(20, LATER);
    rig.stop_consumerd();
    // The same topic is no news.
    rig.consumerd.start().expect("consumerd starts");
    produce(&rig, 0, 11..13);
    rig.wait_rows(22, LATER);
    rig.stop_consumerd();

    rig.client().delete_topic(TOPIC).expect("deleted");
    std::thread::sleep(Duration::from_secs(1));
    rig.client().create_topic(TOPIC, 2, 1, &[]).expect("made anew");
    produce(&rig, 0, 1..31);
    produce(&rig, 1, 1..31);
    // Again at a second start, and whatever is asked in between.
    for start in 1..=2 {
        rig.consumerd.start().expect("consumerd starts");
        wait_status(
            &rig,
            "STOPPED coinflow.orderbook.bithumb/0: next offset 12 follows another record than was stored",
        );
        wait_status(
            &rig,
            "STOPPED coinflow.orderbook.bithumb/1: next offset 10 follows another record than was stored",
        );
        std::thread::sleep(Duration::from_secs(6));
        let positions = rig.positions();
        assert_eq!((rig.rows(), positions[&0], positions[&1]), (22, 12, 10), "nothing is read from the middle");
        assert!(status(&rig).contains("STOPPED coinflow.orderbook.bithumb/0"), "{}", status(&rig));
        let errors = lines_at(&rig.consumerd, "ERROR");
        let told = errors.iter().filter(|line| line.contains("partition stopped")).count();
        assert_eq!(told, 2 * start, "{errors:#?}");
        rig.stop_consumerd();
    }

    // As an operator is told to set it, while it runs.
    rig.consumerd.start().expect("consumerd starts");
    wait_status(&rig, "STOPPED coinflow.orderbook.bithumb/0");
    let reset =
        ["offsets", "reset", "--topic", TOPIC, "--partition", "0", "--to", "earliest", "--force", "--reason", "anew"];
    let done = rig.consumerd.run(&reset, SOON).expect("it ends");
    assert!(done.status.success(), "{done:?}");
    rig.wait_rows(52, LATER);
    assert_eq!((rows_of(&rig, 0), rows_of(&rig, 1)), (42, 10), "the other one waits for its own reset");
    let new = "SELECT count(*) FROM coinflow.orderbook WHERE kafka_partition = 0 AND kafka_generation = 1";
    assert_eq!(rig.number(new), Some(30));
    rig.stop_consumerd();
}
