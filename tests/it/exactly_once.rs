//! Each record of the topic is in the table once, whatever happens to the processes, and Kafka's commit never runs ahead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coinflow_tests::servers::{Daemon, KafkaClient, Postgres, Program, StopMode};
use coinflow_tests::wait::wait_until;

use crate::books::Writer;
use crate::rig::{GROUP, LATER, Rig, TOPIC};

/// Numbers that look random; the same seed gives the same ones.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64 of G. Marsaglia, 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn pause(&mut self, ms: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(ms.start + self.below(ms.end - ms.start)));
    }
}

/// A thread that ends when told to, and is joined.
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Background {
    fn start(mut turn: impl FnMut() + Send + 'static) -> Background {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                turn();
            }
        });
        Background { stop, thread: Some(thread) }
    }

    pub(crate) fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("joined once").join().expect("the background thread found nothing wrong");
    }
}

/// Writes about 2,000 books a second until it is stopped, and waits then until Kafka has them.
pub(crate) fn keep_writing(bootstrap: String) -> Background {
    let mut writer = Writer::new(&bootstrap, TOPIC);
    Background::start(move || {
        writer.write(20);
        std::thread::sleep(Duration::from_millis(10));
    })
}

/// Compares Kafka's commits with the database's positions, from outside, all the time. Counts the comparisons.
fn watch_commits(client: KafkaClient, postgres: &Postgres, compared: Arc<AtomicU64>) -> Background {
    let connection = postgres.connection();
    Background::start(move || {
        std::thread::sleep(Duration::from_millis(100));
        // The commits first: positions only grow, so what is read later is no smaller.
        let Ok(committed) = client.committed(GROUP, TOPIC) else { return };
        let Ok(mut database) = postgres::Client::connect(&connection, postgres::NoTls) else { return };
        let query = "SELECT kafka_partition, next_offset FROM coinflow.kafka_offset";
        let Ok(rows) = database.query(query, &[]) else { return };
        let stored: BTreeMap<i32, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for (partition, offset) in committed {
            let next = stored.get(&partition).copied().unwrap_or(0);
            assert!(offset <= next, "partition {partition}: Kafka has {offset} committed, the database {next} stored");
            compared.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// When the writer has ended: nothing is lost and nothing doubled.
pub(crate) fn each_once(rig: &Rig) {
    let records = rig.settle();
    assert!(records > 1000, "{records} records are no test");
    let gaps = "SELECT count(*) FROM (SELECT producer_sequence - lag(producer_sequence, 1, 0::bigint) \
                OVER (PARTITION BY market, producer_run ORDER BY producer_sequence) AS step FROM coinflow.orderbook) AS s \
                WHERE step <> 1";
    assert_eq!(rig.number(gaps), Some(0), "sequence numbers have no gap and no repetition");
}

/// Under continuous writing, lets `trouble` happen, then checks that nothing is lost and nothing doubled.
pub(crate) fn check(rig: &mut Rig, trouble: impl FnOnce(&mut Rig)) {
    check_replicated(rig, 1, trouble);
}

pub(crate) fn check_replicated(rig: &mut Rig, replication: i32, trouble: impl FnOnce(&mut Rig)) {
    rig.client().create_topic(TOPIC, 4, replication, &[]).expect("a topic");
    let compared = Arc::new(AtomicU64::new(0));
    let watcher = watch_commits(rig.client(), &rig.postgres, Arc::clone(&compared));
    let writer = keep_writing(rig.kafka.bootstrap());
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(1, LATER);
    trouble(rig);
    let looked = || (compared.load(Ordering::Relaxed) > 20).then_some(());
    wait_until(LATER, "Kafka's commits to be looked at", looked).unwrap_or_else(|error| panic!("{error}"));
    writer.stop();
    each_once(rig);
    watcher.stop();
}

#[test]
fn consumerd_killed_at_random_moments() {
    let mut rig = Rig::new();
    rig.configure_consumerd(&rig.consumerd, "[batch]\nmax_books = 50");
    check(&mut rig, |rig| {
        let mut chance = Chance(0x5eed);
        for _ in 0..12 {
            chance.pause(0..1500);
            rig.consumerd.kill9().expect("killed");
            rig.consumerd.start().expect("consumerd starts again");
        }
    });
    rig.stop_consumerd();
}

#[test]
fn postgresql_restarted() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        let mut chance = Chance(0xdb);
        for mode in [StopMode::Fast, StopMode::Immediate, StopMode::Kill9, StopMode::Immediate] {
            chance.pause(300..1500);
            rig.postgres.stop(mode).expect("stopped");
            chance.pause(0..1500);
            rig.postgres.start_again().expect("started again");
        }
    });
    rig.stop_consumerd();
    let down = rig.consumerd.stderr().all().iter().filter(|line| line.contains(" WARN  ")).count();
    assert!(down <= 16, "a line per change of state, not per try\n{}", rig.logs());
}

#[test]
fn kafka_restarted() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        rig.kafka.restart().expect("restarted");
        let rows = rig.rows();
        rig.wait_rows(rows + 1, LATER);
        rig.kafka.kill9().expect("killed");
        rig.kafka.start_all().expect("started again");
        let rows = rig.rows();
        rig.wait_rows(rows + 1, LATER);
    });
    rig.stop_consumerd();
}

