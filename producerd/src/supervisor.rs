//! The main thread: schedules, reloads, STATUS, and the way out.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use coinflow_common::daemon::{Crew, Event, Exit, Frame, Progress, Signals};
use coinflow_common::orderbook::Timestamp;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use uuid::Uuid;

use crate::config::{self, Config, Files, Symbols};
use crate::publish::{Publishing, StartError};
use crate::schedule::Diff;
use crate::selection::Selection;
use crate::status::{self, Rate, Totals};
use crate::unit::Unit;
use crate::worker::Ended;

const SUMMARY_INTERVAL: Duration = Duration::from_secs(300);
/// What came of a poll waits so long for a tick, if nothing waits for it: at a high rate that is one wake-up for each poll less.
const ENDED_WAITS: Duration = Duration::from_millis(5);
/// From the stop signal on: how long polls in flight may take, and when everything has to be over.
const STOP_POLLS: Duration = Duration::from_secs(1);
const STOP_LOOK: Duration = Duration::from_millis(10);
/// A disk may be slow.
const STOP_SPOOL: Duration = Duration::from_secs(15);
/// When what Kafka has not confirmed is taken back, and how long that may take.
const STOP_KAFKA: Duration = Duration::from_millis(2500);
const STOP_TAKE_BACK: Duration = Duration::from_millis(500);
/// Joining threads that have nothing left to do.
const STOP_JOIN: Duration = Duration::from_millis(300);

/// Owns everything that runs.
#[derive(Debug)]
struct Supervisor {
    file: PathBuf,
    config: Config,
    units: Vec<Unit>,
    publishing: Publishing,
    crew: Crew,
    progress: Progress,
    rate: Rate,
    last_reload: Option<String>,
}

/// Runs the daemon until it is stopped.
pub(crate) fn run(file: PathBuf, files: Files, signals: Signals) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::error!("cannot start err={error}");
            return Exit::Failed;
        }
    };
    runtime.block_on(async {
        // Room for every poll in flight.
        let polls: u64 = files.config.exchanges.iter().map(|exchange| exchange.workers).sum();
        let (ended_sender, mut ended) = mpsc::channel(polls as usize + 1);
        let (fatal_sender, mut fatal) = mpsc::channel(1);
        match Supervisor::start(file, files, &ended_sender, &fatal_sender) {
            Ok(supervisor) => supervisor.run(signals, &mut ended, &mut fatal).await,
            Err(error) => {
                let (err, exit) = match error {
                    StartError::Settings(err) => (err, Exit::Config),
                    StartError::System(err) => (err, Exit::Failed),
                };
                log::error!("cannot start err={err:?}");
                exit
            }
        }
    })
}

impl Supervisor {
    fn start(
        file: PathBuf,
        files: Files,
        ended: &mpsc::Sender<Ended>,
        fatal: &mpsc::Sender<String>,
    ) -> Result<Self, StartError> {
        let Files { config, symbols, .. } = files;
        let mut crew = Crew::default();
        let progress = Progress::default();
        let run = Uuid::now_v7();
        let publishing = Publishing::start(&config.exchanges, &config.spool, &mut crew, &progress, fatal)?;
        let mut units = Vec::new();
        for (index, exchange) in config.exchanges.iter().enumerate() {
            let Some(publisher) = publishing.publisher(&exchange.exchange) else { continue };
            units.push(Unit::start(index, exchange, run, publisher.clone(), ended.clone(), &mut crew)?);
        }
        let rate = Rate::default();
        let mut supervisor = Self { file, config, units, publishing, crew, progress, rate, last_reload: None };
        let diff = supervisor.watch(&symbols);
        log::info!(
            "producerd starts version={} config={} symbols={} run={run}",
            env!("CARGO_PKG_VERSION"),
            supervisor.file.display(),
            diff.added
        );
        Ok(supervisor)
    }

    async fn run(
        mut self,
        signals: Signals,
        ended: &mut mpsc::Receiver<Ended>,
        fatal: &mut mpsc::Receiver<String>,
    ) -> Exit {
        let mut frame = Frame::new(signals, self.progress.clone());
        let status = self.status();
        frame.ready(status);
        let mut summary_due = tokio::time::interval(SUMMARY_INTERVAL);
        summary_due.tick().await;
        let reason = loop {
            while let Ok(one) = ended.try_recv() {
                self.ended(one);
            }
            for unit in &mut self.units {
                unit.tick(&mut self.crew, &self.progress);
            }
            let now = Instant::now();
            let next = self.units.iter().filter_map(|unit| unit.schedule.next_tick(now)).min();
            // With nothing to watch, the next event is a signal.
            let next = next.unwrap_or(now + SUMMARY_INTERVAL);
            let is_urgent = next > now + ENDED_WAITS || self.units.iter().any(|unit| unit.schedule.is_waiting());
            tokio::select! {
                event = frame.next() => match event {
                    Event::StatusDue => {
                        let status = self.status();
                        frame.status(status);
                    }
                    Event::Reload => {
                        self.reload();
                        let status = self.status();
                        frame.ready(status);
                    }
                    Event::Stop(signal) => break Ok(signal),
                },
                Some(one) = ended.recv(), if is_urgent => self.ended(one),
                Some(reason) = fatal.recv() => break Err(reason),
                () = sleep_until(next.into()) => {}
                _ = summary_due.tick() => self.summary(),
            }
        };
        match reason {
            Ok(signal) => {
                log::info!("producerd stops signal={signal}");
                frame.stopping("stopping: waits for polls and for Kafka");
                self.stop(ended).await;
                Exit::Done
            }
            Err(reason) => {
                log::error!("kafka producer is of no use any more, producerd ends err={reason:?}");
                frame.stopping("stopping: the Kafka producer had a fatal error");
                for unit in &mut self.units {
                    unit.stop();
                    unit.abandon();
                }
                self.put_away(Instant::now() + STOP_SPOOL).await;
                self.account();
                self.leave();
                Exit::Failed
            }
        }
    }

