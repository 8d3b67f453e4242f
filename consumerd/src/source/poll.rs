//! The poll thread: it polls, decodes, hands over, keeps the assignment and commits. It never waits for PostgreSQL.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use coinflow_common::daemon::Beat;
use coinflow_common::kafka::{Cluster, State as ClusterState, restore_addresses};
use coinflow_common::orderbook::Timestamp;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::aside::Aside;
use super::commits::CommitPace;
use super::context::Happened;
use super::partitions::{Ask, Partitions, Verdict};
use super::{Consumer, Link};
use crate::config::Source;
use crate::decode::judge;
use crate::handover::{Fill, Gate, Handover, Mail, News, Step};
use crate::record::{Buffers, Partition, Raw, Record, Spare};
use crate::state::State;
use crate::store::{Identity, Origin};

/// How long a poll waits for something to happen. Mail of the writer waits as long.
const POLL: Duration = Duration::from_millis(50);
/// Records taken between two looks at everything else.
const RECORDS_IN_A_ROW: usize = 500;
const OVERVIEW_INTERVAL: Duration = Duration::from_millis(500);
/// Positions are read again at most this often when Kafka does not have what is asked of it.
const REREAD_INTERVAL: Duration = Duration::from_secs(2);

/// At the end: how long the writer may go on storing what is queued, ...
const DRAIN: Duration = Duration::from_secs(2);
/// ... when the last commit has to be answered, ...
const LAST_COMMIT: Duration = Duration::from_millis(3300);
/// ... and when the group has to be left.
const LEAVE: Duration = Duration::from_millis(4000);

/// Everything the poll thread owns.
pub(crate) struct Poll {
    source: Source,
    retention: Option<Duration>,
    consumer: Arc<Consumer>,
    cluster: Arc<Cluster>,
    handover: Arc<Handover>,
    state: Arc<State>,
    beat: Beat,
    partitions: Partitions,
    commits: CommitPace,
    gate: Gate,
    /// The database that our commits name.
    committed_as: Option<Identity>,
    subscribed: bool,
    missing_topics: BTreeSet<String>,
    overview_at: Option<Instant>,
    reread_at: Option<Instant>,
    spare: Spare,
}

impl Poll {
    pub(crate) fn new(link: Link, retention: Option<Duration>, beat: Beat) -> Self {
        let Link { source, consumer, cluster, handover, state } = link;
        Self {
            source,
            retention,
            consumer,
            cluster,
            handover,
            state,
            beat,
            partitions: Partitions::default(),
            commits: CommitPace::default(),
            gate: Gate::default(),
            committed_as: None,
            subscribed: false,
            missing_topics: BTreeSet::new(),
            overview_at: None,
            reread_at: None,
            spare: Spare::default(),
        }
    }

    /// Until `stopped` says so, or the client is of no use any more.
    ///
    /// # Errors
    /// Why the client is of no use any more.
    pub(crate) fn run(mut self, stopped: impl Fn() -> bool) -> Result<(), String> {
        while !stopped() {
            if let Err(reason) = self.turn(Instant::now()) {
                self.handover.finish(Instant::now());
                return Err(reason);
            }
        }
        self.finish(Instant::now());
        Ok(())
    }

    fn turn(&mut self, now: Instant) -> Result<(), String> {
        self.beat.turn();
        self.housekeeping(now);
        if !self.subscribed && self.handover.database_seen() {
            let topics: Vec<&str> = self.source.topics.iter().map(String::as_str).collect();
            self.consumer.subscribe(&topics).map_err(|error| error.to_string())?;
            self.subscribed = true;
        }
        match self.gate.step(self.handover.fill(), now) {
            Step::Read => self.read(),
            Step::Wait(at_most) => {
                self.handover.wait_for_room(at_most.min(POLL));
                Ok(())
            }
            Step::Pause => {
                self.each_reading("pause", |consumer, list| consumer.pause(list));
                Ok(())
            }
            Step::Resume => {
                self.each_reading("resume", |consumer, list| consumer.resume(list));
                Ok(())
            }
        }
    }