#[test]
fn a_second_consumerd_joins_and_leaves() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        let mut second = Daemon::new(Program::Consumerd).expect("a folder");
        rig.configure_consumerd(&second, "");
        for ending in ["term", "kill", "term"] {
            let mark = second.stderr().mark();
            second.start().expect("the second one starts");
            second.stderr().wait_for_after(mark, "partition read", LATER).unwrap_or_else(|error| {
                panic!("{error}\n{}\n--- second\n{}", rig.logs(), second.stderr().all().join("\n"))
            });
            std::thread::sleep(Duration::from_millis(1500));
            if ending == "term" {
                assert!(second.stop().expect("it ends").success());
            } else {
                second.kill9().expect("killed");
            }
            // The one that stays takes all partitions again.
            let rows_of_all = || {
                let query = "SELECT count(DISTINCT kafka_partition) FROM coinflow.orderbook WHERE stored_at > now() - interval '1 s'";
                rig.number(query).filter(|partitions| *partitions == 4)
            };
            wait_until(LATER, "rows of all partitions", rows_of_all)
                .unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
        }
    });
    rig.stop_consumerd();
}

#[test]
fn a_writer_that_stops_in_the_middle_of_a_copy_is_ended() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        let mut client = rig.postgres.connect().expect("a connection");
        let mut transaction = client.transaction().expect("a transaction");
        // What a process that is frozen leaves behind: positions locked, and a COPY that PostgreSQL waits for.
        transaction.execute("UPDATE coinflow.kafka_offset SET updated_at = now()", &[]).expect("locks");
        let copy = transaction.copy_in("COPY coinflow.market FROM STDIN").expect("a COPY");
        let line = rig.consumerd.wait_for_line("ended the session of a writer", LATER);
        line.unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
        drop(copy);
        drop(transaction);
        let rows = rig.rows();
        rig.wait_rows(rows + 1, LATER);
    });
    rig.stop_consumerd();
}

#[test]
fn a_frozen_consumerd_that_has_lost_its_partitions_stores_nothing_twice() {
    let mut rig = Rig::new();
    rig.configure_consumerd(&rig.consumerd, "librdkafka = { \"session.timeout.ms\" = 6000 }");
    check(&mut rig, |rig| {
        let mut second = Daemon::new(Program::Consumerd).expect("a folder");
        rig.configure_consumerd(&second, "");
        rig.consumerd.sigstop().expect("frozen");
        second.start().expect("the second one starts");
        let rows = rig.rows();
        let stored = wait_until(LATER, "the second one to store", || (rig.rows() > rows).then_some(()));
        stored.unwrap_or_else(|error| {
            let sessions = "SELECT string_agg(concat_ws(' ', pid, state, wait_event, left(query, 80)), E'\\n') FROM pg_stat_activity";
            let mut client = rig.postgres.connect().expect("a connection");
            let sessions: Option<String> = client.query_one(sessions, &[]).expect("sessions").get(0);
            panic!("{error}\n{sessions:?}\n{}\n--- second\n{}", rig.logs(), second.stderr().all().join("\n"))
        });
        rig.consumerd.sigcont().expect("thawed");
        std::thread::sleep(Duration::from_secs(3));
        assert!(second.stop().expect("it ends").success());
    });
    rig.stop_consumerd();
}
