//! What is to become of a Kafka record.

use std::time::Duration;

use coinflow_common::orderbook::{HEADER_SCHEMA, OrderBook, Timestamp, check_schema, other_major};

use crate::record::{Book, Fate, Raw};
use crate::store::{Origin, encode};

/// 2017-01-01: no exchange that coinflow reads is older, so an earlier clock is a wrong one.
const RECEIVED_AT_MIN_MICROS: i64 = 1_483_228_800_000_000;
/// A producer's clock may be so far ahead of ours.
const AHEAD_MAX: Duration = Duration::from_secs(3600);

/// The book of a record, whatever its times are.
///
/// # Errors
/// Why it is none.
pub(crate) fn book(raw: &Raw) -> Result<OrderBook, String> {
    let payload = raw.payload().ok_or("the record has no value")?;
    check_schema(schema(raw)).and_then(|()| OrderBook::decode(payload)).map_err(|error| error.to_string())
}

/// The value of the schema header.
fn schema(raw: &Raw) -> Option<&[u8]> {
    let schema = raw.headers().find(|(name, _)| *name == HEADER_SCHEMA);
    schema.map(|(_, value)| value.unwrap_or_default())
}

/// Judges a record. A book is encoded for COPY at once, into this buffer.
pub(crate) fn judge(
    raw: &Raw,
    origin: Origin<'_>,
    now: Timestamp,
    retention: Option<Duration>,
    buffer: impl FnOnce() -> Vec<u8>,
) -> Fate {
    let dead = |reason: String| Fate::Dead { reason, major: None };
    let book = match book(raw) {
        Ok(book) => book,
        Err(reason) => return Fate::Dead { reason, major: other_major(schema(raw)) },
    };
    if book.received_at.as_micros() < RECEIVED_AT_MIN_MICROS {
        return dead(format!("received_at: {} is before 2017", book.received_at));
    }
    if book.received_at > now.saturating_add(AHEAD_MAX) {
        return dead(format!("received_at: {} is more than an hour ahead of {now}", book.received_at));
    }
    if retention.is_some_and(|retention| book.received_at < now.saturating_sub(retention)) {
        return Fate::Expired;
    }
    let tuple = encode(&book, origin, buffer());
    Fate::Book(Book { day: book.received_at.day(), exchange: book.exchange, market: book.market, tuple })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Partition;

    fn record(received_at: &str) -> Raw {
        let payload = format!(
            r#"{{"exchange":"bithumb","market":"KRW-BTC","exchange_ts":null,"requested_at":null,"received_at":"{received_at}","run":"0199d0a2-0000-7000-8000-000000000000","sequence":1,"asks":[],"bids":[]}}"#
        );
        Raw::new(None, None, Some(payload.as_bytes()), Vec::new())
    }

    /// `book`, `expired`, or the reason of a dead letter.
    fn judged(raw: &Raw) -> String {
        let partition = Partition::new("t", 0);
        let origin = Origin { source: "main", partition: &partition, generation: 0, offset: 0 };
        let now = Timestamp::parse("2026-11-23T10:00:00Z").expect("a time");
        match judge(raw, origin, now, Some(Duration::from_secs(86_400)), Vec::new) {
            Fate::Book(book) => format!("book {} {} {}", book.exchange, book.market, book.day),
            Fate::Expired => "expired".to_owned(),
            Fate::Dead { reason, major } => major.map(|major| format!("major {major}, ")).unwrap_or_default() + &reason,
        }
    }

    #[test]
    fn times_decide() {
        let table = [
            ("2026-11-23T10:00:00Z", "book bithumb KRW-BTC 20780"),
            ("2026-11-23T11:00:00Z", "book bithumb KRW-BTC 20780"),
            (
                "2026-11-23T11:00:00.000001Z",
                "received_at: 2026-11-23T11:00:00.000001Z is more than an hour ahead of 2026-11-23T10:00:00.000000Z",
            ),
            ("2026-11-22T10:00:00Z", "book bithumb KRW-BTC 20779"),
            ("2026-11-22T09:59:59.999999Z", "expired"),
            ("2017-01-01T00:00:00Z", "expired"),
            ("2016-12-31T23:59:59.999999Z", "received_at: 2016-12-31T23:59:59.999999Z is before 2017"),
        ];
        for (received_at, fate) in table {
            assert_eq!(judged(&record(received_at)), fate);
        }
    }

    #[test]
    fn what_is_not_ours_is_dead() {
        assert_eq!(judged(&Raw::default()), "the record has no value");
        let raw = |payload: &[u8]| Raw::new(None, None, Some(payload), Vec::new());
        for payload in [&b""[..], b"\0", b"{}", b"[]", b"null", b"\xff\xfe", b"{\"exchange\":1}"] {
            let fate = judged(&raw(payload));
            assert!(!fate.starts_with("book") && fate != "expired", "{fate}");
        }
    }

    #[test]
    fn the_schema_header_decides_before_the_value() {
        let with = |value: Option<&[u8]>| {
            let mut raw = record("2026-11-23T10:00:00Z");
            raw.push_header(HEADER_SCHEMA, value);
            raw
        };
        assert!(judged(&with(Some(b"coinflow.orderbook/1"))).starts_with("book"));
        assert!(judged(&with(Some(b"coinflow.orderbook/2"))).starts_with("major 2, header schema: "));
        assert!(judged(&with(Some(b"coinflow.orderbook"))).starts_with("header schema: "));
        assert!(judged(&with(None)).starts_with("header schema: "));
    }
}
