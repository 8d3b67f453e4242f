//! Log lines: to the system's log under systemd, else to stderr.
//!
//! A log call never blocks the thread that makes it: lines pass through a bounded queue to a writer thread of their
//! own, and what does not fit is counted and reported. Panics and fatal start-up lines go straight to stderr, by [`say`].

mod line;
mod output;

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::Table;
use output::Output;

/// Lines that wait for the writer. At the rate of a daemon that logs nothing per book, minutes of them.
const QUEUE_LINES_MAX: usize = 4096;

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Syslog if stderr is the journal's, that is under systemd; else stderr.
    Auto,
    Syslog,
    Stderr,
}

/// The words of [`Target`] in configuration files and on the command line.
pub const TARGETS: [(&str, Target); 3] =
    [("auto", Target::Auto), ("syslog", Target::Syslog), ("stderr", Target::Stderr)];

/// The words of the log levels.
pub const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

/// The table `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    pub level: LevelFilter,
    pub target: Target,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LevelFilter::Info, target: Target::Auto }
    }
}

impl LogConfig {
    /// Reads the table `[log]` of a daemon's file.
    pub fn read(root: &mut Table<'_>) -> Self {
        let default = Self::default();
        root.table("log", |log| Self {
            level: log.choice("level", default.level, &LEVELS),
            target: log.choice("target", default.target, &TARGETS),
        })
    }
}

struct Line {
    at: SystemTime,
    level: Level,
    text: String,
}

enum Message {
    Line(Line),
    /// Answered once all lines before it are written.
    Flush(SyncSender<()>),
}

struct Queue {
    lines: SyncSender<Message>,
    dropped: AtomicU64,
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

impl Log for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries say below warning is for their own developers.
        metadata.level() <= Level::Warn || metadata.target().starts_with("coinflow") || is_own(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = Line { at: SystemTime::now(), level: record.level(), text: record.args().to_string() };
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Message::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

fn is_own(target: &str) -> bool {
    ["producerd", "consumerd", "librdkafka"].iter().any(|own| target.starts_with(own))
}

/// Starts the writer thread; from here on `log`'s macros work. `process` is the name that syslog lines carry.
///
/// A second call changes only the level.
///
/// # Errors
/// When the thread cannot be made.
pub fn start(config: LogConfig, process: &'static str) -> std::io::Result<()> {
    log::set_max_level(config.level);
    if QUEUE.get().is_some() {
        return Ok(());
    }
    let (lines, receiver) = sync_channel(QUEUE_LINES_MAX);
    let queue = QUEUE.get_or_init(|| Queue { lines, dropped: AtomicU64::new(0) });
    let output = Output::open(config.target, process);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&receiver, output))?;
    log::set_logger(queue).map_err(std::io::Error::other)
}

fn write_lines(receiver: &Receiver<Message>, mut output: Output) {
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Line(line) => output.write(line.at, line.level, &line.text),
            Message::Flush(done) => _ = done.try_send(()),
        }
        let dropped = QUEUE.get().map_or(0, |queue| queue.dropped.swap(0, Ordering::Relaxed));
        if dropped > 0 {
            let text = format!("log lines dropped because the log could not keep up count={dropped}");
            output.write(SystemTime::now(), Level::Warn, &text);
        }
    }
}

/// Waits until every line so far is written, at most for `timeout`.
pub fn finish(timeout: Duration) {
    let Some(queue) = QUEUE.get() else { return };
    let deadline = Instant::now() + timeout;
    let (done, finished) = sync_channel(1);
    let mut message = Message::Flush(done);
    while let Err(TrySendError::Full(back)) = queue.lines.try_send(message) {
        if Instant::now() >= deadline {
            return;
        }
        message = back;
        std::thread::sleep(Duration::from_millis(1));
    }
    _ = finished.recv_timeout(deadline.saturating_duration_since(Instant::now()));
}

/// Writes one line straight to stderr, past the queue: for fatal start-up lines, `--check` and panics.
///
/// Under systemd it carries the journal's priority prefix, so that `journalctl -p err` shows it.
pub fn say(level: Level, text: &str) {
    let line = match output::stderr_is_journal() {
        true => line::journal(level, text),
        false => format!("{text}\n"),
    };
    // With stderr gone there is nobody left to tell.
    _ = std::io::stderr().write_all(line.as_bytes());
}
