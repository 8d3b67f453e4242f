//! The writer thread of a source: it stores batches, one after another, and answers for positions.

mod answer;
mod group;
mod health;
mod hold;
mod moved;
mod plan;
mod resolve;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coinflow_common::daemon::Beat;
use coinflow_common::orderbook::Timestamp;

pub(crate) use health::{Change, Health, pace};
pub(crate) use resolve::Claims;

use crate::backoff::Backoff;
use crate::breaker::Breaker;
use crate::config::Postgres;
use crate::handover::{Handover, News};
use crate::record::{Epoch, Fate, Partition, Record};
use crate::source::{Consumer, Link};
use crate::state::State;
use crate::store::{Class, Failure, PgFault, Store, Written};
use plan::{Fence, Positions, batch, fence, keep_current, steps};
use resolve::Resolver;

/// What the writer waits on inside a call to PostgreSQL.
pub(crate) const WAITS_ON: &str = "PostgreSQL";
/// How long an idle writer waits. Questions that Kafka could not answer are asked again after as long.
const IDLE: Duration = Duration::from_secs(1);
/// An idle connection is tried after so long, so that STATUS tells the truth.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// A reason may quote the record; the table has all of it.
const REASON_CHARS_MAX: usize = 160;
/// A line about dead letters, or about lost positions, is written at most this often.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// The longest pause between two questions to Kafka about one partition.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(15);
/// So often in a row Kafka may have no answer before the operator hears of it.
const UNANSWERED_TOLD_AT: u32 = 3;

/// Everything the writer thread owns.
pub(crate) struct Writer {
    settings: Postgres,
    resolver: Resolver,
    consumer: Arc<Consumer>,
    handover: Arc<Handover>,
    state: Arc<State>,
    beat: Beat,
    store: Option<Store>,
    positions: Positions,
    /// The batch at hand.
    records: Vec<Record>,
    /// So many of them at once: halved when a statement takes too long.
    records_max: usize,
    health: Health,
    backoff: Backoff,
    answered_at: Instant,
    /// What it knows of a partition is what the database had at the last answer, and every batch since.
    breaker: Breaker,
    /// Partitions for whose position Kafka could not be asked.
    unanswered: BTreeMap<Partition, Unanswered>,
    dead_letters: DeadLetters,
    fence_told_at: Option<Instant>,
    looked_at: Instant,
    group_looked_at: Option<Instant>,
}

/// How often Kafka had no answer in a row, and when it is asked again.
#[derive(Debug)]
struct Unanswered {
    tries: u32,
    ask_at: Instant,
}

/// Dead letters since the last line about them.
#[derive(Debug, Default)]
struct DeadLetters {
    told_at: Option<Instant>,
    untold: u64,
}

impl Writer {
    pub(crate) fn new(link: Link, settings: Postgres, claims: Arc<Claims>, beat: Beat) -> Self {
        let Link { source, consumer, handover, state, .. } = link;
        Self {
            settings,
            resolver: Resolver::new(source, claims),
            consumer,
            handover,
            state,
            beat,
            store: None,
            positions: Positions::new(),
            records: Vec::new(),
            records_max: usize::MAX,
            health: Health::default(),
            backoff: Backoff::new(),
            answered_at: Instant::now(),
            breaker: Breaker::default(),
            unanswered: BTreeMap::new(),
            dead_letters: DeadLetters::default(),
            fence_told_at: None,
            looked_at: Instant::now(),
            group_looked_at: None,
        }
    }

    /// Until the handover says to finish, and everything queued is stored or it is too late for that.
    pub(crate) fn run(mut self) {
        loop {
            self.beat.turn();
            let wait = if self.records.is_empty() && self.store.is_some() { IDLE } else { Duration::ZERO };
            let work = {
                let _waiting = self.beat.waiting("work");
                self.handover.work(self.records.is_empty(), wait)
            };
            self.records.extend(work.records);
            let finished = self.records.is_empty() || self.store.is_none();
            if work.finish_by.is_some_and(|by| finished || by <= Instant::now()) {
                break;
            }
            match self.turn(&work.asks) {
                Ok(()) => self.served(),
                Err(fault) => {
                    if self.failed(&fault).is_some() {
                        break;
                    }
                }
            }
        }
        let handover = Arc::clone(&self.handover);
        drop(self);
        handover.set_finished();
    }

