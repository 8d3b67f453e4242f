//! Bithumb, API 2.x: `https://apidocs.bithumb.com`, and measurements where the pages are silent or wrong.

use std::time::Duration;

use coinflow_common::orderbook::Market;
use ureq::http::HeaderMap;

use super::{Adapter, Api, BookResult, ExchangeError, RateHint, Reply, rate, units};

pub(super) static API: Api = Api {
    exchange: "bithumb",
    name: "v2",
    base_url: "https://api.bithumb.com",
    other_hosts: &[],
    requests_per_second_limit: 150,
    requests_per_second: 100,
    // One market a request gives 30 levels a side, several give 15.
    markets_per_request: 1,
    markets_per_request_max: 200,
    // 3,456 characters of a query were measured to work, and 4,264 not.
    codes_chars_max: 3_400,
    levels: 30,
    adapter: &BithumbV2,
};

/// How long Bithumb blocks an address that went over its limit.
pub(super) const HOLD: Duration = Duration::from_secs(60);

struct BithumbV2;

impl Adapter for BithumbV2 {
    fn book_path(&self, markets: &[Market]) -> String {
        units::book_path("/v1/orderbook?markets=", markets)
    }

    fn parse_books(&self, reply: &Reply<'_>, markets: &[Market]) -> Result<Vec<BookResult>, ExchangeError> {
        check_refusal(reply)?;
        units::books(reply, markets)
    }

    fn rate_hint(&self, headers: &HeaderMap) -> RateHint {
        rate_hint(headers)
    }

    fn list_paths(&self) -> &'static [&'static str] {
        &["/v1/market/all?isDetails=true"]
    }

    fn parse_list(&self, _path: &str, reply: &Reply<'_>) -> Result<Vec<Market>, ExchangeError> {
        check_refusal(reply)?;
        units::markets(reply)
    }
}

/// Refusals of both generations of the API. How they look is not documented: 429 is what the gateway behind the headers
/// sends, 403 what the error page lists, and 418 what other Korean exchanges send to who goes on.
pub(super) fn check_refusal(reply: &Reply<'_>) -> Result<(), ExchangeError> {
    match reply.status {
        403 | 429 => Err(rate::refused(reply, HOLD, false)),
        418 => Err(rate::refused(reply, HOLD, true)),
        _ => Ok(()),
    }
}

/// `x-ratelimit-remaining: 149`, `…-burst-capacity: 150`, `…-replenish-rate: 150`: a token bucket.
pub(super) fn rate_hint(headers: &HeaderMap) -> RateHint {
    let number = |name: &str| rate::text(headers, name).and_then(rate::number);
    let rates = [number("x-ratelimit-burst-capacity"), number("x-ratelimit-replenish-rate")];
    RateHint { per_second: rates.into_iter().flatten().min(), remaining: number("x-ratelimit-remaining") }
}

#[cfg(test)]
mod tests;
