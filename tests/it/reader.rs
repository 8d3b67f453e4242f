//! A reader that stays: it delays neither the next day's partition nor a row.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use coinflow_tests::wait::wait_until;
use uuid::Uuid;

use crate::books::{book, now};
use crate::database::goes_on;
use crate::exactly_once::check;
use crate::overrun::status;
use crate::rig::{LATER, Rig, SOON, TOPIC};

const DAY: Duration = Duration::from_secs(86_400);
/// A wait for the readers would take until they end, or consumerd's own bound of 10 s.
const AT_MOST: f64 = 5.0;

/// The name of a day's partition, some days from now.
fn day(rig: &Rig, from_now: i32) -> String {
    let query = "SELECT 'orderbook_' || to_char((now() AT TIME ZONE 'UTC')::date + $1::int, 'YYYYMMDD')";
    let mut client = rig.postgres.connect().expect("a connection");
    client.query_one(query, &[&from_now]).expect("a name").get(0)
}

fn is_attached(rig: &Rig, table: &str) -> bool {
    let query = format!(
        "SELECT count(*) FROM pg_inherits WHERE inhrelid = to_regclass('coinflow.{table}') AND NOT inhdetachpending"
    );
    rig.number(&query) == Some(1)
}

#[test]
fn an_open_reader_delays_neither_the_next_day_nor_a_row() {
    let mut rig = Rig::new();
    let text = format!(
        "[postgres]\nconnection = \"{}\"\nretention = \"4d\"\n[source.main]\nbrokers = [\"{}\"]\n",
        rig.postgres.connection(),
        rig.kafka.bootstrap()
    );
    rig.consumerd.write("consumerd.toml", &text).expect("consumerd.toml");
    check(&mut rig, |rig| {
        goes_on(rig);
        // Enough for pg_dump to stop in the middle: nobody reads what it writes.
        rig.wait_rows(3000, LATER);
        rig.stop_consumerd();
        // The next day is missing, and one is too old.
        let (tomorrow, on_demand, old) = (day(rig, 1), day(rig, -3), day(rig, -9));
        let mut owner = rig.postgres.connect().expect("a connection");
        let prepare = format!(
            "DROP TABLE coinflow.{tomorrow}; CREATE TABLE coinflow.{old} (LIKE coinflow.orderbook INCLUDING ALL); \
             ALTER TABLE coinflow.orderbook ATTACH PARTITION coinflow.{old} \
             FOR VALUES FROM (date_trunc('day', now() AT TIME ZONE 'UTC')::date - 9) \
             TO (date_trunc('day', now() AT TIME ZONE 'UTC')::date - 8)"
        );
        owner.batch_execute(&prepare).expect("prepared");

        let mut reader = owner.transaction().expect("a transaction");
        reader.query_one("SELECT count(*) FROM coinflow.orderbook", &[]).expect("a look at all of it");
        let mut pg_dump = rig.postgres.client_program("pg_dump");
        let mut pg_dump = pg_dump.stdout(Stdio::piped()).spawn().expect("pg_dump");
        let reads = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                     WHERE a.application_name = 'pg_dump' AND a.wait_event = 'ClientWrite' \
                       AND l.relation = 'coinflow.orderbook'::regclass AND l.mode = 'AccessShareLock'";
        let stuck = || (rig.number(reads) == Some(1)).then_some(());
        wait_until(SOON, "pg_dump to be in the middle", stuck).expect("it is");

        rig.consumerd.start().expect("consumerd starts");
        wait_until(SOON, "the next day", || is_attached(rig, &tomorrow).then_some(())).expect("made");
        goes_on(rig);
        // What came while it was stopped is stored late.
        let fresh = "SELECT count(*) FROM coinflow.orderbook WHERE stored_at - received_at < interval '500 ms' \
                        AND received_at > now() - interval '2 s'";
        wait_until(LATER, "fresh rows", || (rig.number(fresh) > Some(100)).then_some(())).expect("caught up");
        let since = now();
        // A day that a row needs at once.
        let mut late = book(Uuid::now_v7(), "KRW-LATE", 1);
        late.received_at = late.received_at.saturating_sub(3 * DAY);
        let mut value = Vec::new();
        late.encode(&mut value);
        rig.client().produce(TOPIC, Some(0), Some(b"KRW-LATE"), Some(&value), &[]).expect("a record");
        let stored = "SELECT count(*) FROM coinflow.orderbook WHERE market = 'KRW-LATE'";
        wait_until(SOON, "the late row", || (rig.number(stored) == Some(1)).then_some(())).expect("stored");
        assert!(is_attached(rig, &on_demand));
        std::thread::sleep(Duration::from_secs(15));
        let mut client = rig.postgres.connect().expect("a connection");
        // A row is as late as the one before it is early: the widest gap between transactions counts too.
        let slowest = format!(
            "SELECT max(extract(epoch FROM stored_at - received_at))::float8, count(*), \
                    (SELECT max(gap)::float8 FROM (SELECT extract(epoch FROM stored_at - lag(stored_at) OVER (ORDER BY stored_at)) \
                      AS gap FROM (SELECT DISTINCT stored_at FROM coinflow.orderbook WHERE stored_at > '{since}') AS t) AS gaps) \
               FROM coinflow.orderbook WHERE received_at > '{since}'"
        );
        let row = client.query_one(&slowest, &[]).expect("the slowest row");
        let (slowest, rows, gap): (f64, i64, f64) = (row.get(0), row.get(1), row.get(2));
        show!("under the readers: {rows} rows, the slowest after {slowest:.3} s, the widest gap {gap:.3} s");
        assert!(rows > 1000 && slowest < AT_MOST && gap < AT_MOST, "{rows} {slowest} {gap}\n{}", rig.logs());
        assert!(status(rig).starts_with("main: up"), "{}", status(rig));
        // What is too old cannot go while somebody reads it, and goes afterwards.
        let exists = format!("SELECT count(*) FROM pg_class WHERE relname = '{old}'");
        assert_eq!(rig.number(&exists), Some(1));
        // They have read on undisturbed.
        reader.query_one("SELECT count(*) FROM coinflow.orderbook", &[]).expect("the same look again");
        drop(reader);
        let mut dumped = String::new();
        pg_dump.stdout.take().expect("a pipe").read_to_string(&mut dumped).expect("text");
        assert!(pg_dump.wait().expect("it ends").success() && dumped.contains("KRW-T1"));
        wait_until(LATER, "the old day to go", || (rig.number(&exists) == Some(0)).then_some(()))
            .unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    });
    rig.stop_consumerd();
}
