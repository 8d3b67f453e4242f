//! The thread that has an exchange's spool.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coinflow_common::daemon::Beat;
use crossbeam_channel::Receiver;

use super::outlet::Outlet;
use super::producer::Producer;
use crate::spool::{Loss, Store};

/// What waits is written this often, and with it goes one fsync.
const TURN: Duration = Duration::from_millis(250);
const REOPEN: Duration = Duration::from_secs(5);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Read at once.
const READ_BYTES: usize = 256 << 10;

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
            if self.outlet.is_to_be_put_away() {
                self.put_away(store.take());
                return;
            }
            let now = Instant::now();
            if now >= pause_until {
                match &mut store {
                    None => match self.open() {
                        Ok(opened) => store = opened,
                        Err(error) => {
                            self.outlet.spool_failed(&error);
                            pause_until = now + REOPEN;
                        }
                    },
                    Some(store) => match self.turn(store) {
                        true => self.outlet.spool_works(),
                        false => pause_until = now + RETRY,
                    },
                }
            }
            // A closed channel means that nobody is left.
            if self.wanted.recv_timeout(TURN).is_err_and(|error| error.is_disconnected()) {
                return;
            }
        }
    }

    /// An exchange that is not watched has a spool only if an earlier run has left one.
    fn open(&self) -> std::io::Result<Option<Store>> {
        if !self.outlet.is_used() && !self.folder.exists() {
            self.outlet.has_no_spool();
            return Ok(None);
        }
        let (store, opened) = Store::open(&self.folder, self.max_bytes)?;
        self.outlet.opened(&opened);
        self.outlet.drain(&self.producer);
        Ok(Some(store))
    }

    /// Writes, forgets and reads what there is. False if the disk does not let it.
    fn turn(&self, store: &mut Store) -> bool {
        self.write(store) && self.forget(store) && self.read(store)
    }

    fn write(&self, store: &mut Store) -> bool {
        loop {
            let taken = self.outlet.take_for_spool();
            if taken.is_empty() {
                return true;
            }
            let first = store.end();
            // Copies come first, and when there are any, all that is in the spool has been read.
            let sent = taken.iter().filter(|queued| queued.copy_of.is_some()).count();
            let records = taken.iter().map(|queued| &queued.record);
            match store.append(records, sent) {
                Ok(loss) => {
                    let synced = store.sync();
                    self.outlet.written(&taken, first, loss);
                    if !self.is_done(synced) {
                        return false;
                    }
                }
                Err(error) => {
                    self.outlet.not_written(taken, &error);
                    return false;
                }
            }
        }
    }

    fn forget(&self, store: &mut Store) -> bool {
        let number = self.outlet.done_before().unwrap_or(store.next_number());
        if !store.acked(number) {
            return true;
        }
        self.is_done(store.forget_acked().and_then(|()| store.sync()))
    }

    fn read(&self, store: &mut Store) -> bool {
        loop {
            let room = self.outlet.read_room();
            if room == 0 {
                return true;
            }
            match store.read(room.min(READ_BYTES)) {
                Ok(batch) => self.outlet.fill(batch),
                Err(error) => return self.is_done(Err(error)),
            }
            self.outlet.drain(&self.producer);
        }
    }

    fn is_done(&self, result: std::io::Result<()>) -> bool {
        result.inspect_err(|error| self.outlet.spool_failed(error)).is_ok()
    }

    fn put_away(&self, store: Option<Store>) {
        let rest = self.outlet.take_rest();
        let Some(mut store) = store else {
            let nowhere = std::io::Error::other("it was never opened");
            return match rest.under_way.len() + rest.queued.len() {
                0 => self.outlet.rest_is_kept(&rest, Loss::default()),
                _ => self.outlet.rest_is_lost(&nowhere),
            };
        };
        let kept = store.append(rest.queued.iter(), 0).and_then(|loss| {
            store.close(&rest.under_way, rest.maybe_delivered)?;
            Ok(loss)
        });
        match kept {
            Ok(loss) => self.outlet.rest_is_kept(&rest, loss),
            Err(error) => self.outlet.rest_is_lost(&error),
        }
    }
}
