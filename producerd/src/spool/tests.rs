use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::frame::tests::record;
use super::position::Position;
use super::*;
use crate::publish::Record;

/// So much that a segment takes 4 KiB.
const MAX_BYTES: u64 = 64 << 10;

fn records(from: usize, count: usize) -> Vec<Record> {
    (from..from + count).map(|index| record(&format!("{index:0100}"))).collect()
}

fn open(folder: &TempDir) -> (Store, Opened) {
    Store::open(folder.path(), MAX_BYTES).unwrap()
}

fn append(store: &mut Store, records: &[Record]) -> std::io::Result<Loss> {
    store.append(records.iter(), 0)?;
    Ok(store.take_loss())
}

fn index(record: &Record) -> usize {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

/// Reads all that is there.
fn read(store: &mut Store) -> (Vec<usize>, u64) {
    let batch = store.read(usize::MAX).unwrap();
    (batch.records.iter().map(|numbered| index(&numbered.record)).collect(), batch.damaged)
}

fn segments(folder: &TempDir) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "spool"));
    paths.sort();
    paths
}

#[test]
fn what_goes_in_comes_out_in_order_and_over_restarts() {
    let folder = TempDir::new().unwrap();
    let (mut store, opened) = open(&folder);
    assert_eq!(opened, Opened::default());
    append(&mut store, &records(0, 30)).unwrap();
    append(&mut store, &records(30, 70)).unwrap();
    assert_eq!(store.waiting(), 100);
    // A part of it is read, and some of that delivered; then the process is killed.
    let batch = store.read(1000).unwrap();
    assert_eq!(batch.records.len(), 10);
    store.acked(batch.records[4].number);
    store.sync().unwrap();
    append(&mut store, &records(100, 10)).unwrap();
    drop(store);
    let (mut store, opened) = open(&folder);
    // What was reserved is more than what was read.
    assert_eq!(opened, Opened { records: 106, maybe_sent: 106, torn_bytes: 0, missing: 0 });
    assert_eq!(read(&mut store), ((4..110).collect(), 0));
    append(&mut store, &records(110, 10)).unwrap();
    assert_eq!(read(&mut store), ((110..120).collect(), 0));
}

#[test]
fn what_is_delivered_leaves_no_files() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    for round in 0..20 {
        append(&mut store, &records(round * 10, 10)).unwrap();
    }
    assert!(segments(&folder).len() > 3);
    let batch = store.read(usize::MAX).unwrap();
    store.acked(batch.records[199].number + 1);
    store.forget_acked().unwrap();
    assert!(segments(&folder).is_empty());
    append(&mut store, &records(200, 1)).unwrap();
    assert_eq!(read(&mut store), (vec![200], 0));
    store.sync().unwrap();
    drop(store);
    let (mut store, opened) = open(&folder);
    assert_eq!((opened.records, read(&mut store).0), (1, vec![200]));
}

#[test]
fn a_clean_end_puts_what_was_under_way_before_the_rest() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    append(&mut store, &records(3, 50)).unwrap();
    let batch = store.read(1000).unwrap();
    // 0 to 2 had never been here, and of those read the first six have been delivered.
    let mut under_way = records(0, 3);
    under_way.extend(batch.records[6..].iter().map(|numbered| numbered.record.clone()));
    store.close(&under_way, 0).unwrap();
    drop(store);
    for round in 0..2 {
        let (mut store, opened) = open(&folder);
        assert_eq!(opened, Opened { records: 47, maybe_sent: round * 2, torn_bytes: 0, missing: 0 });
        let expected: Vec<usize> = (0..3).chain(9..53).collect();
        assert_eq!(store.read(0).unwrap().records.len(), 0);
        // Some of the head only is read and delivered.
        let first = store.read(150).unwrap();
        assert_eq!(first.records.iter().map(|n| index(&n.record)).collect::<Vec<_>>(), expected[..2]);
        assert_eq!(read(&mut store), (expected[2..].to_vec(), 0));
        let under_way: Vec<Record> = expected.iter().flat_map(|index| records(*index, 1)).collect();
        store.close(&under_way, 2).unwrap();
    }
    let (mut store, _) = open(&folder);
    let batch = store.read(usize::MAX).unwrap();
    store.acked(batch.records[1].number);
    store.sync().unwrap();
    drop(store);
    let (mut store, opened) = open(&folder);
    assert_eq!((opened.records, opened.maybe_sent), (46, 46));
    let batch = store.read(usize::MAX).unwrap();
    assert_eq!(index(&batch.records[0].record), 1);
    store.acked(batch.records[45].number + 1);
    store.forget_acked().unwrap();
    assert!(!folder.path().join("head").exists());
}