    /// Everything but reading: mail of the writer, rebalances, commits.
    fn housekeeping(&mut self, now: Instant) {
        for mail in self.handover.mail() {
            self.receive(&mail, now);
        }
        for happened in self.consumer.context().take_happened() {
            self.happen(happened, now);
        }
        for (partition, epoch) in self.partitions.due(now) {
            self.handover.ask(partition, epoch);
        }
        self.reread(now);
        if self.commits.is_due(now) {
            let identity = self.state.view().identity.clone();
            if identity != self.committed_as {
                // Each partition's last commit is to name it, also where no more records come.
                self.partitions.commit_failed();
                self.committed_as = identity;
            }
            let commits = self.partitions.take_commits();
            self.commit(&commits, now);
        }
        if self.overview_at.is_none_or(|at| now.saturating_duration_since(at) >= OVERVIEW_INTERVAL) {
            self.overview_at = Some(now);
            restore_addresses(self.consumer.client(), &self.cluster);
            self.show();
        }
    }

    fn read(&mut self) -> Result<(), String> {
        let consumer = Arc::clone(&self.consumer);
        let now = (Timestamp::from_system(SystemTime::now()), Instant::now());
        let mut wait = POLL;
        for _ in 0..RECORDS_IN_A_ROW {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    if self.take(&message, now) == Fill::Full {
                        break;
                    }
                }
                Some(Err(error)) => {
                    self.failed(&error)?;
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    fn take(&mut self, message: &BorrowedMessage<'_>, (now, instant): (Timestamp, Instant)) -> Fill {
        let offset = message.offset();
        let at_ms = message.timestamp().to_millis();
        let verdict = self.partitions.accept(message.topic(), message.partition(), offset, at_ms, instant);
        let (partition, epoch, generation) = match verdict {
            Verdict::Take { partition, epoch, generation } => (partition, epoch, generation),
            Verdict::Skip => return Fill::Some,
            Verdict::Foreign { partition, reason } => {
                log::error!("partition stopped source={} {partition} reason={reason:?}", self.source.name);
                self.check("unassign", self.consumer.incremental_unassign(&list(vec![partition.clone()])));
                self.handover.forget(&partition);
                return Fill::Some;
            }
        };
        let (spare, handover) = (&mut self.spare, &self.handover);
        let raw = copy(message, buffer(spare, handover, |spare| &mut spare.raws));
        let origin = Origin { source: &self.source.name, partition, generation, offset };
        let fate = judge(&raw, origin, now, self.retention, || buffer(spare, handover, |spare| &mut spare.tuples));
        self.handover.push(Record { partition: partition.clone(), epoch, offset, fate, raw })
    }

    /// An error from `poll` is not the end unless librdkafka says so; what concerns connections is told elsewhere.
    fn failed(&mut self, error: &KafkaError) -> Result<(), String> {
        if let Some((_, reason)) = self.consumer.client().fatal_error() {
            return Err(reason);
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                log::warn!("kafka does not hold what is to be read next source={} err={error}", self.source.name);
                self.partitions.suspect_all();
            }
            Some(RDKafkaErrorCode::PollExceeded) => {
                log::warn!("kafka has given our partitions away, for they were not polled source={}", self.source.name);
            }
            _ => log::debug!("kafka consumer error source={} err={error}", self.source.name),
        }
        Ok(())
    }

    /// Compares with what Kafka holds, not too often.
    fn reread(&mut self, now: Instant) {
        if self.reread_at.is_none_or(|at| now.saturating_duration_since(at) >= REREAD_INTERVAL) {
            let asks = self.partitions.suspects();
            if !asks.is_empty() {
                self.reread_at = Some(now);
                self.ask_again(asks);
            }
        }
    }

    fn receive(&mut self, mail: &Mail, now: Instant) {
        let Mail { partition, epoch, news } = mail;
        match news {
            News::Position { generation, next, before } => {
                if self.partitions.position(partition, *epoch, *generation, *next, *before) {
                    self.assign(partition, *next, before.is_some());
                }
            }
            News::Unfit { reason } => {
                if self.partitions.stop(partition, *epoch, reason, now) {
                    log::error!("partition stopped source={} {partition} reason={reason:?}", self.source.name);
                }
            }
            News::Stored { next, last_record_ms } => {
                self.partitions.stored(partition, *epoch, *next, *last_record_ms);
            }
            News::Held { reason } => self.partitions.hold(partition, *epoch, reason, now),
            News::Released => self.partitions.release(partition, *epoch),
            News::Lost => {
                let asks = self.partitions.lost(partition, *epoch).into_iter().collect();
                self.ask_again(asks);
            }
        }
    }

    fn happen(&mut self, happened: Happened, now: Instant) {
        match happened {
            Happened::Assigned(partitions) => {
                // The group has its answer at once, and each partition is begun when its position is known: a
                // database that is away delays no rebalance, and nothing is ever read from Kafka's own position.
                self.check("assign", self.consumer.incremental_assign(&TopicPartitionList::new()));
                if !partitions.is_empty() {
                    self.consumer.context().not_refused();
                }
                for partition in &partitions {
                    log::info!("partition assigned source={} {partition}", self.source.name);
                    self.missing_topics.remove(&*partition.topic);
                }
                for (partition, epoch) in self.partitions.assigned(partitions) {
                    self.handover.ask(partition, epoch);
                }
            }
            Happened::Revoked { partitions, lost } => {
                for partition in &partitions {
                    self.handover.forget(partition);
                    log::info!("partition revoked source={} {partition} lost={lost}", self.source.name);
                }
                let revoked = self.partitions.revoked(&partitions);
                if !lost {
                    self.commit(&revoked.commits, now);
                }
                self.check("unassign", self.consumer.incremental_unassign(&list(revoked.reading)));
            }
            // The database is the truth; Kafka will be told again.
            Happened::CommitFailed => self.partitions.commit_failed(),
        }
    }

    /// Begins to read a partition, always from an explicit offset: that of its position, or the one before.
    fn assign(&self, partition: &Partition, next: i64, with_one_before: bool) {
        let Some(list) = with_offsets(&[(partition.clone(), next - i64::from(with_one_before))]) else { return };
        // One that is held is tried each minute, which is no news.
        let level = if self.partitions.is_held(partition) { log::Level::Debug } else { log::Level::Info };
        log::log!(level, "partition read source={} {partition} offset={next}", self.source.name);
        self.check("assign", self.consumer.incremental_assign(&list));
        // The mark of an earlier pause outlives an assignment.
        match self.gate.is_paused() {
            true => self.check("pause", self.consumer.pause(&list)),
            false => self.check("resume", self.consumer.resume(&list)),
        }
    }

    fn ask_again(&self, asks: Vec<Ask>) {
        if asks.is_empty() {
            return;
        }
        let partitions = asks.iter().map(|(partition, _)| partition.clone()).collect();
        self.check("unassign", self.consumer.incremental_unassign(&list(partitions)));
        for (partition, epoch) in asks {
            self.handover.forget(&partition);
            self.handover.ask(partition, epoch);
        }
    }

    fn each_reading(&self, what: &str, act: impl Fn(&Consumer, &TopicPartitionList) -> Result<(), KafkaError>) {
        log::debug!("{what} partitions source={}", self.source.name);
        self.check(what, act(&self.consumer, &list(self.partitions.reading())));
    }

    /// These calls change librdkafka's own state only; what fails here is a defect.
    fn check(&self, what: &str, result: Result<(), KafkaError>) {
        if let Err(error) = result {
            log::warn!("kafka client refused to {what} source={} err={error}", self.source.name);
        }
    }

    fn commit(&mut self, commits: &[(Partition, i64)], now: Instant) {
        let Some(list) = self.to_commit(commits) else { return };
        match self.consumer.commit(&list, CommitMode::Async) {
            Ok(()) => self.commits.sent(now),
            Err(error) => {
                log::debug!("kafka commit failed source={} err={error}", self.source.name);
                self.partitions.commit_failed();
            }
        }
    }

    /// With the name of the database that stores.
    fn to_commit(&self, commits: &[(Partition, i64)]) -> Option<TopicPartitionList> {
        let list = with_offsets(commits)?;
        if let Some(identity) = &self.state.view().identity {
            let metadata = identity.metadata();
            list.elements().iter_mut().for_each(|element| element.set_metadata(&metadata));
        }
        Some(list)
    }

    fn show(&mut self) {
        let context = self.consumer.context();
        for topic in context.take_missing_topics() {
            if self.missing_topics.insert(topic.clone()) {
                log::info!("topic does not exist yet, waiting for it source={} topic={topic}", self.source.name);
            }
        }
        let overview = self.partitions.overview(|partition| context.end(partition));
        let mut view = self.state.view();
        view.overview = overview;
        view.missing_topics.clone_from(&self.missing_topics);
    }

    /// The writer stores what is queued, the last positions are committed, the group is left: each as far as it can
    /// be done in time. What is not stored stays in Kafka.
    fn finish(mut self, begin: Instant) {
        self.handover.finish(begin + DRAIN);
        self.each_reading("pause", |consumer, list| consumer.pause(list));
        self.poll_until(begin + DRAIN + POLL, |poll| poll.handover.wait_finished(Duration::ZERO));
        if matches!(self.cluster.state(), ClusterState::Down(_)) {
            // To close a client whose brokers are away can take long or crash (librdkafka before 2.14.2).
            std::mem::forget(self.consumer);
            return;
        }
        // All of them: the answer to an earlier one is not known.
        self.partitions.commit_failed();
        let commits = self.partitions.take_commits();
        if let Some(list) = self.to_commit(&commits) {
            let consumer = Arc::clone(&self.consumer);
            let commit = Aside::run("last-commit", move || {
                if let Err(error) = consumer.commit(&list, CommitMode::Sync) {
                    log::warn!("last commit to kafka failed, the next start makes up for it err={error}");
                }
            });
            self.poll_until(begin + LAST_COMMIT, |_| commit.is_done());
        }
        // Dropping the client leaves the group, which may have to wait for a rebalance that is under way.
        self.consumer.context().set_closing();
        let Self { consumer, .. } = self;
        let close = Aside::run("close", move || drop(consumer));
        while !close.is_done() && Instant::now() < begin + LEAVE {
            std::thread::sleep(POLL / 5);
        }
    }

    /// Serves everything but records, until it is done or too late.
    fn poll_until(&mut self, deadline: Instant, done: impl Fn(&Self) -> bool) {
        loop {
            let now = Instant::now();
            self.beat.turn();
            // Asked first: what came before it was done is still to be taken in.
            let is_done = done(self);
            self.housekeeping(now);
            if is_done || now >= deadline {
                return;
            }
            let consumer = Arc::clone(&self.consumer);
            // A record that still comes is not stored; it stays in Kafka.
            drop(consumer.poll(POLL / 5));
        }
    }
}

fn list(partitions: Vec<Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.number);
    }
    list
}

/// None for an empty list. The offsets are those of the next record to be read.
fn with_offsets(offsets: &[(Partition, i64)]) -> Option<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, next) in offsets {
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*next)).ok()?;
    }
    (list.count() > 0).then_some(list)
}

/// One of our own, or of those that the writer is done with.
fn buffer(spare: &mut Spare, handover: &Handover, kind: fn(&mut Spare) -> &mut Buffers) -> Vec<u8> {
    kind(spare).take().unwrap_or_else(|| {
        spare.append(handover.take_spare());
        kind(spare).take().unwrap_or_default()
    })
}

/// A message pins memory of librdkafka, so it is copied at once.
pub(crate) fn copy(message: &BorrowedMessage<'_>, buffer: Vec<u8>) -> Raw {
    let mut raw = Raw::new(message.timestamp().to_millis(), message.key(), message.payload(), buffer);
    coinflow_common::kafka::each_header(message, |name, value| raw.push_header(name, value));
    raw
}
