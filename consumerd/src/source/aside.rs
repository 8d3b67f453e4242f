//! Calls of librdkafka that set themselves no limit.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// A call on a thread of its own, which can be abandoned. For the end of the process only.
pub(super) struct Aside {
    done: Receiver<()>,
}

impl Aside {
    pub(super) fn run(name: &str, call: impl FnOnce() + Send + 'static) -> Self {
        let (end, done) = channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            call();
            _ = end.send(());
        });
        if let Err(error) = thread {
            log::warn!("no thread for the way out thread={name} err={error}");
        }
        Self { done }
    }

    /// Also when it could not be made.
    pub(super) fn is_done(&self) -> bool {
        self.done.try_recv() != Err(TryRecvError::Empty)
    }
}
