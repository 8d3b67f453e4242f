//! What may change around positions: names of sources, who else reads, partitions, brokers.

use std::time::Duration;

use coinflow_tests::servers::{Daemon, KafkaOptions, Program};
use coinflow_tests::wait::wait_until;

use crate::books::Writer;
use crate::database::{goes_on, trouble};
use crate::exactly_once::{check, check_replicated, each_once, keep_writing};
use crate::overrun::{produce, rows_of, wait_status};
use crate::rig::{GROUP, LATER, Rig, TOPIC};

#[test]
fn a_source_is_renamed() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        goes_on(rig);
        rig.stop_consumerd();
        let text = format!(
            "[postgres]\nconnection = \"{}\"\n[source.renamed]\nbrokers = [\"{}\"]\n",
            rig.postgres.connection(),
            rig.kafka.bootstrap()
        );
        rig.consumerd.write("consumerd.toml", &text).expect("consumerd.toml");
        rig.consumerd.start().expect("consumerd starts");
        let rows = rig.rows();
        rig.wait_rows(rows + 500, LATER);
    });
    let number = |query| rig.number(query);
    assert_eq!(number("SELECT count(DISTINCT kafka_source) FROM coinflow.orderbook"), Some(2), "as it was called then");
    assert_eq!(number("SELECT count(*) FROM coinflow.kafka_offset"), Some(4), "the same positions");
    assert_eq!(number("SELECT count(*) FROM coinflow.kafka_offset WHERE kafka_source = 'renamed'"), Some(4));
    assert_eq!(number("SELECT max(kafka_generation)::bigint FROM coinflow.orderbook"), Some(0));
    rig.stop_consumerd();
}

/// Two sources with one cluster under two names, which the file alone does not tell.
#[test]
fn two_sources_on_one_topic() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 2, 1, &[]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(100);
    let bootstrap = rig.kafka.bootstrap();
    let source = |name: &str, brokers: &str| {
        format!("[source.{name}]\nbrokers = [\"{brokers}\"]\ngroup = \"{name}\"\ntopics = [\"{TOPIC}\"]\n")
    };
    let postgres = format!("[postgres]\nconnection = \"{}\"\n", rig.postgres.connection());
    let (one, other) = (source("one", &bootstrap), source("other", &bootstrap.replace("127.0.0.1", "localhost")));
    rig.consumerd.write("consumerd.toml", &format!("{postgres}{one}{other}")).expect("consumerd.toml");
    rig.consumerd.start().expect("consumerd starts");
    wait_status(&rig, "reads the same topic of the same cluster");
    wait_status(&rig, &format!("STOPPED {TOPIC}/0"));
    let line = rig.consumerd.wait_for_line("reads the same topic of the same cluster", LATER).expect("a line");
    assert!(line.contains(" ERROR "), "{line}");
    rig.wait_rows(100, LATER);
    writer.write(100);
    rig.wait_rows(200, LATER);
    assert_eq!(rig.settle(), 200);
    assert_eq!(rig.number("SELECT count(DISTINCT kafka_source) FROM coinflow.orderbook"), Some(1));
    rig.stop_consumerd();
    // Whichever is left goes on from where the first one was.
    rig.consumerd.write("consumerd.toml", &format!("{postgres}{other}")).expect("consumerd.toml");
    rig.consumerd.start().expect("consumerd starts");
    writer.write(100);
    writer.finish();
    rig.wait_rows(300, LATER);
    assert_eq!(rig.settle(), 300);
    rig.stop_consumerd();
}

fn wait_status_of(daemon: &Daemon, what: &str, holds: impl Fn(&str) -> bool) {
    let status = || {
        let all = daemon.notify().all();
        all.iter().rev().find_map(|message| message.value("STATUS").map(str::to_owned)).unwrap_or_default()
    };
    let waited = wait_until(LATER, what, || holds(&status()).then_some(()));
    waited.unwrap_or_else(|error| panic!("{error}: {}\n{}", status(), daemon.stderr().all().join("\n")));
}

