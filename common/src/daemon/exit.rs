//! Exit codes.

use std::io::Write as _;

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
}
