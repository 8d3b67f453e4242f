//! A made-up exchange: all that it takes to add one. Its books look like Korbit's; its names, codes, errors and limits do not.

use coinflow_common::orderbook::Market;
use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::http::HeaderMap;

use super::sides::{self, Names, SideJson};
use super::{Adapter, Api, BookResult, ExchangeError, RateHint, Reply, json, market_list, one_book, rate};

pub(super) static API: Api = Api {
    exchange: "example",
    name: "v1",
    base_url: "https://api.exchange.example",
    other_hosts: &[],
    requests_per_second_limit: 20,
    requests_per_second: 18,
    markets_per_request: 1,
    markets_per_request_max: 1,
    codes_chars_max: usize::MAX,
    levels: 50,
    adapter: &Example,
};

struct Example;

const NAMES: Names = Names { parent: "", timestamp: "time", quantity: "size" };

#[derive(Deserialize)]
struct BookJson<'a> {
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    asks: SideJson<'a>,
    #[serde(borrow)]
    bids: SideJson<'a>,
}

impl Adapter for Example {
    fn book_path(&self, markets: &[Market]) -> String {
        format!("/book/{}", markets.first().map_or("", Market::as_str))
    }

    fn parse_books(&self, reply: &Reply<'_>, markets: &[Market]) -> Result<Vec<BookResult>, ExchangeError> {
        check_status(reply)?;
        let book: BookJson<'_> = json::parse(reply.body)?;
        Ok(one_book(sides::read_book(&NAMES, book.time, book.asks, book.bids), markets))
    }

    fn rate_hint(&self, headers: &HeaderMap) -> RateHint {
        RateHint { per_second: None, remaining: rate::text(headers, "x-left").and_then(rate::number) }
    }

    fn list_paths(&self) -> &'static [&'static str] {
        &["/markets"]
    }

    fn parse_list(&self, _path: &str, reply: &Reply<'_>) -> Result<Vec<Market>, ExchangeError> {
        check_status(reply)?;
        let codes: Vec<String> = json::parse(reply.body)?;
        market_list(codes.into_iter())
    }
}

fn check_status(reply: &Reply<'_>) -> Result<(), ExchangeError> {
    match reply.status {
        200 => Ok(()),
        404 => Err(ExchangeError::UnknownMarket),
        429 => Err(rate::refused(reply, std::time::Duration::from_secs(10), false)),
        status => Err(ExchangeError::Status(status)),
    }
}

/// One file and one line: configuration, symbols, commands and completion know it by these.
#[cfg(test)]
mod tests {
    use std::path::Path;

    use coinflow_common::orderbook::Exchange;

    use super::*;
    use crate::config;
    use crate::exchange::exchanges;

    #[test]
    fn one_file_and_one_line_make_an_exchange() {
        assert!(exchanges().any(|exchange| exchange == "example"));
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        file("symbols.toml", "[example]\nsymbols = [\"BTC\", \"USD-*\"]\n");
        let path = file("producerd.toml", "symbols_file = \"symbols.toml\"\n[exchange.example]\nlevels = 5\n");
        let files = config::load(&path).unwrap();
        let example = Exchange::parse("example").unwrap();
        let selection = &files.symbols[&example];
        assert_eq!((selection.markets.len(), selection.patterns.len()), (1, 1));
        let config = files.config.exchanges.iter().find(|config| config.exchange == example).unwrap();
        assert_eq!((config.levels, config.limits().requests_per_second), (5, 18));
        let path = file("producerd.toml", "[exchange.example]\nrequests_per_second = 21\n");
        let problems = config::load_daemon(Path::new(&path)).unwrap_err().to_string();
        assert!(problems.contains("21 is above the limit of example, 20 requests a second"), "{problems}");
    }

    #[test]
    fn its_books_are_read() {
        let markets = [Market::parse("KRW-BTC").unwrap()];
        assert_eq!(Example.book_path(&markets), "/book/KRW-BTC");
        let body = br#"{"time":1790133480123,"asks":[{"price":"2.50","size":"1"}],"bids":[]}"#;
        let reply = Reply { status: 200, headers: &HeaderMap::new(), body };
        let book = Example.parse_books(&reply, &markets).unwrap().remove(0).unwrap();
        assert_eq!(book.asks[0].price.to_string(), "2.50");
    }
}
