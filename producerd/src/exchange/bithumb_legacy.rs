//! Bithumb, API 1.0, "legacy": documentation v1.2.0. One market a request, decimals as strings, status codes of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use coinflow_common::orderbook::{Level, Market, Side};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::quote;
use super::{Adapter, Api, BITHUMB_HOLD, Book, BookResult, ExchangeError, Reply, bithumb_status, json};

pub(super) static API: Api = Api {
    exchange: "bithumb",
    name: "legacy",
    base_url: "https://api.bithumb.com",
    requests_per_second_limit: 150,
    requests_per_second: 100,
    markets_per_request: 1,
    // `ALL_KRW` gives every market, but 5 levels a side only.
    markets_per_request_max: 1,
    levels: 30,
    adapter: &BithumbLegacy,
};

struct BithumbLegacy;

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
        let mut read = Some((|| {
            let exchange_ts = json::timestamp("data.timestamp", book.timestamp)?;
            let asks = read_side(Side::Asks, book.asks)?;
            let bids = read_side(Side::Bids, book.bids)?;
            Ok(Book { exchange_ts, asks, bids })
        })());
        let names = |market: &Market| {
            (book.order_currency.as_deref(), book.payment_currency.as_deref())
                == (Some(market.base()), Some(market.quote()))
        };
        let of_market = |market: &Market| read.take_if(|_| names(market)).unwrap_or(Err(ExchangeError::NotInReply));
        Ok(markets.iter().map(of_market).collect())
    }

    fn list_paths(&self) -> &'static [&'static str] {
        &[LISTS[0].0, LISTS[1].0]
    }

    fn parse_list(&self, path: &str, reply: &Reply<'_>) -> Result<Vec<Market>, ExchangeError> {
        let quote_currency = LISTS.iter().find(|(list, _)| *list == path).map_or("KRW", |(_, quote)| quote);
        let tickers: BTreeMap<Cow<'_, str>, &RawValue> = data(reply)?;
        // Scalars such as `date` stand among the coins, and a coin that is not traded is an empty array.
        let coins = tickers.iter().filter(|(_, ticker)| ticker.get().starts_with('{')).map(|(coin, _)| coin);
        let market = |coin: &Cow<'_, str>| {
            Market::parse(&format!("{quote_currency}-{coin}"))
                .map_err(|error| ExchangeError::BadReply(format!("coin {:?} is {error}", quote(coin))))
        };
        coins.map(market).collect()
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
    asks: Option<Vec<LevelJson<'a>>>,
    #[serde(borrow)]
    bids: Option<Vec<LevelJson<'a>>>,
}

#[derive(Deserialize)]
struct LevelJson<'a> {
    #[serde(borrow)]
    price: Option<&'a RawValue>,
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
}

fn read_side(side: Side, levels: Option<Vec<LevelJson<'_>>>) -> Result<Vec<Level>, ExchangeError> {
    let levels = levels.ok_or_else(|| ExchangeError::BadReply(format!("data.{} is missing", side.name())))?;
    let read = |(index, level): (usize, &LevelJson<'_>)| {
        json::level(LevelPlace(side, index), ("price", level.price), ("quantity", level.quantity))
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
    bithumb_status(reply.status)?;
    let parsed: Result<Envelope<'de>, _> = json::parse(reply.body);
    let envelope = match parsed {
        Ok(envelope) => envelope,
        Err(_) if reply.status != 200 => return Err(ExchangeError::Status(reply.status)),
        Err(error) => return Err(error),
    };
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
            Err(ExchangeError::RateLimited { refusal: format!("status 5600: {}", quote(message)), hold: BITHUMB_HOLD })
        }
        // 5500 is any invalid parameter; with the requests that we send it can only be the market.
        "5500" => Err(ExchangeError::UnknownMarket),
        status => Err(ExchangeError::refused(status, message)),
    }
}

#[cfg(test)]
mod tests;
