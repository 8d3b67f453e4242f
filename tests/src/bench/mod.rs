//! The benchmarks: what coinflow takes beside what the same work takes at least, in one run and on the same machine.

mod books;
mod cpu;
mod drain;
mod growth;
mod latency;
mod limit;
mod poll;
mod report;
mod small;
mod stats;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::servers::{Daemon, Jvm, Kafka, KafkaOptions, Postgres, PostgresOptions, Program};
use report::{Circumstances, Figure};

/// The parts in the order in which they run, with what each is.
pub const PARTS: [(&str, &str); 8] = [
    (
        "drain",
        "consumerd empties a topic, beside COPY; its CPU time beside that of kcat, COPY and a decode; its memory",
    ),
    ("latency", "from the exchange's reply to the row that another session sees, beside an INSERT for each book"),
    ("poll", "how late requests start, beside a bare sleeper"),
    ("poll-cpu", "CPU time of a poll, beside a bare HTTP client"),
    ("away", "producerd's memory while Kafka is away"),
    ("small", "reload and start"),
    (
        "growth",
        "a drain with three and ten times the markets, partitions and rows; what readers wait for in the biggest table",
    ),
    ("poll-growth", "CPU time of a poll with three and ten times the markets and partitions, at the same rate"),
];

const READY: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Options {
    pub is_quick: bool,
    /// None: all.
    pub part: Option<String>,
    pub markdown: Option<PathBuf>,
    pub json: Option<PathBuf>,
}

/// How much is done, by the options.
#[derive(Clone, Copy, Debug)]
struct Size {
    runs: usize,
    drain_books: u64,
    /// Of latency, poll and the like.
    seconds: u64,
    is_quick: bool,
}

impl Size {
    /// What all parts together may take; no part is begun later.
    fn time(self) -> Duration {
        Duration::from_secs(if self.is_quick { 18 * 60 } else { 85 * 60 })
    }
}

/// What was measured, and what could not be.
#[derive(Debug)]
pub struct Outcome {
    pub table: String,
    /// Parts with the reason why they have no figures.
    pub failed: Vec<String>,
}

/// Runs what was asked for, and gives the table. A part that fails costs only its own figures.
pub fn run(options: &Options) -> Result<Outcome, String> {
    let size = if options.is_quick {
        Size { runs: 3, drain_books: 60_000, seconds: 10, is_quick: true }
    } else {
        Size { runs: 5, drain_books: 200_000, seconds: 60, is_quick: false }
    };
    let began = Instant::now();
    let circumstances = Circumstances {
        date: said_by("date", &["-u", "+%F %H:%M UTC"]),
        commit: said_by("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load_before: std::fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .split(' ')
            .next()
            .unwrap_or("?")
            .to_owned(),
        runs: size.runs,
        is_quick: options.is_quick,
    };
    let mut figures: Vec<Figure> = Vec::new();
    let mut failed: Vec<String> = Vec::new();
    let mut table = String::new();
    for (part, _) in PARTS {
        if options.part.as_deref().is_some_and(|only| only != part) {
            continue;
        }
        progress(&format!("{part} …"));
        let result = match part {
            _ if began.elapsed() > size.time() => Err("left out: no time".to_owned()),
            "drain" => drain::run(size),
            "latency" => latency::run(size),
            "poll" => poll::lateness(size),
            "poll-cpu" => poll::cpu_per_poll(size),
            "away" => poll::away(size),
            "small" => small::run(size),
            "growth" => growth::run(size),
            _ => poll::growth(size),
        };
        match result {
            Ok(more) => figures.extend(more),
            Err(error) => {
                progress(&format!("{part}: FAILED: {error}"));
                failed.push(format!("{part}: {error}"));
            }
        }
        table = report::table(&circumstances, &figures, &failed);
        write(options, &table, &report::json(&circumstances, &figures, &failed))?;
    }
    Ok(Outcome { table, failed })
}

fn write(options: &Options, table: &str, json: &serde_json::Value) -> Result<(), String> {
    let texts = [(&options.markdown, format!("# Benchmarks\n\n{table}")), (&options.json, format!("{json:#}\n"))];
    for (path, text) in texts {
        if let Some(path) = path {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// An error unless nearly all of what should have happened did.
fn at_full_rate(seen: u64, wanted: u64, what: &str) -> Result<(), String> {
    if seen * 100 >= wanted * 97 { Ok(()) } else { Err(format!("{seen} of {wanted} {what}")) }
}

/// To stderr, for whoever waits.
#[expect(clippy::print_stderr, reason = "a program that tells how far it is")]
fn progress(text: &str) {
    eprintln!("bench: {text}");
}

/// The first line that a command prints, or `?`.
fn said_by(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "?".to_owned())
}

/// An error with its causes: PostgreSQL's own words are one.
fn whole(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", whole(cause)),
        None => error.to_string(),
    }
}

/// Kafka as its scripts start it.
fn kafka() -> Result<Kafka, String> {
    Kafka::start_with(&KafkaOptions { jvm: Jvm::AsShipped, ..KafkaOptions::default() })
}

/// PostgreSQL as Debian sets it up, with its fsync.
fn postgres() -> Result<Postgres, String> {
    Postgres::start_with(&PostgresOptions { durable: true, settings: Vec::new() })
}

fn consumerd(kafka: &Kafka, postgres: &Postgres, topic: &str) -> Result<Daemon, String> {
    let daemon = Daemon::new(Program::Consumerd)?;
    let text = format!(
        "[postgres]\nconnection = \"{}\"\n[source.main]\nbrokers = [\"{}\"]\ntopics = [\"{topic}\"]\n",
        postgres.connection(),
        kafka.bootstrap()
    );
    daemon.write("consumerd.toml", &text)?;
    Ok(daemon)
}

/// The numbers of a daemon's last `summary` line.
fn summary(daemon: &Daemon, key: &str) -> Result<u64, String> {
    let lines = daemon.stderr().all();
    let line = lines.iter().rev().find(|line| line.contains(" summary ")).ok_or("no summary line")?;
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok());
    value.ok_or_else(|| format!("no {key} in {line}"))
}

fn stop(daemon: &mut Daemon) -> Result<(), String> {
    let status = daemon.stop()?;
    if status.success() { Ok(()) } else { Err(format!("a daemon ended with {status}")) }
}
