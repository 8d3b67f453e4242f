//! consumerd empties a full topic; beside it, COPY of the same rows into the same table.

use std::time::{Duration, Instant};

use postgres::Client;

use super::books::{self, Shape};
use super::limit::{self, Copied, Tuples};
use super::report::Figure;
use super::stats::{Goal, Runs};
use super::{READY, Size, cpu, progress, stop, summary};
use crate::servers::Daemon;

const TOPIC: &str = "coinflow.orderbook.bithumb";
const LOOK: Duration = Duration::from_millis(5);
const EMPTIED: Duration = Duration::from_secs(300);

/// How one run of consumerd went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drained {
    pub(super) books_per_second: f64,
    pub(super) cpu_per_book: f64,
    peak_mb: f64,
    books_per_commit: usize,
}

pub(super) fn run(size: Size) -> Result<Vec<Figure>, String> {
    let shape = Shape { books: size.drain_books, levels: 30, partitions: 4, markets: 100 };
    let kafka = super::kafka()?;
    let postgres = super::postgres()?;
    let values = books::fill(&kafka.client(), &kafka.bootstrap(), TOPIC, &shape)?;
    let mut client = postgres.connect()?;
    let mut admin = postgres.connect_as("postgres", "coinflow")?;
    let mut consumerd = super::consumerd(&kafka, &postgres, TOPIC)?;

    // The warm-up makes the table, and the rows that COPY is to store.
    let warm = drain(&mut consumerd, &mut client, shape.books)?;
    let tuples = Tuples::of_table(&mut client)?;
    if tuples.len() as u64 != shape.books {
        return Err(format!("{} rows of {} records", tuples.len(), shape.books));
    }
    let rows_per_commit = warm.books_per_commit.max(1);
    empty(&mut client, &mut admin)?;
    tuples.copy(&mut client, rows_per_commit)?;

    let mut speed = Runs::default();
    let mut cost = Runs::default();
    let mut memory = Runs::default();
    let mut parts = [0.0; 3];
    for run in 0..size.runs {
        let mut ours: Option<Drained> = None;
        let mut copied: Option<Copied> = None;
        for turn in 0..2 {
            empty(&mut client, &mut admin)?;
            if (run + turn) % 2 == 0 {
                ours = Some(drain(&mut consumerd, &mut client, shape.books)?);
            } else {
                copied = Some(tuples.copy(&mut client, rows_per_commit)?);
            }
        }
        let (Some(ours), Some(copied)) = (ours, copied) else { return Err("a turn was left out".to_owned()) };
        let kcat = limit::kcat(&kafka.bootstrap(), TOPIC, shape.books)?;
        let decode = limit::decode(&values)?;
        progress(&format!(
            "drain run {run}: {:.0} books/s, COPY {:.0} rows/s; CPU {:.1} µs a book, kcat {:.1} + COPY {:.1} + decode {:.1}",
            ours.books_per_second,
            copied.rows_per_second,
            ours.cpu_per_book * 1e6,
            kcat * 1e6,
            copied.cpu_per_row * 1e6,
            decode * 1e6
        ));
        speed.ours.push(ours.books_per_second);
        speed.limit.push(copied.rows_per_second);
        cost.ours.push(ours.cpu_per_book * 1e6);
        cost.limit.push((kcat + copied.cpu_per_row + decode) * 1e6);
        memory.ours.push(ours.peak_mb);
        parts = [kcat, copied.cpu_per_row, decode].map(|seconds| seconds * 1e6);
    }
    let [kcat, copy, decode] = parts;
    Ok(vec![
        Figure {
            part: "drain",
            what: "rows stored from a full topic",
            unit: "books/s",
            beside: "binary COPY",
            runs: speed,
            goal: Goal::RatioAtLeast(0.8),
            note: format!("{} books of 30 levels a side; {rows_per_commit} a commit in both", shape.books),
        },
        Figure {
            part: "drain-cpu",
            what: "CPU of consumerd",
            unit: "µs a book",
            beside: "kcat + COPY + decode",
            runs: cost,
            goal: Goal::RatioAtMost(1.6),
            note: format!("in the last run {kcat:.1} + {copy:.1} + {decode:.1}"),
        },
        Figure {
            part: "memory",
            what: "peak of consumerd under drain",
            unit: "MB",
            beside: "",
            runs: memory,
            goal: Goal::AtMost(40.0),
            note: String::new(),
        },
    ])
}

/// No rows and no positions, and nothing left to do for PostgreSQL.
fn empty(client: &mut Client, admin: &mut Client) -> Result<(), String> {
    let truncate = client.batch_execute("TRUNCATE coinflow.orderbook");
    truncate.and_then(|()| admin.batch_execute("CHECKPOINT")).map_err(|error| super::whole(&error))?;
    forget_positions(client)
}

/// The next run begins at the beginning.
pub(super) fn forget_positions(client: &mut Client) -> Result<(), String> {
    let truncate = "TRUNCATE coinflow.kafka_offset, coinflow.offset_event, coinflow.dead_letter_run";
    client.batch_execute(truncate).map_err(|error| super::whole(&error))
}

/// Runs consumerd until everything is stored.
pub(super) fn drain(consumerd: &mut Daemon, client: &mut Client, books: u64) -> Result<Drained, String> {
    consumerd.start()?;
    consumerd.wait_ready(READY)?;
    let pid = consumerd.pid()?;
    let mut first: Option<(Instant, u64)> = None;
    let deadline = Instant::now() + EMPTIED;
    let ended = loop {
        let query = "SELECT coalesce(sum(next_offset), 0)::bigint FROM coinflow.kafka_offset";
        let stored = match client.query_one(query, &[]) {
            Ok(row) => row.get::<_, i64>(0).unsigned_abs(),
            // The first run makes the table.
            Err(_) if first.is_none() => 0,
            Err(error) => return Err(super::whole(&error)),
        };
        if stored > 0 {
            first.get_or_insert((Instant::now(), stored));
        }
        if stored >= books {
            break Instant::now();
        }
        if Instant::now() > deadline {
            return Err(format!("{stored} of {books} books after {EMPTIED:?}"));
        }
        std::thread::sleep(LOOK);
    };
    let (began, before) = first.ok_or("nothing was stored")?;
    let (cpu, peak_mb) = (cpu::of_process(pid)?, cpu::peak_mb(pid)?);
    stop(consumerd)?;
    let batches = summary(consumerd, "batches")?.max(1);
    Ok(Drained {
        books_per_second: (books - before) as f64 / (ended - began).as_secs_f64(),
        cpu_per_book: cpu.as_secs_f64() / books as f64,
        peak_mb,
        books_per_commit: (books / batches) as usize,
    })
}
