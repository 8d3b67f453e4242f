//! Where lines go: stderr, or syslog with stderr as the way out.

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, SystemTime};

use log::Level;
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use super::{Target, line};

const SYSLOG_SOCKET: &str = "/dev/log";
/// A journald that stalls holds up the writer thread for this long per line, then the line goes to stderr.
const SEND_TIMEOUT: Duration = Duration::from_millis(200);

pub(super) enum Output {
    /// With the journal's priority prefix in place of time and level where stderr is the journal's.
    Stderr { is_journal: bool },
    /// `None` while the socket cannot be had.
    Syslog(Formatter3164, Option<Logger<LoggerBackend, Formatter3164>>),
}

impl Output {
    pub(super) fn open(target: Target, process: &str) -> Self {
        let is_journal = stderr_is_journal();
        let syslog = match target {
            Target::Auto => is_journal,
            Target::Syslog => true,
            Target::Stderr => false,
        };
        if !syslog {
            return Self::Stderr { is_journal };
        }
        // No host name: with one, journald finds no identifier in the line.
        let formatter = Formatter3164 {
            facility: Facility::LOG_DAEMON,
            hostname: None,
            process: process.to_owned(),
            pid: std::process::id(),
        };
        let logger = connect(&formatter);
        Self::Syslog(formatter, logger)
    }

    pub(super) fn write(&mut self, at: SystemTime, level: Level, text: &str) {
        match self {
            Self::Stderr { is_journal: true } => to_stderr(&line::journal(level, text)),
            Self::Stderr { is_journal: false } => to_stderr(&line::stderr(at, level, text)),
            Self::Syslog(formatter, logger) => {
                let text = line::flatten(text);
                if logger.as_mut().is_some_and(|logger| send(logger, level, &text)) {
                    return;
                }
                *logger = connect(formatter);
                if !logger.as_mut().is_some_and(|logger| send(logger, level, &text)) {
                    to_stderr(&line::journal(level, &text));
                }
            }
        }
    }
}

fn to_stderr(line: &str) {
    // With stderr gone there is nobody left to tell.
    _ = std::io::stderr().write_all(line.as_bytes());
}

/// Our own socket instead of the crate's: hers has no time-out, and falls back to TCP and UDP.
fn connect(formatter: &Formatter3164) -> Option<Logger<LoggerBackend, Formatter3164>> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT)).ok()?;
    socket.connect(SYSLOG_SOCKET).ok()?;
    Some(Logger::new(LoggerBackend::Unix(socket), formatter.clone()))
}

fn send(logger: &mut Logger<LoggerBackend, Formatter3164>, level: Level, text: &str) -> bool {
    let sent = match level {
        Level::Error => logger.err(text),
        Level::Warn => logger.warning(text),
        Level::Info => logger.info(text),
        Level::Debug | Level::Trace => logger.debug(text),
    };
    sent.is_ok()
}

/// Whether stderr is connected to the journal: systemd puts device and inode of that stream into `$JOURNAL_STREAM`.
pub(super) fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}
