//! B2-01 to B2-20, and BL-01 to BL-15.

use serde_json::{Value, json};

use super::super::api::{Ghost, MarketChange};
use super::{Got, MISSING, NOT_LISTED, Rig, UNKNOWN, shape, units, until};

fn has_h_b2(got: &Got) -> bool {
    got.header("x-ratelimit-remaining").is_some()
        && got.header("x-ratelimit-requested-tokens") == Some("1")
        && got.header("x-ratelimit-burst-capacity").is_some()
        && got.header("x-ratelimit-replenish-rate").is_some()
}

const NO_ROUTE: &str = r#"{"name":"not_found","message":"No Route matched with those values"}"#;
const BAD_INPUT: &str = r#"{"status":"5500","message":"입력값을 확인해 주세요."}"#;

#[test]
fn replies_with_a_fixed_body() {
    let rig = Rig::new();
    let long = format!("/v1/orderbook?markets={}", "KRW-BTC,".repeat(512));
    let cap = format!("/v1/ticker?markets={}", generated(201).join(","));
    // case, path, status, whether H-B2 comes with it, body
    let cases = [
        ("B2-07", "/v1/orderbook?markets=KRW-NOPE", 200, true, UNKNOWN),
        ("B2-08", "/v1/orderbook?markets=KRW-BTC,KRW-NOPE", 200, true, UNKNOWN),
        ("B2-09", "/v1/orderbook", 200, true, MISSING),
        ("B2-10", "/v1/nope", 404, false, NO_ROUTE),
        ("B2-11", &long, 414, false, ""),
        (
            "B2-19",
            &cap,
            400,
            true,
            r#"{"error":{"name":"400","message":"Parameter 'markets' must be less than or equal to 200 items."}}"#,
        ),
        ("BL-05", "/public/orderbook/NOPE_KRW", 200, false, NOT_LISTED),
        ("BL-06", "/public/ticker/ALL_USDT", 200, false, BAD_INPUT),
        ("BL-07", "/public/orderbook/ALL_USDT", 200, false, BAD_INPUT),
        ("BL-08", "/public/orderbook", 404, false, NO_ROUTE),
        ("BL-09", "/public/nope", 404, false, NO_ROUTE),
    ];
    for (case, path, status, h_b2, body) in cases {
        let got = rig.get(path);
        assert_eq!((got.status, got.body.as_str(), has_h_b2(&got)), (status, body, h_b2), "{case}");
        let content_type = if body.is_empty() { None } else { Some("application/json") };
        assert_eq!(got.header("content-type"), content_type, "{case}");
    }
}

/// The first codes of the generated markets.
fn generated(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("KRW-G{number:03}")).collect()
}

#[test]
fn v2_books() {
    let rig = Rig::new();
    let two_hundred = format!("/v1/orderbook?markets={}", generated(200).join(","));
    let btc = || vec![("KRW-BTC".to_owned(), 30)];
    let both = || vec![("KRW-BTC".to_owned(), 15), ("KRW-ETH".to_owned(), 15)];
    let many: Vec<(String, usize)> = generated(200).into_iter().map(|code| (code, 15)).collect();
    rig.change(&MarketChange { market: "KRW-SOL".to_owned(), suspended: Some(true), ..MarketChange::default() });
    // case, path, markets and their units
    let cases = [
        ("B2-01", "/v1/orderbook?markets=KRW-BTC", btc()),
        ("B2-02", "/v1/orderbook?markets=KRW-BTC,KRW-ETH", both()),
        ("B2-02", "/v1/orderbook?markets=KRW-BTC%2CKRW-ETH", both()),
        ("B2-05", "/v1/orderbook?markets=krw-btc", btc()),
        ("B2-06", &two_hundred, many),
        ("B2-17", "/v1/orderbook?markets=KRW-BTC&markets=KRW-ETH", both()),
        ("B2-20", "/v1/orderbook?markets=KRW-SOL", vec![("KRW-SOL".to_owned(), 30)]),
        ("BTC market", "/v1/orderbook?markets=BTC-ETH", vec![("BTC-ETH".to_owned(), 30)]),
    ];
    for (case, path, wanted) in cases {
        let got = rig.get(path);
        assert_eq!((got.status, has_h_b2(&got), shape(&got)), (200, true, wanted), "{case}");
        for book in got.json().as_array().expect("an array") {
            let timestamp = book["timestamp"].as_u64().expect("a number");
            assert!((1_000_000_000_000..100_000_000_000_000).contains(&timestamp), "{case}: {timestamp} is not in ms");
        }
    }
}

#[test]
fn b2_03_ghosts() {
    let rig = Rig::new();
    for (ghost, at) in [(Ghost::Best, 0), (Ghost::Deep, 2)] {
        rig.change(&MarketChange { market: "KRW-BTC".to_owned(), ghost: Some(ghost), ..MarketChange::default() });
        let units = units(&rig.get("/v1/orderbook?markets=KRW-BTC"));
        assert!(units[at]["ask_price"].as_u64() > Some(0));
        let zero: Vec<usize> = (0..30).filter(|&unit| units[unit]["ask_size"] == json!(0)).collect();
        assert_eq!(zero, [at]);
    }
}

