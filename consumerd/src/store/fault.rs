//! What an error of PostgreSQL means for the rows at hand.
//!
//! The principle: an unknown error is retried, never dropped. Only a single row that has been isolated may be refused,
//! and only for a listed reason.

use std::error::Error as _;
use std::fmt;

/// An error of PostgreSQL, or of the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PgFault {
    /// SQLSTATE, if the server spoke.
    pub(crate) code: Option<String>,
    /// Whether it names a constraint.
    pub(crate) constraint: bool,
    /// Whether it is certain that the connection is of no use any more.
    pub(crate) closed: bool,
    /// The whole chain of reasons on one line.
    pub(crate) message: String,
}

/// What kind of error it is, and so what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// A row's own fault, once it is isolated: it goes to the dead letters.
    Row,
    /// The partition for a row's day is missing: make it.
    MissingDay,
    /// The server is away, restarting or read-only: connect anew, for ever.
    Away,
    /// Disk, memory or connections are used up: slowly, for ever.
    Resources,
    /// Another transaction was in the way: at once again.
    Concurrency,
    /// The statement took too long: again with half the rows.
    Timeout,
    /// Something is not set up as it has to be: slowly, for ever, and shown.
    Setup,
    /// None of the above: slowly, for ever, and shown.
    Unknown,
}

/// The class of an error.
pub(crate) fn class(fault: &PgFault) -> Class {
    let Some(code) = fault.code.as_deref() else {
        // An error of the client that left the connection usable is about a conversion, not about transport.
        return if fault.closed { Class::Away } else { Class::Setup };
    };
    match code {
        "40003" | "25006" | "25P03" | "57P01" | "57P02" | "57P03" | "57P05" => Class::Away,
        "40001" | "40P01" | "55P03" => Class::Concurrency,
        "57014" => Class::Timeout,
        // Plans and prepared statements that another session made stale; a new connection has neither.
        "0A000" | "26000" => Class::Setup,
        // What a missing partition has in common with a CHECK that a row violates is the code alone.
        "23514" if !fault.constraint => Class::MissingDay,
        "P0001" => Class::Setup,
        // A row that breaks a constraint names it. A null where none may be names only a column, and consumerd sends
        // none: somebody has added that column.
        "23502" => Class::Setup,
        // The bytes of a field are consumerd's own, and right for the column as it was made: its type was changed.
        "22P03" => Class::Setup,
        _ => match code.get(..2) {
            Some("08") => Class::Away,
            Some("53" | "58") => Class::Resources,
            Some("28" | "3D" | "3F" | "42") => Class::Setup,
            Some("21" | "22" | "23" | "54") => Class::Row,
            _ => Class::Unknown,
        },
    }
}

impl PgFault {
    /// Of a failure outside PostgreSQL's protocol that concerns the set-up, such as an unreadable password file.
    pub(crate) fn setup(message: impl Into<String>) -> Self {
        Self { code: None, constraint: false, closed: false, message: message.into() }
    }

    /// When connecting, every failure without SQLSTATE is one of the way.
    pub(crate) fn connecting(error: &postgres::Error) -> Self {
        Self { closed: true, ..Self::from(error) }
    }

    /// Somebody has held a lock for longer than we wait.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.code.as_deref() == Some("55P03")
    }

    pub(crate) fn class(&self) -> Class {
        class(self)
    }
}

impl From<&postgres::Error> for PgFault {
    fn from(error: &postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let detail = db.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
            return Self {
                code: Some(db.code().code().to_owned()),
                constraint: db.constraint().is_some(),
                closed: error.is_closed(),
                message: one_line(&format!("{}{detail}", db.message())),
            };
        }
        let mut message = error.to_string();
        let mut source = error.source();
        let mut closed = error.is_closed();
        while let Some(cause) = source {
            closed |= cause.is::<std::io::Error>();
            let text = cause.to_string();
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        Self { code: None, constraint: false, closed, message: one_line(&message) }
    }
}

impl From<postgres::Error> for PgFault {
    fn from(error: postgres::Error) -> Self {
        Self::from(&error)
    }
}

/// COPY's writer hides PostgreSQL's errors in those of `std::io`.
impl From<std::io::Error> for PgFault {
    fn from(error: std::io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<postgres::Error>()) {
            Some(inner) => Self::from(inner),
            None => Self { code: None, constraint: false, closed: true, message: one_line(&error.to_string()) },
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

impl fmt::Display for PgFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} (SQLSTATE {code})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(code: &str, constraint: bool) -> Class {
        class(&PgFault { code: Some(code.to_owned()), constraint, closed: false, message: String::new() })
    }

    #[test]
    fn each_sqlstate_has_its_class() {
        let table = [
            (
                Class::Away,
                &["08000", "08006", "08P01", "40003", "57P01", "57P02", "57P03", "57P05", "25P03", "25006"][..],
            ),
            (Class::Resources, &["53100", "53200", "53300", "58030", "58P01"]),
            (Class::Concurrency, &["40001", "40P01", "55P03"]),
            (Class::Timeout, &["57014"]),
            (Class::Setup, &["42P01", "42703", "42804", "42501", "28000", "28P01", "3D000", "3F000", "0A000", "26000"]),
            (Class::Setup, &["P0001", "23502", "22P03"]),
            (Class::Row, &["22003", "22P02", "22P05", "22021", "21000", "23503", "23505", "23P01", "54000"]),
            (Class::Unknown, &["XX000", "XX001", "25P02", "55000", "57000", "F0000", "", "4"]),
        ];
        for (class, codes) in table {
            for code in codes {
                assert_eq!(classified(code, false), class, "{code}");
            }
        }
    }

    #[test]
    fn a_missing_day_is_a_check_violation_without_a_constraint() {
        assert_eq!(classified("23514", false), Class::MissingDay);
        assert_eq!(classified("23514", true), Class::Row);
    }

    #[test]
    fn an_error_without_sqlstate_is_transport_only_if_the_connection_is_gone() {
        let fault = |closed| PgFault { code: None, constraint: false, closed, message: String::new() };
        assert_eq!(class(&fault(true)), Class::Away);
        assert_eq!(class(&fault(false)), Class::Setup);
    }
}
