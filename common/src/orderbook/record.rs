//! The record itself: its value, its headers and its topic.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Decimal, Exchange, Level, Market, Side, Timestamp};

/// Header that names the record's schema; a record without it counts as major version 1.
pub const HEADER_SCHEMA: &str = "schema";
/// Header that names the exchange.
pub const HEADER_EXCHANGE: &str = "exchange";
/// Header that names the producing program, its version and its host.
pub const HEADER_PRODUCER: &str = "producer";
/// The schema that this code writes, and the only major version that it reads.
pub const SCHEMA: &str = "coinflow.orderbook/1";

/// The topic of an exchange's books: `<prefix>.<exchange>`.
#[must_use]
pub fn topic(prefix: &str, exchange: &Exchange) -> String {
    format!("{prefix}.{exchange}")
}

/// One order book of one market at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderBook {
    pub exchange: Exchange,
    pub market: Market,
    /// The exchange's own time of the book, if it gave one.
    pub exchange_ts: Option<Timestamp>,
    /// The producer's clock when it asked; none for a book that was not asked for (streams).
    pub requested_at: Option<Timestamp>,
    /// The producer's clock when the whole book had arrived.
    pub received_at: Timestamp,
    /// One run of one producer, a UUIDv7.
    pub run: Uuid,
    /// Counts the accepted books of this market in this run, from 1: a hole in the numbers is a lost book.
    pub sequence: i64,
    /// Best first: rising prices.
    pub asks: Vec<Level>,
    /// Best first: falling prices.
    pub bids: Vec<Level>,
}

/// Why a record can never be stored: it is not ours, or its values are outside the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError(String);

impl RecordError {
    /// With a reason that names the field.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RecordError {}

/// Checks the value of the schema header; `None` is a record without one.
///
/// # Errors
/// Any schema but `coinflow.orderbook` of major version 1.
pub fn check_schema(header: Option<&[u8]>) -> Result<(), RecordError> {
    let Some(header) = header else { return Ok(()) };
    let ours = |text: &str| {
        let version = text.strip_prefix("coinflow.orderbook/")?;
        (version.split('.').next() == Some("1")).then_some(())
    };
    std::str::from_utf8(header).ok().and_then(ours).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(header).chars().take(80).collect();
        RecordError(format!("header {HEADER_SCHEMA}: {shown:?} is not {SCHEMA}"))
    })
}

/// The major version that the schema header names, if it is a `coinflow.orderbook` of another one than 1.
#[must_use]
pub fn other_major(header: Option<&[u8]>) -> Option<u32> {
    let version = std::str::from_utf8(header?).ok()?.strip_prefix("coinflow.orderbook/")?;
    let major = version.split('.').next().filter(|major| major.bytes().all(|byte| byte.is_ascii_digit()))?;
    major.parse().ok().filter(|major| *major != 1)
}

impl OrderBook {
    /// Appends the record's value: one compact JSON object.
    pub fn encode(&self, value: &mut Vec<u8>) {
        // Writing to a Vec cannot fail, and neither can these Serialize implementations.
        let written = serde_json::to_writer(value, self);
        debug_assert!(written.is_ok(), "an order book always serializes");
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// Anything outside the contract; the reason names the field.
    pub fn decode(value: &[u8]) -> Result<Self, RecordError> {
        // To look at all of it at once for what is no UTF-8 takes a tenth of looking at each text.
        let decoded = match std::str::from_utf8(value) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(value),
        };
        decoded.map_err(|error| RecordError(error.to_string()))
    }
}

impl Serialize for OrderBook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("OrderBook", FIELDS.len())?;
        record.serialize_field("exchange", self.exchange.as_str())?;
        record.serialize_field("market", self.market.as_str())?;
        record.serialize_field("exchange_ts", &self.exchange_ts.map(|ts| Text(ts.short())))?;
        record.serialize_field("requested_at", &self.requested_at.map(Text))?;
        record.serialize_field("received_at", &Text(self.received_at))?;
        record.serialize_field("run", &Text(self.run))?;
        record.serialize_field("sequence", &self.sequence)?;
        record.serialize_field("asks", &Levels(&self.asks))?;
        record.serialize_field("bids", &Levels(&self.bids))?;
        record.end()
    }
}

/// Serializes as the text that the value displays.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Levels<'a>(&'a [Level]);

impl Serialize for Levels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut levels = serializer.serialize_seq(Some(self.0.len()))?;
        for level in self.0 {
            levels.serialize_element(&[Text(level.price), Text(level.quantity)])?;
        }
        levels.end()
    }
}

const FIELDS: [&str; 9] =
    ["exchange", "market", "exchange_ts", "requested_at", "received_at", "run", "sequence", "asks", "bids"];

impl<'de> Deserialize<'de> for OrderBook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor)
    }
}

struct RecordVisitor;

