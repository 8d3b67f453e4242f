//! Bithumb, API 1.0, "legacy": documentation v1.2.0. One market a request, decimals as strings, status codes of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;

use coinflow_common::orderbook::Market;
use serde::Deserialize;
use serde_json::value::RawValue;

use ureq::http::HeaderMap;

use super::bithumb::{HOLD, check_refusal, rate_hint};
use super::error::quote;
use super::sides::{self, Names, SideJson};
use super::{Adapter, Api, BookResult, ExchangeError, RateHint, Reply, json, market_list};

pub(super) static API: Api = Api {
    exchange: "bithumb",
    name: "legacy",
    base_url: "https://api.bithumb.com",
    other_hosts: &[],
    requests_per_second_limit: 150,
    requests_per_second: 100,
    markets_per_request: 1,
    // `ALL_KRW` gives every market, but 5 levels a side only.
    markets_per_request_max: 1,
    codes_chars_max: usize::MAX,
    levels: 30,
    adapter: &BithumbLegacy,
};

struct BithumbLegacy;

const NAMES: Names = Names { parent: "data.", timestamp: "timestamp", quantity: "quantity" };

/// The quote currencies that have a market list.
const LISTS: [(&str, &str); 2] = [("/public/ticker/ALL_KRW", "KRW"), ("/public/ticker/ALL_BTC", "BTC")];

impl Adapter for BithumbLegacy {
    fn book_path(&self, markets: &[Market]) -> String {
        // The configuration allows one market a request.
        let pair = markets.first().map(|market| format!("{}_{}", market.base(), market.quote())).unwrap_or_default();
        format!("/public/orderbook/{pair}?count=30")
    }

    fn parse_books(&self, reply: &Reply<'_>, markets: &[Market]) -> Result<Vec<BookResult>, ExchangeError> {
        let book: BookJson<'_> = data(reply)?;
        let mut read = Some(sides::read_book(&NAMES, book.timestamp, book.asks, book.bids));
        let names = |market: &Market| {
            (book.order_currency.as_deref(), book.payment_currency.as_deref())
                == (Some(market.base()), Some(market.quote()))
        };
        let of_market = |market: &Market| read.take_if(|_| names(market)).unwrap_or(Err(ExchangeError::NotInReply));
        Ok(markets.iter().map(of_market).collect())
    }

    fn rate_hint(&self, headers: &HeaderMap) -> RateHint {
        rate_hint(headers)
    }

    fn list_paths(&self) -> &'static [&'static str] {
        &[LISTS[0].0, LISTS[1].0]
    }

    fn parse_list(&self, path: &str, reply: &Reply<'_>) -> Result<Vec<Market>, ExchangeError> {
        let quote_currency = LISTS.iter().find(|(list, _)| *list == path).map_or("KRW", |(_, quote)| quote);
        let tickers: BTreeMap<Cow<'_, str>, &RawValue> = data(reply)?;
        // Scalars such as `date` stand among the coins, and a coin that is not traded is an empty array.
        let coins = tickers.iter().filter(|(_, ticker)| ticker.get().starts_with('{')).map(|(coin, _)| coin);
        market_list(coins.map(|coin| format!("{quote_currency}-{coin}")))
    }
}

#[derive(Deserialize)]
struct BookJson<'a> {
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    payment_currency: Option<Cow<'a, str>>,
    #[serde(borrow)]
    order_currency: Option<Cow<'a, str>>,
    #[serde(borrow)]
    asks: SideJson<'a>,
    #[serde(borrow)]
    bids: SideJson<'a>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// What a good reply carries in `data`. Errors come under 200 and 4xx alike, so the envelope's own status decides.
fn data<'de, T: Deserialize<'de>>(reply: &Reply<'de>) -> Result<T, ExchangeError> {
    check_refusal(reply)?;
    if reply.status >= 500 {
        return Err(ExchangeError::Status(reply.status));
    }
    let envelope: Envelope<'de> = json::parse_reply(reply)?;
    let Some(status) = envelope.status.map(json::text) else {
        return Err(match reply.status {
            200 => ExchangeError::BadReply("status is missing".to_owned()),
            // The gateway's page for a path that does not exist.
            status => ExchangeError::Status(status),
        });
    };
    let message = envelope.message.as_deref().unwrap_or("no message");
    match &*status {
        "0000" => {
            let data = envelope.data.ok_or_else(|| ExchangeError::BadReply("data is missing".to_owned()))?;
            json::parse(data.get().as_bytes())
        }
        "5600" => {
            let refusal = format!("status 5600: {}", quote(message));
            Err(ExchangeError::RateLimited { refusal, hold: HOLD, is_block: false })
        }
        // 5500 is any invalid parameter; with the requests that we send it can only be the market.
        "5500" => Err(ExchangeError::UnknownMarket),
        status => Err(ExchangeError::refused(status, message)),
    }
}

#[cfg(test)]
mod tests;
