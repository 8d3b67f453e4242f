//! The supervisor: it owns the threads, and does nothing but signals, watchdog, STATUS and the way out.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use coinflow_common::daemon::{Crew, Event, Exit, Frame, Progress, Signals};
use coinflow_common::orderbook::Timestamp;
use tokio::sync::mpsc;

use crate::config::{Config, Source};
use crate::handover::Handover;
use crate::source::{self, Consumer, Poll};
use crate::state::State;
use crate::status::{Rate, Snapshot, line};
use crate::upkeep::{self, Stop};
use crate::writer::{Claims, Writer};

/// From the signal to the exit; what has not ended by then is abandoned. A source needs 4 s at most by itself.
const SHUTDOWN_MAX: Duration = Duration::from_millis(4500);

/// A source as the supervisor sees it.
struct Running {
    name: String,
    consumer: Arc<Consumer>,
    state: Arc<State>,
    rate: Rate,
}

/// Runs until a signal stops it.
pub(crate) fn run(config: &Config, signals: Signals) -> Exit {
    let host = gethostname::gethostname();
    let host = host.to_string_lossy();
    let mut clients = Vec::new();
    for source in &config.sources {
        match source::consumer(source, &host) {
            Ok(consumer) => clients.push((source.clone(), consumer)),
            Err(reason) => {
                log::error!("kafka client cannot be made source={} err={reason:?}", source.name);
                return Exit::Config;
            }
        }
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::error!("no runtime err={error}");
            return Exit::Failed;
        }
    };
    match runtime.block_on(supervise(config, clients, signals)) {
        Ok(exit) => exit,
        Err(error) => {
            log::error!("thread cannot be started err={error}");
            Exit::Failed
        }
    }
}

async fn supervise(config: &Config, clients: Vec<(Source, Arc<Consumer>)>, signals: Signals) -> std::io::Result<Exit> {
    let progress = Progress::default();
    let mut crew = Crew::default();
    let stop = Arc::new(Stop::default());
    let claims = Arc::new(Claims::default());
    let (fatal, mut fatals) = mpsc::channel(1);
    let mut sources = Vec::new();
    for (number, (source, consumer)) in clients.into_iter().enumerate() {
        let state = Arc::new(State::default());
        let running = Running { name: source.name.clone(), consumer, state, rate: Rate::default() };
        start(&mut crew, config, &progress, &stop, &claims, &fatal, number, source, &running)?;
        sources.push(running);
    }
    let (settings, stop_days, beat) = (config.postgres.clone(), Arc::clone(&stop), progress.register("store-days"));
    crew.spawn("store-days", move || upkeep::run(&settings, &stop_days, &beat))?;

    let mut frame = Frame::new(signals, progress);
    frame.ready(status(&mut sources));
    let reason = loop {
        tokio::select! {
            event = frame.next() => match event {
                Event::StatusDue => frame.status(status(&mut sources)),
                Event::Reload => log::info!("SIGHUP: consumerd has nothing to reload; restart it after a change of its file"),
                Event::Stop(signal) => break Ok(signal),
            },
            Some(reason) = fatals.recv() => break Err(reason),
        }
    };
    let begin = Instant::now();
    match &reason {
        Ok(signal) => log::info!("stopping signal={signal}"),
        Err(reason) => log::error!("stopping, a kafka client cannot go on reason={reason:?}"),
    }
    frame.stopping("storing what has been read");
    stop.set();
    for thread in crew.join(begin + SHUTDOWN_MAX) {
        log::warn!("thread did not end in time, abandoned thread={thread}");
    }
    log::info!("{}", summary(&sources));
    // To close a client whose brokers are away can hang; those that could be closed are closed by now.
    sources.into_iter().for_each(|source| std::mem::forget(source.consumer));
    Ok(if reason.is_ok() { Exit::Done } else { Exit::Failed })
}

#[expect(clippy::too_many_arguments, reason = "called once; it only hands things to two threads")]
fn start(
    crew: &mut Crew,
    config: &Config,
    progress: &Progress,
    stop: &Arc<Stop>,
    claims: &Arc<Claims>,
    fatal: &mpsc::Sender<String>,
    number: usize,
    source: Source,
    running: &Running,
) -> std::io::Result<()> {
    let handover = Arc::new(Handover::new(config.batch));
    let [poll_name, write_name] = [format!("poll-{number}"), format!("write-{number}")];
    let writer = Writer::new(
        config.postgres.clone(),
        source.clone(),
        Arc::clone(claims),
        Arc::clone(&running.consumer),
        Arc::clone(&handover),
        Arc::clone(&running.state),
        progress.register(&write_name),
    );
    let poll = Poll::new(
        source,
        config.postgres.retention,
        Arc::clone(&running.consumer),
        handover,
        Arc::clone(&running.state),
        progress.register(&poll_name),
    );
    crew.spawn(&write_name, move || writer.run())?;
    let (stop, fatal) = (Arc::clone(stop), fatal.clone());
    crew.spawn(&poll_name, move || {
        if let Err(reason) = poll.run(|| stop.is_set()) {
            // The supervisor needs one reason only.
            _ = fatal.try_send(reason);
        }
    })
}

fn status(sources: &mut [Running]) -> String {
    let now = Timestamp::from_system(SystemTime::now());
    let lines: Vec<String> = sources
        .iter_mut()
        .map(|source| {
            let counters = &source.state.counters;
            let cluster = source::cluster(&source.consumer);
            let snapshot = Snapshot {
                name: &source.name,
                kafka_up: cluster.is_up(),
                kafka: cluster.describe(),
                view: source.state.view().clone(),
                books_per_second: source.rate.observe(counters.books_stored.get(), Instant::now()),
                dead_letters: counters.dead_letters.get(),
                expired: counters.expired.get(),
                fence_lost: counters.fence_lost.get(),
            };
            line(&snapshot, now)
        })
        .collect();
    lines.join("; ")
}

fn summary(sources: &[Running]) -> String {
    let sum = |read: fn(&crate::state::Counters) -> &crate::state::Counter| -> u64 {
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
