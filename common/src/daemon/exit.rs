//! Exit codes.

use std::process::ExitCode;

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

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotComparable => 3,
            Exit::Config => 78,
        })
    }
}
