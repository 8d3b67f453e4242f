//! `consumerd verify`: compares topic and table, record by record.
//!
//! Kafka is the leader: its records come in windows, and for each the table is asked for the rows of that span of time.
//! What lies out of sight of all windows shows in a count of all rows at the end, and is then looked for.

mod compare;
mod report;
mod row;
mod scope;
mod table;
mod topic;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::SystemTime;

use clap::{Arg, ArgMatches, Command};
use coinflow_common::daemon::{Exit, Signal, Signals};
use coinflow_common::logging;
use coinflow_common::orderbook::Timestamp;
use log::Level;

use crate::config::Config;
use crate::store::PgFault;
use compare::{Bounds, Looked, Window};
use report::{Counts, Difference, Kind};
use scope::Part;
use table::Table;
use topic::Topics;

/// Why nothing can be said.
enum Failure {
    Kafka(String),
    Database(PgFault),
    Output(std::io::Error),
    /// The database has no position of what was asked for.
    Nothing(String),
}

impl From<PgFault> for Failure {
    fn from(fault: PgFault) -> Self {
        Self::Database(fault)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    fn text(&self) -> String {
        match self {
            Self::Kafka(reason) | Self::Nothing(reason) => reason.clone(),
            Self::Database(fault) => format!("PostgreSQL: {fault}"),
            Self::Output(error) => format!("the result cannot be written: {error}"),
        }
    }
}

pub(crate) fn command() -> Command {
    let option = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    Command::new("verify")
        .about("Compare topic and table, record by record, up to what is stored now: 0 if equal, 1 if not, 3 if they cannot be compared")
        .arg(option("source", "NAME", "Only this source of the file"))
        .arg(option("topic", "TOPIC", "Only this topic"))
        .arg(
            option("from", "T", "Only books received at this time or later, such as 2026-11-23T10:00:00Z or 2026-11-23")
                .value_parser(scope::parse_time),
        )
        .arg(option("to", "T", "Only books received before this time").value_parser(scope::parse_time))
}

/// The whole command.
pub(crate) fn run(config: &Config, arguments: &ArgMatches, signals: Signals) -> Exit {
    let word = |name| arguments.get_one::<String>(name).map(String::as_str);
    let time = |name| arguments.get_one::<i64>(name).copied();
    let wanted = scope::select(&config.sources, word("source"), word("topic"))
        .and_then(|selected| Ok((selected, scope::bounds(time("from"), time("to"))?)));
    let (selected, bounds) = match wanted {
        Ok(wanted) => wanted,
        Err(reason) => {
            logging::say(Level::Error, &reason);
            return Exit::Usage;
        }
    };
    if let Err(error) = end_at_signal(signals) {
        logging::say(Level::Error, &format!("thread or runtime cannot be made: {error}"));
        return Exit::Failed;
    }
    let verdict = Verify::open(config, bounds).and_then(|mut verify| {
        for (source, topics) in selected {
            let reader = Topics::open(source).map_err(Failure::Kafka)?;
            verify.take(reader, &source.name, &topics)?;
        }
        verify.compare()
    });
    match verdict {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Failed,
        Err(failure) => {
            logging::say(Level::Error, &format!("cannot compare: {}", failure.text()));
            Exit::NotComparable
        }
    }
}

/// A comparison that was broken off says nothing, so it does not end as one that found all equal.
fn end_at_signal(mut signals: Signals) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let wait = move || {
        while !matches!(runtime.block_on(signals.next()), Signal::Stop(_)) {}
        Exit::NotComparable.leave_amid(Some("cannot compare: interrupted"))
    };
    std::thread::Builder::new().name("signal-end".to_owned()).spawn(wait).map(drop)
}

/// A comparison under way.
struct Verify<'a> {
    config: &'a Config,
    bounds: Bounds,
    table: Table,
    clusters: Vec<(Topics, Vec<Part>)>,
    out: std::io::BufWriter<std::io::Stdout>,
}

/// A partition that was compared.
struct Compared<'a> {
    topics: &'a Topics,
    part: &'a Part,
    /// The oldest offset that Kafka held, and the rows that were seen from there on.
    low: i64,
    counts: Counts,
    seen: u64,
    looked: Vec<Looked>,
}

impl<'a> Verify<'a> {
    fn open(config: &'a Config, bounds: Bounds) -> Result<Self, Failure> {
        let table = Table::open(&config.postgres)?;
        let out = std::io::BufWriter::new(std::io::stdout());
        Ok(Self { config, bounds, table, clusters: Vec::new(), out })
    }

    /// Takes down the positions of a cluster. This is done for all before anything is compared.
    fn take(&mut self, topics: Topics, source: &str, names: &[&str]) -> Result<(), Failure> {
        let mut parts = Vec::new();
        for name in names {
            let of_topic = self.table.parts(&topics.cluster, source, name)?;
            if of_topic.is_empty() {
                let others = self.table.clusters(name)?;
                let nothing = scope::nothing_stored(name, &topics.cluster, &others);
                let level = if others.is_empty() { Level::Info } else { Level::Warn };
                logging::say(level, &nothing);
            }
            parts.extend(of_topic);
        }
        self.clusters.push((topics, parts));
        Ok(())
    }

