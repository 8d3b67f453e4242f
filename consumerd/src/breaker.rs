//! When a partition's dead letters stop being the fault of single records.
//!
//! So many in a row with one cause mean that something is wrong with the table, or that producers were upgraded before
//! consumers. The partition is held then: what follows stays in Kafka and is tried again, so that it need not be
//! brought back from the dead letters by hand.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use crate::record::Partition;

/// So many in a row, and the partition is held.
pub(crate) const LETTERS_MAX: i64 = 100;
/// A held partition is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// A cause that the next records may share. What makes a single record unreadable is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// PostgreSQL refused the row with this code.
    Sqlstate(String),
    /// The schema header names this major version.
    Major(u32),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlstate(code) => write!(f, "SQLSTATE {code}"),
            Self::Major(major) => write!(f, "schema major {major}"),
        }
    }
}

/// Dead letters of one partition with one cause, and no book stored between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) cause: Cause,
    pub(crate) letters: i64,
    pub(crate) phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Counting,
    /// Nothing more of this cause is stored.
    Held,
    /// An operator lets the rest of them pass.
    Accepted,
}

/// The partitions whose last records became dead letters.
pub(crate) type Runs = BTreeMap<Partition, Run>;

/// What a record came to, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A book is stored: the cause is gone.
    Stored,
    /// An expired record, or one that nobody could read: it says nothing about the next one.
    Passes,
    Dead(Cause),
}

/// What is to become of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// From this offset on nothing of the partition may be stored.
    pub(crate) cuts: BTreeMap<Partition, i64>,
    /// The runs that are different behind the batch; none where one has ended.
    pub(crate) changed: BTreeMap<Partition, Option<Run>>,
}

/// Judges the outcomes of a batch: partition, offset and outcome in the order of the records.
pub(crate) fn judge<'a>(runs: &Runs, outcomes: impl IntoIterator<Item = (&'a Partition, i64, Outcome)>) -> Judgement {
    let mut cuts = BTreeMap::new();
    let mut now: BTreeMap<&Partition, Option<Run>> = BTreeMap::new();
    let mut tripped = BTreeSet::new();
    for (partition, offset, outcome) in outcomes {
        if cuts.contains_key(partition) {
            continue;
        }
        let run = now.entry(partition).or_insert_with(|| runs.get(partition).cloned());
        let is_cut = tripped.contains(partition) || !take(run, outcome);
        if is_cut {
            cuts.insert(partition.clone(), offset);
        } else if is_held(run.as_ref()) && !is_held(runs.get(partition)) {
            tripped.insert(partition);
        }
    }
    now.retain(|partition, run| run.as_ref() != runs.get(*partition));
    Judgement { cuts, changed: now.into_iter().map(|(partition, run)| (partition.clone(), run)).collect() }
}

fn is_held(run: Option<&Run>) -> bool {
    run.is_some_and(|run| run.phase == Phase::Held)
}

/// Takes one outcome into account. False: the record may not be stored.
fn take(run: &mut Option<Run>, outcome: Outcome) -> bool {
    match (run.as_mut(), outcome) {
        (_, Outcome::Passes) => {}
        (_, Outcome::Stored) => *run = None,
        (Some(Run { cause, letters, phase }), Outcome::Dead(again)) if *cause == again => match phase {
            Phase::Held => return false,
            Phase::Accepted => {}
            Phase::Counting => {
                *letters += 1;
                if *letters >= LETTERS_MAX {
                    *phase = Phase::Held;
                }
            }
        },
        (_, Outcome::Dead(cause)) => *run = Some(Run { cause, letters: 1, phase: Phase::Counting }),
    }
    true
}

/// Why a partition is held, for STATUS and the log.
pub(crate) fn reason(run: &Run) -> String {
    format!(
        "{} dead letters in a row with {}; tried again each minute; consumerd dead-letters accept lets them pass",
        run.letters, run.cause
    )
}

/// Follows the partitions of a source.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    runs: Runs,
    held: BTreeMap<Partition, Hold>,
}

#[derive(Debug)]
struct Hold {
    tried_at: Instant,
    is_told: bool,
}

/// What to do with a partition whose position is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is read.
    Free {
        /// It was held until now.
        is_released: bool,
    },
    /// It is held, and read to see whether the cause is gone.
    Try(String),
    /// It is held.
    Wait { reason: String, is_new: bool },
}

/// What a stored batch has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turned {
    /// Not to be read any further.
    pub(crate) held: Vec<Partition>,
    /// Not held any more.
    pub(crate) released: Vec<Partition>,
}

impl Breaker {
    pub(crate) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Whether what comes of the partition is only tried, one record after another.
    pub(crate) fn is_held(&self, partition: &Partition) -> bool {
        is_held(self.runs.get(partition))
    }

    /// The database has told the run of a partition that is to be read. One that is held and not known here, because
    /// the process has just begun or the group has just given it to us, is tried at once: this may be another version.
    pub(crate) fn enter(&mut self, partition: &Partition, run: Option<Run>, now: Instant) -> Entry {
        let reason = run.as_ref().map(reason).unwrap_or_default();
        let is_held = is_held(run.as_ref());
        self.keep(partition, run);
        if !is_held {
            return Entry::Free { is_released: self.held.remove(partition).is_some() };
        }
        match self.held.entry(partition.clone()) {
            Slot::Vacant(slot) => {
                slot.insert(Hold { tried_at: now, is_told: false });
                Entry::Try(reason)
            }
            Slot::Occupied(mut slot) => {
                let hold = slot.get_mut();
                if now.saturating_duration_since(hold.tried_at) >= TRY_AGAIN {
                    hold.tried_at = now;
                    return Entry::Try(reason);
                }
                Entry::Wait { reason, is_new: !std::mem::replace(&mut hold.is_told, true) }
            }
        }
    }

    /// A batch that changed these runs is stored.
    pub(crate) fn turn(&mut self, changed: BTreeMap<Partition, Option<Run>>, now: Instant) -> Turned {
        let mut turned = Turned::default();
        for (partition, run) in changed {
            let (was_held, is_held) = (self.is_held(&partition), is_held(run.as_ref()));
            self.keep(&partition, run);
            if is_held && !was_held {
                self.held.insert(partition.clone(), Hold { tried_at: now, is_told: false });
                turned.held.push(partition);
            } else if !is_held && self.held.remove(&partition).is_some() {
                turned.released.push(partition);
            }
        }
        turned
    }

    fn keep(&mut self, partition: &Partition, run: Option<Run>) {
        match run {
            Some(run) => _ = self.runs.insert(partition.clone(), run),
            None => _ = self.runs.remove(partition),
        }
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
