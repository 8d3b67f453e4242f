//! The database becomes another one, or an older state of itself: a standby takes over, a backup is restored, the schema
//! is emptied. Position and rows go together, so that what is missing is read again, and nothing else.

use std::process::Stdio;
use std::time::Duration;

use coinflow_tests::servers::Postgres;
use coinflow_tests::wait::wait_until;

use crate::books::Writer;
use crate::database::{goes_on, sql, trouble};
use crate::exactly_once::{each_once, keep_writing};
use crate::overrun::wait_status;
use crate::rig::{LATER, Rig, SOON, TOPIC, lines_at};

/// Configures consumerd for two servers, of which it takes the one that writes.
fn configure_for_both(rig: &Rig, standby: &Postgres, batch: &str) {
    let (first, second) = (&rig.postgres, standby);
    let text = format!(
        "[postgres]\nconnection = \"host={},{} port={},{} user=coinflow dbname=coinflow \
         target_session_attrs=read-write\"\n[source.main]\nbrokers = [\"{}\"]\n{batch}\n",
        first.socket_folder().display(),
        second.socket_folder().display(),
        first.port(),
        second.port(),
        rig.kafka.bootstrap()
    );
    rig.consumerd.write("consumerd.toml", &text).expect("consumerd.toml");
}

#[test]
fn a_synchronous_standby_takes_over() {
    let mut rig = Rig::new();
    let standby = rig.postgres.standby().expect("a standby");
    configure_for_both(&rig, &standby, "[batch]\nmax_books = 50");
    sql(&rig, "ALTER SYSTEM SET synchronous_standby_names = '*'");
    sql(&rig, "SELECT pg_reload_conf()");
    rig.client().create_topic(TOPIC, 4, 1, &[]).expect("a topic");
    let writer = keep_writing(rig.kafka.bootstrap());
    rig.consumerd.start().expect("consumerd starts");
    let mut standby = Some(standby);
    trouble(
        &mut rig,
        |rig| rig.postgres.kill9().expect("killed"),
        &["PostgreSQL down since"],
        |rig| {
            let standby = standby.take().expect("it takes over once");
            standby.promote().expect("promoted");
            rig.postgres = standby;
        },
    );
    writer.stop();
    each_once(&rig);
    rig.stop_consumerd();
    assert!(!rig.consumerd.stderr().all().iter().any(|line| line.contains("older state")), "{}", rig.logs());
}

#[test]
fn an_asynchronous_standby_that_lags_takes_over() {
    let mut rig = Rig::new();
    let mut standby = rig.postgres.standby().expect("a standby");
    configure_for_both(&rig, &standby, "");
    rig.client().create_topic(TOPIC, 4, 1, &[]).expect("a topic");
    let writer = keep_writing(rig.kafka.bootstrap());
    rig.consumerd.start().expect("consumerd starts");
    goes_on(&rig);
    let pid = rig.consumerd.pid();
    // What the standby does not have any more.
    standby.stop(coinflow_tests::servers::StopMode::Fast).expect("stopped");
    let rows = rig.rows();
    rig.wait_rows(rows + 1000, LATER);
    rig.postgres.kill9().expect("killed");
    wait_status(&rig, "PostgreSQL down since");
    standby.start_again().expect("started again");
    standby.promote().expect("promoted");
    rig.postgres = standby;
    goes_on(&rig);
    rig.consumerd.wait_for_line("database has gone back to an older state", SOON).expect("a line");
    writer.stop();
    each_once(&rig);
    assert!(rig.consumerd.pid() == pid && rig.consumerd.is_running(), "no restart\n{}", rig.logs());
    rig.stop_consumerd();
}

