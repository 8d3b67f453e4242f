use super::*;
use coinflow_common::orderbook::Level;

const BTC: &str = r#"{"status":"0000","data":{"timestamp":"1790133480123","payment_currency":"KRW","order_currency":"BTC",
 "bids":[{"price":"116500000","quantity":"0.7074"},{"price":"116475000","quantity":"0"}],
 "asks":[{"quantity":"2.07510000","price":"116501000"},{"price":116510000,"quantity":5.1E-3}]}}"#;

fn market(code: &str) -> Market {
    Market::parse(code).unwrap()
}

fn book(status: u16, body: &str) -> BookResult {
    let reply = Reply { status, headers: &HeaderMap::new(), body: body.as_bytes() };
    BithumbLegacy.parse_books(&reply, &[market("KRW-BTC")]).and_then(|mut books| books.remove(0))
}

fn error(status: u16, body: &str) -> String {
    book(status, body).unwrap_err().to_string()
}

#[test]
fn the_request_spells_the_market_base_first() {
    assert_eq!(BithumbLegacy.book_path(&[market("KRW-BTC")]), "/public/orderbook/BTC_KRW?count=30");
}

// BL-01, BL-02, BL-14, and a timestamp as a number
#[test]
fn a_book_keeps_the_digits() {
    for body in [BTC.to_owned(), BTC.replace("\"1790133480123\"", "1790133480123")] {
        let book = book(200, &body).unwrap();
        assert_eq!(book.exchange_ts.map(|ts| ts.as_micros()), Some(1_790_133_480_123_000));
        let texts = |levels: &[Level]| -> Vec<String> {
            levels.iter().map(|level| format!("{} {}", level.price, level.quantity)).collect()
        };
        assert_eq!(texts(&book.asks), ["116501000 2.07510000", "116510000 0.0051"]);
        assert_eq!(texts(&book.bids), ["116500000 0.7074", "116475000 0"]);
    }
}

// BL-13
#[test]
fn empty_sides_are_legal() {
    let body = r#"{"status":"0000","data":{"timestamp":"1","payment_currency":"KRW","order_currency":"BTC","bids":[],"asks":[]}}"#;
    let book = book(200, body).unwrap();
    assert!(book.asks.is_empty() && book.bids.is_empty());
}

// BL-05, BL-06, BL-12, and errors under HTTP 400
#[test]
fn the_status_in_the_envelope_decides() {
    for status in [200, 400] {
        assert_eq!(book(status, r#"{"status":"5500","message":"상장 코인 아님"}"#), Err(ExchangeError::UnknownMarket));
        assert_eq!(error(status, r#"{"message":"Database Fail","status":5400}"#), "refused: 5400: Database Fail");
        assert_eq!(
            error(status, r#"{"status":"5600","message":"접속 차단된 IP입니다."}"#),
            "refused for its rate limit (status 5600: 접속 차단된 IP입니다.), to be left alone for 1m"
        );
    }
    assert!(matches!(book(429, ""), Err(ExchangeError::RateLimited { .. })));
}

// BL-08, F-04, F-05, F-09
#[test]
fn a_reply_that_is_no_book_says_what_it_is() {
    for (status, body, expected) in [
        (404, r#"{"name":"not_found","message":"No Route matched with those values"}"#, "HTTP status 404"),
        (404, "", "HTTP status 404"),
        (503, "<html>", "HTTP status 503"),
        (200, "", "bad reply: empty body"),
        (200, r#"{"data":{}}"#, "bad reply: status is missing"),
        (200, r#"{"status":"0000"}"#, "bad reply: data is missing"),
        (
            200,
            r#"{"status":"0000","data":{"timestamp":"1","payment_currency":"KRW","order_currency":"BTC","bids":[]}}"#,
            "bad reply: data.asks is missing",
        ),
        (200, &BTC.replace("116475000", "-1"), r#"bad reply: data.bids[1].price is "-1": not a decimal number"#),
        (200, &BTC.replace("\"BTC\"", "\"ETH\""), "the reply has no book of this market"),
        (200, &BTC[..100], "bad reply: EOF while parsing"),
    ] {
        let text = error(status, body);
        assert!(text.starts_with(expected), "{status} {body}: {text}");
    }
}

// BL-15
#[test]
fn the_list_leaves_out_scalars_and_coins_that_are_not_traded() {
    let body = r#"{"status":"0000","data":{"BTC":{"closing_price":"1"},"OLD":[],"ETH":{},"date":"1790133480123"}}"#;
    let reply = Reply { status: 200, headers: &HeaderMap::new(), body: body.as_bytes() };
    let list = |path| BithumbLegacy.parse_list(path, &reply);
    let empty = Reply { body: br#"{"status":"0000","data":{"date":"1700000000000"}}"#, ..reply };
    let said = BithumbLegacy.parse_list("/public/ticker/ALL_KRW", &empty);
    assert_eq!(said, Err(ExchangeError::BadReply("the list names no market".to_owned())));
    assert_eq!(list("/public/ticker/ALL_KRW"), Ok(vec![market("KRW-BTC"), market("KRW-ETH")]));
    assert_eq!(list("/public/ticker/ALL_BTC"), Ok(vec![market("BTC-BTC"), market("BTC-ETH")]));
}
