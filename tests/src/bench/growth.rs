//! The same work with more of everything: markets, partitions, and rows that are there already. And what a reader waits for
//! in the biggest of these tables.

use std::time::{Duration, Instant};

use postgres::Client;

use super::books::{self, Shape};
use super::drain;
use super::report::Figure;
use super::stats::{Goal, Runs, Spread};
use super::{READY, Size, consumerd, progress, stop};
use crate::servers::{Daemon, Kafka, Postgres};

const TOPIC: &str = "coinflow.orderbook.bithumb";
const FACTORS: [u64; 3] = [1, 3, 10];
const DAYS: u64 = 30;
const LEVELS: u64 = 5;
/// Of each query, after one that is not counted.
const TIMES: usize = 5;

/// Rows that are in the table before the first run at a factor of 1.
fn rows(size: Size) -> u64 {
    if size.is_quick { 100_000 } else { 1_000_000 }
}

pub(super) fn run(size: Size) -> Result<Vec<Figure>, String> {
    let postgres = super::postgres()?;
    let mut cost = Runs::default();
    let [mut latest, mut last_hour] = [Runs::default(), Runs::default()];
    let mut notes = Vec::new();
    let mut base: Option<f64> = None;
    let mut there = 0;
    for factor in FACTORS {
        let shape =
            Shape { books: size.drain_books, levels: LEVELS, partitions: 4 * factor as i32, markets: 100 * factor };
        // A topic of its own needs a cluster of its own, for the position of the last one would not fit.
        let kafka = Kafka::start()?;
        books::fill(&kafka.client(), &kafka.bootstrap(), TOPIC, &shape)?;
        let mut daemon = consumerd(&kafka, &postgres, TOPIC)?;
        if there == 0 {
            make_tables(&mut daemon)?;
        }
        let mut client = postgres.connect()?;
        let wanted = rows(size) * factor;
        fill_table(&postgres, &mut client, there, wanted, shape.markets)?;
        there = wanted;
        let mut per_book = Vec::new();
        for run in 0..size.runs {
            drain::forget_positions(&mut client)?;
            let drained = drain::drain(&mut daemon, &mut client, shape.books)?;
            progress(&format!(
                "growth ×{factor} run {run}: {:.0} books/s, {:.1} µs CPU a book",
                drained.books_per_second,
                drained.cpu_per_book * 1e6
            ));
            per_book.push(1e6 / drained.books_per_second);
        }
        let median = Spread::of(&per_book).median;
        notes.push(format!("×{factor}: {median:.1} µs"));
        if factor == 1 {
            base = Some(median);
        } else if let (10, Some(base)) = (factor, base) {
            for per_book in per_book {
                cost.ours.push(per_book);
                cost.limit.push(base);
            }
        }
    }
    let mut client = postgres.connect()?;
    let analyze = "ANALYZE coinflow.orderbook";
    client.batch_execute(analyze).map_err(|error| super::whole(&error))?;
    for (query, runs) in [
        ("SELECT * FROM coinflow.latest", &mut latest),
        (
            "SELECT * FROM coinflow.asks WHERE exchange = 'bithumb' AND market = 'KRW-T0007' \
             AND received_at >= (SELECT max(received_at) FROM coinflow.orderbook) - interval '1 hour'",
            &mut last_hour,
        ),
    ] {
        client.query(query, &[]).map_err(|error| super::whole(&error))?;
        for _ in 0..TIMES {
            let began = Instant::now();
            client.query(query, &[]).map_err(|error| super::whole(&error))?;
            runs.ours.push(began.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let query = |what, runs, goal| Figure {
        part: "latest",
        what,
        unit: "ms",
        beside: "",
        runs,
        goal: Goal::AtMost(goal),
        note: format!("{there} rows in {DAYS} days, {} markets", 100 * FACTORS[2]),
    };
    Ok(vec![
        Figure {
            part: "growth",
            what: "time per book of a drain with ten times the markets, partitions and rows",
            unit: "µs",
            beside: "the median at ×1",
            runs: cost,
            goal: Goal::RatioAtMost(1.2),
            note: notes.join(", "),
        },
        query("the view latest", latest, 20.0),
        query("asks of one market in the last hour", last_hour, 50.0),
    ])
}

/// consumerd makes its schema.
fn make_tables(daemon: &mut Daemon) -> Result<(), String> {
    daemon.start()?;
    daemon.wait_ready(READY)?;
    std::thread::sleep(Duration::from_secs(1));
    stop(daemon)
}

/// Books of the last days, spread evenly, until `wanted` are there; made by PostgreSQL itself.
fn fill_table(postgres: &Postgres, client: &mut Client, there: u64, wanted: u64, markets: u64) -> Result<(), String> {
    progress(&format!("growth: filling the table to {wanted} rows"));
    for day in 1..DAYS {
        let make = format!(
            "DO $$ DECLARE d date := (now() AT TIME ZONE 'UTC')::date - {day}; BEGIN EXECUTE format( \
             'CREATE TABLE IF NOT EXISTS coinflow.orderbook_%s PARTITION OF coinflow.orderbook FOR VALUES FROM (%L) TO (%L)', \
             to_char(d, 'YYYYMMDD'), d::text || ' 00:00:00+00', (d + 1)::text || ' 00:00:00+00'); END $$"
        );
        client.batch_execute(&make).map_err(|error| super::whole(&error))?;
    }
    let insert = format!(
        "INSERT INTO coinflow.orderbook (exchange, market, received_at, producer_run, producer_sequence, ask_price, \
         ask_quantity, bid_price, bid_quantity, kafka_source, kafka_topic, kafka_partition, kafka_generation, kafka_offset) \
         SELECT 'bithumb', 'KRW-T' || lpad((n % {markets})::text, 4, '0'), \
                now() - interval '1 minute' - ({DAYS} - 1) * interval '1 day' * (n::float8 / {wanted}), \
                '0199d0a2-0000-7000-8000-000000000000', n, p.ask, q.q, p.bid, q.q, 'earlier', 'earlier', 0, 0, n \
           FROM generate_series({there}, {wanted} - 1) AS n, \
                LATERAL (SELECT array_agg((150000000 + (n % 1000 + l) * 1000)::numeric) AS ask, \
                                array_agg((149999000 - (n % 1000 + l) * 1000)::numeric) AS bid \
                           FROM generate_series(1, {LEVELS}) AS l) AS p, \
                LATERAL (SELECT array_agg((n * l % 100000000)::numeric / 100000000) AS q \
                           FROM generate_series(1, {LEVELS}) AS l) AS q"
    );
    client.batch_execute(&insert).map_err(|error| super::whole(&error))?;
    let known = format!(
        "INSERT INTO coinflow.market (exchange, market) SELECT 'bithumb', 'KRW-T' || lpad(n::text, 4, '0') \
         FROM generate_series(0, {markets} - 1) AS n ON CONFLICT DO NOTHING"
    );
    client.batch_execute(&known).map_err(|error| super::whole(&error))?;
    let mut admin = postgres.connect_as("postgres", "coinflow")?;
    admin.batch_execute("CHECKPOINT").map_err(|error| super::whole(&error))
}
