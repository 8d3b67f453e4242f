//! What several exchange APIs share: the markets of a query, books and lists of markets as JSON text, and errors.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::api::{LevelText, UnitKeys};
use super::book::Level;
use super::http::Request;
use super::market::Snapshot;
use super::number::{Number, Spelling};
use super::reply::Reply;
use super::world::{Answer, SentBook, World};

pub(crate) const MISSING_PARAMETER: &str = "Missing request parameter error. Check the required parameters!";
pub(crate) const UNKNOWN_MARKET: &str = "Code not found";

/// `name` is JSON.
pub(crate) fn error(status: u16, name: &str, message: &str) -> Reply {
    Reply::json(status, format!(r#"{{"error":{{"name":{name},"message":"{message}"}}}}"#))
}

/// The markets of the query, upper-cased, each once: `markets=A,B` and `markets=A&markets=B` alike.
pub(crate) fn markets_asked(request: &Request) -> Vec<String> {
    let mut markets: Vec<String> = Vec::new();
    for value in request.parameters("markets") {
        for code in value.split(',').filter(|code| !code.is_empty()) {
            let code = code.to_ascii_uppercase();
            if !markets.contains(&code) {
                markets.push(code);
            }
        }
    }
    markets
}

/// The best `depth` levels as texts.
pub(crate) fn spell(side: &[Level], depth: usize, prices: Spelling, quantities: Spelling) -> Vec<LevelText> {
    side.iter().take(depth).map(|(price, quantity)| (price.spell(prices), quantity.spell(quantities))).collect()
}

pub(crate) fn write_array<T>(
    body: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    body.push('[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        write(body, item);
    }
    body.push(']');
}

/// How an API writes a book in units, each of which pairs a bid with an ask.
#[derive(Debug)]
pub(crate) struct UnitStyle {
    pub(crate) prices: Spelling,
    pub(crate) quantities: Spelling,
    /// What the shorter side is filled up with.
    pub(crate) padding: Number,
    pub(crate) keys: UnitKeys,
    /// What follows the units.
    pub(crate) tail: &'static str,
}

pub(crate) fn write_units(
    body: &mut String,
    snapshot: &Snapshot,
    timestamp: String,
    depth: usize,
    style: &UnitStyle,
) -> SentBook {
    let texts = |side| spell(side, depth, style.prices, style.quantities);
    let (mut asks, mut bids) = (texts(&snapshot.book.asks), texts(&snapshot.book.bids));
    let units = asks.len().max(bids.len());
    for side in [&mut asks, &mut bids] {
        side.resize(units, (style.padding.spell(style.prices), style.padding.spell(style.quantities)));
    }
    let total =
        |side: &[Level]| Number::sum(side.iter().take(depth).map(|(_, quantity)| quantity)).spell(style.quantities);
    // Writing to a string cannot fail.
    let _ = write!(
        body,
        r#"{{"market":"{}","timestamp":{timestamp},"total_ask_size":{},"total_bid_size":{},"orderbook_units":"#,
        snapshot.market,
        total(&snapshot.book.asks),
        total(&snapshot.book.bids),
    );
    write_array(body, asks.iter().zip(&bids), |body, ((ask_price, ask_size), (bid_price, bid_size))| {
        let _ = match style.keys {
            UnitKeys::AskFirst => write!(
                body,
                r#"{{"ask_price":{ask_price},"bid_price":{bid_price},"ask_size":{ask_size},"bid_size":{bid_size}}}"#
            ),
            UnitKeys::BidFirst => write!(
                body,
                r#"{{"bid_price":{bid_price},"bid_size":{bid_size},"ask_price":{ask_price},"ask_size":{ask_size}}}"#
            ),
        };
    });
    body.push_str(style.tail);
    SentBook { market: snapshot.market.clone(), timestamp_ms: snapshot.timestamp_ms, timestamp, asks, bids }
}

/// The list of markets; with `parameter` = `true` in the query, each row has `detail` as well.
pub(crate) fn market_list(world: &mut World, request: &Request, parameter: &str, detail: (&str, &Value)) -> Answer {
    let struck = world.faults.strike_list();
    let with_detail = request.parameters(parameter).iter().any(|value| value == "true");
    let row = |code: &str, name: &str| {
        let mut row = json!({"market": code, "korean_name": korean(name), "english_name": name});
        if with_detail {
            row[detail.0] = detail.1.clone();
        }
        row
    };
    let rows: Value = world.markets.listed().map(|market| row(&market.profile.code, &market.profile.name)).collect();
    Answer::from(Reply::json(200, rows.to_string())).struck(&struck)
}

/// Real names for two, so that clients meet text that is not ASCII.
fn korean(name: &str) -> &str {
    match name {
        "Bitcoin" => "비트코인",
        "Ethereum" => "이더리움",
        other => other,
    }
}
