//! One exchange at work: its schedule, its workers and what it tells the operator.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use coinflow_common::config::show_duration;
use coinflow_common::daemon::{Crew, Progress};
use coinflow_common::orderbook::{Exchange, Market, Timestamp};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::books::Books;
use crate::config::ExchangeConfig;
use crate::exchange::ExchangeError;
use crate::handout::{Handout, handout};
use crate::http::{Client, Resolver};
use crate::publish::Publisher;
use crate::schedule::{Answer, Diff, Event, PollId, Reason, Schedule};
use crate::selection::{Idle, Pattern, Selection};
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
    /// None once it has been stopped.
    handout: Option<Handout>,
    workers: usize,
    workers_max: usize,
    is_want_of_threads_told: bool,
    left_alone: Option<LeftAlone>,
    selection: Selection,
    /// What is followed needs more requests than may go out, and the log has said so.
    is_overload_told: bool,
    /// What of the selection matches nothing on the list; the log has said so.
    idle: Vec<Idle>,
    /// Patterns have been resolved before, so what changes now is news.
    is_resolved: bool,
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
        let books = Books::new(config.exchange.clone(), run, config.levels as usize, config.skip_unchanged, publisher);
        let books = Arc::new(books);
        let (handout, polls) = handout(workers_max);
        let worker = Worker {
            unit: index,
            api: config.api,
            client,
            timeout: config.timeout,
            books: Arc::clone(&books),
            polls,
            ended,
        };
        Ok(Self {
            exchange: config.exchange.clone(),
            schedule: Schedule::new(config.limits(), Instant::now()),
            selection: Selection::default(),
            is_overload_told: false,
            idle: Vec::new(),
            is_resolved: false,
            books,
            worker,
            handout: Some(handout),
            workers: 0,
            workers_max,
            is_want_of_threads_told: false,
            left_alone: None,
        })
    }

    /// Watches what is selected and nothing else; what patterns mean, the market list tells.
    pub(crate) fn watch(&mut self, selection: &Selection) -> Diff {
        self.selection = selection.clone();
        if self.selection != Selection::default() {
            self.books.publisher().set_used();
        }
        let now = Instant::now();
        let wanted = self.selection.resolve(self.schedule.list().map(AsRef::as_ref));
        let diff = self.schedule.watch(&wanted, now);
        self.schedule.follow_list(!self.selection.patterns.is_empty());
        (self.is_overload_told, self.is_resolved) = (false, false);
        self.idle.clear();
        self.listed();
        diff
    }

    /// Whether anything is selected, be it a pattern that matches nothing yet.
    pub(crate) fn is_used(&self) -> bool {
        self.selection != Selection::default()
    }

    /// What of the selection matches nothing on the list of markets.
    pub(crate) fn idle(&self) -> &[Idle] {
        &self.idle
    }

    /// The patterns that wait for the list of markets.
    pub(crate) fn waiting_patterns(&self) -> &[Pattern] {
        if self.schedule.list().is_some() { &[] } else { &self.selection.patterns }
    }

    /// Follows listings and delistings.
    fn follow_list(&mut self) {
        if self.selection.patterns.is_empty() {
            return;
        }
        let before: BTreeSet<Market> = self.schedule.markets().cloned().collect();
        let wanted = self.selection.resolve(self.schedule.list().map(AsRef::as_ref));
        self.schedule.watch(&wanted, Instant::now());
        let after: BTreeSet<Market> = self.schedule.markets().cloned().collect();
        let exchange = &self.exchange;
        let more = if self.is_resolved { "listed, watched from now on" } else { "patterns resolved" };
        for (what, more, less) in [(more, &after, &before), ("delisted, watched no longer", &before, &after)] {
            let markets: Vec<Market> = more.difference(less).cloned().collect();
            if !markets.is_empty() {
                log::info!("{what} exchange={exchange} count={} market={}", markets.len(), names(&markets));
            }
        }
        self.listed();
    }

    /// Tells what is wrong with patterns as the list of markets has them, each once until it changes.
    fn listed(&mut self) {
        let Some(list) = self.schedule.list().filter(|_| !self.selection.patterns.is_empty()) else { return };
        let exchange = &self.exchange;
        let idle = self.selection.idle(list);
        for new in idle.iter().filter(|idle| !self.idle.contains(idle)) {
            log::warn!("{new} exchange={exchange}");
        }
        self.idle = idle;
        self.is_resolved = true;
        let overload = self.schedule.overload();
        if let Some(overload) = overload.as_ref().filter(|_| !self.is_overload_told) {
            log::warn!("{overload} exchange={exchange}");
        }
        self.is_overload_told = overload.is_some();
    }

    /// Starts the polls that are due.
    pub(crate) fn tick(&mut self, crew: &mut Crew, progress: &Progress) {
        for poll in self.schedule.tick(Instant::now()) {
            let started = self.start_worker(crew, progress).and_then(|()| {
                // The schedule has no more in flight than there is room for.
                let is_given = self.handout.as_ref().is_some_and(|handout| handout.give(poll.clone()));
                if is_given { Ok(()) } else { Err(ExchangeError::Aborted) }
            });
            if let Err(error) = started {
                self.ended(poll.id, poll.ask.failed(error));
            }
        }
    }

    /// Starts a worker if the present ones are busy. Fails where there is none at all: with one the poll has to wait
    /// for it, and the next poll tries again.
    fn start_worker(&mut self, crew: &mut Crew, progress: &Progress) -> Result<(), ExchangeError> {
        if self.workers == self.workers_max || self.schedule.busy_workers() <= self.workers {
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
    pub(crate) fn ended(&mut self, id: PollId, answer: Answer) {
        let events = self.schedule.ended(Instant::now(), id, answer, random());
        self.act(events);
    }

    fn act(&mut self, events: Vec<Event>) {
        for event in events {
            tell(&self.exchange, &event);
            match event {
                Event::Listed => {
                    self.follow_list();
                    let events = self.schedule.settle(Instant::now());
                    self.act(events);
                }
                Event::Held { reason, error, .. } => {
                    let now = Timestamp::from_system(SystemTime::now());
                    let before = self.left_alone.take().filter(|before| before.reason == reason);
                    let since = before.map_or(now, |before| before.since);
                    self.left_alone = Some(LeftAlone { reason, since, error });
                }
                Event::Released { .. } => self.left_alone = None,
                _ => {}
            }
        }
    }

    /// Where nothing is asked for, nothing will tell when that is over.
    pub(crate) fn left_alone(&self) -> Option<&LeftAlone> {
        self.left_alone.as_ref().filter(|_| self.is_used())
    }

    /// When an exchange that refuses requests is tried again.
    pub(crate) fn next_try(&self) -> Option<Timestamp> {
        let wait = self.schedule.next_try()?.checked_duration_since(Instant::now())?;
        Some(Timestamp::from_system(SystemTime::now() + wait))
    }

    /// No further poll is handed out; the workers end when theirs have.
    pub(crate) fn stop(&mut self) {
        self.handout = None;
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
        Event::Unknown { market, nearest } => {
            let meant = nearest.as_ref().map(|nearest| format!(" nearest={nearest}")).unwrap_or_default();
            log::warn!("the exchange knows no such market, left out exchange={exchange} market={market}{meant}");
        }
        Event::Listed => log::debug!("market list read exchange={exchange}"),
        Event::ListBack => log::info!("market list is read again exchange={exchange}"),
        Event::ListFailed { error } => {
            let err = error.to_string();
            log::warn!("market list cannot be read, trying on exchange={exchange} err={err:?}");
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
