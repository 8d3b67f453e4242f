//! Whether PostgreSQL serves a source: one line per change, and what STATUS says.

use coinflow_common::orderbook::Timestamp;

use crate::backoff::Pace;
use crate::state::Database;
use crate::store::{Class, PgFault};

/// What is over by itself after a try or two is no change of state before so many in a row.
const PASSING_MAX: u32 = 5;

/// A change worth a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Not reached.
    Down,
    /// Reached, but not willing.
    Refuses,
    /// Served again, since when it was not.
    Back { since: Timestamp },
    /// Served for the first time.
    First,
}

/// Follows one connection.
#[derive(Debug, Default)]
pub(crate) struct Health {
    database: Database,
    class: Option<Class>,
    passing: u32,
}

impl Health {
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// A try has failed.
    pub(crate) fn failed(&mut self, fault: &PgFault, now: Timestamp) -> Option<Change> {
        let class = fault.class();
        if matches!(class, Class::Concurrency | Class::Timeout | Class::MissingDay) {
            self.passing += 1;
            if self.passing < PASSING_MAX {
                return None;
            }
        }
        let since = match self.database {
            Database::Down { since, .. } => since,
            _ => now,
        };
        self.database = Database::Down { since, reached: class != Class::Away, reason: fault.to_string() };
        if self.class.replace(class) == Some(class) {
            return None;
        }
        Some(if class == Class::Away { Change::Down } else { Change::Refuses })
    }

    /// Everything that there was to do is done.
    pub(crate) fn served(&mut self) -> Option<Change> {
        self.passing = 0;
        self.class = None;
        match std::mem::replace(&mut self.database, Database::Up) {
            Database::Up => None,
            Database::Starting => Some(Change::First),
            Database::Down { since, .. } => Some(Change::Back { since }),
        }
    }
}

/// How soon a kind of fault is tried again.
pub(crate) fn pace(class: Class) -> Pace {
    match class {
        Class::Concurrency | Class::Timeout | Class::MissingDay => Pace::AtOnce,
        Class::Away => Pace::Quick,
        Class::Row | Class::Resources | Class::Setup | Class::Unknown => Pace::Slow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: Option<&str>) -> PgFault {
        PgFault { code: code.map(str::to_owned), constraint: false, closed: code.is_none(), message: "m".to_owned() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000).expect("in range")
    }

    #[test]
    fn each_change_is_told_once() {
        let mut health = Health::default();
        assert_eq!(health.failed(&fault(None), at(1)), Some(Change::Down));
        assert_eq!(health.failed(&fault(None), at(2)), None);
        assert_eq!(health.failed(&fault(Some("28P01")), at(3)), Some(Change::Refuses));
        assert_eq!(health.failed(&fault(Some("28P01")), at(4)), None);
        let down = Database::Down { since: at(1), reached: true, reason: "m (SQLSTATE 28P01)".to_owned() };
        assert_eq!(health.database(), &down);
        assert_eq!(health.served(), Some(Change::Back { since: at(1) }));
        assert_eq!(health.served(), None);
        assert_eq!(health.failed(&fault(None), at(9)), Some(Change::Down));
    }

    #[test]
    fn the_first_service_is_a_change() {
        assert_eq!(Health::default().served(), Some(Change::First));
    }

    #[test]
    fn what_passes_is_told_only_if_it_does_not() {
        let mut health = Health::default();
        health.served();
        let told: Vec<_> = (0..6).map(|second| health.failed(&fault(Some("40P01")), at(second)).is_some()).collect();
        assert_eq!(told, [false, false, false, false, true, false]);
        health.served();
        assert_eq!(health.failed(&fault(Some("40P01")), at(9)), None);
        assert_eq!(health.database(), &Database::Up);
    }
}