    /// Whether all is equal.
    fn compare(mut self) -> Result<bool, Failure> {
        let clusters = std::mem::take(&mut self.clusters);
        if clusters.iter().all(|(_, parts)| parts.is_empty()) {
            return Err(Failure::Nothing("there is nothing to compare".to_owned()));
        }
        let mut all = Vec::new();
        for (topics, parts) in &clusters {
            for part in parts {
                all.push(self.partition(topics, part)?);
                self.out.flush()?;
            }
        }
        let wanted: Vec<(&Part, i64)> = all.iter().map(|compared| (compared.part, compared.low)).collect();
        let counted = self.table.count(&wanted, self.bounds)?;
        let mut total = Counts::default();
        let mut lines = Vec::new();
        for (compared, (gone, rows)) in all.iter_mut().zip(counted) {
            compared.counts.gone += gone;
            // Fewer than were seen, if a day has been dropped meanwhile: then others may hide behind these.
            if rows != compared.seen {
                self.strays(compared)?;
            }
            let Compared { part, low, counts, .. } = compared;
            let Part { partition, generation, start, next, .. } = part;
            let begin = start.max(low);
            lines.push(format!("{partition} generation={generation} offsets={begin}..{next}: {counts}\n"));
            total += *counts;
        }
        lines.push(format!("total partitions={}: {total}\n", all.len()));
        lines.iter().try_for_each(|line| self.out.write_all(line.as_bytes()))?;
        self.out.flush()?;
        Ok(total.is_equal())
    }

    /// One thread reads and decodes the next window while this one asks for the rows of the last.
    fn partition<'p>(&mut self, topics: &'p Topics, part: &'p Part) -> Result<Compared<'p>, Failure> {
        let Part { partition, next, .. } = part;
        let (low, high) = topics.ends(partition).map_err(Failure::Kafka)?.unwrap_or((*next, *next));
        if high < *next {
            let why = format!("{partition} ends at {high}, before what is stored: it was made anew or cut");
            logging::say(Level::Warn, &why);
        }
        let bounds = self.bounds;
        let begin = topics.begin(part, low, bounds).map_err(Failure::Kafka)?;
        let mut compared = Compared { topics, part, low, counts: Counts::default(), seen: 0, looked: Vec::new() };
        let is_wanted = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let (sender, windows) = sync_channel(1);
            // That nobody takes it any more is seen by the flag.
            let send = move |window| _ = sender.send(window);
            let reader = scope.spawn(|| topics.read(part, begin, bounds, &is_wanted, send));
            let result = windows.iter().try_for_each(|window| self.window(&mut compared, window));
            is_wanted.store(false, Ordering::Relaxed);
            // The reader may be about to hand on a window.
            drop(windows);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(read.map_err(Failure::Kafka))
        })?;
        Ok(compared)
    }

    fn window(&mut self, compared: &mut Compared<'_>, mut window: Window) -> Result<(), Failure> {
        let Compared { topics, part, low, counts, seen, looked } = compared;
        self.table.fill(part, &mut window)?;
        *seen += window.seen;
        looked.push(Looked::of(&window));
        let low = if window.has_others() { oldest(topics, part)? } else { *low };
        let now = Timestamp::from_system(SystemTime::now());
        let kept_since = self.config.postgres.retention.map(|retention| now.saturating_sub(retention));
        let mut told = Vec::new();
        window.settle(low, kept_since, &part.skipped, counts, &mut told);
        self.print(part, &told)
    }

    /// Looks for the rows that no window had in sight.
    fn strays(&mut self, compared: &mut Compared<'_>) -> Result<(), Failure> {
        let Compared { topics, part, low, counts, looked, .. } = compared;
        let still = oldest(topics, part)?;
        let Self { table, out, bounds, .. } = self;
        // Printed as they come: there may be as many as there are rows.
        table.strays((part, *low), *bounds, looked, |difference: Difference| {
            if difference.offset < still {
                counts.gone += 1;
                return Ok(());
            }
            counts.add(Kind::Extra);
            Ok(out.write_all(difference.line(&part.partition).as_bytes())?)
        })
    }

    fn print(&mut self, part: &Part, told: &[Difference]) -> Result<(), Failure> {
        for difference in told {
            self.out.write_all(difference.line(&part.partition).as_bytes())?;
        }
        Ok(())
    }
}

/// The oldest offset that Kafka holds by now.
fn oldest(topics: &Topics, part: &Part) -> Result<i64, Failure> {
    let ends = topics.ends(&part.partition).map_err(Failure::Kafka)?;
    Ok(ends.map_or(part.next, |(low, _)| low))
}
