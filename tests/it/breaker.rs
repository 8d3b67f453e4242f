//! Dead letters that follow each other with one cause hold their partition, and only that one.

use std::time::{Duration, Instant};

use coinflow_common::orderbook::SCHEMA;
use coinflow_tests::servers::Finished;
use coinflow_tests::wait::wait_until;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use uuid::Uuid;

use crate::books::book;
use crate::overrun::{rows_of, wait_status};
use crate::rig::{LATER, Rig, SOON, TOPIC, lines_at};

/// So soon the daemon follows `accept`.
const FOLLOWS: Duration = Duration::from_secs(10);
/// A held partition is tried each minute, and looked at every five seconds.
const TRIED: Duration = Duration::from_secs(66);
const OTHER_MAJOR: &[u8] = b"coinflow.orderbook/2";

/// Writes books of one run into chosen partitions, and waits until Kafka has them.
struct Books {
    producer: BaseProducer,
    run: Uuid,
    sequence: i64,
}

impl Books {
    fn new(rig: &Rig) -> Books {
        let producer = ClientConfig::new().set("bootstrap.servers", rig.kafka.bootstrap()).create();
        Books { producer: producer.expect("a producer"), run: Uuid::now_v7(), sequence: 0 }
    }

    fn write(&mut self, partition: i32, market: &str, schema: &[u8], count: usize) {
        for _ in 0..count {
            self.sequence += 1;
            let mut value = Vec::new();
            book(self.run, market, self.sequence).encode(&mut value);
            self.raw(partition, schema, market, &value);
        }
        self.flush();
    }

    fn raw(&self, partition: i32, schema: &[u8], key: &str, value: &[u8]) {
        let headers = OwnedHeaders::new().insert(Header { key: "schema", value: Some(schema) });
        let record = BaseRecord::to(TOPIC).partition(partition).key(key).payload(value).headers(headers);
        self.producer.send(record).expect("room for a record");
    }

    fn flush(&self) {
        self.producer.flush(SOON).expect("Kafka takes what was written");
    }

    fn good(&mut self, partition: i32, count: usize) {
        self.write(partition, "KRW-BTC", SCHEMA.as_bytes(), count);
    }

    /// Those that the rule refuses.
    fn bad(&mut self, partition: i32, count: usize) {
        self.write(partition, "KRW-BAD", SCHEMA.as_bytes(), count);
    }
}

/// consumerd runs, on a topic of so many partitions.
fn started(partitions: i32) -> (Rig, Books) {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, partitions, 1, &[]).expect("a topic");
    rig.consumerd.start().expect("consumerd starts");
    wait_until(SOON, "the schema", || rig.number("SELECT count(*) FROM coinflow.orderbook")).expect("made");
    let books = Books::new(&rig);
    (rig, books)
}

/// An operator's own rule, which refuses one market.
fn make_rule(rig: &Rig) {
    let rule = "ALTER TABLE coinflow.orderbook ADD CONSTRAINT not_bad CHECK (market <> 'KRW-BAD')";
    rig.postgres.connect().expect("a connection").batch_execute(rule).expect("a constraint");
}

fn drop_rule(rig: &Rig) {
    let drop = "ALTER TABLE coinflow.orderbook DROP CONSTRAINT not_bad";
    rig.postgres.connect().expect("a connection").batch_execute(drop).expect("dropped");
}

fn command(rig: &Rig, arguments: &[&str]) -> (i32, Finished) {
    let finished = rig.consumerd.run(&[&["dead-letters"], arguments].concat(), LATER).expect("it ends");
    (finished.status.code().expect("an exit code"), finished)
}

fn accept(rig: &Rig, more: &[&str]) -> (i32, Finished) {
    command(rig, &[&["accept", "--topic", TOPIC, "--partition", "0"], more].concat())
}

