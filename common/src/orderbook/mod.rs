//! The record contract: what a Kafka record of coinflow holds, and the only code that writes and reads it.
//!
//! Producer and consumer share these types. A price or quantity keeps the digits of the exchange's own text
//! from the socket to PostgreSQL's NUMERIC and never passes through a float.

mod decimal;
mod level;
mod name;
mod record;
mod time;

pub use decimal::{Decimal, DecimalError};
pub use level::{Level, Side, SideError};
pub use name::{Exchange, Market, NameError};
pub use record::{
    HEADER_EXCHANGE, HEADER_PRODUCER, HEADER_SCHEMA, OrderBook, RecordError, SCHEMA, check_schema, other_major, topic,
};
pub use time::{Timestamp, TimestampError};
