//! UP-01 to UP-23.

use serde_json::{Value, json};

use super::super::Venue;
use super::super::api::MarketChange;
use super::super::reply::Reply;
use super::super::world::World;
use super::{Got, MISSING, Rig, SECOND_US, START_US, UNKNOWN, reply_at, shape, units, until};

const BOOK: &str = "/v1/orderbook?markets=KRW-BTC";
const BATCH: &str = "/v1/orderbook?markets=KRW-BTC,KRW-ETH";
const TOO_MANY: &str = r#"{"error":{"message":"Too many API requests.","name":"too_many_requests"}}"#;

/// H-UP with nothing taken from the second but this request.
fn has_h_up(got: &Got, group: &str) -> bool {
    let wanted = format!("group={group}; min=600; sec=9");
    got.header("remaining-req") == Some(&wanted) && got.header("limit-by-ip") == Some("Yes")
}

#[test]
fn replies_with_a_fixed_body() {
    const BAD_TYPE: &str = r#"{"error":{"name":400,"message":"Type mismatch error. Check the parameters type!"}}"#;
    const NO_ROUTE: &str = r#"{"error":{"name":"not_found","message":"no Route matched with those values"}}"#;
    let rig = Rig::of(Venue::Upbit);
    // case, path, status, whether H-UP comes with it, body
    let cases = [
        ("UP-05", "/v1/orderbook?markets=KRW-BTC&count=abc", 400, true, BAD_TYPE),
        ("UP-06", "/v1/orderbook?markets=KRW-BTC&level=7", 200, true, "[]"),
        ("UP-09", "/v1/orderbook?markets=KRW-NOPE", 404, true, UNKNOWN),
        ("UP-10", "/v1/orderbook?markets=KRW-BTC,KRW-NOPE", 404, true, UNKNOWN),
        ("UP-11", "/v1/orderbook", 400, true, MISSING),
        ("UP-12", "/v1/nope", 404, false, NO_ROUTE),
    ];
    for (case, path, status, h_up, body) in cases {
        let got = rig.get(path);
        assert_eq!((got.status, got.body.as_str(), has_h_up(&got, "orderbook")), (status, body, h_up), "{case}");
        assert_eq!(got.header("remaining-req").is_some(), h_up, "{case}");
        assert_eq!(got.header("content-type"), Some("application/json"), "{case}");
    }
}

#[test]
fn books() {
    let rig = Rig::of(Venue::Upbit);
    let btc = || vec![("KRW-BTC".to_owned(), 30)];
    let both = || vec![("KRW-BTC".to_owned(), 30), ("KRW-ETH".to_owned(), 30)];
    let all: Vec<(String, usize)> = all_codes(&rig).into_iter().map(|code| (code, 30)).collect();
    let codes: Vec<&str> = all.iter().map(|(code, _)| code.as_str()).collect();
    let sweep = format!("/v1/orderbook?markets={}", codes.join(","));
    assert!((7_700..8_000).contains(&sweep.len()), "{}", sweep.len());
    rig.change(&MarketChange { market: "KRW-SOL".to_owned(), suspended: Some(true), ..MarketChange::default() });
    // case, path, markets and their units
    let cases = [
        ("UP-01", BOOK, btc()),
        ("UP-01", "/v1/orderbook?markets=KRW-BTC&level=0", btc()),
        ("UP-02", BATCH, both()),
        ("UP-02", "/v1/orderbook?markets=KRW-BTC%2CKRW-ETH", both()),
        ("UP-03", "/v1/orderbook?markets=KRW-BTC&count=5", btc()),
        ("UP-04", "/v1/orderbook?markets=KRW-BTC&count=31", btc()),
        ("UP-04", "/v1/orderbook?markets=KRW-BTC&count=50", btc()),
        ("UP-07", "/v1/orderbook?markets=BTC-LWP", vec![("BTC-LWP".to_owned(), 30)]),
        ("UP-08", "/v1/orderbook?markets=krw-btc", btc()),
        ("UP-13", &sweep, all.clone()),
        ("UP-22", "/v1/orderbook?markets=KRW-SOL", vec![("KRW-SOL".to_owned(), 30)]),
        ("USDT market", "/v1/orderbook?markets=USDT-BTC", vec![("USDT-BTC".to_owned(), 30)]),
    ];
    for (case, path, wanted) in cases {
        let got = rig.get(path);
        assert_eq!((got.status, has_h_up(&got, "orderbook"), shape(&got)), (200, true, wanted), "{case}");
        for book in got.json().as_array().expect("an array") {
            assert_eq!(book["timestamp"].to_string().len(), 13, "{case}: not in ms");
            assert_eq!(book["level"], 0, "{case}");
        }
    }
}

