use super::*;

fn partition(number: i32) -> Partition {
    Partition::new("t", number)
}

/// Partition 0, read from offset 10.
fn reading() -> (Partitions, Epoch) {
    let mut partitions = Partitions::default();
    let asks = partitions.assigned(vec![partition(0)]);
    let epoch = asks[0].1;
    assert!(partitions.position(&partition(0), epoch, 3, 10, None));
    (partitions, epoch)
}

fn taken(partitions: &mut Partitions, offset: i64) -> bool {
    partitions.accept("t", 0, offset, None, Instant::now()) != Verdict::Skip
}

#[test]
fn nothing_is_taken_before_the_position_is_known() {
    let mut partitions = Partitions::default();
    let asks = partitions.assigned(vec![partition(0)]);
    assert!(!taken(&mut partitions, 0));
    assert!(partitions.position(&partition(0), asks[0].1, 0, 5, None));
    assert!(!taken(&mut partitions, 4));
    assert!(taken(&mut partitions, 5));
}

#[test]
fn offsets_may_jump_forward_and_never_go_back() {
    let (mut partitions, epoch) = reading();
    let verdicts: Vec<_> = [9, 10, 10, 14, 12, 15].map(|offset| taken(&mut partitions, offset)).into();
    assert_eq!(verdicts, [false, true, false, true, false, true]);
    let expected = Verdict::Take { partition: &partition(0), epoch, generation: 3 };
    assert_eq!(partitions.accept("t", 0, 16, None, Instant::now()), expected);
    assert_eq!(partitions.accept("u", 0, 17, None, Instant::now()), Verdict::Skip);
    assert_eq!(partitions.accept("t", 1, 17, None, Instant::now()), Verdict::Skip);
}

#[test]
fn the_position_is_committed_at_once_and_then_whenever_it_has_moved() {
    let (mut partitions, epoch) = reading();
    assert_eq!(partitions.take_commits(), [(partition(0), 10)]);
    assert!(partitions.take_commits().is_empty());
    assert!(taken(&mut partitions, 10));
    assert!(partitions.take_commits().is_empty(), "taken is not stored");
    partitions.stored(&partition(0), epoch, 11, None);
    assert_eq!(partitions.take_commits(), [(partition(0), 11)]);
    partitions.commit_failed();
    assert_eq!(partitions.take_commits(), [(partition(0), 11)]);
}

#[test]
fn a_revocation_commits_what_is_stored_and_forgets_the_rest() {
    let (mut partitions, epoch) = reading();
    let asked = partitions.assigned(vec![partition(1)]);
    assert!(taken(&mut partitions, 10) && taken(&mut partitions, 11));
    partitions.stored(&partition(0), epoch, 11, None);
    let revoked = partitions.revoked(&[partition(0), partition(1), partition(2)]);
    assert_eq!(revoked, Revoked { reading: vec![partition(0)], commits: vec![(partition(0), 11)] });
    assert!(!taken(&mut partitions, 12));
    assert!(!partitions.position(&partition(1), asked[0].1, 0, 5, None));
    assert_eq!(partitions.overview(|_| None), Overview::default());
}

#[test]
fn what_belongs_to_an_earlier_stay_does_not_count() {
    let (mut partitions, old) = reading();
    partitions.revoked(&[partition(0)]);
    let new = partitions.assigned(vec![partition(0)])[0].1;
    assert!(!partitions.position(&partition(0), old, 0, 99, None));
    assert!(partitions.position(&partition(0), new, 3, 20, None));
    partitions.stored(&partition(0), old, 25, None);
    assert_eq!(partitions.take_commits(), [(partition(0), 20)]);
    assert_eq!(partitions.lost(&partition(0), old), None);
}

#[test]
fn a_lost_position_is_asked_for_again() {
    let (mut partitions, epoch) = reading();
    let (lost, new) = partitions.lost(&partition(0), epoch).expect("an ask");
    assert_eq!(lost, partition(0));
    assert!(new > epoch && !taken(&mut partitions, 10));
    assert_eq!(partitions.lost(&partition(0), epoch), None, "told twice");
    assert!(partitions.position(&partition(0), new, 4, 7, None));
    assert!(taken(&mut partitions, 7), "the database may have gone back");
}

#[test]
fn a_suspect_is_asked_for_again_once_it_is_stored_as_far_as_it_is_read() {
    let (mut partitions, epoch) = reading();
    let healthy = partitions.assigned(vec![partition(1)])[0].1;
    assert!(partitions.position(&partition(1), healthy, 0, 0, None));
    assert!(taken(&mut partitions, 10));
    partitions.suspect_all();
    assert!(partitions.accept("t", 1, 0, None, Instant::now()) != Verdict::Skip, "this one goes on");
    assert!(partitions.suspects().is_empty(), "offset 10 is not stored yet");
    partitions.stored(&partition(0), epoch, 11, None);
    partitions.stored(&partition(1), healthy, 1, None);
    let asks: Vec<_> = partitions.suspects().into_iter().map(|(partition, _)| partition.number).collect();
    assert_eq!(asks, [0]);
    assert_eq!(partitions.reading(), [partition(1)]);
    assert!(partitions.suspects().is_empty());
}

