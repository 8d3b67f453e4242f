//! From the exchange's reply to the row that another session sees, at 200 books a second; beside it, a loop that inserts
//! and commits one book at a time. The same session looks at both: it takes its share of two cores, and its pauses are in
//! what it sees.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coinflow_common::orderbook::{Level, Timestamp};
use postgres::Client;
use uuid::Uuid;

use super::books::{self, Shape};
use super::poll::{Polling, TOPIC};
use super::report::Figure;
use super::stats::{Goal, Runs, percentile};
use super::{READY, Size, cpu, progress, stop};
use crate::servers::{Daemon, Kafka, Postgres};

const MARKETS: u32 = 200;
const INTERVAL: Duration = Duration::from_secs(1);
const WARM_UP_SECONDS: u64 = 60;
/// Between two looks of the session that waits for rows.
const LOOK: Duration = Duration::from_millis(1);

fn now_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

pub(super) fn run(size: Size) -> Result<Vec<Figure>, String> {
    let kafka = super::kafka()?;
    let postgres = super::postgres()?;
    let mut consumerd = super::consumerd(&kafka, &postgres, TOPIC)?;
    let [mut middle, mut tail] = [Runs::default(), Runs::default()];
    let [mut producer_memory, mut consumer_memory] = [Runs::default(), Runs::default()];
    let mut answered = Vec::new();
    // Makes the table; and Kafka's JVM compiles what it will need.
    coinflow(&kafka, &postgres, &mut consumerd, Size { seconds: WARM_UP_SECONDS, ..size })?;
    for run in 0..size.runs {
        let mut ours: Option<Vec<f64>> = None;
        let mut beside: Option<Inserted> = None;
        for turn in 0..2 {
            if (run + turn) % 2 == 0 {
                let (late, memory) = coinflow(&kafka, &postgres, &mut consumerd, size)?;
                producer_memory.ours.push(memory[0]);
                consumer_memory.ours.push(memory[1]);
                ours = Some(late);
            } else {
                beside = Some(inserts(&postgres, size)?);
            }
        }
        let (Some(ours), Some(beside)) = (ours, beside) else { return Err("a turn was left out".to_owned()) };
        progress(&format!(
            "latency run {run}: p50 {:.2} p99 {:.2} ms of {} books, INSERT p50 {:.2} p99 {:.2}, answered p50 {:.2}",
            percentile(&ours, 50),
            percentile(&ours, 99),
            ours.len(),
            percentile(&beside.seen, 50),
            percentile(&beside.seen, 99),
            percentile(&beside.answered, 50)
        ));
        answered.push(percentile(&beside.answered, 50));
        middle.ours.push(percentile(&ours, 50));
        middle.limit.push(percentile(&beside.seen, 50));
        tail.ours.push(percentile(&ours, 99));
        tail.limit.push(percentile(&beside.seen, 99));
    }
    answered.sort_by(f64::total_cmp);
    let answered = percentile(&answered, 50);
    let figure = |what, runs, goal| Figure {
        part: "latency",
        what,
        unit: "ms",
        beside: "INSERT and COMMIT of each book",
        runs,
        goal: Goal::AboveByAtMost(goal),
        note: format!(
            "200 books/s; both seen by a session that looks each millisecond; the COMMIT beside it is answered after \
             {answered:.2} ms at the median"
        ),
    };
    let memory = |what, runs, goal| Figure {
        part: "memory",
        what,
        unit: "MB",
        beside: "",
        runs,
        goal: Goal::AtMost(goal),
        note: String::new(),
    };
    Ok(vec![
        figure("reply received to row visible, p50", middle, 3.0),
        figure("reply received to row visible, p99", tail, 8.0),
        memory("peak of producerd under latency", producer_memory, 20.0),
        memory("peak of consumerd under latency", consumer_memory, 40.0),
    ])
}

