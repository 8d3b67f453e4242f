//! The partitions that the group has given to this process, and how far each is read and stored.

use std::time::{Duration, Instant};

use crate::record::{Epoch, Partition, record_time};

/// The position of a partition that is stopped or held is looked at again after this time: an operator may have set it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The state of each partition. Nothing is read before the database has said from where.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    slots: Vec<Slot>,
    epochs: u64,
}

#[derive(Debug)]
struct Slot {
    partition: Partition,
    epoch: Epoch,
    state: State,
    /// Why the breaker holds it, also while it is read to see whether the cause is gone.
    held: Option<String>,
}

#[derive(Debug)]
enum State {
    /// The position is asked for.
    Asked,
    Reading(Reading),
    /// The position does not fit what Kafka holds.
    Stopped {
        reason: String,
        look_again: Instant,
        /// The generation and position that are known to be of another topic, whatever its ends are.
        foreign: Option<(i32, i64)>,
    },
    /// The breaker holds it.
    Held {
        look_again: Instant,
    },
}

#[derive(Debug)]
struct Reading {
    generation: i32,
    /// The first offset that is not yet handed to the writer.
    next: i64,
    /// Kafka's time of the record before it, which is read first, to be compared.
    before: Option<i64>,
    /// The first offset that is not yet stored.
    stored: i64,
    /// What was last sent to Kafka.
    committed: Option<i64>,
    last_record_ms: Option<i64>,
    /// Kafka may not hold what comes next, which was this offset when that was said.
    suspect: Option<i64>,
}

/// A position to be asked for.
pub(crate) type Ask = (Partition, Epoch);

/// What to do with a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict<'a> {
    Take {
        partition: &'a Partition,
        epoch: Epoch,
        generation: i32,
    },
    /// It is stored already, or its partition is not being read.
    Skip,
    /// It is not the record that was stored as the last one. The partition is stopped, and to be unassigned.
    Foreign {
        partition: Partition,
        reason: String,
    },
}

/// What a revocation leaves to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Revoked {
    /// To be unassigned: those that were being read.
    pub(crate) reading: Vec<Partition>,
    /// Last positions to commit.
    pub(crate) commits: Vec<(Partition, i64)>,
}

/// The whole, for STATUS.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Overview {
    pub(crate) assigned: usize,
    /// Without a position yet.
    pub(crate) asked: usize,
    pub(crate) stopped: Vec<(Partition, String)>,
    pub(crate) held: Vec<(Partition, String)>,
    /// Records not yet stored, as far as Kafka has told the ends.
    pub(crate) lag: u64,
    /// Kafka's time of the last stored record of the partition that is furthest behind, if any is behind.
    pub(crate) behind_since_ms: Option<i64>,
}

impl Partitions {
    fn epoch(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch(self.epochs)
    }

