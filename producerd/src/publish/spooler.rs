//! The thread that has an exchange's spool.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coinflow_common::daemon::Beat;
use crossbeam_channel::Receiver;

use super::outlet::{Outlet, Rest};
use super::producer::Producer;
use crate::spool::Store;

/// What waits is written this often, and with it goes one fsync.
const TURN: Duration = Duration::from_millis(250);
const REOPEN: Duration = Duration::from_secs(5);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Takes from the queue before something else has its turn.
const PASSES_MAX: usize = 4;

pub(super) struct Spooler {
    pub(super) outlet: Arc<Outlet>,
    pub(super) producer: Arc<Producer>,
    pub(super) folder: PathBuf,
    pub(super) max_bytes: u64,
    pub(super) wanted: Receiver<()>,
}

impl Spooler {
    /// Until the rest has been put away, or the producer is stopped.
    pub(super) fn run(self, beat: &Beat) {
        let (mut store, mut pause_until) = (None, Instant::now());
        while !self.producer.is_stopped() {
            beat.turn();
            // A disk that hangs is no reason to end the daemon, which has other exchanges.
            let waiting = beat.waiting("the spool's disk");
            if self.outlet.is_to_be_put_away() {
                self.put_away(store.take());
                return;
            }
            if Instant::now() >= pause_until {
                match self.turn(&mut store) {
                    Ok(()) => self.outlet.spool_works(),
                    Err(error) => {
                        self.outlet.spool_failed(&error);
                        pause_until = Instant::now() + if store.is_some() { RETRY } else { REOPEN };
                    }
                }
            }
            drop(waiting);
            // A closed channel means that nobody is left.
            if self.wanted.recv_timeout(TURN).is_err_and(|error| error.is_disconnected()) {
                return;
            }
        }
    }

    /// An exchange that is not watched has a spool only if an earlier run has left one.
    fn open(&self) -> io::Result<Option<Store>> {
        if !self.outlet.is_used() && !self.folder.exists() {
            self.outlet.has_no_spool();
            return Ok(None);
        }
        let (store, opened) = Store::open(&self.folder, self.max_bytes)?;
        self.outlet.opened(&opened);
        self.outlet.drain(&self.producer);
        Ok(Some(store))
    }

    /// Writes, forgets and reads what there is. What cannot be written keeps nothing from being read.
    fn turn(&self, opened: &mut Option<Store>) -> io::Result<()> {
        let store = match opened {
            Some(store) => store,
            None => match self.open()? {
                Some(store) => opened.insert(store),
                None => return Ok(()),
            },
        };
        let written = self.write(store);
        if let Some(numbers) = store.take_dropped() {
            self.outlet.left_spool(&numbers);
        }
        self.outlet.lost_in_spool(store.take_loss());
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // Somebody has removed the folder.
            self.outlet.folder_is_gone();
            *opened = None;
            return written;
        }
        let forgotten = self.forget(store);
        let read = self.read(store);
        written.and(forgotten).and(read)
    }

    fn write(&self, store: &mut Store) -> io::Result<()> {
        for _ in 0..PASSES_MAX {
            let taken = self.outlet.take_for_spool();
            if taken.is_empty() {
                break;
            }
            let first = store.end();
            // Copies come first, and when there are any, all that is in the spool has been read.
            let sent = taken.iter().filter(|queued| queued.copy_of.is_some()).count();
            if let Err(error) = store.append(taken.iter().map(|queued| &queued.record), sent) {
                self.outlet.not_written(taken, &error);
                return Err(error);
            }
            self.outlet.written(&taken, first);
        }
        if store.is_dirty() { store.sync() } else { Ok(()) }
    }

    fn forget(&self, store: &mut Store) -> io::Result<()> {
        let number = self.outlet.done_before().unwrap_or(store.next_number());
        if store.acked(number) { store.forget_acked().and_then(|()| store.sync()) } else { Ok(()) }
    }

    /// Reads ahead; whoever takes it wakes this thread again.
    fn read(&self, store: &mut Store) -> io::Result<()> {
        let room = self.outlet.read_room();
        if room == 0 {
            return Ok(());
        }
        let batch = store.read(room)?;
        if batch.records.is_empty() && batch.damaged == 0 && store.waiting() == 0 {
            self.outlet.spool_is_gone();
        }
        self.outlet.fill(batch);
        self.outlet.drain(&self.producer);
        Ok(())
    }

    fn put_away(&self, store: Option<Store>) {
        let rest = self.outlet.take_rest();
        let is_empty = rest.under_way.is_empty() && rest.queued.is_empty();
        // At a quick restart, the last process may have been there until now.
        let store = store.map_or_else(|| if is_empty { Ok(None) } else { self.open() }, |store| Ok(Some(store)));
        match store {
            Ok(Some(store)) => self.put_into(store, rest),
            Ok(None) => {}
            Err(error) => self.outlet.spool_failed(&error),
        }
        self.outlet.ends();
    }

    fn put_into(&self, mut store: Store, mut rest: Rest) {
        let note = |result: io::Result<()>| result.inspect_err(|error| self.outlet.spool_failed(error)).is_ok();
        // That makes room.
        _ = note(self.forget(&mut store));
        if note(store.append(rest.queued.iter(), 0)) {
            self.outlet.queued_is_kept(&rest);
        }
        if let Some(numbers) = store.take_dropped() {
            self.outlet.rest_left_spool(&mut rest, &numbers);
        }
        self.outlet.lost_in_spool(store.take_loss());
        if note(store.close(&rest.under_way, rest.maybe_delivered)) {
            self.outlet.under_way_is_kept(&rest);
        }
    }
}