    /// Whatever there is to do, once.
    fn turn(&mut self, asks: &[(Partition, Epoch)]) -> Result<(), PgFault> {
        if self.store.is_none() {
            let _waiting = self.beat.waiting(WAITS_ON);
            let store = Store::open(&self.settings, &self.resolver.name)?;
            self.state.view().identity = Some(store.identity.clone());
            self.store = Some(store);
            self.handover.set_database_seen();
        }
        self.look_at_group(asks);
        self.unanswered.retain(|partition, _| asks.iter().any(|(asked, _)| asked == partition));
        // One that Kafka has no answer for must not hold up the others.
        let mut asks: Vec<_> = asks.iter().collect();
        asks.sort_by_key(|(partition, _)| self.unanswered.get(partition).map_or(0, |unanswered| unanswered.tries));
        for (partition, epoch) in asks {
            if self.unanswered.get(partition).is_none_or(|unanswered| unanswered.ask_at <= Instant::now()) {
                self.answer(partition, *epoch)?;
            }
        }
        if !self.records.is_empty() {
            if self.looked_at.elapsed() >= moved::LOOK {
                self.look()?;
            }
            return self.store_batch();
        }
        if self.answered_at.elapsed() >= PROBE_INTERVAL || self.looked_at.elapsed() >= moved::LOOK {
            if let Some(store) = &mut self.store {
                let _waiting = self.beat.waiting(WAITS_ON);
                store.probe(PROBE_TIMEOUT)?;
            }
            self.look()?;
            self.answered_at = Instant::now();
        }
        Ok(())
    }

    /// Stores the batch at hand, or a part of it.
    fn store_batch(&mut self) -> Result<(), PgFault> {
        keep_current(&mut self.records, &self.positions);
        let number = self.records.len().min(self.records_max);
        if number == 0 {
            return Ok(());
        }
        let batch = batch(&self.records[..number], |partition| self.breaker.is_held(partition));
        let is_whole = batch.len() == number;
        let steps = steps(batch.iter().copied(), &self.positions);
        let Some(store) = &mut self.store else { return Ok(()) };
        let result = {
            let _waiting = self.beat.waiting(WAITS_ON);
            store.write(&steps, &batch, self.breaker.runs())
        };
        match result {
            Ok(mut written) => {
                self.count(&written);
                for step in steps {
                    self.moved(&step.partition, step.to, step.last_record_ms);
                }
                match is_whole {
                    true => self.handover.recycle(self.records.drain(..number)),
                    false => keep_current(&mut self.records, &self.positions),
                }
                self.records_max = self.records_max.saturating_mul(2);
                self.turned(std::mem::take(&mut written.runs));
                Ok(())
            }
            Err(Failure::Fence(index)) => self.fenced(&steps[index].partition),
            Err(Failure::Cut(cuts)) => {
                cuts.into_iter().for_each(|(partition, at)| self.cut(&partition, at));
                Ok(())
            }
            Err(Failure::Refused(fault)) => {
                match fault.class() {
                    Class::MissingDay => store.forget_days(),
                    Class::Timeout => self.records_max = (number / 2).max(1),
                    _ => {}
                }
                Err(fault)
            }
            Err(Failure::Unknown(fault)) => {
                for step in steps {
                    if let Some(held) = self.positions.get_mut(&step.partition) {
                        held.doubt = Some(step.to);
                    }
                }
                Err(fault)
            }
        }
    }

    /// Everything before `to` is stored.
    fn moved(&mut self, partition: &Partition, to: i64, last_record_ms: Option<i64>) {
        if let Some(held) = self.positions.get_mut(partition) {
            held.at.next = to;
            held.doubt = None;
            self.handover.post(partition, held.epoch, News::Stored { next: to, last_record_ms });
        }
    }

