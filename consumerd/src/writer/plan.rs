//! What a batch does to the positions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::record::{Epoch, Fate, Partition, Record};
use crate::store::{Position, Step};

/// A partition's position as the writer knows it, during one stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) epoch: Epoch,
    pub(super) cluster: Arc<str>,
    pub(super) at: Position,
    /// Where the position may be, too: COMMIT of this step was sent and not answered.
    pub(super) doubt: Option<i64>,
    /// Nothing from this offset on is to be stored in this stay.
    pub(super) until: Option<i64>,
}

/// The positions of all partitions that have one.
pub(super) type Positions = BTreeMap<Partition, Held>;

/// Keeps those records that are still to be stored: of the present stay, not before the position, and before a cut.
pub(super) fn keep_current(records: &mut Vec<Record>, positions: &Positions) {
    records.retain(|record| {
        positions.get(&record.partition).is_some_and(|held| {
            held.epoch == record.epoch
                && record.offset >= held.at.next
                && held.until.is_none_or(|until| record.offset < until)
        })
    });
}

/// The records to be stored together: of a partition that is held, those up to the next one that tells whether its cause
/// is gone.
pub(super) fn batch(records: &[Record], is_held: impl Fn(&Partition) -> bool) -> Vec<&Record> {
    let mut batch = Vec::with_capacity(records.len());
    let mut decided = BTreeSet::new();
    for record in records {
        if !is_held(&record.partition) {
            batch.push(record);
        } else if !decided.contains(&record.partition) {
            batch.push(record);
            if matches!(record.fate, Fate::Book(_) | Fate::Dead { major: Some(_), .. }) {
                decided.insert(&record.partition);
            }
        }
    }
    batch
}

/// The steps that a batch takes, in the order of the partitions.
pub(super) fn steps<'a>(records: impl IntoIterator<Item = &'a Record>, positions: &Positions) -> Vec<Step> {
    let mut steps: BTreeMap<&Partition, Step> = BTreeMap::new();
    for record in records {
        let Some(held) = positions.get(&record.partition) else { continue };
        let step = steps.entry(&record.partition).or_insert_with(|| Step {
            cluster: Arc::clone(&held.cluster),
            partition: record.partition.clone(),
            generation: held.at.generation,
            from: held.at.next,
            to: held.at.next,
            last_record_ms: None,
        });
        // Records of a partition come in the order of their offsets: the poll thread takes no other.
        debug_assert!(record.offset >= step.to, "offset {} after {}", record.offset, step.to);
        step.to = record.offset + 1;
        step.last_record_ms = record.raw.at_ms.or(step.last_record_ms);
    }
    steps.into_values().collect()
}

/// What a compare-and-set that failed means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fence {
    /// The COMMIT that was not answered has taken place.
    Stored,
    /// Somebody else has moved the position.
    Lost,
}

/// `found`: the row as it is now.
pub(super) fn fence(held: &Held, found: Option<Position>) -> Fence {
    let ours = |found: Position| found.generation == held.at.generation && Some(found.next) == held.doubt;
    if found.is_some_and(ours) { Fence::Stored } else { Fence::Lost }
}

