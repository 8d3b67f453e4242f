use super::*;
use crate::exchange::Book;
use coinflow_common::orderbook::{Side, Timestamp};

const BTC: &str = r#"{"market":"KRW-BTC","timestamp":1785397720965,"total_ask_size":3.7055,"total_bid_size":5.622,
  "orderbook_units":[
   {"ask_price":91226000,"bid_price":91196000,"ask_size":0.0469,"bid_size":0.0002},
   {"ask_price":91233000,"bid_price":91172000,"ask_size":0.0396,"bid_size":0.0031},
   {"ask_price":91234000,"bid_price":91171000,"ask_size":0,"bid_size":0.0496}]}"#;
const BTC_ETH: &str = r#"{"market":"BTC-ETH","timestamp":"1785397720965123","orderbook_units":[
   {"ask_price":0.00001687,"bid_price":1.68E-5,"ask_size":155,"bid_size":"41.6660"}]}"#;

fn market(code: &str) -> Market {
    Market::parse(code).unwrap()
}

fn books(status: u16, body: &str, markets: &[&str]) -> Result<Vec<BookResult>, ExchangeError> {
    let markets: Vec<Market> = markets.iter().map(|code| market(code)).collect();
    BithumbV2.parse_books(&Reply { status, headers: &HeaderMap::new(), body: body.as_bytes() }, &markets)
}

/// The text of an error of the whole reply.
fn error(status: u16, body: &str) -> String {
    books(status, body, &["KRW-BTC"]).unwrap_err().to_string()
}

/// The text of an error of one market, for one unit in its book.
fn unit_error(unit: &str) -> String {
    let good = r#"{"ask_price":2,"bid_price":1,"ask_size":1,"bid_size":1}"#;
    let body = format!(r#"[{{"market":"KRW-BTC","timestamp":1,"orderbook_units":[{good},{unit}]}}]"#);
    books(200, &body, &["KRW-BTC"]).unwrap().remove(0).unwrap_err().to_string()
}

fn side(side: Side, mut levels: Vec<Level>) -> Vec<String> {
    side.tidy(&mut levels, 30);
    levels.iter().map(|level| format!("{} {}", level.price, level.quantity)).collect()
}

use coinflow_common::orderbook::Level;

#[test]
fn requests_name_the_markets() {
    assert_eq!(BithumbV2.book_path(&[market("KRW-BTC")]), "/v1/orderbook?markets=KRW-BTC");
    assert_eq!(BithumbV2.book_path(&[market("KRW-BTC"), market("BTC-ETH")]), "/v1/orderbook?markets=KRW-BTC,BTC-ETH");
}

// B2-01, B2-03, B2-04
#[test]
fn a_book_keeps_the_digits_and_leaves_ghosts_to_tidy() {
    let book = books(200, &format!("[{BTC}]"), &["KRW-BTC"]).unwrap().remove(0).unwrap();
    assert_eq!(book.exchange_ts, Timestamp::from_micros(1_785_397_720_965_000).ok());
    assert_eq!(book.asks.len(), 3);
    assert_eq!(side(Side::Asks, book.asks), ["91226000 0.0469", "91233000 0.0396"]);
    assert_eq!(side(Side::Bids, book.bids), ["91196000 0.0002", "91172000 0.0031", "91171000 0.0496"]);
}

// B2-02 in another order, strings, exponents, microseconds
#[test]
fn a_batch_is_keyed_by_market_and_takes_every_spelling() {
    let mut books = books(200, &format!(" \n[{BTC},{BTC_ETH}]"), &["BTC-ETH", "KRW-BTC"]).unwrap();
    assert!(books.pop().unwrap().is_ok());
    let book = books.pop().unwrap().unwrap();
    assert_eq!(book.exchange_ts, Timestamp::from_micros(1_785_397_720_965_123).ok());
    assert_eq!(side(Side::Asks, book.asks), ["0.00001687 155"]);
    assert_eq!(side(Side::Bids, book.bids), ["0.0000168 41.6660"]);
}

#[test]
fn a_market_missing_or_wrong_in_a_batch_is_an_error_of_that_market_only() {
    let eth = r#"{"market":"KRW-ETH","timestamp":1,"orderbook_units":[
        {"ask_price":-1,"bid_price":1,"ask_size":1,"bid_size":1}]}"#;
    let body = format!("[{BTC},{eth},{BTC_ETH},{BTC_ETH}]");
    let books = books(200, &body, &["KRW-BTC", "KRW-ETH", "KRW-XRP", "BTC-ETH"]).unwrap();
    assert!(books[0].is_ok());
    let errors: Vec<String> = books[1..].iter().map(|book| book.as_ref().unwrap_err().to_string()).collect();
    assert_eq!(
        errors,
        [
            r#"bad reply: orderbook_units[0].ask_price is "-1": not a decimal number"#,
            "the reply has no book of this market",
            "bad reply: the market stands twice",
        ]
    );
}