#[test]
fn beyond_its_limit_the_oldest_go_and_are_told() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    let mut lost = 0;
    for round in 0..100 {
        let loss = append(&mut store, &records(round * 10, 10)).unwrap();
        let (count, first, last) = loss.markets.values().next().copied().unwrap_or_default();
        assert_eq!((count, first == last), (loss.records, true));
        lost += loss.records;
    }
    let bytes: u64 = segments(&folder).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!((MAX_BYTES * 3 / 4..=MAX_BYTES).contains(&bytes), "{bytes}");
    let (rest, damaged) = read(&mut store);
    assert_eq!((lost as usize + rest.len(), damaged), (1000, 0));
    assert_eq!(rest, (lost as usize..1000).collect::<Vec<_>>());
}

#[test]
fn a_torn_tail_is_cut() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    append(&mut store, &records(0, 20)).unwrap();
    drop(store);
    let path = segments(&folder).pop().unwrap();
    let position = fs::read(folder.path().join("position")).unwrap();
    let whole = fs::read(&path).unwrap();
    let frame = whole.len() / 20;
    for cut in [1, 5, 12, frame - 1] {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let (mut store, opened) = open(&folder);
        assert_eq!(opened, Opened { records: 19, maybe_sent: 0, torn_bytes: (frame - cut) as u64, missing: 0 });
        assert_eq!(read(&mut store), ((0..19).collect(), 0));
        fs::write(folder.path().join("position"), &position).unwrap();
    }
    // New records have new numbers, and nothing is in their way.
    let (mut store, _) = open(&folder);
    append(&mut store, &records(100, 1)).unwrap();
    assert_eq!(read(&mut store).0.last(), Some(&100));
}

#[test]
fn damage_costs_what_it_hit_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    append(&mut store, &records(0, 20)).unwrap();
    append(&mut store, &records(20, 40)).unwrap();
    append(&mut store, &records(60, 40)).unwrap();
    drop(store);
    let paths = segments(&folder);
    assert_eq!(paths.len(), 2);
    let frame = fs::metadata(&paths[0]).unwrap().len() / 60;
    let damage = |path: &PathBuf, at: u64| {
        fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"XX", at).unwrap();
    };
    damage(&paths[0], frame * 5 + 40);
    damage(&paths[0], frame * 8 + 5);
    damage(&paths[1], 0);
    let (mut store, opened) = open(&folder);
    assert_eq!(opened.records, 100);
    let expected: Vec<usize> = (0..100).filter(|index| ![5, 8, 60].contains(index)).collect();
    assert_eq!(read(&mut store), (expected, 3));
    drop(store);
    // A whole file is gone, and the position too.
    fs::remove_file(&paths[0]).unwrap();
    fs::write(folder.path().join("position"), "nonsense").unwrap();
    let (mut store, opened) = open(&folder);
    assert_eq!((opened.records, opened.maybe_sent), (40, 40));
    assert_eq!(read(&mut store), ((61..100).collect(), 1));
}

#[test]
fn a_file_that_vanishes_is_counted() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    (0..20).for_each(|round| _ = append(&mut store, &records(round * 10, 10)).unwrap());
    let gone = &segments(&folder)[1];
    fs::remove_file(gone).unwrap();
    let (rest, damaged) = read(&mut store);
    assert_eq!(rest.len() as u64 + damaged, 200);
    assert!(damaged > 10 && rest.is_sorted());
}

#[test]
fn two_processes_do_not_share_it() {
    let folder = TempDir::new().unwrap();
    let (_store, _) = open(&folder);
    let error = Store::open(folder.path(), MAX_BYTES).unwrap_err();
    assert!(error.to_string().contains("another producerd has it"), "{error}");
}

#[test]
fn copies_of_what_is_under_way_are_for_the_next_run_only() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    append(&mut store, &records(0, 5)).unwrap();
    assert_eq!(read(&mut store).0.len(), 5);
    store.append(records(5, 10).iter(), 4).unwrap();
    store.sync().unwrap();
    assert_eq!(store.waiting(), 6);
    assert_eq!(read(&mut store), ((9..15).collect(), 0));
    store.acked(store.next_number() - 8);
    store.sync().unwrap();
    drop(store);
    let (mut store, opened) = open(&folder);
    assert_eq!((opened.records, opened.maybe_sent), (8, 8));
    assert_eq!(read(&mut store), ((7..15).collect(), 0));
}

