//! What replies say of rate limits.

use std::time::Duration;

use ureq::http::HeaderMap;

use super::{ExchangeError, Reply};

/// No exchange blocks for longer; a larger number is a mistake.
const HOLD_MAX: Duration = Duration::from_secs(86_400);

/// The exchange's limit as one reply tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RateHint {
    /// Requests that it takes in a second.
    pub(crate) per_second: Option<u32>,
    /// Requests that it would take at once, after this one.
    pub(crate) remaining: Option<u32>,
}

/// A refusal that lasts for so long, or for longer if `Retry-After` says so; at most [`HOLD_MAX`], whatever either says.
pub(super) fn refused(reply: &Reply<'_>, hold: Duration, is_block: bool) -> ExchangeError {
    let hold = retry_after(reply.headers).unwrap_or_default().clamp(hold.min(HOLD_MAX), HOLD_MAX);
    ExchangeError::RateLimited { refusal: format!("HTTP {}", reply.status), hold, is_block }
}

/// `Retry-After` in seconds; no exchange was seen to send a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    number(text(headers, "retry-after")?).map(|seconds| Duration::from_secs(u64::from(seconds)))
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

pub(super) fn number(text: &str) -> Option<u32> {
    text.trim().parse().ok()
}

/// The value of `name` in `name=1; other=2` or `name=1, other=2`.
pub(super) fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.split([';', ',']).filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use ureq::http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn a_refusal_lasts_as_long_as_it_says_and_no_shorter_than_documented() {
        let hold = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert("retry-after", HeaderValue::from_str(value).unwrap());
            }
            let reply = Reply { status: 429, headers: &headers, body: b"" };
            match refused(&reply, Duration::from_secs(60), false) {
                ExchangeError::RateLimited { hold, .. } => hold.as_secs(),
                error => panic!("{error}"),
            }
        };
        assert_eq!(hold(None), 60);
        assert_eq!(hold(Some("0")), 60);
        assert_eq!(hold(Some("1")), 60);
        assert_eq!(hold(Some("61")), 61);
        assert_eq!(hold(Some("Wed, 21 Oct 2026 07:28:00 GMT")), 60);
        assert_eq!(hold(Some("4000000000")), 86_400);
    }

    #[test]
    fn parameters_of_a_header() {
        let header = "group=orderbook; min=600; sec=9";
        assert_eq!([parameter(header, "sec"), parameter(header, "group")], [Some("9"), Some("orderbook")]);
        assert_eq!(parameter("limit=50, remaining=48, reset=1", "remaining"), Some("48"));
        assert_eq!(parameter("limit=50", "remaining"), None);
    }
}
