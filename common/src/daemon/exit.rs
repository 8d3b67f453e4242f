//! Exit codes.

use std::io::Write as _;
use std::sync::mpsc::channel;
use std::time::Duration;

use log::Level;

use crate::logging;

/// The last word may wait so long for whoever reads it.
const LAST_WORD: Duration = Duration::from_millis(300);

/// How a process ends. The reason has been told already, on stderr or in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Did what was asked, or was stopped by a signal.
    Done,
    /// Failed at run time.
    Failed,
    /// Wrong usage of the command line.
    Usage,
    /// `verify` could not compare: no Kafka or no database.
    NotComparable,
    /// A configuration file is wrong. The units do not restart on it (`EX_CONFIG` of sysexits.h).
    Config,
}

impl Exit {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotComparable => 3,
            Self::Config => 78,
        }
    }

    /// Ends the process at once.
    ///
    /// A thread of librdkafka that was left behind may still be at work, and OpenSSL's own exit handlers would take
    /// away what it works with.
    pub fn leave(self) -> ! {
        // There is nobody left to tell.
        _ = std::io::stdout().flush();
        signal_hook::low_level::exit(i32::from(self.code()))
    }

    /// Ends the process in the middle of whatever another thread does. That one may wait for the reader of its output for
    /// ever, and holds the lock of it, so nothing is flushed.
    pub fn leave_amid(self, last_word: Option<&'static str>) -> ! {
        if let Some(text) = last_word {
            let (told, is_told) = channel();
            // stderr may be as stuck as stdout.
            let tell = move || {
                logging::say(Level::Error, text);
                _ = told.send(());
            };
            if std::thread::Builder::new().name("last-word".to_owned()).spawn(tell).is_ok() {
                _ = is_told.recv_timeout(LAST_WORD);
            }
        }
        signal_hook::low_level::exit(i32::from(self.code()))
    }
}