/// A damaged folder can always be opened, gives no record that was not in it, and takes new ones.
#[test]
fn a_damaged_spool_gives_what_is_whole() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    append(&mut store, &records(0, 10)).unwrap();
    store.read(500).unwrap();
    store.sync().unwrap();
    drop(store);
    let segment = segments(&folder).pop().unwrap();
    let (bytes, position) = (fs::read(&segment).unwrap(), fs::read(folder.path().join("position")).unwrap());
    let mut at = 0;
    coinflow_common::mutate::mutate("spool", &[&bytes, &position], |input| {
        at += 1;
        // The one or the other, or both.
        fs::write(&segment, if at % 3 == 0 { &bytes } else { input }).unwrap();
        fs::write(folder.path().join("position"), if at % 3 == 1 { &position[..] } else { input }).unwrap();
        let (mut store, opened) = open(&folder);
        let (read, damaged) = read(&mut store);
        assert!(read.len() as u64 + damaged == opened.records, "{} and {damaged} of {opened:?}", read.len());
        assert!(read.iter().all(|index| *index < 10) && read.is_sorted(), "{read:?}");
        append(&mut store, &records(100, 1)).unwrap();
        assert_eq!(self::read(&mut store), (vec![100], 0));
        drop(store);
        segments(&folder).iter().filter(|path| **path != segment).for_each(|path| fs::remove_file(path).unwrap());
    });
}

#[test]
fn the_head_never_has_to_go() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    append(&mut store, &records(0, 30)).unwrap();
    assert_eq!(store.take_dropped(), None);
    let batch = store.read(1000).unwrap();
    let under_way: Vec<Record> = batch.records.into_iter().map(|numbered| numbered.record).collect();
    store.close(&under_way, 0).unwrap();
    drop(store);
    let (mut store, _) = open(&folder);
    let head: Vec<u64> = store.read(1000).unwrap().records.iter().map(|numbered| numbered.number).collect();
    assert_eq!(head.len(), 10);
    let behind = store.read(1).unwrap().records[0].number;
    (0..60).for_each(|round| store.append(records(30 + round * 10, 10).iter(), 0).unwrap());
    let dropped = store.take_dropped().unwrap();
    assert!(dropped.contains(&behind) && !head.iter().any(|number| dropped.contains(number)), "{dropped:?} {head:?}");
    assert!(store.take_loss().records > 0);
}

/// A full disk lets a file be made, and nothing be written into it.
#[test]
fn an_empty_segment_is_in_nobodys_way() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    append(&mut store, &records(0, 5)).unwrap();
    fs::write(folder.path().join(format!("{:020}.spool", store.end())), "").unwrap();
    store.sync().unwrap();
    drop(store);
    let (mut store, opened) = open(&folder);
    assert_eq!(opened.records, 5);
    append(&mut store, &records(5, 5)).unwrap();
    let batch = store.read(450).unwrap();
    store.acked(batch.records[4].number + 1);
    store.forget_acked().unwrap();
    assert_eq!(read(&mut store), ((5..10).collect(), 0));
}

#[test]
fn a_head_survives_the_loss_of_the_position_and_its_own_damage_is_counted() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    store.close(&records(0, 10), 3).unwrap();
    drop(store);
    let [head, position] = ["head", "position"].map(|name| folder.path().join(name));
    let (whole, good) = (fs::read(&head).unwrap(), fs::read(&position).unwrap());
    fs::write(&position, "nonsense").unwrap();
    let (mut store, opened) = open(&folder);
    assert_eq!(opened, Opened { records: 10, maybe_sent: 10, torn_bytes: 0, missing: 0 });
    assert_eq!(read(&mut store), ((0..10).collect(), 0));
    append(&mut store, &records(10, 2)).unwrap();
    assert_eq!(read(&mut store), (vec![10, 11], 0));
    drop(store);
    segments(&folder).iter().for_each(|path| fs::remove_file(path).unwrap());
    for (at, missing) in [(whole.len() / 20, vec![0]), (whole.len() - 5, vec![9])] {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        fs::write(&head, &bad).unwrap();
        fs::write(&position, &good).unwrap();
        let (mut store, opened) = open(&folder);
        assert_eq!((opened.records, opened.missing), (9, 1));
        assert_eq!(read(&mut store).0, (0..10).filter(|index| !missing.contains(index)).collect::<Vec<_>>());
        append(&mut store, &records(20, 1)).unwrap();
        assert_eq!(read(&mut store), (vec![20], 0));
        drop(store);
        segments(&folder).iter().for_each(|path| fs::remove_file(path).unwrap());
    }
}

