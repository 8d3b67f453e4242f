//! The threads of a daemon, under one owner.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// Linux cuts longer thread names, and `top -H` then shows half a word.
const NAME_BYTES_MAX: usize = 15;

/// Owns every thread it has started, and joins them with a deadline.
#[derive(Debug)]
pub struct Crew {
    threads: Vec<(String, JoinHandle<()>)>,
    ended: Receiver<()>,
    end: Sender<()>,
}

impl Default for Crew {
    fn default() -> Self {
        let (end, ended) = channel();
        Self { threads: Vec::new(), ended, end }
    }
}

impl Crew {
    /// Starts a thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        debug_assert!(name.len() <= NAME_BYTES_MAX, "thread name {name} is too long");
        let end = self.end.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            run();
            _ = end.send(());
        })?;
        self.threads.push((name.to_owned(), thread));
        Ok(())
    }

    /// Joins all threads that end before the deadline, and names the others, which are left to the process's end.
    pub fn join(&mut self, deadline: Instant) -> Vec<String> {
        loop {
            // A thread that has sent its end has nothing left to run, so joining it takes no time.
            let (ended, running): (Vec<_>, Vec<_>) =
                self.threads.drain(..).partition(|(_, thread)| thread.is_finished());
            for (_, thread) in ended {
                _ = thread.join();
            }
            self.threads = running;
            let left = deadline.saturating_duration_since(Instant::now());
            if self.threads.is_empty() || left.is_zero() {
                return self.threads.iter().map(|(name, _)| name.clone()).collect();
            }
            // Between a thread's last message and its being finished there are some microseconds.
            let pause = left.min(std::time::Duration::from_millis(10));
            _ = self.ended.recv_timeout(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn joins_what_ends_and_names_what_does_not() {
        let mut crew = Crew::default();
        let (hold, held) = channel::<()>();
        crew.spawn("quick", || ()).expect("a thread");
        crew.spawn("held", move || _ = held.recv()).expect("a thread");
        assert_eq!(crew.join(Instant::now() + Duration::from_millis(50)), ["held"]);
        drop(hold);
        assert_eq!(crew.join(Instant::now() + Duration::from_secs(10)), [""; 0]);
    }
}
