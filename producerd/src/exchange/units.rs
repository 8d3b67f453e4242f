//! The form of reply that Bithumb's API 2.x and Upbit share: arrays of objects, and books whose units pair the best ask with
//! the best bid, the second ask with the second bid, and so on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use coinflow_common::orderbook::Market;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Book, BookResult, ExchangeError, Reply, json, market_list};

/// `path` with the codes of the markets behind it, comma-separated.
pub(super) fn book_path(path: &str, markets: &[Market]) -> String {
    let codes: Vec<&str> = markets.iter().map(Market::as_str).collect();
    format!("{path}{}", codes.join(","))
}

/// The books of these markets, by the names that the reply gives them and not by their order. A bad one spoils no other.
pub(super) fn books(reply: &Reply<'_>, markets: &[Market]) -> Result<Vec<BookResult>, ExchangeError> {
    let mut books: HashMap<String, BookResult> = HashMap::with_capacity(markets.len());
    // Of one that does not tell its market.
    let mut stray = ExchangeError::NotInReply;
    for element in array(reply)? {
        let (market, book) = match json::parse::<BookJson<'_>>(element.get().as_bytes()) {
            Ok(BookJson { market: Some(market), timestamp, orderbook_units }) => {
                (market, read_book(timestamp, orderbook_units))
            }
            Ok(_) => {
                stray = ExchangeError::BadReply("a book without market".to_owned());
                continue;
            }
            Err(error) => match json::parse::<ListRow<'_>>(element.get().as_bytes()) {
                Ok(row) => (row.market, Err(error)),
                Err(_) => {
                    stray = error;
                    continue;
                }
            },
        };
        match books.entry(market.to_ascii_uppercase()) {
            Entry::Vacant(entry) => {
                entry.insert(book);
            }
            // Which of the two books is right, nobody can tell.
            Entry::Occupied(mut entry) => {
                *entry.get_mut() = Err(ExchangeError::BadReply("the market stands twice".to_owned()));
            }
        }
    }
    if books.is_empty() && stray != ExchangeError::NotInReply {
        return Err(stray);
    }
    let of_market = |market: &Market| books.remove(market.as_str()).unwrap_or_else(|| Err(stray.clone()));
    Ok(markets.iter().map(of_market).collect())
}

/// The codes of a list of markets.
pub(super) fn markets(reply: &Reply<'_>) -> Result<Vec<Market>, ExchangeError> {
    let rows = array(reply)?.into_iter().map(|row| json::parse::<ListRow<'_>>(row.get().as_bytes()));
    market_list(rows.map(|row| row.map_or_else(|_| String::new(), |row| row.market.into_owned())))
}

#[derive(Deserialize)]
struct BookJson<'a> {
    #[serde(borrow)]
    market: Option<Cow<'a, str>>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    orderbook_units: Option<Vec<Unit<'a>>>,
}

#[derive(Deserialize)]
struct Unit<'a> {
    #[serde(borrow)]
    ask_price: Option<&'a RawValue>,
    #[serde(borrow)]
    bid_price: Option<&'a RawValue>,
    #[serde(borrow)]
    ask_size: Option<&'a RawValue>,
    #[serde(borrow)]
    bid_size: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ListRow<'a> {
    #[serde(borrow)]
    market: Cow<'a, str>,
}

fn read_book(timestamp: Option<&RawValue>, units: Option<Vec<Unit<'_>>>) -> BookResult {
    let units = units.ok_or_else(|| ExchangeError::BadReply("orderbook_units is missing".to_owned()))?;
    let mut book = Book {
        exchange_ts: json::timestamp("timestamp", timestamp)?,
        asks: Vec::with_capacity(units.len()),
        bids: Vec::with_capacity(units.len()),
    };
    for (index, unit) in units.iter().enumerate() {
        let place = UnitPlace(index);
        book.asks.push(json::level(place, ("ask_price", unit.ask_price), ("ask_size", unit.ask_size))?);
        book.bids.push(json::level(place, ("bid_price", unit.bid_price), ("bid_size", unit.bid_size))?);
    }
    Ok(book)
}

#[derive(Clone, Copy)]
struct UnitPlace(usize);

impl fmt::Display for UnitPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "orderbook_units[{}]", self.0)
    }
}

/// The array that a good reply is. An error report may come under any status, 200 above all.
fn array<'a>(reply: &Reply<'a>) -> Result<Vec<&'a RawValue>, ExchangeError> {
    if reply.status >= 500 {
        return Err(ExchangeError::Status(reply.status));
    }
    if json::first_byte(reply.body) == Some(b'{') {
        return Err(error_report(reply));
    }
    if reply.status != 200 {
        return Err(ExchangeError::Status(reply.status));
    }
    json::parse(reply.body)
}

#[derive(Deserialize)]
struct ErrorReport<'a> {
    #[serde(borrow)]
    error: Option<ErrorBody<'a>>,
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    /// A number on the public endpoints, a string in the documentation.
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

fn error_report(reply: &Reply<'_>) -> ExchangeError {
    let report: ErrorReport<'_> = match json::parse_reply(reply) {
        Ok(report) => report,
        Err(error) => return error,
    };
    match report.error {
        Some(error) => {
            let name = error.name.map_or(Cow::Borrowed("error"), json::text);
            match &*name {
                "404" => ExchangeError::UnknownMarket,
                name => ExchangeError::refused(name, error.message.as_deref().unwrap_or("no message")),
            }
        }
        // An object without `error`: the gateway's page for a path that does not exist.
        None if reply.status != 200 => ExchangeError::Status(reply.status),
        None => ExchangeError::BadReply("an object, where a list of books belongs".to_owned()),
    }
}
