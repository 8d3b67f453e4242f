//! Which thread is at work, which one waits, and which one hangs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A thread outside of a call that may block has to turn once in this time.
const TURN_MAX: Duration = Duration::from_secs(30);

/// The threads whose progress the watchdog stands for.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    slots: Arc<Mutex<Vec<Arc<Slot>>>>,
}

#[derive(Debug)]
struct Slot {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Turning { since: Instant },
    Waiting { on: &'static str, since: Instant, at_most: Option<Duration> },
}

/// A thread that hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    pub thread: String,
    /// What it waits on, if it is inside a call with a deadline of its own.
    pub on: Option<&'static str>,
    pub for_how_long: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process, so no half-made state is ever seen here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Takes up a thread; it is let go when its [`Beat`] is dropped.
    #[must_use]
    pub fn register(&self, name: &str) -> Beat {
        let state = Mutex::new(State::Turning { since: Instant::now() });
        let slot = Arc::new(Slot { name: name.to_owned(), state });
        lock(&self.slots).push(Arc::clone(&slot));
        Beat { progress: self.clone(), slot }
    }

    /// The threads that hang at this moment.
    #[must_use]
    pub fn stuck(&self, now: Instant) -> Vec<Stuck> {
        let stuck = |slot: &Arc<Slot>| {
            let (on, for_how_long) = lock(&slot.state).stuck(now)?;
            Some(Stuck { thread: slot.name.clone(), on, for_how_long })
        };
        lock(&self.slots).iter().filter_map(stuck).collect()
    }
}

impl Progress {
    /// How long a thread has been waiting on something, if it is.
    #[must_use]
    pub fn waits(&self, thread: &str, on: &str, now: Instant) -> Option<Duration> {
        let slots = lock(&self.slots);
        let slot = slots.iter().find(|slot| slot.name == thread)?;
        match *lock(&slot.state) {
            State::Waiting { on: what, since, .. } if what == on => Some(now.saturating_duration_since(since)),
            _ => None,
        }
    }
}

impl State {
    /// Waiting is not hanging, unless the call has a deadline and is past twice that.
    fn stuck(self, now: Instant) -> Option<(Option<&'static str>, Duration)> {
        let (on, since, allowed) = match self {
            Self::Turning { since } => (None, since, TURN_MAX),
            Self::Waiting { on, since, at_most: Some(at_most) } => (Some(on), since, at_most * 2),
            Self::Waiting { at_most: None, .. } => return None,
        };
        let elapsed = now.saturating_duration_since(since);
        (elapsed > allowed).then_some((on, elapsed))
    }
}

/// The sign of life of one thread.
#[derive(Debug)]
pub struct Beat {
    progress: Progress,
    slot: Arc<Slot>,
}

impl Beat {
    /// Once in each turn of the thread's loop.
    pub fn turn(&self) {
        self.set(State::Turning { since: Instant::now() });
    }

    /// While the guard lives, the thread is in a call that may block for as long as it takes.
    #[must_use]
    pub fn waiting(&self, on: &'static str) -> Waiting<'_> {
        self.set(State::Waiting { on, since: Instant::now(), at_most: None });
        Waiting { beat: self }
    }

    /// While the guard lives, the thread is in a call with a deadline of its own; past twice that it hangs.
    #[must_use]
    pub fn waiting_at_most(&self, on: &'static str, at_most: Duration) -> Waiting<'_> {
        self.set(State::Waiting { on, since: Instant::now(), at_most: Some(at_most) });
        Waiting { beat: self }
    }

    fn set(&self, state: State) {
        *lock(&self.slot.state) = state;
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        lock(&self.progress.slots).retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}

/// See [`Beat::waiting`].
#[derive(Debug)]
pub struct Waiting<'a> {
    beat: &'a Beat,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.beat.turn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: &str = "bithumb";

    fn stuck_after(state: impl Fn(Instant) -> State, seconds: u64) -> bool {
        let since = Instant::now();
        state(since).stuck(since + Duration::from_secs(seconds)).is_some()
    }

    #[test]
    fn a_thread_that_does_not_turn_hangs() {
        let turning = |since| State::Turning { since };
        assert!(!stuck_after(turning, 30));
        assert!(stuck_after(turning, 31));
    }

    #[test]
    fn waiting_is_not_hanging() {
        assert!(!stuck_after(|since| State::Waiting { on: ON, since, at_most: None }, 86_400));
    }

    #[test]
    fn past_twice_its_deadline_a_call_hangs() {
        let waiting = |since| State::Waiting { on: ON, since, at_most: Some(Duration::from_secs(3)) };
        assert!(!stuck_after(waiting, 6));
        assert!(stuck_after(waiting, 7));
    }

    #[test]
    fn a_wait_is_told() {
        let progress = Progress::default();
        let beats = ["a", "b"].map(|name| progress.register(name));
        let _waiting = beats[1].waiting(ON);
        let now = Instant::now() + Duration::from_secs(5);
        assert!(progress.waits("b", ON, now).is_some_and(|waited| waited > Duration::from_secs(4)));
        assert_eq!((progress.waits("b", "else", now), progress.waits("a", ON, now)), (None, None));
    }

    #[test]
    fn a_thread_is_let_go_with_its_beat() {
        let progress = Progress::default();
        let beat = progress.register("worker");
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(progress.stuck(later).len(), 1);
        drop(beat);
        assert_eq!(progress.stuck(later), []);
    }
}