impl<'de> Visitor<'de> for RecordVisitor {
    type Value = OrderBook;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an order book record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OrderBook, A::Error> {
        let mut exchange = None;
        let mut market = None;
        let mut exchange_ts = None;
        let mut requested_at = None;
        let mut received_at = None;
        let mut run = None;
        let mut sequence = None;
        let mut asks = None;
        let mut bids = None;
        let mut unknown = HashSet::new();
        while let Some(Str(key)) = map.next_key()? {
            match &*key {
                "exchange" => once(&mut exchange, "exchange", text(&mut map, "exchange", Exchange::parse)?)?,
                "market" => once(&mut market, "market", text(&mut map, "market", Market::parse)?)?,
                "exchange_ts" => once(&mut exchange_ts, "exchange_ts", optional_time(&mut map, "exchange_ts")?)?,
                "requested_at" => once(&mut requested_at, "requested_at", optional_time(&mut map, "requested_at")?)?,
                "received_at" => {
                    let at = text(&mut map, "received_at", Timestamp::parse)?;
                    once(&mut received_at, "received_at", at)?;
                }
                "run" => once(&mut run, "run", text(&mut map, "run", Uuid::try_parse)?)?,
                "sequence" => {
                    let number: i64 = map.next_value().map_err(|error| in_field("sequence", error))?;
                    if number < 1 {
                        return Err(in_field("sequence", format!("{number} is below 1")));
                    }
                    once(&mut sequence, "sequence", number)?;
                }
                "asks" => once(&mut asks, "asks", map.next_value::<Asks>()?.0)?,
                "bids" => once(&mut bids, "bids", map.next_value::<Bids>()?.0)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    if let Some(key) = unknown.replace(key) {
                        return Err(A::Error::custom(format_args!("{:?} stands twice", clip(&key))));
                    }
                }
            }
        }
        Ok(OrderBook {
            exchange: required(exchange, "exchange")?,
            market: required(market, "market")?,
            exchange_ts: required(exchange_ts, "exchange_ts")?,
            requested_at: required(requested_at, "requested_at")?,
            received_at: required(received_at, "received_at")?,
            run: required(run, "run")?,
            sequence: required(sequence, "sequence")?,
            asks: required(asks, "asks")?,
            bids: required(bids, "bids")?,
        })
    }
}

fn in_field<E: serde::de::Error>(field: impl fmt::Display, error: impl fmt::Display) -> E {
    E::custom(format_args!("{field}: {error}"))
}

fn once<T, E: serde::de::Error>(slot: &mut Option<T>, field: &str, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom(format_args!("{field:?} stands twice"))),
    }
}

fn required<T, E: serde::de::Error>(value: Option<T>, field: &str) -> Result<T, E> {
    value.ok_or_else(|| E::custom(format_args!("{field:?} is missing")))
}

fn text<'de, A: MapAccess<'de>, T, P: fmt::Display>(
    map: &mut A,
    field: &str,
    parse: impl FnOnce(&str) -> Result<T, P>,
) -> Result<T, A::Error> {
    let Str(text) = map.next_value().map_err(|error| in_field(field, error))?;
    parse(&text).map_err(|error| in_field(field, format_args!("{:?} is {error}", clip(&text))))
}

fn optional_time<'de, A: MapAccess<'de>>(map: &mut A, field: &str) -> Result<Option<Timestamp>, A::Error> {
    let text: Option<Str> = map.next_value().map_err(|error| in_field(field, error))?;
    text.map(|Str(text)| {
        Timestamp::parse(&text).map_err(|error| in_field(field, format_args!("{:?} is {error}", clip(&text))))
    })
    .transpose()
}

/// The start of a text that may be of any length, for a message.
fn clip(text: &str) -> &str {
    let mut end = text.len().min(64);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A string, borrowed from the input where it has no escapes.
struct Str<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Str<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;
        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(StrVisitor)
    }
}

struct Asks(Vec<Level>);
struct Bids(Vec<Level>);

impl<'de> Deserialize<'de> for Asks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SideVisitor(Side::Asks)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Bids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SideVisitor(Side::Bids)).map(Self)
    }
}

struct SideVisitor(Side);

impl<'de> Visitor<'de> for SideVisitor {
    type Value = Vec<Level>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} as a list of [price, quantity]", self.0.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Level>, A::Error> {
        let side = self.0.name();
        let mut levels = Vec::with_capacity(32);
        loop {
            let place = |error: A::Error| in_field(format_args!("{side}[{}]", levels.len()), error);
            match seq.next_element::<LevelText>().map_err(place)? {
                Some(LevelText(level)) => levels.push(level),
                None => break,
            }
        }
        self.0.check(&levels).map_err(|error| A::Error::custom(format_args!("{side}{error}")))?;
        Ok(levels)
    }
}

struct LevelText(Level);

impl<'de> Deserialize<'de> for LevelText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LevelVisitor;
        impl<'de> Visitor<'de> for LevelVisitor {
            type Value = LevelText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[price, quantity]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<LevelText, A::Error> {
                let price = decimal(&mut seq, "price")?;
                let quantity = decimal(&mut seq, "quantity")?;
                match seq.next_element::<IgnoredAny>()? {
                    None => Ok(LevelText(Level { price, quantity })),
                    Some(_) => Err(A::Error::custom("more than [price, quantity]")),
                }
            }
        }
        deserializer.deserialize_seq(LevelVisitor)
    }
}

fn decimal<'de, A: SeqAccess<'de>>(seq: &mut A, field: &str) -> Result<Decimal, A::Error> {
    let Str(text) = seq
        .next_element()
        .map_err(|error| in_field(field, error))?
        .ok_or_else(|| A::Error::custom(format_args!("{field} is missing")))?;
    Decimal::parse_plain(&text).map_err(|error| in_field(field, format_args!("{:?} {error}", clip(&text))))
}

#[cfg(test)]
mod tests;
