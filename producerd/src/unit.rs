//! One exchange at work: its schedule, its workers and what it tells the operator.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use coinflow_common::config::show_duration;
use coinflow_common::daemon::{Crew, Progress};
use coinflow_common::orderbook::{Exchange, Market, Timestamp};
use crossbeam_channel::{Sender, bounded};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::books::Books;
use crate::config::ExchangeConfig;
use crate::exchange::ExchangeError;
use crate::http::{Client, Resolver};
use crate::publish::Publisher;
use crate::schedule::{Diff, Event, Limits, Outcome, PollId, Reason, Schedule, Watch};
use crate::worker::{Ended, Worker};

/// Longest name of a thread, which ends in `-` and a number of up to three digits.
const THREAD_NAME_BYTES_MAX: usize = 11;
/// Markets that a log line names one by one.
const MARKETS_NAMED_MAX: usize = 5;

/// One exchange: an own schedule, own workers, own connections.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) exchange: Exchange,
    pub(crate) schedule: Schedule,
    pub(crate) books: Arc<Books>,
    worker: Worker,
    polls: Option<Sender<crate::schedule::Poll>>,
    workers: usize,
    workers_max: usize,
    is_want_of_threads_told: bool,
    left_alone: Option<LeftAlone>,
}

/// That the exchange is being left alone, and why.
#[derive(Debug)]
pub(crate) struct LeftAlone {
    pub(crate) reason: Reason,
    pub(crate) since: Timestamp,
    pub(crate) error: ExchangeError,
}

impl Unit {
    /// Starts the resolver's thread; workers start when there is work.
    pub(crate) fn start(
        index: usize,
        config: &ExchangeConfig,
        run: Uuid,
        publisher: Publisher,
        ended: mpsc::Sender<Ended>,
        crew: &mut Crew,
    ) -> std::io::Result<Self> {
        let workers_max = config.workers as usize;
        let (resolver, lookups) = Resolver::new();
        crew.spawn(&format!("{}-dns", short(&config.exchange)), move || lookups.run())?;
        let client = Client::new(&config.base_url, config.timeout, workers_max, resolver);
        let limits = Limits {
            requests_per_second: u32::try_from(config.requests_per_second).unwrap_or(u32::MAX),
            markets_per_request: config.markets_per_request as usize,
            workers: workers_max,
            unknown_retry: config.markets_refresh,
        };
        let books = Books::new(config.exchange.clone(), run, config.levels as usize, config.skip_unchanged, publisher);
        let books = Arc::new(books);
        let (polls, received) = bounded(workers_max);
        let worker = Worker {
            unit: index,
            api: config.api,
            client,
            timeout: config.timeout,
            books: Arc::clone(&books),
            polls: received,
            ended,
        };
        Ok(Self {
            exchange: config.exchange.clone(),
            schedule: Schedule::new(limits, Instant::now()),
            books,
            worker,
            polls: Some(polls),
            workers: 0,
            workers_max,
            is_want_of_threads_told: false,
            left_alone: None,
        })
    }

    pub(crate) fn watch(&mut self, wanted: &[Watch]) -> Diff {
        self.schedule.watch(wanted, Instant::now())
    }

    /// Starts the polls that are due.
    pub(crate) fn tick(&mut self, crew: &mut Crew, progress: &Progress) {
        for poll in self.schedule.tick(Instant::now()) {
            let id = poll.id;
            if let Err(error) = self.start_worker(crew, progress) {
                self.ended(id, Err(error));
            // The schedule has no more in flight than the channel holds.
            } else if self.polls.as_ref().is_none_or(|polls| polls.try_send(poll).is_err()) {
                self.ended(id, Err(ExchangeError::Aborted));
            }
        }
    }