#[test]
fn b2_04_padding() {
    let rig = Rig::new();
    let units = units(&rig.get("/v1/orderbook?markets=KRW-NFT"));
    let last = units.last().expect("30 units");
    assert_eq!((&last["bid_price"], &last["bid_size"]), (&json!(0), &json!(0)));
    assert!(last["ask_price"].as_f64() > Some(0.0) && last["ask_size"].as_f64() > Some(0.0));
}

#[test]
fn b2_12_to_14_the_limit_blocks_and_lifts() {
    let rig = Rig::new();
    let limiter = json!({"enabled": true, "per_second": 5, "block_ms": 300});
    rig.switch(&json!({"bithumb_v2": {"limiter": limiter}}));
    let path = "/v1/orderbook?markets=KRW-BTC";
    let first = rig.get(path);
    assert_eq!(first.header("x-ratelimit-remaining"), Some("4"));
    assert_eq!(first.header("x-ratelimit-burst-capacity"), Some("5"));
    let refused = until(|| Some(rig.get(path)).filter(|got| got.status != 200));
    for got in [refused, rig.get(path)] {
        let left = got.header("x-ratelimit-remaining");
        assert_eq!((got.status, got.body.as_str(), left, got.header("retry-after")), (429, "", Some("0"), None));
    }
    assert_eq!(rig.get("/v1/market/all").status, 200, "another category");
    until(|| Some(rig.get(path)).filter(|got| got.status == 200));

    for (name, status, empty) in [("403", 403, true), ("429_body", 429, false)] {
        rig.switch(&json!({"bithumb_v2": {"over_limit": name}}));
        let refused = until(|| Some(rig.get(path)).filter(|got| got.status != 200));
        assert_eq!((refused.status, refused.body.is_empty()), (status, empty), "{name}");
        until(|| Some(rig.get(path)).filter(|got| got.status == 200));
    }
}

#[test]
fn b2_15_and_16_the_list_of_markets() {
    let rig = Rig::new();
    for (path, warned) in [("/v1/market/all?isDetails=true", true), ("/v1/market/all", false)] {
        let got = rig.get(path);
        assert!(has_h_b2(&got));
        let list = got.json();
        let first = json!({"market": "KRW-BTC", "korean_name": "비트코인", "english_name": "Bitcoin"});
        for (key, value) in first.as_object().expect("an object") {
            assert_eq!(&list[0][key], value);
        }
        let rows = list.as_array().expect("an array");
        assert!(rows.len() >= 250);
        assert!(rows.iter().all(|row| (row["market_warning"] == "NONE") == warned));
    }
}

#[test]
fn b2_18_a_market_leaves_and_comes() {
    let rig = Rig::new();
    let batch = "/v1/orderbook?markets=KRW-BTC,KRW-ETH";
    let listed = || rig.get("/v1/market/all").body.contains("KRW-ETH");
    assert!(listed());
    rig.control.delist(&["KRW-ETH"]).expect("it is there");
    assert_eq!(rig.get(batch).body, UNKNOWN);
    assert!(!listed());
    rig.control.list(&["KRW-ETH", "KRW-FRESH"]).expect("good codes");
    assert_eq!(shape(&rig.get(batch)).len(), 2);
    assert_eq!(rig.get("/v1/orderbook?markets=KRW-FRESH").status, 200);
}

#[test]
fn v2_switches() {
    let rig = Rig::new();
    let single = "/v1/orderbook?markets=KRW-BTC";
    rig.switch(&json!({"bithumb_v2": {"unknown_market": 404, "error_name": "string"}}));
    let got = rig.get("/v1/orderbook?markets=KRW-NOPE");
    assert_eq!((got.status, got.json()["error"]["name"].clone()), (404, json!("404")));

    rig.switch(&json!({"bithumb_v2": {"single_timestamp": "us"}}));
    let us = |path: &str| rig.get(path).json()[0]["timestamp"].as_u64() >= Some(100_000_000_000_000);
    assert!(us(single) && !us("/v1/orderbook?markets=KRW-BTC,KRW-ETH"));

    rig.switch(&json!({"bithumb_v2": {"numbers": "trailing_zeros"}}));
    assert!(rig.get(single).body.contains(".0000,"));
    rig.switch(&json!({"bithumb_v2": {"numbers": "exponent"}}));
    assert!(rig.get(single).body.contains("E8,"));

    rig.switch(&json!({"bithumb_v2": {"object_order": "shuffled"}}));
    let markets = generated(20);
    let got = rig.get(&format!("/v1/orderbook?markets={}", markets.join(",")));
    let mut order: Vec<String> = shape(&got).into_iter().map(|(market, _)| market).collect();
    assert_ne!(order, markets);
    order.sort();
    assert_eq!(order, markets);

    let refused = rig.control.set_switches(&json!({"bithumb_v2": {"numbres": "plain"}}));
    assert!(refused.expect_err("a switch that does not exist").contains("numbres"));
}