/// Latencies of all books after the warm-up in ms, sorted, and both daemons' peak memory in MB.
fn coinflow(
    kafka: &Kafka,
    postgres: &Postgres,
    consumerd: &mut Daemon,
    size: Size,
) -> Result<(Vec<f64>, [f64; 2]), String> {
    let mut polling = Polling::new(kafka, MARKETS, INTERVAL, 3)?;
    consumerd.start()?;
    consumerd.wait_ready(READY)?;
    let producer = polling.start()?;
    let began = now_micros();
    let is_over = AtomicBool::new(false);
    let (seen, until) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(postgres.connect()?, POSITIONS, &is_over));
        std::thread::sleep(Duration::from_secs(size.seconds));
        let until = now_micros();
        // For the last ones.
        std::thread::sleep(Duration::from_secs(1));
        is_over.store(true, Ordering::Relaxed);
        let seen = watcher.join().unwrap_or_else(|_| Err("the watcher panicked".to_owned()));
        seen.map(|seen| (seen, until))
    })?;
    let memory = [cpu::peak_mb(producer)?, cpu::peak_mb(consumerd.pid()?)?];
    stop(&mut polling.producerd)?;
    stop(consumerd)?;
    // A row is stamped with the begin of its transaction.
    let query = "SELECT kafka_partition, kafka_offset, (extract(epoch FROM received_at) * 1000000)::bigint, \
                        (extract(epoch FROM stored_at - received_at) * 1000)::float8 FROM coinflow.orderbook WHERE kafka_source = 'main' AND received_at >= to_timestamp($1::float8 / 1000000) \
                    AND received_at < to_timestamp($2::float8 / 1000000)";
    let rows = postgres.connect()?.query(query, &[&(began as f64), &(until as f64)]);
    let rows = rows.map_err(|error| super::whole(&error))?;
    let mut begun: Vec<f64> = rows.iter().map(|row| row.get(3)).collect();
    begun.sort_by(f64::total_cmp);
    let mut late: Vec<f64> = rows
        .iter()
        .map(|row| {
            let (partition, offset, received): (i32, i64, i64) = (row.get(0), row.get(1), row.get(2));
            first_look(&seen, partition, offset).map_or(f64::INFINITY, |at| (at - received) as f64 / 1000.0)
        })
        .collect();
    late.sort_by(f64::total_cmp);
    super::at_full_rate(late.len() as u64, u64::from(MARKETS) * size.seconds, "books")?;
    progress(&format!("received to BEGIN p50 {:.2} p99 {:.2} ms", percentile(&begun, 50), percentile(&begun, 99)));
    Ok((late, memory))
}

/// A position becomes visible together with the rows before it.
const POSITIONS: &str = "SELECT kafka_partition, next_offset FROM coinflow.kafka_offset";
/// All transactions before this one are visible, or have failed.
const TRANSACTIONS: &str = "SELECT 0, pg_snapshot_xmin(pg_current_snapshot())::text::bigint";

/// Marks by partition with the first time each was seen, in µs since 1970. Everything before a mark is visible.
type Seen = BTreeMap<i32, Vec<(i64, i64)>>;

/// When what is numbered so was seen.
fn first_look(seen: &Seen, partition: i32, number: i64) -> Option<i64> {
    let looks = seen.get(&partition)?;
    looks.get(looks.partition_point(|(next, _)| *next <= number)).map(|(_, at)| *at)
}

fn watch(mut client: Client, marks: &str, is_over: &AtomicBool) -> Result<Seen, String> {
    let statement = client.prepare(marks).map_err(|error| super::whole(&error))?;
    let mut seen = Seen::new();
    while !is_over.load(Ordering::Relaxed) {
        let rows = client.query(&statement, &[]).map_err(|error| super::whole(&error))?;
        let at = now_micros();
        for row in rows {
            let (partition, next): (i32, i64) = (row.get(0), row.get(1));
            let looks = seen.entry(partition).or_default();
            if looks.last().is_none_or(|(last, _)| *last < next) {
                looks.push((next, at));
            }
        }
        std::thread::sleep(LOOK);
    }
    Ok(seen)
}