/// Every market's code, from the list.
fn all_codes(rig: &Rig) -> Vec<String> {
    let list = rig.get("/v1/market/all").json();
    let code = |row: &Value| row["market"].as_str().expect("a code").to_owned();
    list.as_array().expect("an array").iter().map(code).collect()
}

/// UP-01 to the letter: key order, and sizes with all their decimals.
#[test]
fn up_01_spelling() {
    let rig = Rig::of(Venue::Upbit);
    let read = || (rig.get(BOOK).body, rig.last_book());
    let (body, book) = read();
    let ((bid, bid_size), (ask, ask_size)) = (&book.bids[0], &book.asks[0]);
    let unit = format!(
        r#""orderbook_units":[{{"bid_price":{bid},"bid_size":{bid_size},"ask_price":{ask},"ask_size":{ask_size}}},"#
    );
    assert!(body.starts_with(&format!(r#"[{{"market":"KRW-BTC","timestamp":{},"total_ask_size":"#, book.timestamp)));
    assert!(body.contains(&unit), "{body}");
    assert!(body.ends_with(r#"}],"level":0}]"#), "{body}");
    let eight_decimals = |size: &str| size.split_once('.').is_some_and(|(_, decimals)| decimals.len() == 8);
    assert!(book.asks.iter().chain(&book.bids).all(|(price, size)| !price.contains('.') && eight_decimals(size)));

    rig.switch(&json!({"upbit": {"unit_keys": "ask_first"}}));
    let (body, book) = read();
    let ((bid, bid_size), (ask, ask_size)) = (&book.bids[0], &book.asks[0]);
    let unit = format!(
        r#""orderbook_units":[{{"ask_price":{ask},"bid_price":{bid},"ask_size":{ask_size},"bid_size":{bid_size}}},"#
    );
    assert!(body.contains(&unit), "{body}");
}

#[test]
fn up_03_count() {
    let rig = Rig::of(Venue::Upbit);
    rig.switch(&json!({"upbit": {"count": "honoured"}}));
    for (count, levels) in [("1", 1), ("5", 5), ("30", 30), ("31", 30), ("0", 30), ("-1", 30)] {
        let got = rig.get(&format!("{BOOK}&count={count}"));
        assert_eq!(units(&got).len(), levels, "{count}");
    }
    assert_eq!(units(&rig.get(BOOK)).len(), 30);
}

#[test]
fn up_07_padding() {
    let rig = Rig::of(Venue::Upbit);
    let got = rig.get("/v1/orderbook?markets=BTC-LWP");
    let last = &units(&got)[29];
    assert!(last["ask_price"].as_f64() > Some(0.0) && last["ask_size"].as_f64() > Some(0.0));
    assert!(got.body.contains(r#"{"bid_price":0,"bid_size":0,"ask_price":"#), "{}", got.body);
    assert!(units(&got)[0]["bid_size"].as_f64() > Some(0.0));
}

#[test]
fn up_14_and_15_the_limit() {
    let rig = Rig::of(Venue::Upbit);
    rig.switch(&json!({"upbit": {"limiter": {"enabled": true, "per_second": 2}}}));
    let first = rig.get(BOOK);
    assert_eq!(first.header("remaining-req"), Some("group=orderbook; min=120; sec=1"));
    let refused = until(|| Some(rig.get(BOOK)).filter(|got| got.status != 200));
    assert_eq!((refused.status, refused.body.as_str()), (429, TOO_MANY), "UP-14");
    assert_eq!(refused.header("remaining-req"), Some("group=orderbook; min=120; sec=0"), "UP-14");
    let blocked = until(|| Some(rig.get(BOOK)).filter(|got| got.status == 418));
    assert_eq!((blocked.header("content-type"), blocked.header("retry-after")), (Some("text/plain"), None), "UP-15");
    assert!(blocked.body.contains(" 10 seconds"), "UP-15: {}", blocked.body);
    for path in [BOOK, "/v1/market/all", "/v1/nope"] {
        assert_eq!(rig.get(path).status, 418, "UP-15 {path}");
    }
    rig.switch(&json!({"upbit": {"limiter": {"enabled": false}}}));
    assert_eq!((rig.get(BOOK).status, rig.get("/v1/nope").status), (200, 404));
}

/// (status, `remaining-req`, body)
fn told(reply: &Reply) -> (u16, &str, &str) {
    let header = reply.headers.iter().find(|(name, _)| *name == "remaining-req");
    let body = std::str::from_utf8(&reply.body).expect("text");
    (reply.status, header.map_or("", |(_, value)| value), body)
}

#[test]
fn up_14_to_16_the_limit_second_by_second() {
    const USED_UP: &str = "group=orderbook; min=600; sec=0";
    let mut world = World::new(Venue::Upbit, 1);
    let exhaust = |world: &mut World, now_us| {
        for left in (0..10).rev() {
            let reply = reply_at(world, BOOK, None, now_us);
            let wanted = format!("group=orderbook; min=600; sec={left}");
            assert_eq!((told(&reply).0, told(&reply).1), (200, wanted.as_str()));
        }
        let reply = reply_at(world, BOOK, None, now_us);
        assert_eq!(told(&reply), (429, USED_UP, TOO_MANY), "UP-14");
    };
    exhaust(&mut world, START_US);
    assert_eq!(reply_at(&mut world, "/v1/market/all", None, START_US).status, 200, "another group");
    // UP-16: the next second is good again.
    let mut now_us = START_US + SECOND_US;
    // UP-15: the time grows.
    for seconds in [10, 20, 40] {
        exhaust(&mut world, now_us);
        let body = |seconds| format!("Too many API requests. This IP is blocked for {seconds} seconds.");
        let reply = reply_at(&mut world, BOOK, None, now_us);
        assert_eq!(told(&reply), (418, USED_UP, body(seconds).as_str()), "UP-15");
        now_us += seconds * SECOND_US;
        let reply = reply_at(&mut world, BOOK, None, now_us - 2 * SECOND_US);
        assert_eq!(told(&reply), (418, USED_UP, body(2).as_str()), "UP-15: what is left");
    }
    assert_eq!(reply_at(&mut world, BOOK, None, now_us).status, 200);
}

#[test]
fn up_14_bodies() {
    for (name, wanted) in [("json", TOO_MANY), ("plain", "Too many API requests."), ("empty", "")] {
        let mut world = World::new(Venue::Upbit, 1);
        world.switches.upbit =
            serde_json::from_value(json!({"over_limit": name, "limiter": {"per_second": 0}})).expect("good switches");
        let reply = reply_at(&mut world, BOOK, None, START_US);
        let content_type = match name {
            "json" => Some("application/json"),
            "plain" => Some("text/plain"),
            _ => None,
        };
        assert_eq!((reply.status, told(&reply).2, reply.content_type.as_deref()), (429, wanted, content_type));
    }
}

#[test]
fn up_17_and_18_origin() {
    const GROUP: &str = "group=origin; min=6; sec=0";
    let rig = Rig::of(Venue::Upbit);
    rig.switch(&json!({"upbit": {"limiter": {"enabled": true}}}));
    let from_a_page = |path: &str| rig.get_with(path, &[("origin", "https://example.org")]);
    let got = from_a_page(BOOK);
    assert_eq!((got.status, got.header("remaining-req")), (200, Some(GROUP)), "UP-17");
    let got = from_a_page("/v1/market/all");
    assert_eq!((got.status, got.header("remaining-req"), got.body.as_str()), (429, Some(GROUP), TOO_MANY), "UP-18");

    let mut world = World::new(Venue::Upbit, 1);
    let mut status = |seconds| reply_at(&mut world, BOOK, Some("null"), START_US + seconds * SECOND_US).status;
    assert_eq!([status(0), status(1), status(9), status(10)], [200, 429, 429, 200]);
}

#[test]
fn up_19_a_quiet_market() {
    let rig = Rig::of(Venue::Upbit);
    rig.change(&MarketChange { market: "KRW-BTC".to_owned(), quiet: Some(true), ..MarketChange::default() });
    let first = rig.get(BOOK);
    assert_eq!(rig.get(BOOK).body, first.body);
    let asked = rig.control.requests(0).expect("the log")[0].arrived_us / 1_000;
    let age_ms = asked - rig.last_book().timestamp_ms;
    assert!((120_000..600_000).contains(&age_ms), "{age_ms}");
    rig.change(&MarketChange { market: "KRW-BTC".to_owned(), quiet: Some(false), ..MarketChange::default() });
    assert_ne!(rig.get(BOOK).body, first.body);
}

#[test]
fn up_20_the_list_of_markets() {
    let rig = Rig::of(Venue::Upbit);
    for (path, detailed) in [("/v1/market/all?is_details=true", true), ("/v1/market/all", false)] {
        let got = rig.get(path);
        assert!(has_h_up(&got, "market"));
        let list = got.json();
        let rows = list.as_array().expect("an array");
        let of =
            |quote: &str| rows.iter().filter(|row| row["market"].as_str().expect("a code").starts_with(quote)).count();
        assert_eq!([of("KRW-"), of("BTC-"), of("USDT-"), rows.len()], [289, 328, 238, 855]);
        assert_eq!((&rows[0]["korean_name"], &rows[0]["english_name"]), (&json!("비트코인"), &json!("Bitcoin")));
        let has_event = |row: &Value| row["market_event"]["warning"] == json!(false);
        assert!(rows.iter().all(|row| has_event(row) == detailed && row.get("market_event").is_some() == detailed));
        let caution = rows[0]["market_event"]["caution"].as_object().map(serde_json::Map::len);
        assert_eq!(caution, detailed.then_some(5));
    }
}

#[test]
fn up_21_exponents() {
    let rig = Rig::of(Venue::Upbit);
    assert!(!rig.get(BOOK).body.contains('E'));
    rig.switch(&json!({"upbit": {"prices": "exponent"}}));
    rig.get(BOOK);
    let book = rig.last_book();
    assert!(book.asks.iter().chain(&book.bids).all(|(price, size)| price.contains("E8") && !size.contains('E')));
}

#[test]
fn up_23_a_market_leaves_and_comes() {
    let rig = Rig::of(Venue::Upbit);
    let listed = || all_codes(&rig).contains(&"KRW-ETH".to_owned());
    assert!(listed());
    rig.control.delist(&["KRW-ETH"]).expect("it is there");
    let got = rig.get(BATCH);
    assert_eq!((got.status, got.body.as_str(), has_h_up(&got, "orderbook")), (404, UNKNOWN, true));
    assert!(!listed());
    rig.control.list(&["KRW-ETH", "KRW-FRESH"]).expect("good codes");
    assert_eq!(shape(&rig.get(BATCH)).len(), 2);
    assert_eq!(rig.get("/v1/orderbook?markets=KRW-FRESH").status, 200);
}
