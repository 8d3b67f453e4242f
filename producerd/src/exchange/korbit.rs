//! Korbit, which runs under the name Digital X since September 2026: `https://docs.digitalx.miraeasset.com`, API v2. One market
//! a request, decimals as strings.

use std::borrow::Cow;
use std::time::Duration;

use coinflow_common::orderbook::Market;
use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::http::HeaderMap;

use super::sides::{self, Names, SideJson};
use super::{Adapter, Api, BookResult, ExchangeError, RateHint, Reply, json, market_list, one_book, rate};

pub(super) static API: Api = Api {
    exchange: "korbit",
    name: "v2",
    base_url: "https://api.digitalx.miraeasset.com",
    // The name until September 2026, which still answers.
    other_hosts: &["https://api.korbit.co.kr"],
    requests_per_second_limit: 50,
    requests_per_second: 45,
    markets_per_request: 1,
    markets_per_request_max: 1,
    codes_chars_max: usize::MAX,
    levels: 30,
    adapter: &Korbit,
};

/// What a refusal documents as `Retry-After`.
const HOLD: Duration = Duration::from_secs(1);
/// A pair that is traded; a stopped one answers with an empty book for ever.
const LAUNCHED: &str = "launched";

struct Korbit;

const NAMES: Names = Names { parent: "data.", timestamp: "timestamp", quantity: "qty" };

impl Adapter for Korbit {
    fn book_path(&self, markets: &[Market]) -> String {
        // The configuration allows one market a request.
        let symbol = markets.first().map(|market| format!("{}_{}", market.base(), market.quote())).unwrap_or_default();
        format!("/v2/orderbook?symbol={}", symbol.to_ascii_lowercase())
    }

    fn parse_books(&self, reply: &Reply<'_>, markets: &[Market]) -> Result<Vec<BookResult>, ExchangeError> {
        let book: BookJson<'_> = data(reply)?;
        // The reply does not name its market, so it can be that of one request only.
        Ok(one_book(sides::read_book(&NAMES, book.timestamp, book.asks, book.bids), markets))
    }

    /// `RateLimit: limit=50, remaining=48, reset=1`
    fn rate_hint(&self, headers: &HeaderMap) -> RateHint {
        let header = rate::text(headers, "ratelimit").unwrap_or_default();
        let number = |name: &str| rate::parameter(header, name).and_then(rate::number);
        RateHint { per_second: number("limit"), remaining: number("remaining") }
    }

    fn list_paths(&self) -> &'static [&'static str] {
        &["/v2/currencyPairs"]
    }

    fn parse_list(&self, _path: &str, reply: &Reply<'_>) -> Result<Vec<Market>, ExchangeError> {
        let pairs: Vec<Pair<'_>> = data(reply)?;
        let is_launched = |pair: &&Pair<'_>| pair.status.as_deref().is_none_or(|status| status == LAUNCHED);
        market_list(pairs.iter().filter(is_launched).map(|pair| code(&pair.symbol)))
    }
}

/// `btc_krw` as `KRW-BTC`.
fn code(symbol: &str) -> String {
    let (base, quote_currency) = symbol.split_once('_').unwrap_or((symbol, ""));
    format!("{quote_currency}-{base}").to_ascii_uppercase()
}

#[derive(Deserialize)]
struct BookJson<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    asks: SideJson<'a>,
    #[serde(borrow)]
    bids: SideJson<'a>,
}

#[derive(Deserialize)]
struct Pair<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    success: Option<bool>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<ErrorBody<'a>>,
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

/// What a good reply carries in `data`.
fn data<'de, T: Deserialize<'de>>(reply: &Reply<'de>) -> Result<T, ExchangeError> {
    match reply.status {
        // Only 429 is documented; the others are what a gateway sends to who goes on.
        403 | 429 => return Err(rate::refused(reply, HOLD, false)),
        418 => return Err(rate::refused(reply, HOLD, true)),
        500.. => return Err(ExchangeError::Status(reply.status)),
        _ => {}
    }
    let envelope: Envelope<'de> = json::parse_reply(reply)?;
    if envelope.success == Some(true) {
        let data = envelope.data.ok_or_else(|| ExchangeError::BadReply("data is missing".to_owned()))?;
        return json::parse(data.get().as_bytes());
    }
    match envelope.error {
        Some(ErrorBody { message: Some(message), .. }) if message == "INVALID_CURRENCY_PAIR" => {
            Err(ExchangeError::UnknownMarket)
        }
        Some(ErrorBody { code, message }) => {
            let code = code.map_or(Cow::Borrowed("error"), json::text);
            Err(ExchangeError::refused(&code, message.as_deref().unwrap_or("no message")))
        }
        None if reply.status != 200 => Err(ExchangeError::Status(reply.status)),
        None => Err(ExchangeError::BadReply("success is missing".to_owned())),
    }
}

#[cfg(test)]
mod tests;
