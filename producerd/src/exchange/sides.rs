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
    #[serde(borrow, alias = "qty", alias = "size")]
    quantity: Option<&'a RawValue>,
}

/// How an exchange calls its fields, for errors.
pub(super) struct Names {
    /// What stands before a field of the book.
    pub(super) parent: &'static str,
    pub(super) timestamp: &'static str,
    pub(super) quantity: &'static str,
}

/// A side of the reply, if it has it.
pub(super) type SideJson<'a> = Option<Vec<LevelJson<'a>>>;

/// The book of a reply.
pub(super) fn read_book(
    names: &Names,
    timestamp: Option<&RawValue>,
    asks: SideJson<'_>,
    bids: SideJson<'_>,
) -> BookResult {
    Ok(Book {
        exchange_ts: json::timestamp(&format!("{}{}", names.parent, names.timestamp), timestamp)?,
        asks: read_side(names, Side::Asks, asks)?,
        bids: read_side(names, Side::Bids, bids)?,
    })
}

fn read_side(names: &Names, side: Side, levels: SideJson<'_>) -> Result<Vec<Level>, ExchangeError> {
    let parent = names.parent;
    let levels = levels.ok_or_else(|| ExchangeError::BadReply(format!("{parent}{} is missing", side.name())))?;
    let read = |(index, level): (usize, &LevelJson<'_>)| {
        json::level(LevelPlace(parent, side, index), ("price", level.price), (names.quantity, level.quantity))
    };
    levels.iter().enumerate().map(read).collect()
}

#[derive(Clone, Copy)]
struct LevelPlace(&'static str, Side, usize);

impl fmt::Display for LevelPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}[{}]", self.0, self.1.name(), self.2)
    }
}
