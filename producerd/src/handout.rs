//! Hands polls to the workers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use crate::schedule::Poll;

/// A bounded queue to any number of workers. The one that has been idle for the shortest time gets the next poll: its memory
/// is warm. Nobody spins: between two polls there is nearly always time to sleep.
#[derive(Debug)]
pub(crate) struct Handout(Arc<Shared>);

/// A worker's end of it.
#[derive(Debug, Clone)]
pub(crate) struct Polls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    polls_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    polls: VecDeque<Poll>,
    idle: Vec<Thread>,
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the process, so no half-made state is ever seen here.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes both ends, with room for so many polls that no worker has taken yet.
pub(crate) fn handout(polls_max: usize) -> (Handout, Polls) {
    let shared = Arc::new(Shared { inner: Mutex::default(), polls_max });
    (Handout(Arc::clone(&shared)), Polls(shared))
}

impl Handout {
    /// Whether there was room.
    pub(crate) fn give(&self, poll: Poll) -> bool {
        let mut inner = self.0.lock();
        if inner.polls.len() >= self.0.polls_max {
            return false;
        }
        inner.polls.push_back(poll);
        let worker = inner.idle.pop();
        drop(inner);
        if let Some(worker) = worker {
            worker.unpark();
        }
        true
    }
}

/// The workers take what is there, and then end.
impl Drop for Handout {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.is_closed = true;
        inner.idle.drain(..).for_each(|worker| worker.unpark());
    }
}

impl Polls {
    /// Waits for the next poll; none when there will be no more.
    pub(crate) fn take(&self) -> Option<Poll> {
        let mut inner = self.0.lock();
        loop {
            if let Some(poll) = inner.polls.pop_front() {
                return Some(poll);
            }
            if inner.is_closed {
                return None;
            }
            let worker = thread::current();
            let id = worker.id();
            inner.idle.push(worker);
            drop(inner);
            thread::park();
            inner = self.0.lock();
            // Parking may end by itself.
            inner.idle.retain(|idle| idle.id() != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::schedule::{Ask, PollId};

    /// For what needs no time at all.
    const SOON: Duration = Duration::from_secs(20);

    fn poll(number: u64) -> Poll {
        Poll { id: PollId(number), ask: Ask::List }
    }

    #[test]
    fn what_no_worker_takes_is_bounded() {
        let (handout, polls) = handout(2);
        assert!(handout.give(poll(1)) && handout.give(poll(2)) && !handout.give(poll(3)));
        drop(handout);
        assert_eq!((polls.take(), polls.take(), polls.take()), (Some(poll(1)), Some(poll(2)), None));
    }

    #[test]
    fn the_worker_that_became_idle_last_gets_the_next_poll() {
        let (handout, polls) = handout(1);
        let (taken_sender, taken) = mpsc::channel();
        let workers: Vec<_> = (0..3)
            .map(|number| {
                let (own, taken) = (polls.clone(), taken_sender.clone());
                let worker = thread::spawn(move || {
                    while let Some(poll) = own.take() {
                        taken.send((number, poll.id.0)).unwrap();
                    }
                });
                // One after the other.
                while polls.0.lock().idle.len() <= number {
                    thread::yield_now();
                }
                worker
            })
            .collect();
        for number in 1..=50 {
            assert!(handout.give(poll(number)));
            assert_eq!(taken.recv_timeout(SOON), Ok((2, number)));
            while polls.0.lock().idle.len() < 3 {
                thread::yield_now();
            }
        }
        drop(handout);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }

    #[test]
    fn no_poll_is_lost_among_many_workers() {
        const POLLS: u64 = 10_000;
        let (handout, polls) = handout(4);
        let taken = thread::scope(|scope| {
            let work = || std::iter::from_fn(|| polls.take()).map(|poll| poll.id.0).collect::<Vec<u64>>();
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            for number in 0..POLLS {
                while !handout.give(poll(number)) {
                    thread::yield_now();
                }
            }
            drop(handout);
            let mut taken: Vec<u64> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
            taken.sort_unstable();
            taken
        });
        assert!(taken.into_iter().eq(0..POLLS));
    }
}
