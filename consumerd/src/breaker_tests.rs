use super::*;

fn partition(number: i32) -> Partition {
    Partition::new("t", number)
}

fn check() -> Outcome {
    Outcome::Dead(Cause::Sqlstate("23514".to_owned()))
}

fn major() -> Outcome {
    Outcome::Dead(Cause::Major(2))
}

/// A run of the cause of `check`.
fn run(letters: i64, phase: Phase) -> Run {
    Run { cause: Cause::Sqlstate("23514".to_owned()), letters, phase }
}

/// Judges records of partition 0 from offset 0 on.
fn judged(before: Option<Run>, outcomes: &[(usize, Outcome)]) -> (Option<i64>, Option<Option<Run>>) {
    let runs: Runs = before.into_iter().map(|run| (partition(0), run)).collect();
    let partition = partition(0);
    let all = outcomes.iter().flat_map(|(times, outcome)| std::iter::repeat_n(outcome.clone(), *times));
    let mut judgement = judge(&runs, (0..).zip(all).map(|(offset, outcome)| (&partition, offset, outcome)));
    (judgement.cuts.remove(&partition), judgement.changed.remove(&partition))
}

#[test]
fn a_hundred_in_a_row_hold_and_nothing_behind_them_is_stored() {
    let held = Some(Some(run(100, Phase::Held)));
    assert_eq!(judged(None, &[(99, check())]), (None, Some(Some(run(99, Phase::Counting)))));
    assert_eq!(judged(None, &[(100, check())]), (None, held.clone()));
    assert_eq!(judged(None, &[(2000, check())]), (Some(100), held.clone()));
    assert_eq!(judged(None, &[(100, check()), (1, Outcome::Stored)]), (Some(100), held.clone()));
    assert_eq!(judged(None, &[(100, check()), (1, Outcome::Passes)]), (Some(100), held.clone()));
    assert_eq!(judged(Some(run(98, Phase::Counting)), &[(9, check())]), (Some(2), held));
}

#[test]
fn a_stored_book_ends_a_run_and_another_cause_begins_one() {
    let first = |cause| Some(Some(Run { cause, letters: 1, phase: Phase::Counting }));
    assert_eq!(judged(Some(run(99, Phase::Counting)), &[(1, Outcome::Stored)]), (None, Some(None)));
    let broken = [(99, check()), (1, Outcome::Stored), (99, check())];
    assert_eq!(judged(None, &broken), (None, Some(Some(run(99, Phase::Counting)))));
    assert_eq!(judged(None, &[(99, check()), (1, major())]), (None, first(Cause::Major(2))));
    assert_eq!(judged(None, &[(100, major())]).1.flatten().map(|run| run.phase), Some(Phase::Held));
    let other = Outcome::Dead(Cause::Major(3));
    assert_eq!(judged(None, &[(60, major()), (60, other)]).0, None);
}

#[test]
fn what_says_nothing_neither_counts_nor_ends_a_run() {
    assert_eq!(judged(None, &[(300, Outcome::Passes)]), (None, None));
    let mixed = [(50, check()), (300, Outcome::Passes), (50, check()), (1, check())];
    assert_eq!(judged(None, &mixed), (Some(400), Some(Some(run(100, Phase::Held)))));
}

#[test]
fn a_held_partition_takes_anything_but_its_cause() {
    let held = || Some(run(100, Phase::Held));
    assert_eq!(judged(held(), &[(1, check())]), (Some(0), None));
    assert_eq!(judged(held(), &[(1, Outcome::Passes), (1, check())]), (Some(1), None));
    assert_eq!(judged(held(), &[(1, Outcome::Stored)]), (None, Some(None)));
    assert_eq!(judged(held(), &[(1, Outcome::Stored), (1, check())]), (None, Some(Some(run(1, Phase::Counting)))));
    let other = Run { cause: Cause::Major(2), letters: 1, phase: Phase::Counting };
    assert_eq!(judged(held(), &[(1, major())]), (None, Some(Some(other))));
}