/// (asks, bids) of a legacy book.
fn depths(book: &Value) -> (usize, usize) {
    let side = |name: &str| book[name].as_array().unwrap_or_else(|| panic!("no {name}: {book}")).len();
    (side("asks"), side("bids"))
}

#[test]
fn legacy_books() {
    let rig = Rig::new();
    let cases = [
        ("BL-01", "/public/orderbook/BTC_KRW", (30, 30)),
        ("BL-02", "/public/orderbook/BTC_KRW?count=2", (2, 2)),
        ("BL-10", "/public/orderbook/btc_krw", (30, 30)),
        ("BL-11", "/public/orderbook/BTC_KRW?count=0", (30, 30)),
        ("BL-11", "/public/orderbook/BTC_KRW?count=31", (30, 30)),
        ("BL-11", "/public/orderbook/BTC_KRW?count=abc", (30, 30)),
        ("BTC market", "/public/orderbook/ETH_BTC", (30, 30)),
    ];
    for (case, path, wanted) in cases {
        let got = rig.get(path);
        let book = got.json();
        assert_eq!((got.status, &book["status"], depths(&book["data"])), (200, &json!("0000"), wanted), "{case}");
        assert!(!has_h_b2(&got), "{case}");
        assert_eq!(book["data"]["timestamp"].as_str().map(str::len), Some(13), "{case}: a string of ms");
        assert!(book["data"]["asks"][0]["price"].is_string() && book["data"]["asks"][0]["quantity"].is_string());
    }

    // BL-13: shorter, and not padded
    let thin = rig.get("/public/orderbook/NFT_KRW").json();
    let (asks, bids) = depths(&thin["data"]);
    assert!(asks == 30 && bids < 30, "{asks} asks, {bids} bids");
    // BL-14
    rig.change(&MarketChange { market: "KRW-BTC".to_owned(), ghost: Some(Ghost::Best), ..MarketChange::default() });
    assert_eq!(rig.get("/public/orderbook/BTC_KRW").json()["data"]["asks"][0]["quantity"], "0");
}

#[test]
fn bl_03_and_04_all_markets_at_once() {
    let rig = Rig::new();
    for (path, depth) in [("/public/orderbook/ALL_KRW", 5), ("/public/orderbook/ALL_KRW?count=1", 1)] {
        let all = rig.get(path).json();
        let data = all["data"].as_object().expect("an object");
        assert_eq!((&data["payment_currency"], data["timestamp"].is_string()), (&json!("KRW"), true));
        assert!(data.len() > 250);
        assert_eq!((depths(&data["BTC"]), &data["BTC"]["order_currency"]), ((depth, depth), &json!("BTC")));
        assert!(!data.contains_key("NOPE"));
    }
    let served = rig.control.served(0).expect("the log");
    let stamps: std::collections::HashSet<u64> = served.iter().map(|book| book.timestamp_ms).collect();
    assert_eq!(stamps.len(), 2, "one timestamp covers a reply");
}

#[test]
fn bl_12_over_the_limit() {
    let rig = Rig::new();
    let limiter = json!({"enabled": true, "per_second": 2, "block_ms": 100});
    rig.switch(&json!({"bithumb_legacy": {"limiter": limiter}}));
    let path = "/public/orderbook/BTC_KRW";
    let refused = until(|| Some(rig.get(path)).filter(|got| got.body.contains("0000").eq(&false)));
    assert_eq!((refused.status, refused.body.as_str()), (429, ""));
    rig.switch(&json!({"bithumb_legacy": {"over_limit": "200_5600"}}));
    let refused = until(|| Some(rig.get(path)).filter(|got| got.body.contains("5600")));
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (200, r#"{"status":"5600","message":"접속 차단된 IP입니다."}"#)
    );
}

#[test]
fn legacy_switches() {
    let rig = Rig::new();
    rig.switch(&json!({"bithumb_legacy":
        {"timestamp": "number", "error_status": 400, "lower_case": "error", "bad_count": "error"}}));
    assert!(rig.get("/public/orderbook/BTC_KRW").json()["data"]["timestamp"].is_u64());
    let lower = rig.get("/public/orderbook/btc_krw");
    assert_eq!((lower.status, lower.body.as_str()), (400, NOT_LISTED));
    let count = rig.get("/public/orderbook/BTC_KRW?count=31");
    assert_eq!((count.status, count.body.as_str()), (400, BAD_INPUT));
}

#[test]
fn bl_15_the_ticker_lists_the_coins() {
    let rig = Rig::new();
    rig.change(&MarketChange { market: "KRW-SAND".to_owned(), suspended: Some(true), ..MarketChange::default() });
    let all = rig.get("/public/ticker/ALL_KRW").json();
    let data = all["data"].as_object().expect("an object");
    assert!(data.contains_key("date") && data["BTC"].is_object() && data["SAND"] == json!([]));
    assert!(rig.get("/public/ticker/ALL_BTC").json()["data"]["ETH"].is_object());
}
