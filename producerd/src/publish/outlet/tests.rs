use std::path::Path;

use coinflow_common::orderbook::Market;
use crossbeam_channel::bounded;

use super::*;
use crate::publish::backlog::Queued;
use crate::spool::{Opened, Store};

const MAX_BYTES: u64 = 64 << 10;

fn records(count: usize) -> Vec<Record> {
    let market = Market::parse("KRW-BTC").unwrap();
    (0..count).map(|_| Record { market: market.clone(), value: vec![0; 1000], timestamp: 0 }).collect()
}

fn outlet() -> Outlet {
    let exchange = Exchange::parse("bithumb").unwrap();
    Outlet::new(&exchange, &KafkaConfig::default(), "producerd/0@host", bounded(1).0, bounded(1).0)
}

/// A spool of 50 records, of which 20 have been read ahead.
fn read_ahead(folder: &Path) -> (Outlet, Store) {
    let (mut store, _) = Store::open(folder, MAX_BYTES).unwrap();
    records(50).chunks(5).for_each(|some| store.append(some.iter(), 0).unwrap());
    let outlet = outlet();
    outlet.opened(&Opened { records: 50, ..Opened::default() });
    outlet.fill(store.read(19_001).unwrap());
    assert_eq!((store.waiting(), outlet.lock().flow.waiting()), (30, 20));
    (outlet, store)
}

/// Whether what is counted as spooled is on disk, and all is counted once.
fn check(outlet: &Outlet, spooled: u64, in_flight: u64, dropped: u64) {
    let counts = outlet.counts();
    assert_eq!((counts.spooled, counts.in_flight, counts.dropped), (spooled, in_flight, dropped));
    assert!(counts.is_balanced(), "{counts:?}");
}

#[test]
fn what_was_read_ahead_of_a_segment_that_had_to_go_is_in_memory_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (outlet, mut store) = read_ahead(folder.path());
    check(&outlet, 50, 0, 0);
    // 25 more come, and most of what was read has to go for them.
    let fresh = records(25);
    outlet.lock().counts.accepted += 25;
    outlet.lock().counts.in_flight += 25;
    let first = store.end();
    fresh.chunks(5).for_each(|some| store.append(some.iter(), 0).unwrap());
    let taken: Vec<Queued> = fresh.into_iter().map(|record| Queued { record, copy_of: None }).collect();
    outlet.lock().backlog.push_taken(taken.len() as u64);
    outlet.written(&taken, first);
    assert_eq!(store.take_loss(), Loss::default());
    let gone = store.take_dropped().unwrap();
    let left = gone.end - (first - 50);
    assert!((1..20).contains(&left), "{left}");
    outlet.left_spool(&gone);
    assert_eq!(store.take_dropped(), None);
    check(&outlet, 75 - left, left, 0);
    assert_eq!(outlet.done_before(), Some(gone.end));
    // Told once more, it is the same.
    outlet.left_spool(&gone);
    check(&outlet, 75 - left, left, 0);
    // Handed on, each leaves the state in which it was counted.
    let mut state = outlet.lock();
    state.flow.topic_is_ready();
    let now = Instant::now();
    while let Some(is_spooled) = state.flow.front(now).map(|waiting| waiting.spooled.is_some()) {
        state.flow.sent(now);
        state.counts.leaves_spool(is_spooled);
    }
    drop(state);
    check(&outlet, 55, 20, 0);
}

#[test]
fn a_folder_that_was_removed_leaves_what_was_read_in_memory_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (outlet, _store) = read_ahead(folder.path());
    outlet.folder_is_gone();
    check(&outlet, 0, 20, 30);
    assert_eq!(outlet.done_before(), None);
}

#[test]
fn what_has_to_go_at_the_end_is_counted_as_kept_only_once_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (outlet, mut store) = read_ahead(folder.path());
    let mut rest = outlet.take_rest();
    records(25).chunks(5).for_each(|some| store.append(some.iter(), 0).unwrap());
    let gone = store.take_dropped().unwrap();
    outlet.rest_left_spool(&mut rest, &gone);
    let left = outlet.counts().in_flight;
    check(&outlet, 50 - left, left, 0);
    assert!((1..20).contains(&left), "{left}");
    outlet.under_way_is_kept(&rest);
    check(&outlet, 50, 0, 0);
}
