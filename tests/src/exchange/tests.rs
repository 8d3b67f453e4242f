//! Every case of the exchange reference, through real HTTP against a server of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{Fault, FaultRule, Ghost, MarketChange, Pause, Target};
use super::{Exchange, ExchangeControl, Options};

/// An exchange with its limiters off, and a client.
struct Rig {
    exchange: Exchange,
    control: ExchangeControl,
    agent: ureq::Agent,
}

struct Got {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn has_h_b2(&self) -> bool {
        self.header("x-ratelimit-remaining").is_some()
            && self.header("x-ratelimit-requested-tokens") == Some("1")
            && self.header("x-ratelimit-burst-capacity").is_some()
            && self.header("x-ratelimit-replenish-rate").is_some()
    }
}

impl Rig {
    fn new() -> Rig {
        let exchange = Exchange::start(&Options::default()).expect("a free port on the loopback");
        let control = exchange.control();
        let off = json!({"limiter": {"enabled": false}});
        control.set_switches(&json!({"bithumb_v2": off, "bithumb_legacy": off})).expect("good switches");
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .proxy(None)
            .build();
        Rig { exchange, control, agent: config.into() }
    }

    fn try_get(&self, path: &str) -> Result<Got, ureq::Error> {
        let mut reply = self.agent.get(format!("{}{path}", self.exchange.base_url())).call()?;
        let headers = reply.headers().iter();
        let headers =
            headers.map(|(key, value)| (key.to_string(), value.to_str().expect("ASCII").to_owned())).collect();
        Ok(Got { status: reply.status().as_u16(), headers, body: reply.body_mut().read_to_string()? })
    }