    fn ended(&mut self, Ended { unit, id, answer }: Ended) {
        if let Some(unit) = self.units.get_mut(unit) {
            unit.ended(id, answer);
        }
    }

    fn watch(&mut self, symbols: &Symbols) -> Diff {
        let mut total = Diff::default();
        for unit in &mut self.units {
            let nothing = Selection::default();
            total += unit.watch(symbols.get(&unit.exchange).unwrap_or(&nothing));
        }
        total
    }

    /// All or nothing.
    fn reload(&mut self) {
        let at = Timestamp::from_system(SystemTime::now()).to_clock_text();
        match config::load_symbols(&self.config.symbols_file, &self.config.exchanges) {
            Ok(loaded) => {
                for warning in loaded.warnings.iter() {
                    log::warn!("{warning}");
                }
                let Diff { added, removed, changed, unchanged } = self.watch(&loaded.value);
                log::info!("reload ok added={added} removed={removed} changed={changed} unchanged={unchanged}");
                self.last_reload = Some(format!("last reload {at} ok"));
            }
            Err(problems) => {
                let count = problems.iter().count();
                for problem in problems.iter() {
                    log::error!("{problem}");
                }
                log::error!("reload refused, the old symbols stay problems={count}");
                let first = problems.iter().next().map(ToString::to_string).unwrap_or_default();
                self.last_reload = Some(format!("reload refused: {first}"));
            }
        }
        self.warn_of_restart();
    }

    /// Names the keys of producerd.toml that now differ from the running ones.
    fn warn_of_restart(&self) {
        let keys = match config::load_daemon(&self.file) {
            Ok(config) => self.config.differing_keys(&config),
            Err(problems) => {
                for problem in problems.iter() {
                    log::warn!("{problem}");
                }
                return;
            }
        };
        if !keys.is_empty() {
            log::warn!(
                "changes of {} have no effect yet, producerd needs a restart keys={}",
                self.file.display(),
                keys.join(",")
            );
        }
    }

    fn status(&mut self) -> String {
        let accepted = Totals::of(&self.units).books.accepted;
        let rate = self.rate.sample(Instant::now(), accepted);
        status::line(&self.units, rate, self.last_reload.as_deref(), &self.config.symbols_file)
    }

    /// Polls in flight get a moment to end, then Kafka gets time to confirm; what is left is counted and told.
    async fn stop(mut self, ended: &mut mpsc::Receiver<Ended>) {
        let start = Instant::now();
        for unit in &mut self.units {
            unit.stop();
        }
        while self.units.iter().any(|unit| unit.schedule.in_flight() > 0) {
            tokio::select! {
                Some(one) = ended.recv() => self.ended(one),
                () = sleep_until((start + STOP_POLLS).into()) => break,
            }
        }
        for unit in &mut self.units {
            unit.abandon();
        }
        self.publishing.stop_reading();
        until(start + STOP_KAFKA, || Totals::of(&self.units).books.in_flight == 0).await;
        self.put_away(start + STOP_SPOOL).await;
        self.account();
        self.leave();
    }

    fn summary(&self) {
        let totals = Totals::of(&self.units);
        log::info!("{}", totals.summary());
        if !totals.books.is_balanced() {
            log::error!("books do not add up, please report this books={:?}", totals.books);
        }
    }

    /// What has not been confirmed goes into the spool.
    async fn put_away(&self, end: Instant) {
        if Totals::of(&self.units).books.in_flight > 0 {
            self.publishing.take_back();
            until((Instant::now() + STOP_TAKE_BACK).min(end), || self.publishing.on_its_way() == 0).await;
        }
        self.publishing.put_away();
        until(end, || self.publishing.is_put_away()).await;
    }

    /// The last summary, and what is lost with the process.
    fn account(&self) {
        let mut totals = Totals::of(&self.units);
        totals.books.give_up();
        log::info!("{}", totals.summary());
        let undelivered = totals.books.unknown;
        if undelivered > 0 {
            log::error!("books neither delivered to Kafka nor kept in the spool at shutdown count={undelivered}");
        }
    }

    /// Ends the threads. Some may be inside a call to Kafka; these end with the process.
    fn leave(mut self) {
        self.publishing.stop();
        self.units.clear();
        let abandoned = self.crew.join(Instant::now() + STOP_JOIN);
        if !abandoned.is_empty() {
            log::debug!("threads end with the process names={}", abandoned.join(","));
        }
        // Dropping the last handle of a producer would purge it and wait for its brokers, which may be away for ever.
        std::mem::forget(self.publishing);
    }
}

/// Waits until something is so, or the deadline.
async fn until(deadline: Instant, is_so: impl Fn() -> bool) {
    while !is_so() && Instant::now() < deadline {
        tokio::time::sleep(STOP_LOOK).await;
    }
}
