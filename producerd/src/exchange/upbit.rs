//! Upbit (Korea): `https://docs.upbit.com/kr`. The global pages, which open by default, describe other exchanges.

use std::time::Duration;

use coinflow_common::orderbook::Market;
use ureq::http::HeaderMap;

use super::{Adapter, Api, BookResult, ExchangeError, RateHint, Reply, rate, units};

pub(super) static API: Api = Api {
    exchange: "upbit",
    name: "v1",
    base_url: "https://api.upbit.com",
    requests_per_second_limit: 10,
    requests_per_second: 9,
    // 30 levels a side, however many markets there are. All 855 were measured to work in one request of 7.7 kB, with a
    // reply of 2.3 MB.
    markets_per_request: 100,
    markets_per_request_max: 500,
    codes_chars_max: 7_500,
    levels: 30,
    adapter: &Upbit,
};

/// Over the limit: until the next second.
const HOLD: Duration = Duration::from_secs(1);
/// A block that does not say how long it lasts.
const BLOCK: Duration = Duration::from_secs(60);
/// The group of rate limits that order books belong to.
const GROUP: &str = "orderbook";

struct Upbit;

impl Adapter for Upbit {
    fn book_path(&self, markets: &[Market]) -> String {
        units::book_path("/v1/orderbook?markets=", markets)
    }

    fn parse_books(&self, reply: &Reply<'_>, markets: &[Market]) -> Result<Vec<BookResult>, ExchangeError> {
        check_refusal(reply)?;
        units::books(reply, markets)
    }

    /// `Remaining-Req: group=orderbook; min=600; sec=9`; only `sec` means anything.
    fn rate_hint(&self, headers: &HeaderMap) -> RateHint {
        let header = rate::text(headers, "remaining-req").filter(|text| rate::parameter(text, "group") == Some(GROUP));
        let remaining = header.and_then(|text| rate::parameter(text, "sec")).and_then(rate::number);
        RateHint { per_second: None, remaining }
    }

    fn list_paths(&self) -> &'static [&'static str] {
        &["/v1/market/all"]
    }

    fn parse_list(&self, _path: &str, reply: &Reply<'_>) -> Result<Vec<Market>, ExchangeError> {
        check_refusal(reply)?;
        units::markets(reply)
    }
}

/// 429 for the rest of the second; who goes on gets 418, and a block whose time the text states.
fn check_refusal(reply: &Reply<'_>) -> Result<(), ExchangeError> {
    match reply.status {
        429 => Err(rate::refused(reply, HOLD, false)),
        418 => Err(rate::refused(reply, stated_time(reply.body).unwrap_or(BLOCK), true)),
        _ => Ok(()),
    }
}

/// The first number of a text with a unit behind it, in Korean or English. The wording is not documented.
fn stated_time(body: &[u8]) -> Option<Duration> {
    const UNITS: [(&str, u64); 6] = [("s", 1), ("초", 1), ("m", 60), ("분", 60), ("h", 3600), ("시간", 3600)];
    let text = String::from_utf8_lossy(body).to_lowercase();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[at..].bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest[at..].split_at(digits);
        rest = behind;
        let unit = UNITS.iter().find(|(unit, _)| behind.trim_start().starts_with(unit));
        if let (Ok(number), Some((_, seconds))) = (number.parse::<u64>(), unit) {
            return number.checked_mul(*seconds).map(Duration::from_secs);
        }
    }
    None
}

#[cfg(test)]
mod tests;