#[test]
fn a_stopped_partition_is_told_once_and_looked_at_again() {
    let mut partitions = Partitions::default();
    let epoch = partitions.assigned(vec![partition(0)])[0].1;
    let now = Instant::now();
    assert!(partitions.stop(&partition(0), epoch, "too far", now));
    assert!(!partitions.stop(&partition(0), epoch, "another reason", now));
    assert!(partitions.due(now).is_empty());
    let later = now + LOOK_AGAIN;
    assert_eq!(partitions.due(later), [(partition(0), epoch)]);
    assert!(partitions.due(later).is_empty());
    assert_eq!(partitions.overview(|_| None).stopped, [(partition(0), "another reason".to_owned())]);
    assert!(partitions.position(&partition(0), epoch, 1, 0, None), "an operator has set it");
}

#[test]
fn a_held_partition_is_shown_until_it_is_released_and_looked_at_again() {
    let (mut partitions, epoch) = reading();
    let now = Instant::now();
    let held = |partitions: &Partitions| partitions.overview(|_| None).held.len();
    partitions.hold(&partition(0), epoch, "why", now);
    assert_eq!(held(&partitions), 0, "what is read is not held");
    let (_, epoch) = partitions.lost(&partition(0), epoch).expect("an ask");
    partitions.hold(&partition(0), epoch, "why", now);
    assert_eq!((held(&partitions), partitions.reading()), (1, vec![]));
    assert!(!taken(&mut partitions, 10));
    assert!(partitions.due(now).is_empty());
    assert_eq!(partitions.due(now + LOOK_AGAIN), [(partition(0), epoch)]);
    assert!(partitions.position(&partition(0), epoch, 3, 10, None), "it is tried");
    assert_eq!((held(&partitions), taken(&mut partitions, 10)), (1, true));
    partitions.release(&partition(0), epoch);
    assert_eq!(held(&partitions), 0);
}

#[test]
fn a_held_partition_whose_position_does_not_fit_any_more_is_stopped() {
    let mut partitions = Partitions::default();
    let epoch = partitions.assigned(vec![partition(0)])[0].1;
    let now = Instant::now();
    partitions.hold(&partition(0), epoch, "why", now);
    assert!(partitions.stop(&partition(0), epoch, "is deleted already", now));
    assert_eq!(partitions.overview(|_| None).stopped.len(), 1);
}

#[test]
fn lag_counts_what_is_not_stored() {
    let (mut partitions, epoch) = reading();
    partitions.assigned(vec![partition(1)]);
    let lag = |partitions: &Partitions, end| partitions.overview(|_| end).lag;
    assert_eq!(lag(&partitions, Some(30)), 20);
    assert_eq!(lag(&partitions, None), 0);
    assert!(taken(&mut partitions, 10) && taken(&mut partitions, 11));
    assert_eq!(lag(&partitions, None), 2);
    partitions.stored(&partition(0), epoch, 12, Some(5));
    assert_eq!(partitions.overview(|_| Some(12)).behind_since_ms, None);
    assert_eq!(partitions.overview(|_| Some(13)).behind_since_ms, Some(5));
    assert_eq!(partitions.overview(|_| Some(13)).asked, 1);
}

#[test]
fn a_topic_that_was_made_anew_is_known_by_the_record_before_the_position() {
    let now = Instant::now();
    let read = |at_ms: Option<i64>| {
        let mut partitions = Partitions::default();
        let epoch = partitions.assigned(vec![partition(0)])[0].1;
        assert!(partitions.position(&partition(0), epoch, 3, 10, Some(1_700_000_000_123)));
        let is_foreign = matches!(partitions.accept("t", 0, 9, at_ms, now), Verdict::Foreign { .. });
        (partitions, epoch, is_foreign)
    };
    // The same record, or one whose time says nothing.
    for at_ms in [Some(1_700_000_000_123), None, Some(-1), Some(i64::MAX)] {
        let (mut partitions, _, is_foreign) = read(at_ms);
        assert!(!is_foreign && taken(&mut partitions, 10), "{at_ms:?}");
    }
    let (mut partitions, old, is_foreign) = read(Some(1_700_000_000_124));
    assert!(is_foreign && !taken(&mut partitions, 10));
    let (_, reason) = &partitions.overview(|_| None).stopped[0];
    assert!(reason.starts_with("next offset 10 follows another record"), "{reason}");
    assert!(partitions.take_commits().is_empty() && partitions.reading().is_empty());
    // It stays so, whatever is answered, until somebody has set the position.
    let asked = partitions.due(now + LOOK_AGAIN);
    assert_ne!(asked[0].1, old, "the writer is to forget its answer");
    assert!(!partitions.position(&partition(0), asked[0].1, 3, 10, None));
    assert_eq!(partitions.overview(|_| None).stopped.len(), 1);
    assert!(partitions.position(&partition(0), asked[0].1, 4, 10, None));
    assert!(taken(&mut partitions, 10));
}

#[test]
fn a_record_further_back_is_not_the_one_before() {
    let mut partitions = Partitions::default();
    let epoch = partitions.assigned(vec![partition(0)])[0].1;
    assert!(partitions.position(&partition(0), epoch, 3, 10, Some(5)));
    assert_eq!(partitions.accept("t", 0, 8, Some(6), Instant::now()), Verdict::Skip);
}