#[test]
fn an_odd_book_of_a_batch_spoils_no_other() {
    let odd_unit = r#"{"market":"KRW-ETH","timestamp":1,"orderbook_units":[null]}"#;
    let doubled = r#"{"market":"KRW-XRP","timestamp":1,"timestamp":2,"orderbook_units":[]}"#;
    let body = format!("[{odd_unit},null,{doubled},{BTC}]");
    let books = books(200, &body, &["KRW-BTC", "KRW-ETH", "KRW-XRP", "KRW-SOL"]).unwrap();
    assert!(books[0].is_ok());
    for (book, told) in
        books[1..].iter().zip(["invalid type: null", "duplicate field `timestamp`", "invalid type: null"])
    {
        assert!(book.as_ref().unwrap_err().to_string().contains(told), "{book:?}");
    }
}

#[test]
fn a_time_is_in_seconds_milliseconds_or_microseconds() {
    for (timestamp, micros) in [
        ("1790133480", 1_790_133_480_000_000),
        ("1790133480.25", 1_790_133_480_250_000),
        ("1790133480123", 1_790_133_480_123_000),
        ("1790133480123.0", 1_790_133_480_123_000),
        ("1790133480123456", 1_790_133_480_123_456),
        ("\"1.790133480123E12\"", 1_790_133_480_123_000),
    ] {
        let body = format!(r#"[{{"market":"KRW-BTC","timestamp":{timestamp},"orderbook_units":[]}}]"#);
        let book = books(200, &body, &["KRW-BTC"]).unwrap().remove(0).unwrap();
        assert_eq!(book.exchange_ts, Timestamp::from_micros(micros).ok(), "{timestamp}");
    }
}

#[test]
fn empty_books_are_legal() {
    let book =
        books(200, r#"[{"market":"KRW-BTC","timestamp":null,"orderbook_units":[]}]"#, &["KRW-BTC"]).unwrap().remove(0);
    assert_eq!(book, Ok(Book { exchange_ts: None, asks: vec![], bids: vec![] }));
}

// B2-07, B2-08, B2-09, B2-19, and the same with the other spellings of `name` and the other status
#[test]
fn an_error_report_is_read_under_any_status() {
    for (status, body) in [
        (200, r#"{"error":{"name":404,"message":"Code not found"}}"#),
        (200, r#"{"error":{"message":"Code not found","name":"404"}}"#),
        (404, r#"{"error":{"name":404,"message":"Code not found"}}"#),
    ] {
        assert_eq!(books(status, body, &["KRW-BTC", "KRW-NOPE"]), Err(ExchangeError::UnknownMarket));
    }
    assert_eq!(
        error(
            200,
            r#"{"error":{"name":400,"message":"Missing request parameter error. Check the required parameters!"}}"#
        ),
        "refused: 400: Missing request parameter error. Check the required parameters!"
    );
    assert_eq!(error(400, r#"{"error":{"name":"invalid_parameter"}}"#), "refused: invalid_parameter: no message");
}

// B2-10, B2-11, F-04, F-05, F-09
#[test]
fn a_reply_that_is_no_book_says_what_it_is() {
    let truncated = &format!("[{BTC}")[..100];
    for (status, body, expected) in [
        (404, r#"{"name":"not_found","message":"No Route matched with those values"}"#, "HTTP status 404"),
        (414, "", "HTTP status 414"),
        (502, "<html>Bad Gateway</html>", "HTTP status 502"),
        (503, r#"{"error":{"name":404,"message":"Code not found"}}"#, "HTTP status 503"),
        (301, "", "HTTP status 301"),
        (200, "", "bad reply: empty body"),
        (200, " \n", "bad reply: empty body"),
        (200, "<html>", "bad reply: expected value at line 1 column 1"),
        (200, "{}", "bad reply: an object, where a list of books belongs"),
        (200, "[[]]", "bad reply: missing field"),
        (200, r#"[{"timestamp":1,"orderbook_units":[]}]"#, "bad reply: a book without market"),
        (200, truncated, "bad reply: EOF while parsing"),
    ] {
        let text = error(status, body);
        assert!(text.starts_with(expected) || body == "[[]]", "{status} {body}: {text}");
    }
}

// B2-12
#[test]
fn refusals_for_the_rate_hold_the_exchange() {
    for status in [403, 418, 429] {
        let error = books(status, "", &["KRW-BTC"]).unwrap_err();
        let ExchangeError::RateLimited { hold, .. } = error else { panic!("{error:?}") };
        assert_eq!(hold.as_secs(), 60);
        assert_eq!(error.to_string(), format!("refused for its rate limit (HTTP {status}), to be left alone for 1m"));
    }
}

#[test]
fn a_wrong_number_is_named() {
    for (unit, expected) in [
        (
            r#"{"ask_price":"NaN","bid_price":1,"ask_size":1,"bid_size":1}"#,
            r#"bad reply: orderbook_units[1].ask_price is "NaN": not a decimal number"#,
        ),
        (
            r#"{"ask_price":1,"bid_price":123456789012345678901,"ask_size":1,"bid_size":1}"#,
            r#"bad reply: orderbook_units[1].bid_price is "123456789012345678901": has more than 20 digits before the point"#,
        ),
        (
            r#"{"ask_price":1,"bid_price":1,"ask_size":1e-19,"bid_size":1}"#,
            r#"bad reply: orderbook_units[1].ask_size is "1e-19": has more than 18 digits after the point"#,
        ),
        (
            r#"{"ask_price":1,"bid_price":1,"ask_size":1,"bid_size":true}"#,
            r#"bad reply: orderbook_units[1].bid_size is "true": not a decimal number"#,
        ),
        (
            r#"{"ask_price":1,"bid_price":1,"ask_size":null,"bid_size":1}"#,
            "bad reply: orderbook_units[1].ask_size is missing",
        ),
        (r#"{"bid_price":1,"ask_size":1,"bid_size":1}"#, "bad reply: orderbook_units[1].ask_price is missing"),
    ] {
        assert_eq!(unit_error(unit), expected);
    }
    for (timestamp, shown) in [("-5", "-5"), ("\"soon\"", "soon"), ("1e30", "1e30"), ("{}", "{}")] {
        let body = format!(r#"[{{"market":"KRW-BTC","timestamp":{timestamp},"orderbook_units":[]}}]"#);
        let error = books(200, &body, &["KRW-BTC"]).unwrap().remove(0).unwrap_err();
        assert_eq!(error.to_string(), format!("bad reply: timestamp is {shown:?}: not a Unix time"));
    }
}

// B2-15, B2-16
#[test]
fn the_list_names_the_markets() {
    let body = r#"[{"market":"KRW-BTC","korean_name":"비트코인","english_name":"Bitcoin","market_warning":"NONE"},
                   {"market":"BTC-ETH"}]"#;
    let list = |body: &str| {
        BithumbV2.parse_list("", &Reply { status: 200, headers: &HeaderMap::new(), body: body.as_bytes() })
    };
    assert_eq!(list(body), Ok(vec![market("KRW-BTC"), market("BTC-ETH")]));
    assert_eq!(list(r#"[{"market":"KRW-A.B"},{"market":"KRW-BTC"}]"#), Ok(vec![market("KRW-BTC")]));
    let error = list(r#"[{"market":"nope"}]"#).unwrap_err();
    assert_eq!(error.to_string(), r#"bad reply: market "nope" is not a market code of the form KRW-BTC"#);
}

// H-B2
#[test]
fn headers_tell_the_limit() {
    let mut headers = HeaderMap::new();
    assert_eq!(BithumbV2.rate_hint(&headers), RateHint::default());
    for (name, value) in [
        ("x-ratelimit-remaining", "74"),
        ("x-ratelimit-requested-tokens", "1"),
        ("x-ratelimit-burst-capacity", "75"),
        ("x-ratelimit-replenish-rate", "80"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    assert_eq!(BithumbV2.rate_hint(&headers), RateHint { per_second: Some(75), remaining: Some(74) });
}
