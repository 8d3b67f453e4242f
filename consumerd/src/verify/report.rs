//! The lines that `verify` prints.

use std::fmt;
use std::ops::AddAssign;

use crate::record::Partition;

/// How a record and the table differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record without a row.
    Missing,
    /// A record with more than one.
    Doubled,
    /// A record whose row says something else.
    Differs,
    /// A row without a record.
    Extra,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Doubled => "doubled",
            Self::Differs => "differs",
            Self::Extra => "extra",
        }
    }
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) kind: Kind,
    pub(super) offset: i64,
    pub(super) market: String,
    pub(super) what: String,
}

impl Difference {
    pub(super) fn line(&self, partition: &Partition) -> String {
        let Self { kind, offset, market, what } = self;
        format!("{} {partition} offset={offset} market={market}: {what}\n", kind.as_str())
    }
}

/// What a partition, or all of them, came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Records with one row that equals them.
    pub(super) books: u64,
    pub(super) missing: u64,
    pub(super) doubled: u64,
    pub(super) differs: u64,
    pub(super) extra: u64,
    pub(super) dead_lettered: u64,
    /// Older than the retention, and without a row.
    pub(super) expired: u64,
    /// Left out by a decision that `offset_event` keeps.
    pub(super) skipped: u64,
    /// Rows whose records Kafka has deleted.
    pub(super) gone: u64,
}

impl Counts {
    pub(super) fn add(&mut self, kind: Kind) {
        *match kind {
            Kind::Missing => &mut self.missing,
            Kind::Doubled => &mut self.doubled,
            Kind::Differs => &mut self.differs,
            Kind::Extra => &mut self.extra,
        } += 1;
    }

    pub(super) fn is_equal(&self) -> bool {
        self.missing + self.doubled + self.differs + self.extra == 0
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.books += other.books;
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.differs += other.differs;
        self.extra += other.extra;
        self.dead_lettered += other.dead_lettered;
        self.expired += other.expired;
        self.skipped += other.skipped;
        self.gone += other.gone;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { books, missing, doubled, differs, extra, dead_lettered, expired, skipped, gone } = self;
        let verdict = if self.is_equal() { "equal" } else { "NOT EQUAL" };
        write!(f, "{verdict}, books={books} missing={missing} doubled={doubled} differs={differs} extra={extra} ")?;
        write!(f, "dead_lettered={dead_lettered} expired={expired} skipped={skipped} gone_from_topic={gone}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let difference =
            Difference { kind: Kind::Missing, offset: 7, market: "KRW-BTC".to_owned(), what: "no row".to_owned() };
        let line = difference.line(&Partition::new("t", 3));
        assert_eq!(line, "missing topic=t partition=3 offset=7 market=KRW-BTC: no row\n");
        let mut sum = Counts { books: 2, gone: 1, ..Counts::default() };
        sum += Counts { books: 3, dead_lettered: 1, ..Counts::default() };
        assert_eq!(
            sum.to_string(),
            "equal, books=5 missing=0 doubled=0 differs=0 extra=0 dead_lettered=1 expired=0 skipped=0 gone_from_topic=1"
        );
        for kind in [Kind::Missing, Kind::Doubled, Kind::Differs, Kind::Extra] {
            let mut counts = sum;
            counts.add(kind);
            assert!(!counts.is_equal() && counts.to_string().contains(&format!("{}=1", kind.as_str())));
        }
    }
}