    fn slot(&mut self, partition: &Partition) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.partition == *partition)
    }

    /// The present stay of a partition; none if the epoch is an earlier one's.
    fn stay(&mut self, partition: &Partition, epoch: Epoch) -> Option<&mut State> {
        self.slot(partition).filter(|slot| slot.epoch == epoch).map(|slot| &mut slot.state)
    }

    /// The group has given us these.
    pub(crate) fn assigned(&mut self, partitions: Vec<Partition>) -> Vec<Ask> {
        let mut asks = Vec::new();
        for partition in partitions {
            let epoch = self.epoch();
            self.slots.retain(|slot| slot.partition != partition);
            self.slots.push(Slot { partition: partition.clone(), epoch, state: State::Asked, held: None });
            asks.push((partition, epoch));
        }
        asks
    }

    /// The group has taken these back.
    pub(crate) fn revoked(&mut self, partitions: &[Partition]) -> Revoked {
        let mut revoked = Revoked::default();
        self.slots.retain(|slot| {
            let goes = partitions.contains(&slot.partition);
            if let (true, State::Reading(reading)) = (goes, &slot.state) {
                revoked.reading.push(slot.partition.clone());
                if reading.committed != Some(reading.stored) {
                    revoked.commits.push((slot.partition.clone(), reading.stored));
                }
            }
            !goes
        });
        revoked
    }

    /// The database has told a position. True: the partition is to be read from it, or from one record before if the time
    /// of that is given.
    pub(crate) fn position(
        &mut self,
        partition: &Partition,
        epoch: Epoch,
        generation: i32,
        next: i64,
        before: Option<i64>,
    ) -> bool {
        match self.stay(partition, epoch) {
            Some(State::Stopped { foreign, .. }) if *foreign == Some((generation, next)) => false,
            Some(state @ (State::Asked | State::Stopped { .. } | State::Held { .. })) => {
                *state = State::Reading(Reading {
                    generation,
                    next,
                    before,
                    stored: next,
                    committed: None,
                    last_record_ms: None,
                    suspect: None,
                });
                true
            }
            _ => false,
        }
    }

    /// The position does not fit. True: that is new.
    pub(crate) fn stop(&mut self, partition: &Partition, epoch: Epoch, reason: &str, now: Instant) -> bool {
        let stopped = State::Stopped { reason: reason.to_owned(), look_again: now + LOOK_AGAIN, foreign: None };
        match self.stay(partition, epoch) {
            Some(state @ (State::Asked | State::Held { .. })) => {
                *state = stopped;
                true
            }
            // The reason names what Kafka holds, so it changes all the time.
            Some(state @ State::Stopped { .. }) => {
                *state = stopped;
                false
            }
            _ => false,
        }
    }

    /// The breaker holds a partition.
    pub(crate) fn hold(&mut self, partition: &Partition, epoch: Epoch, reason: &str, now: Instant) {
        let Some(slot) = self.slot(partition).filter(|slot| slot.epoch == epoch) else { return };
        if !matches!(slot.state, State::Reading(_)) {
            slot.state = State::Held { look_again: now + LOOK_AGAIN };
            slot.held = Some(reason.to_owned());
        }
    }

    pub(crate) fn is_held(&self, partition: &Partition) -> bool {
        self.slots.iter().any(|slot| slot.partition == *partition && slot.held.is_some())
    }

    /// The breaker holds it no more.
    pub(crate) fn release(&mut self, partition: &Partition, epoch: Epoch) {
        if let Some(slot) = self.slot(partition).filter(|slot| slot.epoch == epoch) {
            slot.held = None;
        }
    }

    /// Partitions, stopped or held, whose positions are due to be looked at again.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        for slot in &mut self.slots {
            if let State::Stopped { look_again, .. } | State::Held { look_again } = &mut slot.state {
                if *look_again <= now {
                    *look_again = now + LOOK_AGAIN;
                    asks.push((slot.partition.clone(), slot.epoch));
                }
            }
        }
        asks
    }

    /// A record has come, with Kafka's time in milliseconds.
    ///
    /// Offsets may jump forward (compaction, transaction markers); they never go back within a stay.
    pub(crate) fn accept(
        &mut self,
        topic: &str,
        number: i32,
        offset: i64,
        at_ms: Option<i64>,
        now: Instant,
    ) -> Verdict<'_> {
        let ours = |slot: &&mut Slot| slot.partition.number == number && *slot.partition.topic == *topic;
        let Some(slot) = self.slots.iter_mut().find(ours) else { return Verdict::Skip };
        let State::Reading(reading) = &mut slot.state else { return Verdict::Skip };
        let before = reading.before.take();
        if offset >= reading.next {
            reading.next = offset + 1;
            return Verdict::Take { partition: &slot.partition, epoch: slot.epoch, generation: reading.generation };
        }
        let known = before.filter(|_| offset == reading.next - 1).and_then(record_time);
        let (Some(known), Some(found)) = (known, at_ms.and_then(record_time)) else { return Verdict::Skip };
        if known == found {
            return Verdict::Skip;
        }
        let reason = format!(
            "next offset {} follows another record than was stored, so the topic was made anew or cut; offset {offset} is of \
             {found}, stored is one of {known}",
            reading.next
        );
        let foreign = Some((reading.generation, reading.next));
        slot.state = State::Stopped { reason: reason.clone(), look_again: now + LOOK_AGAIN, foreign };
        // The writer is to answer anew, and not from what it holds of this stay.
        self.epochs += 1;
        slot.epoch = Epoch(self.epochs);
        Verdict::Foreign { partition: slot.partition.clone(), reason }
    }

    /// Everything before `next` is stored.
    pub(crate) fn stored(&mut self, partition: &Partition, epoch: Epoch, next: i64, last_record_ms: Option<i64>) {
        if let Some(State::Reading(reading)) = self.stay(partition, epoch) {
            reading.stored = reading.stored.max(next);
            reading.last_record_ms = last_record_ms.or(reading.last_record_ms);
        }
    }

    /// Somebody else has moved the position. The partition is to be unassigned and asked for.
    pub(crate) fn lost(&mut self, partition: &Partition, epoch: Epoch) -> Option<Ask> {
        let new = self.epoch();
        let slot = self.slot(partition).filter(|slot| slot.epoch == epoch)?;
        if !matches!(slot.state, State::Reading(_)) {
            return None;
        }
        slot.epoch = new;
        slot.state = State::Asked;
        Some((slot.partition.clone(), new))
    }

    /// Kafka does not have the offset that some partition reads next, and does not say which one.
    pub(crate) fn suspect_all(&mut self) {
        for slot in &mut self.slots {
            if let State::Reading(reading) = &mut slot.state {
                reading.suspect = Some(reading.next);
            }
        }
    }

    /// Suspects whose positions are to be asked for anew. One that goes on is none any more; the others have to be
    /// stored as far as they are read, for Kafka would not give that again.
    pub(crate) fn suspects(&mut self) -> Vec<Ask> {
        let mut drained = Vec::new();
        for slot in &mut self.slots {
            if let State::Reading(reading) = &mut slot.state {
                reading.suspect = reading.suspect.filter(|next| *next == reading.next);
                if reading.suspect == Some(reading.stored) {
                    drained.push((slot.partition.clone(), slot.epoch));
                }
            }
        }
        drained.into_iter().filter_map(|(partition, epoch)| self.lost(&partition, epoch)).collect()
    }

    /// The partitions that are being read.
    pub(crate) fn reading(&self) -> Vec<Partition> {
        let reading = |slot: &Slot| matches!(slot.state, State::Reading(_)).then(|| slot.partition.clone());
        self.slots.iter().filter_map(reading).collect()
    }

    /// Positions that Kafka has not been told; from now on they count as told.
    pub(crate) fn take_commits(&mut self) -> Vec<(Partition, i64)> {
        let mut commits = Vec::new();
        for slot in &mut self.slots {
            if let State::Reading(reading) = &mut slot.state {
                if reading.committed != Some(reading.stored) {
                    reading.committed = Some(reading.stored);
                    commits.push((slot.partition.clone(), reading.stored));
                }
            }
        }
        commits
    }

    /// A commit has failed: the positions are told again.
    pub(crate) fn commit_failed(&mut self) {
        for slot in &mut self.slots {
            if let State::Reading(reading) = &mut slot.state {
                reading.committed = None;
            }
        }
    }

    /// `end` gives the first offset that Kafka does not have yet, as far as it has told it.
    pub(crate) fn overview(&self, end: impl Fn(&Partition) -> Option<i64>) -> Overview {
        let mut overview = Overview { assigned: self.slots.len(), ..Overview::default() };
        for slot in &self.slots {
            overview.held.extend(slot.held.iter().map(|reason| (slot.partition.clone(), reason.clone())));
            match &slot.state {
                State::Asked => overview.asked += 1,
                State::Held { .. } => {}
                State::Stopped { reason, .. } => overview.stopped.push((slot.partition.clone(), reason.clone())),
                State::Reading(reading) => {
                    let end = end(&slot.partition).unwrap_or(reading.next).max(reading.next);
                    let behind = u64::try_from(end - reading.stored).unwrap_or(0);
                    overview.lag += behind;
                    if behind > 0 {
                        let since = [overview.behind_since_ms, reading.last_record_ms];
                        overview.behind_since_ms = since.into_iter().flatten().min();
                    }
                }
            }
        }
        overview
    }
}

#[cfg(test)]
#[path = "partitions_tests.rs"]
mod tests;
