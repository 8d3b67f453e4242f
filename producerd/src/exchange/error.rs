//! What can go wrong with a request to an exchange.

use std::fmt;
use std::time::Duration;

use coinflow_common::config::{Bytes, show_duration};

/// Longest text of an exchange that goes into a message, in characters.
const QUOTE_CHARS_MAX: usize = 120;

/// Why a request, or a market of it, gave no book. Displays without exchange and market: callers know these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExchangeError {
    /// The exchange knows no such market; of several markets asked for, at least one.
    UnknownMarket,
    /// The exchange refuses to serve this address and wants to be left alone for so long. A block grows each time that it
    /// is tried in vain.
    RateLimited { refusal: String, hold: Duration, is_block: bool },
    /// An HTTP status that says it all.
    Status(u16),
    /// The exchange's own error report.
    Refused { name: String, message: String },
    /// A reply that is not what the API promises.
    BadReply(String),
    /// The reply has books, but not of this market.
    NotInReply,
    /// A body beyond this many bytes.
    TooLarge(u64),
    /// Not complete after this long.
    Timeout(Duration),
    /// No connection, or a broken one.
    Transport(String),
    /// The system has no thread that could ask.
    NoThread(String),
    /// The daemon stops and no longer waits.
    Aborted,
}

impl ExchangeError {
    pub(super) fn refused(name: &str, message: &str) -> Self {
        Self::Refused { name: quote(name), message: quote(message) }
    }

    /// Whether it means that the exchange as a whole may be out of order or out of reach, not one market.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Status(status) => *status >= 500,
            Self::Timeout(_) | Self::Transport(_) | Self::NoThread(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownMarket => write!(f, "the exchange knows no such market"),
            Self::RateLimited { refusal, hold, .. } => {
                write!(f, "refused for its rate limit ({refusal}), to be left alone for {}", show_duration(*hold))
            }
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Refused { name, message } => write!(f, "refused: {name}: {message}"),
            Self::BadReply(what) => write!(f, "bad reply: {what}"),
            Self::NotInReply => write!(f, "the reply has no book of this market"),
            Self::TooLarge(limit) => write!(f, "the reply is larger than {}", Bytes(*limit)),
            Self::Timeout(after) => write!(f, "no complete reply within {}", show_duration(*after)),
            Self::Transport(what) => write!(f, "{what}"),
            Self::NoThread(why) => write!(f, "no thread for a worker: {why}"),
            Self::Aborted => write!(f, "aborted at shutdown"),
        }
    }
}

impl std::error::Error for ExchangeError {}

/// A text of the exchange for a message: of bounded length and without control characters.
pub(super) fn quote(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut quoted: String = text.chars().take(QUOTE_CHARS_MAX).map(printable).collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        quoted.push('…');
    }
    quoted
}
