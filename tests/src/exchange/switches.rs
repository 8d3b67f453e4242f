//! The switches: answers that vary with the exchange's version or the source that describes it.

use serde::{Deserialize, Serialize};

use super::number::Spelling;

/// All switches. The defaults are what was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// Whether a reply is compressed for a client that accepts gzip.
    pub gzip: Gzip,
    pub bithumb_v2: BithumbV2,
    pub bithumb_legacy: BithumbLegacy,
    pub upbit: Upbit,
    pub korbit: Korbit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gzip {
    #[default]
    WhenAccepted,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BithumbV2 {
    /// HTTP status of an error about an unknown market: 200 or 404.
    pub unknown_market: u16,
    pub error_name: ErrorName,
    /// Unit of the timestamp when exactly one market is asked for.
    pub single_timestamp: TimestampUnit,
    pub over_limit: OverLimitV2,
    pub numbers: Spelling,
    pub object_order: ObjectOrder,
    pub limiter: Limiter,
}

impl Default for BithumbV2 {
    fn default() -> BithumbV2 {
        BithumbV2 {
            unknown_market: 200,
            error_name: ErrorName::default(),
            single_timestamp: TimestampUnit::default(),
            over_limit: OverLimitV2::default(),
            numbers: Spelling::default(),
            object_order: ObjectOrder::default(),
            limiter: Limiter::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BithumbLegacy {
    pub over_limit: OverLimitLegacy,
    pub timestamp: TimestampType,
    /// HTTP status of a reply whose `status` is an error: 200 or 400.
    pub error_status: u16,
    /// BL-10: what a pair in lower case gives.
    pub lower_case: LowerCase,
    /// BL-11: what a `count` out of range, or that is no number, gives.
    pub bad_count: BadCount,
    pub numbers: Spelling,
    pub limiter: Limiter,
}

impl Default for BithumbLegacy {
    fn default() -> BithumbLegacy {
        BithumbLegacy {
            over_limit: OverLimitLegacy::default(),
            timestamp: TimestampType::default(),
            error_status: 200,
            lower_case: LowerCase::default(),
            bad_count: BadCount::default(),
            numbers: Spelling::default(),
            limiter: Limiter::default(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upbit {
    /// UP-03: what a `count` below 30 gives.
    pub count: Count,
    /// UP-21; sizes are always plain.
    pub prices: Spelling,
    /// UP-01: in which order the keys of a unit come.
    pub unit_keys: UnitKeys,
    /// UP-14, UP-18: the body of a 429.
    pub over_limit: OverLimitUpbit,
    pub limiter: UpbitLimiter,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Korbit {
    /// KB-12: the body of a 429.
    pub over_limit: OverLimitKorbit,
    pub limiter: KorbitLimiter,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorName {
    #[default]
    Integer,
    String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestampUnit {
    #[default]
    Ms,
    Us,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestampType {
    #[default]
    String,
    Number,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLimitV2 {
    #[default]
    #[serde(rename = "429_empty")]
    Empty429,
    #[serde(rename = "429_body")]
    Body429,
    #[serde(rename = "403")]
    Forbidden403,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLimitLegacy {
    #[default]
    #[serde(rename = "429_empty")]
    Empty429,
    /// HTTP 200 with status 5600.
    #[serde(rename = "200_5600")]
    Status5600,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectOrder {
    #[default]
    Request,
    Shuffled,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LowerCase {
    #[default]
    Book,
    Error,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadCount {
    #[default]
    Ignored,
    Error,
}

/// Bithumb's: a token bucket per client address and category; a client that empties it is blocked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limiter {
    pub enabled: bool,
    /// Tokens that come back each second, and the size of the bucket.
    pub per_second: u32,
    pub block_ms: u64,
}

impl Default for Limiter {
    fn default() -> Limiter {
        Limiter { enabled: true, per_second: 150, block_ms: 60_000 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// 30 levels whatever it says.
    #[default]
    Ignored,
    Honoured,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKeys {
    /// `bid_price`, `bid_size`, `ask_price`, `ask_size`
    #[default]
    BidFirst,
    /// `ask_price`, `bid_price`, `ask_size`, `bid_size`
    AskFirst,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLimitUpbit {
    #[default]
    Json,
    Plain,
    Empty,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLimitKorbit {
    /// As every other error.
    #[default]
    Envelope,
    Html,
}

/// UP-14 to UP-16: a fixed window, each second of the wall clock, per client address and group; a client that goes on in a
/// second in which it was refused is blocked, in every group. (UP-17, UP-18: the group `origin` has one request in ten seconds.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpbitLimiter {
    pub enabled: bool,
    pub per_second: u32,
    /// How long the first block lasts; the next ones last twice as long each.
    pub block_s: u64,
    pub block_max_s: u64,
}

impl Default for UpbitLimiter {
    fn default() -> UpbitLimiter {
        UpbitLimiter { enabled: true, per_second: 10, block_s: 10, block_max_s: 600 }
    }
}

/// KB-12, KB-13: a fixed window, each second of the wall clock, per client address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KorbitLimiter {
    pub enabled: bool,
    pub per_second: u32,
}

impl Default for KorbitLimiter {
    fn default() -> KorbitLimiter {
        KorbitLimiter { enabled: true, per_second: 50 }
    }
}