#[test]
fn what_is_accepted_passes_until_a_book_is_stored() {
    let accepted = || Some(run(100, Phase::Accepted));
    assert_eq!(judged(accepted(), &[(5000, check())]), (None, None));
    let armed = [(500, check()), (1, Outcome::Stored), (101, check())];
    assert_eq!(judged(accepted(), &armed), (Some(601), Some(Some(run(100, Phase::Held)))));
    assert_eq!(judged(accepted(), &[(101, major())]).0, Some(100));
}

#[test]
fn partitions_do_not_count_for_each_other() {
    let partitions = [partition(0), partition(1)];
    let outcomes = (0..400).map(|n| {
        let outcome = if n % 2 == 0 { check() } else { Outcome::Stored };
        (&partitions[n % 2], n as i64, outcome)
    });
    let judgement = judge(&Runs::new(), outcomes);
    assert_eq!(judgement.cuts, BTreeMap::from([(partition(0), 200)]));
    assert_eq!(judgement.changed, BTreeMap::from([(partition(0), Some(run(100, Phase::Held)))]));
}

fn wait(is_new: bool) -> Entry {
    Entry::Wait { reason: reason(&run(100, Phase::Held)), is_new }
}

fn again() -> Entry {
    Entry::Try(reason(&run(100, Phase::Held)))
}

#[test]
fn a_held_partition_is_told_once_and_tried_each_minute() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let held = || Some(run(100, Phase::Held));
    let mut breaker = Breaker::default();
    let turned = breaker.turn(BTreeMap::from([(partition(0), held())]), at(0));
    assert_eq!(turned, Turned { held: vec![partition(0)], ..Turned::default() });
    assert!(breaker.is_held(&partition(0)) && !breaker.is_held(&partition(1)));
    let entries: Vec<_> =
        [0, 5, 59, 60, 61, 119, 120].map(|second| breaker.enter(&partition(0), held(), at(second))).into();
    assert_eq!(entries, [wait(true), wait(false), wait(false), again(), wait(false), wait(false), again()]);
    let turned = breaker.turn(BTreeMap::from([(partition(0), None)]), at(121));
    assert_eq!(turned, Turned { released: vec![partition(0)], ..Turned::default() });
    assert_eq!(breaker.enter(&partition(0), None, at(122)), Entry::Free { is_released: false });
}

#[test]
fn after_a_restart_it_is_tried_at_once_and_told_if_that_fails() {
    let now = Instant::now();
    let mut breaker = Breaker::default();
    let held = || Some(run(100, Phase::Held));
    assert_eq!(breaker.enter(&partition(0), held(), now), again());
    assert_eq!(breaker.enter(&partition(0), held(), now), wait(true));
    assert_eq!(breaker.enter(&partition(0), held(), now), wait(false));
}

#[test]
fn an_operator_lets_it_go() {
    let now = Instant::now();
    let mut breaker = Breaker::default();
    breaker.turn(BTreeMap::from([(partition(0), Some(run(100, Phase::Held)))]), now);
    let accepted = || Some(run(100, Phase::Accepted));
    assert_eq!(breaker.enter(&partition(0), accepted(), now), Entry::Free { is_released: true });
    assert_eq!(breaker.enter(&partition(0), accepted(), now), Entry::Free { is_released: false });
    // A reset of the position: its run is that of another generation.
    breaker.turn(BTreeMap::from([(partition(1), Some(run(100, Phase::Held)))]), now);
    assert_eq!(breaker.enter(&partition(1), None, now), Entry::Free { is_released: true });
    assert!(breaker.runs().contains_key(&partition(0)) && !breaker.runs().contains_key(&partition(1)));
}

#[test]
fn the_reason_names_number_and_cause() {
    let expected = "100 dead letters in a row with SQLSTATE 23514; tried again each minute; \
                    consumerd dead-letters accept lets them pass";
    assert_eq!(reason(&run(100, Phase::Held)), expected);
    assert_eq!(Cause::Major(2).to_string(), "schema major 2");
}