    fn get(&self, path: &str) -> Got {
        self.try_get(path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn switch(&self, patch: &Value) {
        self.control.set_switches(patch).expect("good switches");
    }

    fn fault(&self, fault: Fault) {
        self.control.strike(None, fault, 1).expect("a good fault");
    }

    fn change(&self, change: &MarketChange) {
        self.control.change_market(change).expect("a good change");
    }
}

/// The units of a v2 reply's only book.
fn units(got: &Got) -> Vec<Value> {
    let books = got.json();
    assert_eq!(books.as_array().map(Vec::len), Some(1), "{}", got.body);
    books[0]["orderbook_units"].as_array().expect("units").clone()
}

/// (market, number of units) of each book of a v2 reply.
fn shape(got: &Got) -> Vec<(String, usize)> {
    let books = got.json();
    let books = books.as_array().expect("an array of books");
    let units = |book: &Value| book["orderbook_units"].as_array().expect("units").len();
    books.iter().map(|book| (book["market"].as_str().expect("a code").to_owned(), units(book))).collect()
}

const UNKNOWN: &str = r#"{"error":{"name":404,"message":"Code not found"}}"#;
const MISSING: &str =
    r#"{"error":{"name":400,"message":"Missing request parameter error. Check the required parameters!"}}"#;
const NO_ROUTE: &str = r#"{"name":"not_found","message":"No Route matched with those values"}"#;
const NOT_LISTED: &str = r#"{"status":"5500","message":"상장 코인 아님"}"#;
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
        assert_eq!((got.status, got.body.as_str(), got.has_h_b2()), (status, body, h_b2), "{case}");
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
        assert_eq!((got.status, got.has_h_b2(), shape(&got)), (200, true, wanted), "{case}");
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

/// Tries for at most ten seconds.
fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(done) = attempt() {
            return done;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it did not come about within 10 s");
}

#[test]
fn b2_15_and_16_the_list_of_markets() {
    let rig = Rig::new();
    for (path, warned) in [("/v1/market/all?isDetails=true", true), ("/v1/market/all", false)] {
        let got = rig.get(path);
        assert!(got.has_h_b2());
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
        assert!(!got.has_h_b2(), "{case}");
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

#[test]
fn f_01_and_02_a_book_that_stands_still() {
    let rig = Rig::new();
    let path = "/v1/orderbook?markets=KRW-BTC";
    let first = rig.get(path);
    rig.fault(Fault::SameBody);
    assert_eq!(rig.get(path).body, first.body);
    rig.fault(Fault::StuckTimestamp);
    let stuck = rig.get(path);
    assert_eq!(stuck.json()[0]["timestamp"], first.json()[0]["timestamp"]);
    assert_ne!(stuck.body, first.body);
    assert!(rig.get(path).json()[0]["timestamp"].as_u64() > first.json()[0]["timestamp"].as_u64());
}

#[test]
fn f_03_a_market_leaves_for_one_request() {
    let rig = Rig::new();
    rig.control.strike(Some("KRW-ETH"), Fault::Delisted, 1).expect("a good fault");
    assert_eq!(rig.get("/v1/orderbook?markets=KRW-BTC").status, 200, "not about it");
    assert_eq!(rig.get("/v1/orderbook?markets=KRW-BTC,KRW-ETH").body, UNKNOWN);
    assert_eq!(shape(&rig.get("/v1/orderbook?markets=KRW-BTC,KRW-ETH")).len(), 2);
}

#[test]
fn f_04_05_09_broken_replies_that_arrive() {
    let rig = Rig::new();
    for path in ["/v1/orderbook?markets=KRW-BTC", "/public/orderbook/BTC_KRW"] {
        rig.fault(Fault::Gateway { status: 502 });
        let got = rig.get(path);
        assert_eq!((got.status, got.header("content-type")), (502, Some("text/html")), "F-04 {path}");
        assert!(got.body.starts_with("<html>"));
        rig.fault(Fault::TruncatedJson);
        let got = rig.get(path);
        assert_eq!(got.status, 200, "F-05 {path}");
        assert!(got.body.len() > 500 && serde_json::from_str::<Value>(&got.body).is_err(), "F-05 {path}");
        rig.fault(Fault::EmptyBody);
        let got = rig.get(path);
        assert_eq!((got.status, got.body.as_str()), (200, ""), "F-09 {path}");
        rig.fault(Fault::Reply { status: 418, content_type: "text/plain".to_owned(), body: "teapot".to_owned() });
        assert_eq!(rig.get(path).body, "teapot");
        assert!(rig.get(path).json().is_array() || path.starts_with("/public"), "and then all is well again");
    }
    assert_eq!(rig.control.served(0).expect("the log").len(), 2, "broken replies serve no book");
    let seen: Vec<Vec<String>> =
        rig.control.requests(0).expect("the log").into_iter().map(|seen| seen.faults).collect();
    assert_eq!(seen[..4], [["F-04"], ["F-05"], ["F-09"], ["reply"]]);
}

#[test]
fn f_06_07_08_broken_replies_that_do_not() {
    let rig = Rig::new();
    let path = "/v1/orderbook?markets=KRW-BTC";
    let url = format!("{}{path}", rig.exchange.base_url());
    let read = |timeout_ms: u64| -> Result<String, ureq::Error> {
        let request = rig.agent.get(&url).config().timeout_global(Some(Duration::from_millis(timeout_ms))).build();
        request.call()?.body_mut().read_to_string()
    };
    rig.fault(Fault::Trickle { bytes: 1, every_ms: 50 });
    assert!(matches!(read(200), Err(ureq::Error::Timeout(_))), "F-06");
    rig.fault(Fault::Reset);
    let mut stream = TcpStream::connect(("127.0.0.1", rig.exchange.port())).expect("it listens");
    stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).expect("sent");
    let mut half = Vec::new();
    let reset = stream.read_to_end(&mut half).expect_err("F-07");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset, "F-07");
    assert!(String::from_utf8_lossy(&half).contains("\"orderbook_units\":["), "F-07: half a body comes first");
    rig.fault(Fault::Huge { bytes: 64 << 20 });
    assert!(matches!(read(5_000), Err(ureq::Error::BodyExceedsLimit(_))), "F-08");
    assert_eq!(rig.control.served(0).expect("the log").len(), 0);

    rig.fault(Fault::Trickle { bytes: 500, every_ms: 1 });
    assert!(read(5_000).is_ok(), "a slow reply that the client waits for");
    until(|| Some(()).filter(|()| rig.control.served(0).expect("the log").len() == 1));
}

#[test]
fn faults_on_the_list_and_delays() {
    let rig = Rig::new();
    let rule = FaultRule { target: Target::List, fault: Fault::Gateway { status: 503 }, times: None };
    rig.control.add_fault(&rule).expect("a good fault");
    assert_eq!(rig.get("/v1/market/all").status, 503);
    assert_eq!(rig.get("/public/ticker/ALL_KRW").status, 503);
    assert_eq!(rig.get("/v1/orderbook?markets=KRW-BTC").status, 200);
    assert_eq!(rig.control.faults().expect("the rules"), [rule]);
    rig.control.clear_faults().expect("cleared");
    assert_eq!(rig.get("/v1/market/all").status, 200);

    rig.fault(Fault::Delay { ms: 60 });
    let asked = Instant::now();
    assert_eq!(rig.get("/v1/orderbook?markets=KRW-BTC").status, 200);
    assert!(asked.elapsed() >= Duration::from_millis(60));
}

#[test]
fn an_override_is_sent_text_for_text() {
    let rig = Rig::new();
    let asks = [("1.16539E8", "1.50"), ("116540000", "0.000000000000000001")];
    rig.control.set_book("KRW-BTC", &asks, &[("NaN", "-1")]).expect("a good change");
    let v2 = rig.get("/v1/orderbook?markets=KRW-BTC").body;
    assert!(v2.contains(r#"{"ask_price":1.16539E8,"bid_price":NaN,"ask_size":1.50,"bid_size":-1}"#), "{v2}");
    assert!(
        v2.contains(r#"{"ask_price":116540000,"bid_price":0,"ask_size":0.000000000000000001,"bid_size":0}"#),
        "{v2}"
    );
    let legacy = rig.get("/public/orderbook/BTC_KRW").body;
    assert!(legacy.contains(r#""bids":[{"price":"NaN","quantity":"-1"}]"#), "{legacy}");
    rig.control.generate_book("KRW-BTC").expect("a good change");
    assert_eq!(units(&rig.get("/v1/orderbook?markets=KRW-BTC")).len(), 30);
}

#[test]
fn the_logs_tell_what_came_and_what_went() {
    let rig = Rig::new();
    let got = rig.get("/v1/orderbook?markets=KRW-BTC");
    rig.get("/v1/orderbook?markets=KRW-NOPE");
    let requests = rig.control.requests(0).expect("the log");
    assert_eq!(requests.len(), 2);
    let first = &requests[0];
    assert_eq!((first.path.as_str(), first.status), ("/v1/orderbook?markets=KRW-BTC", 200));
    assert_eq!((first.markets.as_slice(), first.gzip), (["KRW-BTC".to_owned()].as_slice(), true));
    assert_eq!(first.accept_encoding.as_deref(), Some("gzip"));
    assert_eq!(requests[1].connection, first.connection, "kept alive");
    assert!(requests[1].arrived_us > first.arrived_us);

    let served = rig.control.served(0).expect("the log");
    assert_eq!(served.len(), 1);
    let sent = &got.json()[0];
    assert_eq!((served[0].request, served[0].timestamp.clone()), (first.sequence, sent["timestamp"].to_string()));
    let best = &sent["orderbook_units"][0];
    assert_eq!(served[0].asks[0], (best["ask_price"].to_string(), best["ask_size"].to_string()));
    assert_eq!((served[0].asks.len(), served[0].bids.len()), (30, 30));

    assert_eq!(rig.control.requests(1).expect("the log").len(), 1);
    let summary = rig.control.summary().expect("the summary");
    assert_eq!((summary.requests, summary.books, summary.statuses["?"][&200]), (2, 1, 1));
    rig.control.reset().expect("reset");
    assert!(rig.control.requests(0).expect("the log").is_empty());
    assert_eq!(rig.control.summary().expect("the summary").requests, 0);
}

#[test]
fn pauses() {
    let rig = Rig::new();
    rig.control.pause(Pause::Reset).expect("paused");
    assert!(rig.try_get("/v1/orderbook?markets=KRW-BTC").is_err());
    rig.control.pause(Pause::Hang).expect("paused");
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| rig.get("/v1/orderbook?markets=KRW-BTC").status);
        rig.control.resume().expect("resumed");
        assert_eq!(hanging.join().expect("no panic"), 200);
    });
}

#[test]
fn what_is_not_http_is_refused() {
    let rig = Rig::new();
    let huge = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    let cases = [
        ("\0\r\n\r\n", "400"),
        (huge.as_str(), "431"),
        ("POST / HTTP/1.1\r\ncontent-length: 999999999\r\n\r\n", "413"),
    ];
    for (sent, status) in cases {
        let mut stream = TcpStream::connect(("127.0.0.1", rig.exchange.port())).expect("it listens");
        // The exchange may close before it has read everything.
        let _ = stream.write_all(sent.as_bytes());
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert!(String::from_utf8_lossy(&got).starts_with(&format!("HTTP/1.1 {status}")), "{status}");
    }
}

#[test]
fn stopping_frees_the_port() {
    let rig = Rig::new();
    let port = rig.exchange.port();
    rig.get("/v1/orderbook?markets=KRW-BTC");
    rig.control.stop().expect("told to stop");
    rig.exchange.wait();
    let again = Exchange::start(&Options { port, ..Options::default() }).expect("the port is free again");
    assert_eq!(again.port(), port);
}