/// The consumerd of another database joins the group: each stores a part, and both say so.
#[test]
fn a_group_that_another_database_commits_to() {
    const TOLD: &str = "another database commits to the same group";
    let mut rig = Rig::new();
    let mut second = Daemon::new(Program::Consumerd).expect("a folder");
    let superuser = rig.postgres.connect_as("postgres", "postgres");
    superuser.expect("a connection").batch_execute("CREATE DATABASE other OWNER coinflow").expect("a database");
    let connection = rig.postgres.connection().replace("dbname=coinflow", "dbname=other");
    let text = format!(
        "[postgres]\nconnection = \"{connection}\"\n[source.main]\nbrokers = [\"{}\"]\n",
        rig.kafka.bootstrap()
    );
    second.write("consumerd.toml", &text).expect("consumerd.toml");
    rig.client().create_topic(TOPIC, 4, 1, &[]).expect("a topic");
    let writer = keep_writing(rig.kafka.bootstrap());
    rig.consumerd.start().expect("consumerd starts");
    goes_on(&rig);
    let pid = rig.consumerd.pid();
    second.start().expect("the second one starts");
    wait_status_of(&second, "the second one's STATUS", |status| status.contains(TOLD));
    wait_status_of(&rig.consumerd, "the first one's STATUS", |status| status.contains(TOLD));
    for daemon in [&rig.consumerd, &second] {
        let line = daemon.wait_for_line(TOLD, LATER).expect("a line");
        assert!(line.contains(" ERROR ") && line.contains(&format!("group={GROUP}")), "{line}");
    }
    let mut other = rig.postgres.connect_as("coinflow", "other").expect("a connection");
    let query = "SELECT count(*) FROM coinflow.orderbook";
    let mut rows = || other.query_one(query, &[]).map_or(0, |row| row.get::<_, i64>(0));
    wait_until(LATER, "rows in the other database", || (rows() > 0).then_some(())).expect("rows");
    assert!(second.stop().expect("it ends").success());
    // All partitions are ours again, from where this database is.
    wait_status_of(&rig.consumerd, "the first one to be alone", |status| !status.contains(TOLD));
    goes_on(&rig);
    writer.stop();
    each_once(&rig);
    assert!(rig.consumerd.is_running() && rig.consumerd.pid() == pid, "no restart\n{}", rig.logs());
    let doubled = "SELECT count(*) - count(DISTINCT (kafka_partition, kafka_offset)) FROM coinflow.orderbook";
    assert_eq!(other.query_one(doubled, &[]).expect("a number").get::<_, i64>(0), 0);
    rig.stop_consumerd();
}

#[test]
fn a_partition_is_added_while_running() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        goes_on(rig);
        let pid = rig.consumerd.pid();
        rig.client().add_partitions(TOPIC, 6).expect("added");
        produce(rig, 5, 1..6);
        let stored = || (rows_of(rig, 5) == 5).then_some(());
        wait_until(LATER, "rows of the new partition", stored)
            .unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
        goes_on(rig);
        assert!(rig.consumerd.is_running() && rig.consumerd.pid() == pid, "no restart\n{}", rig.logs());
    });
    rig.stop_consumerd();
}

/// The group's coordinator with it.
#[test]
fn the_only_broker_is_lost() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        trouble(
            rig,
            |rig| rig.kafka.kill9().expect("killed"),
            &["Kafka down since"],
            |rig| rig.kafka.start_all().expect("started again"),
        );
    });
    rig.stop_consumerd();
}

#[test]
fn the_broker_that_coordinates_the_group_is_lost() {
    let mut rig = Rig::with(&KafkaOptions { brokers: 3, ..KafkaOptions::default() }, &Default::default());
    check_replicated(&mut rig, 3, |rig| {
        goes_on(rig);
        let pid = rig.consumerd.pid();
        // Kafka chooses the partition by Java's hash of the group's name; the tests' Kafka has four of them.
        let hash = GROUP.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
        let coordinator = rig.client().leader("__consumer_offsets", (hash & i32::MAX) % 4).expect("a coordinator");
        let at = usize::try_from(coordinator - 1).expect("brokers are numbered from 1");
        rig.kafka.kill9_broker(at).expect("killed");
        // The controller notices after 3 s.
        std::thread::sleep(Duration::from_secs(5));
        goes_on(rig);
        assert!(rig.consumerd.is_running() && rig.consumerd.pid() == pid, "no restart\n{}", rig.logs());
    });
    rig.stop_consumerd();
}