fn wait_for(rig: &Rig, timeout: Duration, what: &str, ready: impl Fn() -> bool) {
    let waited = wait_until(timeout, what, || ready().then_some(()));
    waited.unwrap_or_else(|error| panic!("{error}; {} dead letters\n{}", rig.dead_letters(), rig.logs()));
}

/// Lines of a level that are about a held partition.
fn told(rig: &Rig, level: &str) -> usize {
    lines_at(&rig.consumerd, level).iter().filter(|line| line.contains("held")).count()
}

/// Waits until partition 0 is held for this cause behind so many dead letters.
fn wait_held(rig: &Rig, cause: &str, letters: i64) {
    let reason = "tried again each minute; consumerd dead-letters accept lets them pass";
    wait_status(rig, &format!("HELD {TOPIC}/0: 100 dead letters in a row with {cause}; {reason}"));
    assert_eq!(rig.dead_letters(), letters);
}

fn status_is_up(rig: &Rig) -> bool {
    let all = rig.consumerd.notify().all();
    let last = all.iter().rev().find_map(|message| message.value("STATUS"));
    last.is_some_and(|status| status.starts_with("main: up,") && !status.contains("HELD"))
}

#[test]
fn a_rule_that_refuses_all_holds_until_it_is_gone() {
    let (rig, mut books) = started(2);
    make_rule(&rig);
    books.good(0, 5);
    books.bad(0, 250);
    books.good(1, 30);
    wait_held(&rig, "SQLSTATE 23514", 100);
    books.good(1, 30);
    wait_for(&rig, SOON, "the other partition", || rows_of(&rig, 1) == 60);
    assert_eq!((rows_of(&rig, 0), rig.positions()[&0]), (5, 105), "nothing behind the letters is stored");
    let (code, shown) = command(&rig, &["list"]);
    assert_eq!((code, shown.stdout.matches(" 23514 ").count()), (0, 100), "{}", shown.stderr);

    let begin = Instant::now();
    drop_rule(&rig);
    wait_for(&rig, TRIED + SOON, "the rest", || rows_of(&rig, 0) == 155);
    show!("went on {:?} after the rule was gone", begin.elapsed());
    wait_for(&rig, SOON, "STATUS", || status_is_up(&rig));
    assert_eq!((told(&rig, "ERROR"), told(&rig, "INFO")), (1, 1), "{}", rig.logs());
    rig.settle();
    let (code, retried) = command(&rig, &["retry", "--all"]);
    assert_eq!(code, 0, "{}", retried.stdout);
    let distinct = "SELECT count(DISTINCT (kafka_partition, kafka_offset)) FROM coinflow.orderbook";
    assert_eq!((rig.rows(), rig.number(distinct)), (255 + 60, Some(255 + 60)));
    let (code, refused) = accept(&rig, &[]);
    assert_eq!((code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("is not held"), "{}", refused.stderr);
}

#[test]
fn another_schema_holds_until_it_is_accepted() {
    let (mut rig, mut books) = started(1);
    let (code, refused) = accept(&rig, &[]);
    assert_eq!(code, 1, "{}", refused.stderr);
    books.write(0, "KRW-BTC", OTHER_MAJOR, 40);
    wait_for(&rig, SOON, "the first ones", || rig.dead_letters() == 40);
    let (code, refused) = accept(&rig, &[]);
    assert!(code == 1 && refused.stderr.contains("40 dead letters in a row with schema major 2"), "{}", refused.stderr);
    // The run outlives the process that began it.
    rig.stop_consumerd();
    rig.consumerd.start().expect("consumerd starts");
    books.write(0, "KRW-BTC", OTHER_MAJOR, 120);
    wait_held(&rig, "schema major 2", 100);
    let before = told(&rig, "ERROR");
    std::thread::sleep(TRIED);
    wait_held(&rig, "schema major 2", 100);
    assert_eq!((before, told(&rig, "ERROR"), rig.positions()[&0]), (1, 1, 100), "{}", rig.logs());

    for wrong in [&["--source", "other"][..], &["--partition", "x"]] {
        assert_ne!(accept(&rig, wrong).0, 0, "{wrong:?}");
    }
    let (code, accepted) = accept(&rig, &["--source", "main"]);
    let line = format!("accepted source=main topic={TOPIC} partition=0 cause=\"schema major 2\" letters=100\n");
    assert_eq!((code, accepted.stdout), (0, line), "{}", accepted.stderr);
    let begin = Instant::now();
    wait_for(&rig, FOLLOWS, "the rest", || rig.dead_letters() == 160);
    show!("followed accept within {:?}", begin.elapsed());
    let (code, again) = accept(&rig, &[]);
    assert!(code == 1 && again.stderr.contains("pass already"), "{}", again.stderr);
    books.write(0, "KRW-BTC", OTHER_MAJOR, 150);
    books.good(0, 10);
    rig.wait_rows(10, SOON);
    assert_eq!(rig.dead_letters(), 310);
    rig.settle();
    // It is armed anew, and accepted while there is no record to try.
    books.write(0, "KRW-BTC", OTHER_MAJOR, 110);
    wait_held(&rig, "schema major 2", 410);
    rig.stop_consumerd();
    let arguments = ["offsets", "reset", "--topic", TOPIC, "--partition", "0", "--to", "latest", "--reason", "test"];
    assert_eq!(rig.consumerd.run(&arguments, SOON).expect("it ends").status.code(), Some(0));
    rig.consumerd.start().expect("consumerd starts");
    books.write(0, "KRW-BTC", OTHER_MAJOR, 100);
    wait_held(&rig, "schema major 2", 510);
    rig.stop_consumerd();
    rig.consumerd.start().expect("consumerd starts");
    wait_status(&rig, "HELD");
    assert_eq!(accept(&rig, &[]).0, 0);
    wait_for(&rig, FOLLOWS, "STATUS", || status_is_up(&rig));
    assert_eq!(rig.dead_letters(), 510);
    rig.stop_consumerd();
}

#[test]
fn what_nobody_can_read_never_holds() {
    let (mut rig, mut books) = started(1);
    for n in 0..300 {
        books.raw(0, if n % 2 == 0 { SCHEMA.as_bytes() } else { b"\xffgarbage" }, "key", b"no book");
    }
    books.good(0, 1);
    rig.wait_rows(1, LATER);
    assert_eq!((rig.settle(), rig.dead_letters()), (301, 300));
    assert_eq!(told(&rig, "ERROR"), 0);
    assert_eq!(rig.number("SELECT count(*) FROM coinflow.dead_letter_run"), Some(0));
    rig.stop_consumerd();
}

#[test]
fn a_kill_does_not_let_it_go() {
    let (mut rig, mut books) = started(1);
    make_rule(&rig);
    books.bad(0, 3000);
    books.good(0, 20);
    wait_held(&rig, "SQLSTATE 23514", 100);
    for processes in 2..5 {
        rig.consumerd.kill9().expect("killed");
        rig.consumerd.start().expect("consumerd starts");
        wait_for(&rig, SOON, "an error line of each process", || told(&rig, "ERROR") == processes);
        wait_held(&rig, "SQLSTATE 23514", 100);
        assert_eq!((rig.rows(), rig.positions()[&0]), (0, 100));
    }
    // A reset says where to go on, as ever: behind what is refused.
    let arguments = ["offsets", "reset", "--topic", TOPIC, "--partition", "0", "--to", "3000", "--reason", "test"];
    let reset = rig.consumerd.run(&arguments, SOON).expect("it ends");
    assert!(reset.status.success(), "{}", reset.stderr);
    wait_for(&rig, FOLLOWS + SOON, "the good ones", || rig.rows() == 20);
    wait_for(&rig, SOON, "STATUS", || status_is_up(&rig));
    let (code, refused) = accept(&rig, &[]);
    assert_eq!(code, 1, "{}", refused.stdout);
    rig.stop_consumerd();
}
