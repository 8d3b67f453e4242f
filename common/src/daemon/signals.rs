//! Signals, answered by a thread of their own.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::mpsc;

use super::notify;

/// Signals that wait for the supervisor.
const WAITING_MAX: usize = 16;

/// What SIGHUP means to a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHup {
    /// Reload: systemd is told at once that a reload has begun.
    Reload,
    /// Nothing to reload; the signal is only passed on.
    Nothing,
}

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT, by name.
    Stop(&'static str),
    Hup,
}

/// The signals of this process, in the order of their arrival.
#[derive(Debug)]
pub struct Signals {
    arrived: mpsc::Receiver<Signal>,
}

impl Signals {
    /// Installs the handlers: the first act of `main`, for a SIGHUP before it ends the process.
    ///
    /// `systemctl reload` returns early unless `RELOADING=1` follows the signal at once, so the thread that answers
    /// does nothing else.
    ///
    /// # Errors
    /// When handlers or thread cannot be made.
    pub fn install(on_hup: OnHup) -> std::io::Result<Self> {
        let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let (sender, arrived) = mpsc::channel(WAITING_MAX);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for number in signals.forever() {
                let signal = match number {
                    SIGHUP => {
                        if on_hup == OnHup::Reload {
                            notify::reloading();
                        }
                        Signal::Hup
                    }
                    SIGINT => Signal::Stop("SIGINT"),
                    _ => Signal::Stop("SIGTERM"),
                };
                if sender.blocking_send(signal).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { arrived })
    }

    /// The next signal. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        match self.arrived.recv().await {
            Some(signal) => signal,
            // The thread never ends before this receiver does.
            None => std::future::pending().await,
        }
    }
}
