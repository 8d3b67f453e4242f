//! The supervisor: it owns the threads, and does nothing but signals, watchdog, STATUS and the way out.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use coinflow_common::daemon::{Crew, Event, Exit, Frame, Progress, Signals};
use coinflow_common::kafka::Cluster;
use coinflow_common::orderbook::Timestamp;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::source::{Link, Poll};
use crate::state::{Counter, Counters, State};
use crate::status::{Rate, Snapshot, line};
use crate::upkeep::{self, Stop};
use crate::writer::{Claims, WAITS_ON, Writer};

/// From the signal to the exit; what has not ended by then is abandoned. A source needs 4 s at most by itself.
const SHUTDOWN_MAX: Duration = Duration::from_millis(4500);

/// Runs until a signal stops it.
pub(crate) fn run(config: &Config, signals: Signals) -> Exit {
    let host = gethostname::gethostname();
    let host = host.to_string_lossy();
    let mut links = Vec::new();
    for source in &config.sources {
        match Link::new(source, config.batch, &host) {
            Ok(link) => links.push(link),
            Err(reason) => {
                log::error!("kafka client cannot be made source={} err={reason:?}", source.name);
                return Exit::Config;
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let result = runtime.and_then(|runtime| runtime.block_on(supervise(config, links, signals)));
    result.unwrap_or_else(|error| {
        log::error!("thread or runtime cannot be made err={error}");
        Exit::Failed
    })
}

async fn supervise(config: &Config, links: Vec<Link>, signals: Signals) -> std::io::Result<Exit> {
    let progress = Progress::default();
    let stop = Arc::new(Stop::default());
    let (fatal, mut fatals) = mpsc::channel(1);
    let mut sources: Vec<Running> =
        links.iter().enumerate().map(|(number, link)| Running::new(link, number, &progress)).collect();
    let mut crew = start(config, links, &progress, &stop, &fatal)?;

    let mut frame = Frame::new(signals, progress);
    frame.ready(status(&mut sources));
    let reason = loop {
        tokio::select! {
            event = frame.next() => match event {
                Event::StatusDue => frame.status(status(&mut sources)),
                Event::Reload => log::info!("SIGHUP: nothing to reload; a change of the file takes effect at a restart"),
                Event::Stop(signal) => break Ok(signal),
            },
            Some(reason) = fatals.recv() => break Err(reason),
        }
    };
    let deadline = Instant::now() + SHUTDOWN_MAX;
    match &reason {
        Ok(signal) => log::info!("stopping signal={signal}"),
        Err(reason) => log::error!("stopping, a kafka client cannot go on reason={reason:?}"),
    }
    frame.stopping("storing what has been read");
    stop.set();
    for thread in crew.join(deadline) {
        log::warn!("thread did not end in time, abandoned thread={thread}");
    }
    log::info!("{}", summary(&sources));
    Ok(if reason.is_ok() { Exit::Done } else { Exit::Failed })
}

/// Starts every thread: two for each source, and one that keeps the days.
fn start(
    config: &Config,
    links: Vec<Link>,
    progress: &Progress,
    stop: &Arc<Stop>,
    fatal: &mpsc::Sender<String>,
) -> std::io::Result<Crew> {
    let mut crew = Crew::default();
    let claims = Arc::new(Claims::default());
    for (number, link) in links.into_iter().enumerate() {
        let [poll_name, write_name] = [format!("poll-{number}"), writer_name(number)];
        let (settings, claims) = (config.postgres.clone(), Arc::clone(&claims));
        let writer = Writer::new(link.clone(), settings, claims, progress.register(&write_name));
        let poll = Poll::new(link, config.postgres.retention, progress.register(&poll_name));
        crew.spawn(&write_name, move || writer.run())?;
        let (stop, fatal) = (Arc::clone(stop), fatal.clone());
        crew.spawn(&poll_name, move || {
            if let Err(reason) = poll.run(|| stop.is_set()) {
                // One reason is enough to end.
                _ = fatal.try_send(reason);
            }
        })?;
    }
    let (settings, stop, beat) = (config.postgres.clone(), Arc::clone(stop), progress.register("store-days"));
    crew.spawn("store-days", move || upkeep::run(&settings, &stop, &beat))?;
    Ok(crew)
}

/// A source as the supervisor sees it. It holds no client: the last owner of that closes it, on a thread of its own.
struct Running {
    name: String,
    cluster: Arc<Cluster>,
    state: Arc<State>,
    rate: Rate,
    progress: Progress,
    writer: String,
}

impl Running {
    fn new(link: &Link, number: usize, progress: &Progress) -> Self {
        Self {
            name: link.source.name.clone(),
            cluster: Arc::clone(&link.cluster),
            state: Arc::clone(&link.state),
            rate: Rate::default(),
            progress: progress.clone(),
            writer: writer_name(number),
        }
    }

    fn line(&mut self, now: Timestamp) -> String {
        let counters = &self.state.counters;
        let snapshot = Snapshot {
            name: &self.name,
            kafka_up: self.cluster.is_up(),
            kafka: self.cluster.describe(),
            view: self.state.view().clone(),
            books_per_second: self.rate.observe(counters.books_stored.get(), Instant::now()),
            dead_letters: counters.dead_letters.get(),
            expired: counters.expired.get(),
            fence_lost: counters.fence_lost.get(),
            refusal: self.cluster.refusal(),
            waits: self.progress.waits(&self.writer, WAITS_ON, Instant::now()).unwrap_or_default(),
        };
        line(&snapshot, now)
    }
}

/// The thread that stores a source's records.
fn writer_name(number: usize) -> String {
    format!("write-{number}")
}

fn status(sources: &mut [Running]) -> String {
    let now = Timestamp::from_system(SystemTime::now());
    let lines: Vec<String> = sources.iter_mut().map(|source| source.line(now)).collect();
    lines.join("; ")
}

fn summary(sources: &[Running]) -> String {
    let sum = |read: fn(&Counters) -> &Counter| -> u64 {
        sources.iter().map(|source| read(&source.state.counters).get()).sum()
    };
    format!(
        "summary books_stored={} dead_letters={} expired={} batches={} fence_lost={}",
        sum(|counters| &counters.books_stored),
        sum(|counters| &counters.dead_letters),
        sum(|counters| &counters.expired),
        sum(|counters| &counters.batches),
        sum(|counters| &counters.fence_lost),
    )
}