/// How long after it was due each book is stored by an INSERT of its own, at the same rate into the same table, in ms, sorted.
struct Inserted {
    /// Its COMMIT is answered.
    answered: Vec<f64>,
    seen: Vec<f64>,
}

fn inserts(postgres: &Postgres, size: Size) -> Result<Inserted, String> {
    let is_over = AtomicBool::new(false);
    let (inserted, seen) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(postgres.connect()?, TRANSACTIONS, &is_over));
        let inserted = insert_all(postgres, size);
        std::thread::sleep(LOOK * 100);
        is_over.store(true, Ordering::Relaxed);
        (inserted, watcher.join().unwrap_or_else(|_| Err("the watcher panicked".to_owned())))
    });
    let (inserted, seen) = (inserted?, seen?);
    let late = |(transaction, due, _): &(i64, i64, f64)| {
        first_look(&seen, 0, *transaction).map_or(f64::INFINITY, |at| (at - due) as f64 / 1000.0)
    };
    let mut result = Inserted {
        answered: inserted.iter().map(|(.., late)| *late).collect(),
        seen: inserted.iter().map(late).collect(),
    };
    result.answered.sort_by(f64::total_cmp);
    result.seen.sort_by(f64::total_cmp);
    Ok(result)
}

/// Of each book: its transaction, when it was due, in µs since 1970, and after how many ms the COMMIT was answered.
fn insert_all(postgres: &Postgres, size: Size) -> Result<Vec<(i64, i64, f64)>, String> {
    let mut client = postgres.connect()?;
    let statement = client
        .prepare(
            "INSERT INTO coinflow.orderbook (exchange, market, exchange_ts, requested_at, received_at, producer_run, \
             producer_sequence, ask_price, ask_quantity, bid_price, bid_quantity, kafka_source, kafka_topic, \
             kafka_partition, kafka_generation, kafka_offset) VALUES ($1, $2, $3::text::timestamptz, \
             $3::text::timestamptz, $3::text::timestamptz, $4::text::uuid, $5, $6::text::numeric[], \
             $7::text::numeric[], $8::text::numeric[], $9::text::numeric[], 'beside', 'beside', 0, 0, $5) \
             RETURNING pg_current_xact_id()::text::bigint",
        )
        .map_err(|error| super::whole(&error))?;
    let shape = Shape { books: 0, levels: 30, partitions: 1, markets: u64::from(MARKETS) };
    let (run, step) = (Uuid::now_v7(), INTERVAL / MARKETS);
    let mut inserted = Vec::new();
    let (began, began_micros) = (Instant::now(), now_micros());
    for index in 0..size.seconds as u32 * MARKETS {
        std::thread::sleep((began + step * index).saturating_duration_since(Instant::now()));
        let received_at = Timestamp::from_system(SystemTime::now());
        let book = books::book(&shape, run, u64::from(index), received_at)?;
        let side = |levels: &[Level], text: fn(&Level) -> String| {
            format!("{{{}}}", levels.iter().map(text).collect::<Vec<_>>().join(","))
        };
        let price = |level: &Level| level.price.to_string();
        let quantity = |level: &Level| level.quantity.to_string();
        let arrays =
            [side(&book.asks, price), side(&book.asks, quantity), side(&book.bids, price), side(&book.bids, quantity)];
        let row = client
            .query_one(
                &statement,
                &[
                    &book.exchange.as_str(),
                    &book.market.as_str(),
                    &received_at.to_string(),
                    &run.to_string(),
                    &book.sequence,
                    &arrays[0],
                    &arrays[1],
                    &arrays[2],
                    &arrays[3],
                ],
            )
            .map_err(|error| super::whole(&error))?;
        // What an earlier one has held up is late, too.
        let due = step * index;
        inserted.push((
            row.get(0),
            began_micros + due.as_micros() as i64,
            (began + due).elapsed().as_secs_f64() * 1000.0,
        ));
    }
    Ok(inserted)
}
