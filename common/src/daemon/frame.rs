//! What every daemon's supervisor does beside its own work.

use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Progress, Signal, Signals, notify};

/// How often the STATUS line is made anew.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// The watchdog is fed this many times in its period: one feed that comes late does not end the daemon.
const FEEDS_PER_PERIOD: u32 = 4;
/// How often threads are looked at where no watchdog runs: a thread that hangs is worth a line in any case.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Something the supervisor has to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Time for a new STATUS line.
    StatusDue,
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT, by name.
    Stop(&'static str),
}

/// Signals, STATUS and watchdog of a daemon.
#[derive(Debug)]
pub struct Frame {
    signals: Signals,
    progress: Progress,
    status_due: Interval,
    watch_due: Interval,
    last_status: String,
    stuck: Vec<String>,
}

impl Frame {
    /// Has to be called inside a tokio runtime.
    #[must_use]
    pub fn new(signals: Signals, progress: Progress) -> Self {
        let watch = sd_notify::watchdog_enabled().map_or(WATCH_INTERVAL, |period| period / FEEDS_PER_PERIOD);
        let every = |period: Duration| {
            let mut interval = interval(period.max(Duration::from_millis(1)));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        Self {
            signals,
            progress,
            status_due: every(STATUS_INTERVAL),
            watch_due: every(watch),
            last_status: String::new(),
            stuck: Vec::new(),
        }
    }

    /// Start-up, or a reload, is over.
    pub fn ready(&mut self, status: String) {
        notify::ready(&status);
        self.last_status = status;
    }

    /// A new STATUS line, sent if it differs from the last one.
    pub fn status(&mut self, status: String) {
        if status != self.last_status {
            notify::status(&status);
            self.last_status = status;
        }
    }

    /// The daemon is on its way out.
    pub fn stopping(&mut self, status: &str) {
        notify::stopping(status);
    }

    /// The next event; feeds the watchdog meanwhile, as long as no thread hangs. Cancel safe.
    pub async fn next(&mut self) -> Event {
        loop {
            tokio::select! {
                biased;
                signal = self.signals.next() => return match signal {
                    Signal::Stop(name) => Event::Stop(name),
                    Signal::Hup => Event::Reload,
                },
                _ = self.watch_due.tick() => self.watch(),
                _ = self.status_due.tick() => return Event::StatusDue,
            }
        }
    }

    fn watch(&mut self) {
        let stuck = self.progress.stuck(Instant::now());
        if stuck.is_empty() {
            notify::watchdog();
        }
        for thread in &stuck {
            if !self.stuck.contains(&thread.thread) {
                let seconds = thread.for_how_long.as_secs();
                let on = thread.on.unwrap_or("nothing");
                log::error!("thread hangs, watchdog not fed thread={} waits_on={on} for={seconds}s", thread.thread);
            }
        }
        self.stuck = stuck.into_iter().map(|thread| thread.thread).collect();
    }
}