/// Held positions that are found in another generation, since an operator has set them, or before ours or not at all,
/// since the database is an older state of itself. One that is found ahead does not matter here: a COMMIT of our own may
/// be on its way.
pub(super) fn set_otherwise(
    positions: &Positions,
    found: &[(String, Partition, Position)],
) -> Vec<(Partition, Option<Position>)> {
    let moved = |(partition, held): (&Partition, &Held)| {
        let row = found.iter().find(|(cluster, of, _)| of == partition && **cluster == *held.cluster);
        let at = row.map(|(.., at)| *at);
        let is_ours = at.is_some_and(|at| at.generation == held.at.generation && at.next >= held.at.next);
        (!is_ours).then(|| (partition.clone(), at))
    };
    positions.iter().filter_map(moved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Raw;

    fn partition(number: i32) -> Partition {
        Partition::new("t", number)
    }

    fn record(number: i32, epoch: u64, offset: i64) -> Record {
        let raw = Raw::new(Some(offset * 10), None, None, Vec::new());
        Record { partition: partition(number), epoch: Epoch(epoch), offset, fate: Fate::Expired, raw }
    }

    fn held(epoch: u64, next: i64, doubt: Option<i64>) -> Held {
        Held { epoch: Epoch(epoch), cluster: "c".into(), at: Position { generation: 2, next }, doubt, until: None }
    }

    fn positions() -> Positions {
        Positions::from([(partition(0), held(1, 10, None)), (partition(1), held(2, 0, None))])
    }

    #[test]
    fn records_of_another_stay_or_before_the_position_are_left_out() {
        let mut records = vec![record(0, 1, 9), record(0, 1, 10), record(1, 1, 0), record(1, 2, 0), record(2, 3, 0)];
        keep_current(&mut records, &positions());
        let kept: Vec<_> = records.iter().map(|record| (record.partition.number, record.offset)).collect();
        assert_eq!(kept, [(0, 10), (1, 0)]);
    }

    #[test]
    fn records_behind_a_cut_are_left_out() {
        let mut positions = positions();
        positions.get_mut(&partition(0)).expect("held").until = Some(12);
        let mut records = vec![record(0, 1, 11), record(0, 1, 12), record(1, 2, 12), record(0, 1, 13)];
        keep_current(&mut records, &positions);
        let kept: Vec<_> = records.iter().map(|record| (record.partition.number, record.offset)).collect();
        assert_eq!(kept, [(0, 11), (1, 12)]);
    }

    #[test]
    fn of_a_held_partition_the_next_record_that_tells_is_tried() {
        let tells = |offset| {
            let fate = Fate::Dead { reason: String::new(), major: Some(2) };
            Record { fate, ..record(0, 1, offset) }
        };
        let records = [record(0, 1, 11), record(1, 2, 12), tells(12), record(0, 1, 13), tells(14), record(1, 2, 13)];
        let batch = batch(&records, |held| *held == partition(0));
        let chosen: Vec<_> = batch.iter().map(|record| (record.partition.number, record.offset)).collect();
        assert_eq!(chosen, [(0, 11), (1, 12), (0, 12), (1, 13)]);
    }

    #[test]
    fn each_partition_takes_one_step_behind_its_last_record() {
        let records = [record(1, 2, 0), record(0, 1, 10), record(1, 2, 5), record(0, 1, 11)];
        let steps = steps(&records, &positions());
        let seen: Vec<_> =
            steps.iter().map(|step| (step.partition.number, step.from, step.to, step.last_record_ms)).collect();
        assert_eq!(seen, [(0, 10, 12, Some(110)), (1, 0, 6, Some(50))]);
        assert_eq!(steps[0].generation, 2);
    }

    #[test]
    fn a_commit_in_doubt_is_recognised_by_where_it_led() {
        let at = |generation, next| Some(Position { generation, next });
        let table = [
            (Some(20), at(2, 20), Fence::Stored),
            (Some(20), at(2, 25), Fence::Lost),
            (Some(20), at(3, 20), Fence::Lost),
            (Some(20), None, Fence::Lost),
            (None, at(2, 20), Fence::Lost),
        ];
        for (doubt, found, expected) in table {
            assert_eq!(fence(&held(1, 10, doubt), found), expected, "{doubt:?} {found:?}");
        }
    }

    #[test]
    fn another_generation_and_an_earlier_position_tell_of_somebody_else() {
        let found = |cluster: &str, number, generation, next| {
            (cluster.to_owned(), partition(number), Position { generation, next })
        };
        let at = |generation, next| Some(Position { generation, next });
        let rows = [found("c", 0, 3, 10), found("c", 1, 2, 7), found("another", 1, 5, 0), found("c", 2, 1, 0)];
        assert_eq!(set_otherwise(&positions(), &rows), [(partition(0), at(3, 10))]);
        let rows = [found("c", 0, 2, 9), found("another", 1, 2, 0)];
        assert_eq!(set_otherwise(&positions(), &rows), [(partition(0), at(2, 9)), (partition(1), None)]);
    }
}
