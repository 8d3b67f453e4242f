//! What goes over the control endpoint, typed for both its ends. Times are in Unix microseconds of the exchange's clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::switches::{
    BadCount, BithumbLegacy, BithumbV2, Count, ErrorName, Gzip, Korbit, KorbitLimiter, Limiter, LowerCase, ObjectOrder,
    OverLimitKorbit, OverLimitLegacy, OverLimitUpbit, OverLimitV2, Switches, TimestampType, TimestampUnit, UnitKeys,
    Upbit, UpbitLimiter,
};

/// What goes wrong, by the cases of the exchange reference, and more that tests need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// F-01: the book moves, its timestamp does not.
    StuckTimestamp,
    /// F-02: the same book with the same timestamp once more.
    SameBody,
    /// F-03: the market is unknown.
    Delisted,
    /// F-04: this status with an HTML body.
    Gateway { status: u16 },
    /// F-05: the first half of the JSON, with the Content-Length of that half.
    TruncatedJson,
    /// F-06: the body comes in pieces of `bytes`, one every `every_ms`.
    Trickle { bytes: usize, every_ms: u64 },
    /// F-07: head and half of the body, and then a reset (RST).
    Reset,
    /// F-08: a chunked body of this many bytes, or until the client goes away.
    Huge { bytes: u64 },
    /// F-09: 200 and no body.
    EmptyBody,
    /// Answers this much later, and is otherwise as it would be.
    Delay { ms: u64 },
    /// This status and this body in place of the book.
    Reply {
        status: u16,
        content_type: String,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        body: String,
    },
}

impl Fault {
    /// A reply without headers of its own.
    pub fn reply(status: u16, content_type: &str, body: &str) -> Fault {
        let (content_type, body) = (content_type.to_owned(), body.to_owned());
        Fault::Reply { status, content_type, headers: BTreeMap::new(), body }
    }

    /// The name under which `requests` lists it.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::StuckTimestamp => "F-01",
            Fault::SameBody => "F-02",
            Fault::Delisted => "F-03",
            Fault::Gateway { .. } => "F-04",
            Fault::TruncatedJson => "F-05",
            Fault::Trickle { .. } => "F-06",
            Fault::Reset => "F-07",
            Fault::Huge { .. } => "F-08",
            Fault::EmptyBody => "F-09",
            Fault::Delay { .. } => "delay",
            Fault::Reply { .. } => "reply",
        }
    }
}

/// A fault, whom it strikes and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    #[serde(default)]
    pub target: Target,
    pub fault: Fault,
    /// Requests that it strikes; absent: until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Every request for books.
    #[default]
    Books,
    /// Requests that name this market (`KRW-BTC`, whatever the API's own spelling).
    Market(String),
    /// Requests for the list of markets.
    List,
}

/// A level with a price and the size 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ghost {
    #[default]
    Off,
    /// The best ask.
    Best,
    /// The third ask.
    Deep,
}

/// A change to one market; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarketChange {
    pub market: String,
    pub ghost: Option<Ghost>,
    /// Bids that are missing at the far end: padded with zeros by Bithumb v2 and Upbit, simply absent in Bithumb's legacy API
    /// and at Korbit.
    pub padding: Option<usize>,
    /// At Bithumb it shows nowhere but in the legacy ticker, and at Upbit nowhere at all (UP-22). Korbit's pair is stopped: its
    /// book is empty, and days old (KB-09).
    pub suspended: Option<bool>,
    /// UP-19: the book and its timestamp stand still, and are minutes old when first read.
    pub quiet: Option<bool>,
    pub book: Option<BookChange>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BookChange {
    Generated,
    Override(BookOverride),
}

/// (price, quantity) as texts: the JSON of a number where the API sends numbers, and what stands between the quotes where it
/// sends strings. Nothing is checked.
pub type LevelText = (String, String);

/// A market's book, verbatim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BookOverride {
    pub asks: Vec<LevelText>,
    pub bids: Vec<LevelText>,
    /// JSON in place of the timestamp.
    pub timestamp: Option<String>,
}

/// How the exchange treats requests while it is paused; the control endpoint goes on answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// Requests wait for their answer until it is resumed.
    Hang,
    /// Connections are reset.
    Reset,
}

/// One page of a log. Ask for the next one with `since` = `next`, until `entries` is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    pub entries: Vec<T>,
    /// The sequence of the last entry here, or `since` itself.
    pub next: u64,
    /// Entries that the log had no room for any more, since the last reset.
    pub dropped: u64,
}

/// A request that came, logged as soon as its answer was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestSeen {
    pub sequence: u64,
    /// When its first bytes were read.
    pub arrived_us: u64,
    pub connection: u64,
    pub method: String,
    /// With the query, as sent.
    pub path: String,
    pub markets: Vec<String>,
    /// The status sent; 0: none, the connection was reset.
    pub status: u16,
    pub faults: Vec<String>,
    pub user_agent: Option<String>,
    pub origin: Option<String>,
    pub accept_encoding: Option<String>,
    /// Whether the reply was compressed.
    pub gzip: bool,
}

/// A book that was sent to its last byte under status 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedBook {
    pub sequence: u64,
    /// The `sequence` of its request.
    pub request: u64,
    pub arrived_us: u64,
    pub market: String,
    pub timestamp_ms: u64,
    /// The timestamp as it was sent.
    pub timestamp: String,
    /// As sent, and in the order sent, ghosts and padding among them.
    pub asks: Vec<LevelText>,
    pub bids: Vec<LevelText>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub requests: u64,
    pub books: u64,
    /// Connections taken so far, and open now (that of the asker among them).
    pub connections: u64,
    pub connections_open: u64,
    /// Replies per market asked for and status; `-` stands for requests that name no market, `?` for unknown ones.
    pub statuses: BTreeMap<String, BTreeMap<u16, u64>>,
    /// Requests struck, per fault.
    pub faults: BTreeMap<String, u64>,
}
