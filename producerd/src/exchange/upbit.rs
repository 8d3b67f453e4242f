//! Upbit (Korea): `https://docs.upbit.com/kr`. The global pages, which open by default, describe other exchanges.

use std::time::Duration;

use coinflow_common::orderbook::Market;
use ureq::http::HeaderMap;

use super::{Adapter, Api, BookResult, ExchangeError, RateHint, Reply, rate, units};

pub(super) static API: Api = Api {
    exchange: "upbit",
    name: "v1",
    base_url: "https://api.upbit.com",
    other_hosts: &[],
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
        418 => {
            let stated = stated_time(reply.body).or_else(|| rate::retry_after(reply.headers));
            Err(rate::refused(reply, stated.unwrap_or(BLOCK).max(HOLD), true))
        }
        _ => Ok(()),
    }
}

/// Units of time as a text may have them, in milliseconds. Korean ones may have more letters behind them.
const UNITS: [(u64, &[&str]); 5] = [
    (1, &["ms", "msec", "msecs", "millisecond", "milliseconds", "밀리초"]),
    (1_000, &["s", "sec", "secs", "second", "seconds", "초"]),
    (60_000, &["m", "min", "mins", "minute", "minutes", "분"]),
    (3_600_000, &["h", "hr", "hrs", "hour", "hours", "시간"]),
    (86_400_000, &["d", "day", "days", "일"]),
];

/// The times of a text together, `1 minute 30 seconds` or `1분 30초`; none if it states none. The wording is not documented.
fn stated_time(body: &[u8]) -> Option<Duration> {
    let text = String::from_utf8_lossy(body).to_lowercase();
    let mut rest = text.as_str();
    let mut stated: Option<Duration> = None;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[at..].find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len() - at);
        let (number, behind) = rest[at..].split_at(digits);
        rest = behind;
        let word = behind.trim_start();
        let word = &word[..word.find(|c: char| !c.is_alphabetic()).unwrap_or(word.len())];
        let is_unit = |unit: &str| if unit.is_ascii() { unit == word } else { word.starts_with(unit) };
        let unit = UNITS.iter().find(|(_, units)| units.iter().any(|unit| is_unit(unit)));
        // A sentence ends in a point, too.
        if let (Ok(number), Some((ms, _))) = (number.trim_end_matches('.').parse::<f64>(), unit)
            && let Ok(time) = Duration::try_from_secs_f64(number * *ms as f64 / 1000.0)
        {
            stated = Some(stated.unwrap_or_default().saturating_add(time));
        }
    }
    stated
}

#[cfg(test)]
mod tests;
