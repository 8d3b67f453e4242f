use super::*;
use crate::exchange::Book;

const BTC: &str = r#"{"market":"KRW-BTC","timestamp":1788332467626,"total_ask_size":2.40192334,"total_bid_size":5.88234340,
  "orderbook_units":[
   {"bid_price":106747000,"bid_size":0.01071562,"ask_price":106749000,"ask_size":0.02507658},
   {"bid_price":106746000,"bid_size":0.10000000,"ask_price":1.0675E8,"ask_size":5.0E-4},
   {"bid_price":0,"bid_size":0,"ask_price":106751000,"ask_size":0.33120000}],"level":0}"#;

fn market(code: &str) -> Market {
    Market::parse(code).unwrap()
}

fn books(status: u16, body: &str, markets: &[&str]) -> Result<Vec<BookResult>, ExchangeError> {
    let markets: Vec<Market> = markets.iter().map(|code| market(code)).collect();
    Upbit.parse_books(&Reply { status, headers: &HeaderMap::new(), body: body.as_bytes() }, &markets)
}

#[test]
fn requests_name_the_markets() {
    assert_eq!(Upbit.book_path(&[market("KRW-BTC"), market("BTC-ETH")]), "/v1/orderbook?markets=KRW-BTC,BTC-ETH");
}

// UP-01, UP-07, UP-21
#[test]
fn a_book_keeps_the_digits_in_either_order_of_keys() {
    let Book { exchange_ts, asks, bids } = books(200, &format!("[{BTC}]"), &["KRW-BTC"]).unwrap().remove(0).unwrap();
    assert_eq!(exchange_ts.map(|ts| ts.as_micros()), Some(1_788_332_467_626_000));
    let texts = |levels: &[coinflow_common::orderbook::Level]| -> Vec<String> {
        levels.iter().map(|level| format!("{} {}", level.price, level.quantity)).collect()
    };
    assert_eq!(texts(&asks), ["106749000 0.02507658", "106750000 0.00050", "106751000 0.33120000"]);
    assert_eq!(texts(&bids), ["106747000 0.01071562", "106746000 0.10000000", "0 0"]);
}

// UP-06, UP-09, UP-10, UP-11, UP-12
#[test]
fn what_is_no_book_says_what_it_is() {
    let unknown = r#"{"error":{"name":404,"message":"Code not found"}}"#;
    assert_eq!(books(404, unknown, &["KRW-BTC", "KRW-NOPE"]), Err(ExchangeError::UnknownMarket));
    assert_eq!(books(200, "[]", &["KRW-BTC"]), Ok(vec![Err(ExchangeError::NotInReply)]));
    for (status, body, expected) in [
        (400, r#"{"error":{"name":400,"message":"Type mismatch error."}}"#, "refused: 400: Type mismatch error."),
        (404, r#"{"error":{"name":"not_found","message":"no Route"}}"#, "refused: not_found: no Route"),
        (502, "<html>", "HTTP status 502"),
        (200, "", "bad reply: empty body"),
    ] {
        assert_eq!(books(status, body, &["KRW-BTC"]).unwrap_err().to_string(), expected);
    }
}

// UP-14, UP-15
#[test]
fn refusals_hold_the_exchange_for_as_long_as_they_say() {
    let hold = |status, body: &str| match books(status, body, &["KRW-BTC"]) {
        Err(ExchangeError::RateLimited { hold, is_block, .. }) => (hold.as_secs(), is_block),
        other => panic!("{other:?}"),
    };
    for body in
        [r#"{"error":{"message":"Too many API requests.","name":"too_many_requests"}}"#, "Too many API requests.", ""]
    {
        assert_eq!(hold(429, body), (1, false));
    }
    for (body, seconds) in [
        ("blocked for 30 seconds", 30),
        ("IP 10.0.0.1 blocked: 2 minutes", 120),
        ("요청 수 초과로 90초 동안 차단되었습니다", 90),
        ("차단 시간: 1시간", 3600),
        ("1분 30초", 90),
        ("blocked for 1 minute 30 seconds.", 90),
        ("blocked for 1.5 hours", 5400),
        ("1일", 86_400),
        ("2026년 11월 23일 10시 30분까지", 86_400),
        ("blocked for 10000000000 seconds", 86_400),
        ("retry after 500ms", 1),
        ("0 seconds", 1),
        ("10 messages, 12 hits; wait 30 s", 30),
        ("blocked", 60),
        ("", 60),
    ] {
        assert_eq!(hold(418, body), (seconds, true), "{body}");
    }
}

// H-UP, UP-12, UP-17, UP-20
#[test]
fn only_the_header_of_order_books_tells_their_limit() {
    for (header, remaining) in [
        (Some("group=orderbook; min=600; sec=9"), Some(9)),
        (Some("group=orderbook; min=600; sec=0"), Some(0)),
        (Some("group=market; min=600; sec=9"), None),
        (Some("group=orderbook"), None),
        (None, None),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("remaining-req", header.parse().unwrap());
        }
        assert_eq!(Upbit.rate_hint(&headers), RateHint { per_second: None, remaining }, "{header:?}");
    }
}

// UP-20
#[test]
fn the_list_names_the_markets() {
    let body = r#"[{"market":"BTC-BERA","korean_name":"베라체인","english_name":"Berachain",
                    "market_event":{"warning":false}},{"market":"USDT-BTC"}]"#;
    let reply = Reply { status: 200, headers: &HeaderMap::new(), body: body.as_bytes() };
    assert_eq!(Upbit.parse_list("", &reply), Ok(vec![market("BTC-BERA"), market("USDT-BTC")]));
    let empty = Upbit.parse_list("", &Reply { body: b"[]", ..reply });
    assert_eq!(empty, Err(ExchangeError::BadReply("the list names no market".to_owned())));
}