/// A rig with a hundred books stored, and a daemon that has nothing to do.
fn with_books(source: &str) -> (Rig, Writer) {
    let mut rig = Rig::new();
    rig.configure_consumerd(&rig.consumerd, source);
    rig.client().create_topic(TOPIC, 2, 1, &[]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(100);
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(100, LATER);
    (rig, writer)
}

/// Each market of the table is in `market`, too.
fn markets_are_known(rig: &Rig) {
    let unknown = "SELECT count(*) FROM (SELECT exchange, market FROM coinflow.orderbook \
                   EXCEPT SELECT exchange, market FROM coinflow.market) AS unknown";
    assert_eq!(rig.number(unknown), Some(0));
}

fn dump(rig: &Rig) -> Vec<u8> {
    let dumped = rig.postgres.client_program("pg_dump").args(["--schema", "coinflow"]).output().expect("pg_dump");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    dumped.stdout
}

/// Replaces the schema by that of a dump, in one transaction.
fn restore(rig: &Rig, dump: &[u8]) {
    let path = rig.postgres.socket_folder().join("dump.sql");
    std::fs::write(&path, [b"DROP SCHEMA IF EXISTS coinflow CASCADE;\n", dump].concat()).expect("a file");
    let mut psql = rig.postgres.client_program("psql");
    psql.args(["--quiet", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-f"]).arg(path).stdout(Stdio::null());
    let restored = psql.output().expect("psql");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
}

#[test]
fn an_older_backup_is_restored() {
    let (mut rig, mut writer) = with_books("");
    let pid = rig.consumerd.pid();
    let backup = dump(&rig);
    // New markets and old ones.
    writer.write(103);
    writer.raw(b"KRW-NEW", &{
        let mut value = Vec::new();
        crate::books::book(uuid::Uuid::now_v7(), "KRW-NEW", 1).encode(&mut value);
        value
    });
    rig.wait_rows(204, LATER);
    // No further record comes: it is noticed all the same.
    restore(&rig, &backup);
    rig.wait_rows(204, SOON);
    rig.consumerd.wait_for_line("database has gone back to an older state", SOON).expect("a line");
    assert_eq!(rig.settle(), 204);
    markets_are_known(&rig);
    // While it is stopped, and with records that nobody has read yet.
    rig.stop_consumerd();
    writer.write(50);
    writer.finish();
    restore(&rig, &backup);
    assert_eq!(rig.rows(), 100);
    rig.consumerd.start().expect("consumerd starts");
    assert!(rig.consumerd.pid() != pid);
    rig.wait_rows(254, LATER);
    assert_eq!(rig.settle(), 254);
    markets_are_known(&rig);
    assert_eq!(lines_at(&rig.consumerd, "ERROR"), [""; 0], "nothing is lost");
    rig.stop_consumerd();
}

#[test]
fn the_schema_is_emptied() {
    let (mut rig, mut writer) = with_books("");
    let pid = rig.consumerd.pid();
    for (emptied, change) in
        ["DROP SCHEMA coinflow CASCADE", "TRUNCATE coinflow.orderbook, coinflow.kafka_offset, coinflow.market"]
            .into_iter()
            .enumerate()
    {
        sql(&rig, change);
        // Kafka's commits are at the end, and nobody asks for them: what Kafka holds is stored again.
        rig.wait_rows(100 + 10 * emptied as i64, SOON);
        let told = || (lines_at(&rig.consumerd, "ERROR").len() == emptied + 1).then_some(());
        wait_until(SOON, "an error line", told).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
        writer.write(10);
        rig.wait_rows(110 + 10 * emptied as i64, SOON);
        rig.settle();
        markets_are_known(&rig);
    }
    let errors = lines_at(&rig.consumerd, "ERROR");
    assert!(errors.iter().all(|line| line.contains("the database has lost the positions of a topic")), "{errors:?}");
    assert!(rig.consumerd.is_running() && rig.consumerd.pid() == pid, "no restart\n{}", rig.logs());
    writer.finish();
    rig.stop_consumerd();
}

#[test]
fn the_schema_is_emptied_where_only_the_newest_is_wanted() {
    let (mut rig, mut writer) = with_books("");
    rig.stop_consumerd();
    rig.configure_consumerd(&rig.consumerd, "start = \"latest\"");
    sql(&rig, "DROP SCHEMA coinflow CASCADE");
    writer.write(20);
    rig.consumerd.start().expect("consumerd starts");
    // Old rows are not wanted, but nothing in between is passed over.
    rig.wait_rows(20, LATER);
    writer.write(10);
    writer.finish();
    rig.wait_rows(30, LATER);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(rig.rows(), 30);
    let line = rig.consumerd.wait_for_line("the database has lost the positions of a topic", SOON).expect("a line");
    assert!(line.contains(" ERROR ") && line.contains("start = latest"), "{line}");
    let event = "SELECT count(*) FROM coinflow.offset_event WHERE kind = 'start' AND reason LIKE '%lost its positions'";
    assert_eq!(rig.number(event), Some(2));
    rig.stop_consumerd();
}
