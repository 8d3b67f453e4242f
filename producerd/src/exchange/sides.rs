//! The form of book that Bithumb's API 1.0 and Korbit share: a list of levels for each side, decimals as strings.

use std::fmt;

use coinflow_common::orderbook::{Level, Side};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Book, BookResult, ExchangeError, json};

/// A level; what a quantity is called differs.
#[derive(Deserialize)]
pub(super) struct LevelJson<'a> {
    #[serde(borrow)]
    price: Option<&'a RawValue>,
    #[serde(borrow, alias = "qty")]
    quantity: Option<&'a RawValue>,
}

/// A side of the reply, if it has it.
pub(super) type SideJson<'a> = Option<Vec<LevelJson<'a>>>;

/// The book in the object `data` of a reply; `quantity` is how a quantity is called there.
pub(super) fn read_book(
    timestamp: Option<&RawValue>,
    asks: SideJson<'_>,
    bids: SideJson<'_>,
    quantity: &'static str,
) -> BookResult {
    Ok(Book {
        exchange_ts: json::timestamp("data.timestamp", timestamp)?,
        asks: read_side(Side::Asks, asks, quantity)?,
        bids: read_side(Side::Bids, bids, quantity)?,
    })
}

fn read_side(side: Side, levels: SideJson<'_>, quantity: &'static str) -> Result<Vec<Level>, ExchangeError> {
    let levels = levels.ok_or_else(|| ExchangeError::BadReply(format!("data.{} is missing", side.name())))?;
    let read = |(index, level): (usize, &LevelJson<'_>)| {
        json::level(LevelPlace(side, index), ("price", level.price), (quantity, level.quantity))
    };
    levels.iter().enumerate().map(read).collect()
}

#[derive(Clone, Copy)]
struct LevelPlace(Side, usize);

impl fmt::Display for LevelPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data.{}[{}]", self.0.name(), self.1)
    }
}
