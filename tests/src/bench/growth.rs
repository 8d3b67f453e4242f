//! The same work with more of everything: markets, partitions, and rows that are there already. And what a reader waits for
//! in the biggest of these tables.

use std::time::Instant;

use postgres::Client;

use super::books::{self, Shape};
use super::drain;
use super::report::Figure;
use super::stats::{Goal, Runs};
use super::{Size, consumerd, progress};
use crate::servers::{Daemon, Kafka, Postgres};

const TOPIC: &str = "coinflow.orderbook.bithumb";
const FACTORS: [u64; 3] = [1, 3, 10];
const DAYS: u64 = 30;
const LEVELS: u64 = 5;
/// Of each query, after one that is not counted.
const TIMES: usize = 5;

/// Rows that are in the table before the first run, at a factor of 1.
fn rows(size: Size) -> u64 {
    if size.is_quick { 20_000 } else { 1_000_000 }
}

/// Everything at one factor. It is dropped in this order.
struct World {
    daemon: Daemon,
    client: Client,
    shape: Shape,
    /// Of each run, per book, in µs.
    time: Vec<f64>,
    cpu: Vec<f64>,
    postgres: Postgres,
    _kafka: Kafka,
}

impl World {
    /// A topic that is full, and a table that holds books of the last days.
    fn new(size: Size, factor: u64) -> Result<World, String> {
        let shape =
            Shape { books: size.drain_books, levels: LEVELS, partitions: 4 * factor as i32, markets: 100 * factor };
        let (kafka, postgres) = (super::kafka()?, super::postgres()?);
        books::fill(&kafka.client(), &kafka.bootstrap(), TOPIC, &shape)?;
        let mut daemon = consumerd(&kafka, &postgres, TOPIC)?;
        let mut client = postgres.connect()?;
        // Its first run makes the tables, and is not counted.
        drain::drain(&mut daemon, &mut client, shape.books)?;
        fill_table(&mut client, rows(size) * factor, shape.markets)?;
        let mut world = World { daemon, client, shape, time: Vec::new(), cpu: Vec::new(), postgres, _kafka: kafka };
        world.tidy()?;
        Ok(world)
    }

    /// The drained books go again, and nothing is left to do for PostgreSQL.
    fn tidy(&mut self) -> Result<(), String> {
        let mut admin = self.postgres.connect_as("postgres", "coinflow")?;
        for statement in [
            "DELETE FROM coinflow.orderbook WHERE kafka_source = 'main'",
            "VACUUM (ANALYZE) coinflow.orderbook",
            "CHECKPOINT",
        ] {
            admin.batch_execute(statement).map_err(|error| format!("{statement}: {}", super::whole(&error)))?;
        }
        drain::forget_positions(&mut self.client)
    }
}

pub(super) fn run(size: Size) -> Result<Vec<Figure>, String> {
    let mut worlds = Vec::new();
    for factor in FACTORS {
        progress(&format!("growth ×{factor}: {} rows and {} books", rows(size) * factor, size.drain_books));
        worlds.push(World::new(size, factor)?);
    }
    for run in 0..size.runs {
        for turn in 0..worlds.len() {
            let at = (run + turn) % worlds.len();
            let world = &mut worlds[at];
            let drained = drain::drain(&mut world.daemon, &mut world.client, world.shape.books)?;
            let (time, cpu) = (1e6 / drained.books_per_second, drained.cpu_per_book * 1e6);
            progress(&format!("growth ×{} run {run}: {time:.1} µs a book, CPU {cpu:.1} µs", FACTORS[at]));
            world.time.push(time);
            world.cpu.push(cpu);
            world.tidy()?;
        }
    }
    let figure = |at: usize, what, of: fn(&World) -> &Vec<f64>| Figure {
        part: "growth",
        what,
        unit: "µs",
        beside: "×1",
        runs: Runs { ours: of(&worlds[at]).clone(), limit: of(&worlds[0]).clone() },
        goal: Goal::RatioAtMost(1.2),
        note: format!("{} rows are there, {LEVELS} levels a side", rows(size) * FACTORS[at]),
    };
    let mut figures = vec![
        figure(1, "time per book of a drain with three times the markets, partitions and rows", |world| &world.time),
        figure(2, "the same with ten times of them", |world| &world.time),
        figure(1, "CPU of consumerd per book, three times", |world| &world.cpu),
        figure(2, "CPU of consumerd per book, ten times", |world| &world.cpu),
    ];
    let big = worlds.last_mut().ok_or("no world")?;
    let there = rows(size) * FACTORS[2];
    for (what, goal, query) in [
        ("the view latest", 20.0, "SELECT * FROM coinflow.latest"),
        (
            "asks of one market in the last hour",
            50.0,
            "SELECT * FROM coinflow.asks WHERE exchange = 'bithumb' AND market = 'KRW-T0007' \
             AND received_at >= now() - interval '1 hour'",
        ),
    ] {
        let mut runs = Runs::default();
        big.client.query(query, &[]).map_err(|error| super::whole(&error))?;
        for _ in 0..TIMES {
            let began = Instant::now();
            big.client.query(query, &[]).map_err(|error| super::whole(&error))?;
            runs.ours.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        let small = if size.is_quick { "; the goal is for 10,000,000" } else { "" };
        let note = format!("{there} rows in {DAYS} days, {} markets{small}", 100 * FACTORS[2]);
        figures.push(Figure { part: "latest", what, unit: "ms", beside: "", runs, goal: Goal::AtMost(goal), note });
    }
    Ok(figures)
}

/// So many books of the last days, spread evenly; made by PostgreSQL itself.
fn fill_table(client: &mut Client, wanted: u64, markets: u64) -> Result<(), String> {
    for day in 1..=DAYS {
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
           FROM generate_series(0, {wanted} - 1) AS n, \
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
    client.batch_execute(&known).map_err(|error| super::whole(&error))
}