    /// A position is not where it was. Nothing of the batch is stored; the rest is tried again at the next turn.
    fn fenced(&mut self, partition: &Partition) -> Result<(), PgFault> {
        let (Some(held), Some(store)) = (self.positions.get(partition), &mut self.store) else { return Ok(()) };
        let found = {
            let _waiting = self.beat.waiting(WAITS_ON);
            store.position(&held.cluster, partition)?
        };
        match fence(held, found) {
            Fence::Stored => {
                let run = {
                    let _waiting = self.beat.waiting(WAITS_ON);
                    store.run(&held.cluster, partition, held.at.generation)?
                };
                let to = held.doubt.unwrap_or(held.at.next);
                let of_it = |record: &&Record| record.partition == *partition && record.offset < to;
                self.count(&presumably(self.records.iter().filter(of_it)));
                self.moved(partition, to, None);
                log::info!("the unanswered commit has taken place source={} {partition} next={to}", self.resolver.name);
                keep_current(&mut self.records, &self.positions);
                self.turned(BTreeMap::from([(partition.clone(), run)]));
            }
            Fence::Lost => self.lost(partition, found),
        }
        Ok(())
    }

    fn count(&mut self, written: &Written) {
        self.answered_at = Instant::now();
        let counters = &self.state.counters;
        counters.books_stored.add(written.books);
        counters.dead_letters.add(written.dead_letters);
        counters.expired.add(written.expired);
        counters.batches.add(1);
        let dead = &mut self.dead_letters;
        dead.untold += written.dead_letters;
        let may_tell = dead.told_at.is_none_or(|at| at.elapsed() >= TELL_AGAIN);
        if let (true, Some((partition, offset, reason))) = (may_tell, written.refusals.last()) {
            log::warn!(
                "records went to the dead letters source={} count={} last: {partition} offset={offset} reason={:?}",
                self.resolver.name,
                dead.untold,
                reason.chars().take(REASON_CHARS_MAX).collect::<String>()
            );
            *dead = DeadLetters { told_at: Some(Instant::now()), untold: 0 };
        }
    }

    fn served(&mut self) {
        self.backoff.reset();
        let change = self.health.served();
        if let Some(change) = change {
            self.show(&change, "");
        }
    }

    /// Waits before the next try; tells when the source is to end.
    fn failed(&mut self, fault: &PgFault) -> Option<Instant> {
        let class = fault.class();
        log::debug!("database try failed source={} class={class:?} err={fault}", self.resolver.name);
        if fault.is_lock_timeout() {
            self.end_frozen_writers();
        }
        // Whatever it was, a new connection has no broken transaction, no stale plan, and the right server.
        if fault.closed || !matches!(class, Class::Concurrency | Class::Timeout | Class::MissingDay) {
            self.store = None;
        }
        if let Some(change) = self.health.failed(fault, now()) {
            self.show(&change, &fault.to_string());
        }
        self.state.view().database = self.health.database().clone();
        let chance = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_micros();
        let pause = self.backoff.next(pace(class), chance);
        let _waiting = self.beat.waiting("back-off");
        self.handover.pause(pause)
    }

    /// A position that is ours is locked for long: whoever holds it may not move any more.
    fn end_frozen_writers(&mut self) {
        let Some(store) = &mut self.store else { return };
        let ended = {
            let _waiting = self.beat.waiting(WAITS_ON);
            store.end_frozen_writers()
        };
        let source = &self.resolver.name;
        match ended {
            Ok(pids) => pids.iter().for_each(|pid| {
                log::warn!("ended the session of a writer that had stopped in the middle source={source} pid={pid}");
            }),
            Err(fault) => log::debug!("frozen writers cannot be looked for source={source} err={fault}"),
        }
    }

    fn show(&self, change: &Change, reason: &str) {
        let source = &self.resolver.name;
        match change {
            Change::Down => log::warn!("database is not reachable source={source} err={reason:?}"),
            Change::Refuses => log::warn!("database refuses, trying on source={source} err={reason:?}"),
            Change::First => log::info!("database is reachable source={source}"),
            Change::Back { since } => log::info!("database is back source={source} away_since={since}"),
        }
        self.state.view().database = self.health.database().clone();
    }
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// What a batch came to whose COMMIT was not answered: what PostgreSQL refused of it is not known any more.
fn presumably<'a>(records: impl Iterator<Item = &'a Record>) -> Written {
    let mut written = Written::default();
    for record in records {
        match record.fate {
            Fate::Book(_) => written.books += 1,
            Fate::Dead { .. } => written.dead_letters += 1,
            Fate::Expired => written.expired += 1,
        }
    }
    written
}
