use super::*;
use crate::exchange::Book;

const BTC: &str = r#"{"success":true,"data":{"timestamp":1708057740895,
 "bids":[{"price":"73303000","qty":"0.00898326"},{"price":"73302000","qty":"0.00790837"}],
 "asks":[{"price":"73304000","qty":"0.00985212","amt":"722199.8"}]}}"#;

fn market(code: &str) -> Market {
    Market::parse(code).unwrap()
}

fn book(status: u16, body: &str) -> BookResult {
    let reply = Reply { status, headers: &HeaderMap::new(), body: body.as_bytes() };
    Korbit.parse_books(&reply, &[market("KRW-BTC")]).and_then(|mut books| books.remove(0))
}

#[test]
fn the_request_spells_the_market_in_lower_case_and_base_first() {
    assert_eq!(Korbit.book_path(&[market("KRW-BTC")]), "/v2/orderbook?symbol=btc_krw");
}

// KB-01, KB-03, KB-09
#[test]
fn a_book_keeps_the_digits() {
    let Book { exchange_ts, asks, bids } = book(200, BTC).unwrap();
    assert_eq!(exchange_ts.map(|ts| ts.as_micros()), Some(1_708_057_740_895_000));
    assert_eq!((asks.len(), bids.len()), (1, 2));
    assert_eq!(format!("{} {}", bids[1].price, bids[1].quantity), "73302000 0.00790837");
    let empty = book(200, r#"{"success":true,"data":{"timestamp":1708057740895,"bids":[],"asks":[]}}"#).unwrap();
    assert!(empty.asks.is_empty() && empty.bids.is_empty());
}

// KB-04, KB-06, KB-07, KB-08, KB-10, F-04, F-05, F-09
#[test]
fn what_is_no_book_says_what_it_is() {
    let unknown = r#"{"success":false,"error":{"code":400,"message":"INVALID_CURRENCY_PAIR"}}"#;
    assert_eq!(book(400, unknown), Err(ExchangeError::UnknownMarket));
    for (status, body, expected) in [
        (400, r#"{"success":false,"error":{"code":400,"message":"BAD_REQUEST"}}"#, "refused: 400: BAD_REQUEST"),
        (404, r#"{"success":false,"error":{"code":404,"message":"NOT_FOUND"}}"#, "refused: 404: NOT_FOUND"),
        (404, "<html>", "HTTP status 404"),
        (502, "<html>", "HTTP status 502"),
        (200, "", "bad reply: empty body"),
        (200, "{}", "bad reply: success is missing"),
        (200, r#"{"success":true}"#, "bad reply: data is missing"),
        (200, r#"{"success":true,"data":{"bids":[]}}"#, "bad reply: data.asks is missing"),
        (
            200,
            r#"{"success":true,"data":{"asks":[{"price":"1"}],"bids":[]}}"#,
            "bad reply: data.asks[0].qty is missing",
        ),
        (200, &BTC[..100], "bad reply: EOF while parsing"),
    ] {
        let text = book(status, body).unwrap_err().to_string();
        assert!(text.starts_with(expected), "{status} {body}: {text}");
    }
}

#[test]
fn whoever_is_sent_away_stays_away() {
    for (status, is_block) in [(403, false), (418, true), (429, false)] {
        let Err(ExchangeError::RateLimited { is_block: blocks, .. }) = book(status, "") else { panic!("{status}") };
        assert_eq!(blocks, is_block, "{status}");
    }
}

// KB-12
#[test]
fn a_refusal_holds_the_exchange_for_as_long_as_it_says() {
    let mut headers = HeaderMap::new();
    for (retry_after, seconds) in [(None, 1), (Some("1"), 1), (Some("7"), 7)] {
        if let Some(value) = retry_after {
            headers.insert("retry-after", value.parse().unwrap());
        }
        for body in ["<html>", r#"{"success":false,"error":{"code":429,"message":"TOO_MANY_REQUESTS"}}"#] {
            let reply = Reply { status: 429, headers: &headers, body: body.as_bytes() };
            let error = Korbit.parse_books(&reply, &[market("KRW-BTC")]).unwrap_err();
            let ExchangeError::RateLimited { hold, is_block: false, .. } = error else { panic!("{error:?}") };
            assert_eq!(hold.as_secs(), seconds);
        }
    }
}

// H-KB
#[test]
fn headers_tell_the_limit() {
    let mut headers = HeaderMap::new();
    assert_eq!(Korbit.rate_hint(&headers), RateHint::default());
    headers.insert("ratelimit", "limit=50, remaining=48, reset=1".parse().unwrap());
    assert_eq!(Korbit.rate_hint(&headers), RateHint { per_second: Some(50), remaining: Some(48) });
}

// KB-14
#[test]
fn the_list_leaves_out_what_is_stopped() {
    let body = r#"{"success":true,"data":[{"symbol":"algo_krw","status":"launched","baseCurrency":"algo"},
        {"symbol":"kda_krw","status":"stopped"},{"symbol":"old_krw"}]}"#;
    let reply = Reply { status: 200, headers: &HeaderMap::new(), body: body.as_bytes() };
    assert_eq!(Korbit.parse_list("", &reply), Ok(vec![market("KRW-ALGO"), market("KRW-OLD")]));
}