/// The process ends between the head and the position that goes with it.
#[test]
fn an_end_in_the_middle_of_the_end_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    append(&mut store, &records(5, 10)).unwrap();
    let batch = store.read(450).unwrap();
    assert_eq!(batch.records.len(), 5);
    let first = batch.records[0].number;
    let mut under_way = records(0, 5);
    under_way.extend(batch.records.into_iter().map(|numbered| numbered.record));
    store.close(&under_way, 0).unwrap();
    drop(store);
    // The position as it is written before the head is there.
    let before = Position { acked: first - 5, reserved: first + 100, next_number: first + 10, head_end: first + 5 };
    fs::write(folder.path().join("position"), before.encode()).unwrap();
    let (mut store, opened) = open(&folder);
    assert_eq!((opened.records, opened.missing), (15, 0));
    assert_eq!(read(&mut store), ((0..15).collect(), 0));
    drop(store);
    // And without the head: what was in memory is lost, and nothing else.
    fs::remove_file(folder.path().join("head")).unwrap();
    fs::write(folder.path().join("position"), before.encode()).unwrap();
    let (mut store, opened) = open(&folder);
    assert_eq!((opened.records, opened.missing), (10, 0));
    assert_eq!(read(&mut store), ((5..15).collect(), 0));
}

/// A head is there, and the next run leaves one of its own, or does not come so far.
#[test]
fn a_new_head_counts_as_soon_as_the_position_tells_of_it() {
    let folder = TempDir::new().unwrap();
    let [head, new, position] = ["head", "head.new", "position"].map(|name| folder.path().join(name));
    let (mut store, _) = open(&folder);
    append(&mut store, &records(5, 20)).unwrap();
    store.close(&records(0, 5), 0).unwrap();
    drop(store);
    let (old, before) = (fs::read(&head).unwrap(), fs::read(&position).unwrap());
    let all_is_there = || {
        let (mut store, opened) = open(&folder);
        assert_eq!((opened.records, opened.missing), (25, 0));
        let batch = store.read(usize::MAX).unwrap();
        assert_eq!(batch.records.iter().map(|n| index(&n.record)).collect::<Vec<_>>(), (0..25).collect::<Vec<_>>());
        let under_way: Vec<Record> = batch.records.into_iter().skip(2).map(|numbered| numbered.record).collect();
        (store, under_way)
    };
    // As on a disk without room: a folder stands where the new head is to be.
    let (mut store, under_way) = all_is_there();
    fs::create_dir(&new).unwrap();
    store.close(&under_way, 0).unwrap_err();
    drop(store);
    fs::remove_dir(&new).unwrap();
    let (mut store, under_way) = all_is_there();
    store.close(&under_way, 0).unwrap();
    drop(store);
    let whole = fs::read(&head).unwrap();
    // As if the run had ended before the new head had its name, ...
    fs::write(&head, &old).unwrap();
    fs::write(&new, &whole).unwrap();
    let (mut store, opened) = open(&folder);
    assert_eq!((opened.records, opened.missing), (23, 0));
    assert_eq!(read(&mut store), ((2..25).collect(), 0));
    assert!(!new.exists());
    drop(store);
    // ... and while it wrote it.
    fs::write(&head, &old).unwrap();
    fs::write(&position, &before).unwrap();
    fs::write(&new, &whole[..whole.len() - 9]).unwrap();
    all_is_there();
    assert!(!new.exists());
}

/// Copies of what is on its way are marked as sent before they are there.
#[test]
fn a_kill_right_after_copies_were_written_tells_that_they_may_have_been_sent() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    store.append(records(0, 10).iter(), 4).unwrap();
    drop(store);
    let (_, opened) = open(&folder);
    assert_eq!((opened.records, opened.maybe_sent), (10, 4));
}

/// Without a position all may have been sent; what comes later has not.
#[test]
fn a_lost_position_does_not_spoil_the_next_ones() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    append(&mut store, &records(0, 5)).unwrap();
    drop(store);
    fs::write(folder.path().join("position"), "nonsense").unwrap();
    let (mut store, opened) = open(&folder);
    assert_eq!((opened.records, opened.maybe_sent), (5, 5));
    assert_eq!(read(&mut store).0.len(), 5);
    append(&mut store, &records(5, 3)).unwrap();
    store.close(&[], 0).unwrap();
    drop(store);
    let (_, opened) = open(&folder);
    assert_eq!((opened.records, opened.maybe_sent), (3, 0));
}

/// A file that is cut while it is read costs what was in the cut.
#[test]
fn a_file_that_is_cut_while_it_is_open_is_counted() {
    let folder = TempDir::new().unwrap();
    let (mut store, _) = open(&folder);
    (0..20).for_each(|round| _ = append(&mut store, &records(round * 10, 10)).unwrap());
    let path = &segments(&folder)[0];
    let length = fs::metadata(path).unwrap().len();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
    let (rest, damaged) = read(&mut store);
    assert_eq!(rest.len() as u64 + damaged, 200);
    assert!(damaged > 5 && rest.is_sorted() && rest.last() == Some(&199), "{damaged}");
}