    /// Starts a worker if the present ones are busy. Fails where there is none at all: with one the poll has to wait
    /// for it, and the next poll tries again.
    fn start_worker(&mut self, crew: &mut Crew, progress: &Progress) -> Result<(), ExchangeError> {
        if self.workers == self.workers_max || self.schedule.in_flight() <= self.workers {
            return Ok(());
        }
        let name = format!("{}-{}", short(&self.exchange), self.workers + 1);
        let (worker, beat) = (self.worker.clone(), progress.register(&name));
        let Err(error) = crew.spawn(&name, move || worker.run(&beat)) else {
            self.workers += 1;
            self.is_want_of_threads_told = false;
            return Ok(());
        };
        if !std::mem::replace(&mut self.is_want_of_threads_told, true) {
            log::warn!("no thread for a worker exchange={} workers={} err={error}", self.exchange, self.workers);
        }
        if self.workers == 0 { Err(ExchangeError::NoThread(error.to_string())) } else { Ok(()) }
    }

    /// Notes how a poll ended, and logs what has changed with it.
    pub(crate) fn ended(&mut self, id: PollId, outcome: Outcome) {
        for event in self.schedule.ended(Instant::now(), id, outcome, random()) {
            tell(&self.exchange, &event);
            match event {
                Event::Held { reason, error, .. } => {
                    let since = Timestamp::from_system(SystemTime::now());
                    self.left_alone = Some(LeftAlone { reason, since, error });
                }
                Event::Released { .. } => self.left_alone = None,
                _ => {}
            }
        }
    }

    pub(crate) fn left_alone(&self) -> Option<&LeftAlone> {
        self.left_alone.as_ref()
    }

    /// No further poll is handed out; the workers end when theirs have.
    pub(crate) fn stop(&mut self) {
        self.polls = None;
    }

    /// Interrupts the polls in flight and counts them as failed; no book is accepted any more.
    pub(crate) fn abandon(&mut self) {
        self.books.close();
        self.worker.client.shutdown();
        let count = self.schedule.abandon();
        if count > 0 {
            log::warn!("polls aborted at shutdown exchange={} count={count}", self.exchange);
        }
    }
}

fn short(exchange: &Exchange) -> &str {
    // Exchange names are ASCII.
    let name = exchange.as_str();
    &name[..name.len().min(THREAD_NAME_BYTES_MAX)]
}

/// From 0 to 1; for jitter, so any randomness will do.
fn random() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}

fn tell(exchange: &Exchange, event: &Event) {
    match event {
        Event::Failed { markets, error } => {
            let err = error.to_string();
            log::warn!("poll failed exchange={exchange} market={} err={err:?}", names(markets));
        }
        Event::Back { markets, failures } => {
            log::info!("poll works again exchange={exchange} market={} failures={failures}", names(markets));
        }
        Event::Unknown { market, retry } => {
            let retry = show_duration(*retry);
            log::warn!("the exchange knows no such market, left out exchange={exchange} market={market} retry={retry}");
        }
        Event::Known { market } => {
            log::info!("the exchange knows the market now exchange={exchange} market={market}");
        }
        Event::Held { reason: Reason::RateLimit, delay, error } => {
            let (hold, err) = (show_duration(*delay), error.to_string());
            log::warn!("exchange refuses requests, left alone exchange={exchange} hold={hold} err={err:?}");
        }
        Event::Held { reason: Reason::Outage, error, .. } => {
            let err = error.to_string();
            log::warn!("exchange does not answer, backing off exchange={exchange} err={err:?}");
        }
        Event::Released { after } => {
            log::info!("exchange answers again exchange={exchange} after={:.1}s", after.as_secs_f64());
        }
    }
}

/// Markets by name, of many only the first.
fn names(markets: &[Market]) -> String {
    let named: Vec<&str> = markets.iter().take(MARKETS_NAMED_MAX).map(Market::as_str).collect();
    match markets.len().saturating_sub(MARKETS_NAMED_MAX) {
        0 => named.join(","),
        more => format!("{} and {more} more", named.join(",")),
    }
}
