//! A Kafka record on its way into the database.

mod raw;

use std::fmt;
use std::sync::Arc;

use coinflow_common::orderbook::{Exchange, Market, Timestamp};

pub(crate) use raw::{Buffers, Raw, Spare};

/// A partition of a topic. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition {
    pub(crate) topic: Arc<str>,
    pub(crate) number: i32,
}

impl Partition {
    pub(crate) fn new(topic: &str, number: i32) -> Self {
        Self { topic: topic.into(), number }
    }
}

/// As a tail of a log line.
impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic={} partition={}", self.topic, self.number)
    }
}

/// One stay of a partition with this process: what belongs to an earlier one is never taken for the present one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Epoch(pub(crate) u64);

/// Kafka's time of a record, from milliseconds since 1970. It may be anything: none where `kafka_offset` could not keep it.
pub(crate) fn record_time(at_ms: i64) -> Option<Timestamp> {
    // PostgreSQL knows no year 0.
    Timestamp::from_micros(at_ms.checked_mul(1000)?).ok().filter(|_| at_ms >= 0)
}

/// A record, already judged, with all that is needed to store it either way.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) partition: Partition,
    pub(crate) epoch: Epoch,
    pub(crate) offset: i64,
    pub(crate) fate: Fate,
    pub(crate) raw: Raw,
}

/// What is to become of a record. Each moves its partition's position.
#[derive(Debug)]
pub(crate) enum Fate {
    /// A row of `orderbook`.
    Book(Book),
    /// Can never be stored: a row of `dead_letter`.
    Dead {
        reason: String,
        /// The major version of its schema header, if that is another one than ours.
        major: Option<u32>,
    },
    /// Older than the retention: only counted.
    Expired,
}

/// A book, encoded for COPY.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) exchange: Exchange,
    pub(crate) market: Market,
    /// The UTC day of `received_at`, in days since 1970.
    pub(crate) day: i64,
    pub(crate) tuple: Vec<u8>,
}

impl Record {
    /// Roughly what it takes in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        let fate = match &self.fate {
            Fate::Book(book) => book.tuple.len(),
            Fate::Dead { reason, .. } => reason.len(),
            Fate::Expired => 0,
        };
        size_of::<Self>() + self.raw.len() + fate
    }

    /// For others of its kind.
    pub(crate) fn give_buffers(self, spare: &mut Spare) {
        if let Fate::Book(book) = self.fate {
            spare.tuples.give(book.tuple);
        }
        spare.raws.give(self.raw.into_buffer());
    }
}
