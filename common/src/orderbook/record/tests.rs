use super::*;

fn decimal(text: &str) -> Decimal {
    Decimal::parse_plain(text).expect("a decimal")
}

fn level(price: &str, quantity: &str) -> Level {
    Level { price: decimal(price), quantity: decimal(quantity) }
}

fn book() -> OrderBook {
    OrderBook {
        exchange: Exchange::parse("bithumb").expect("a name"),
        market: Market::parse("KRW-BTC").expect("a market"),
        exchange_ts: Timestamp::parse("2026-11-23T10:00:00.123Z").ok(),
        requested_at: Timestamp::parse("2026-11-23T10:00:00.101532Z").ok(),
        received_at: Timestamp::parse("2026-11-23T10:00:00.140877Z").expect("a time"),
        run: Uuid::try_parse("0199d0a2-0000-7000-8000-000000000001").expect("a UUID"),
        sequence: 1234,
        asks: vec![level("157123000", "0.0123"), level("157124000", "1.50")],
        bids: vec![level("157122000", "0.5")],
    }
}

const VALUE: &str = concat!(
    r#"{"exchange":"bithumb","market":"KRW-BTC","exchange_ts":"2026-11-23T10:00:00.123Z","#,
    r#""requested_at":"2026-11-23T10:00:00.101532Z","received_at":"2026-11-23T10:00:00.140877Z","#,
    r#""run":"0199d0a2-0000-7000-8000-000000000001","sequence":1234,"#,
    r#""asks":[["157123000","0.0123"],["157124000","1.50"]],"bids":[["157122000","0.5"]]}"#,
);

#[test]
fn a_book_is_written_as_the_contract_says_and_read_back() {
    let mut value = Vec::new();
    book().encode(&mut value);
    assert_eq!(std::str::from_utf8(&value), Ok(VALUE));
    let read = OrderBook::decode(&value).expect("our own record");
    assert_eq!(read, book());
    assert_eq!(read.asks[1].quantity.to_string(), "1.50", "the scale is kept");
}

#[test]
fn empty_sides_and_missing_times_are_legal() {
    let book = OrderBook { exchange_ts: None, requested_at: None, asks: vec![], bids: vec![], ..book() };
    let mut value = Vec::new();
    book.encode(&mut value);
    assert!(String::from_utf8_lossy(&value).contains(r#""exchange_ts":null,"requested_at":null"#));
    assert_eq!(OrderBook::decode(&value), Ok(book));
}

#[test]
fn unknown_keys_and_another_order_are_accepted() {
    let value = VALUE.replacen('{', r#"{"later":{"a":[1,2]},"#, 1);
    assert_eq!(OrderBook::decode(value.as_bytes()), Ok(book()));
    let value = VALUE.replacen("BTC", r"\u0042TC", 1);
    assert_eq!(OrderBook::decode(value.as_bytes()), Ok(book()), "escapes");
}

/// Replaces one part of a good record and compares the reason.
#[test]
fn what_is_outside_the_contract_is_refused_with_its_field() {
    for (part, instead, reason) in [
        (r#""157123000""#, "157123000", "asks[0]: price: invalid type: integer `157123000`, expected a string"),
        (r#""0.0123""#, r#""-1""#, r#"asks[0]: quantity: "-1" not a decimal number"#),
        (r#""0.0123""#, r#""NaN""#, r#"asks[0]: quantity: "NaN" not a decimal number"#),
        (r#""0.0123""#, r#""1e5""#, r#"asks[0]: quantity: "1e5" has an exponent"#),
        (r#""0.0123""#, r#""0.0""#, "asks[0]: quantity is 0"),
        (r#""157124000""#, r#""157122999""#, "asks[1]: not best first"),
        (r#"["157122000","0.5"]"#, r#"["157122000"]"#, "bids[0]: quantity is missing"),
        (r#"["157122000","0.5"]"#, r#"["157122000","0.5","1"]"#, "bids[0]: more than [price, quantity]"),
        (r#"["157122000","0.5"]"#, "5", "bids[0]: invalid type: integer `5`, expected [price, quantity]"),
        (r#""sequence":1234"#, r#""sequence":0"#, "sequence: 0 is below 1"),
        (r#""sequence":1234"#, r#""sequence":"1""#, "sequence: invalid type: string \"1\", expected i64"),
        (r#""sequence":1234"#, r#""sequence":9223372036854775808"#, "sequence: invalid value"),
        (r#""sequence":1234,"#, "", r#""sequence" is missing"#),
        (r#""sequence":1234"#, r#""sequence":1,"sequence":2"#, r#""sequence" stands twice"#),
        (r#""sequence":1234"#, r#""sequence":1,"x":1,"x":2"#, r#""x" stands twice"#),
        (r#""bithumb""#, r#""Bithumb""#, r#"exchange: "Bithumb" is not an exchange name"#),
        (r#""KRW-BTC""#, r#""btc_krw""#, r#"market: "btc_krw" is not a market code"#),
        (r#""KRW-BTC""#, r#""KRW-B\u0000""#, "market: "),
        (r#""2026-11-23T10:00:00.140877Z""#, "null", "received_at: invalid type: null, expected a string"),
        (r#""2026-11-23T10:00:00.140877Z""#, "1763892000", "received_at: invalid type: integer"),
        (r#""2026-11-23T10:00:00.123Z""#, r#""yesterday""#, r#"exchange_ts: "yesterday" is not a time"#),
        ("0199d0a2-", "zzz", "run: "),
        (r#"}"#, "} x", "trailing characters"),
        (r#"}"#, "", "EOF while parsing"),
    ] {
        let value = VALUE.replacen(part, instead, 1);
        assert_ne!(value, VALUE);
        let error = OrderBook::decode(value.as_bytes()).expect_err(&value).to_string();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
    }
}

#[test]
fn anything_but_a_record_is_refused() {
    for value in [&b""[..], b"null", b"[]", b"{}", b"\xff\xfe", b"\0\0\0\0\x05", b"{\"exchange\":\"\xff\"}"] {
        assert!(OrderBook::decode(value).is_err(), "{value:?}");
    }
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(OrderBook::decode(deep.as_bytes()).is_err());
}

#[test]
fn schema_headers() {
    for good in [None, Some("coinflow.orderbook/1"), Some("coinflow.orderbook/1.4")] {
        assert_eq!(check_schema(good.map(str::as_bytes)), Ok(()), "{good:?}");
    }
    for bad in ["", "coinflow.orderbook/2", "coinflow.orderbook/11", "coinflow.orderbook", "other/1"] {
        assert!(check_schema(Some(bad.as_bytes())).is_err(), "{bad:?}");
    }
    let majors = [("coinflow.orderbook/2", 2), ("coinflow.orderbook/11.3", 11), ("coinflow.orderbook/0", 0)];
    for (other, major) in majors {
        assert_eq!(other_major(Some(other.as_bytes())), Some(major), "{other:?}");
    }
    let none = [
        "",
        "coinflow.orderbook/1",
        "coinflow.orderbook/1.4",
        "coinflow.orderbook/",
        "coinflow.orderbook/+2",
        "other/2",
    ];
    for none in none {
        assert_eq!(other_major(Some(none.as_bytes())), None, "{none:?}");
    }
    assert_eq!((other_major(None), other_major(Some(b"\xff"))), (None, None));
    let error = check_schema(Some(b"coinflow.orderbook/2")).expect_err("another major").to_string();
    assert_eq!(error, r#"header schema: "coinflow.orderbook/2" is not coinflow.orderbook/1"#);
}
