//! KB-01 to KB-16.

use serde_json::{Value, json};

use super::super::Venue;
use super::super::api::{Fault, MarketChange};
use super::super::world::World;
use super::{Got, Rig, SECOND_US, START_US, reply_at, until};

const BOOK: &str = "/v2/orderbook?symbol=btc_krw";
const BAD_REQUEST: &str = r#"{"success":false,"error":{"code":400,"message":"BAD_REQUEST"}}"#;
const INVALID_PAIR: &str = r#"{"success":false,"error":{"code":400,"message":"INVALID_CURRENCY_PAIR"}}"#;
const TOO_MANY: &str = r#"{"success":false,"error":{"code":429,"message":"TOO_MANY_REQUESTS"}}"#;

/// H-KB with nothing taken from the second but this request.
fn has_h_kb(got: &Got) -> bool {
    got.header("ratelimit") == Some("limit=50, remaining=49, reset=1")
        && got.header("ratelimit-policy") == Some("50;w=1")
}

#[test]
fn replies_with_a_fixed_body() {
    const NOT_FOUND: &str = r#"{"success":false,"error":{"code":404,"message":"NOT_FOUND"}}"#;
    let rig = Rig::of(Venue::Korbit);
    // case, path, status, whether H-KB comes with it, body
    let cases = [
        ("KB-04", "/v2/orderbook?symbol=btc_krw&level=7", 400, true, BAD_REQUEST),
        ("KB-05", "/v2/orderbook", 400, true, BAD_REQUEST),
        ("KB-06", "/v2/orderbook?symbol=nope_krw", 400, true, INVALID_PAIR),
        ("KB-07", "/v2/orderbook?symbol=BTC_KRW", 400, true, INVALID_PAIR),
        ("KB-07", "/v2/orderbook?symbol=KRW-BTC", 400, true, INVALID_PAIR),
        ("KB-08", "/v2/orderbook?symbol=btc_krw,eth_krw", 400, true, INVALID_PAIR),
        ("KB-10", "/v2/nope", 404, false, NOT_FOUND),
        ("KB-11", "/v2/tickers?symbol=nope_krw", 200, true, r#"{"success":true,"data":[]}"#),
    ];
    for (case, path, status, h_kb, body) in cases {
        let got = rig.get(path);
        assert_eq!((got.status, got.body.as_str(), has_h_kb(&got)), (status, body, h_kb), "{case}");
        assert_eq!(got.header("content-type"), Some("application/json"), "{case}");
    }
    assert!(rig.control.served(0).expect("the log").is_empty());
}

/// (asks, bids) of a book.
fn depths(got: &Got) -> (usize, usize) {
    let body = got.json();
    let side = |name: &str| body["data"][name].as_array().unwrap_or_else(|| panic!("no {name}: {body}")).len();
    (side("asks"), side("bids"))
}

#[test]
fn books() {
    let rig = Rig::of(Venue::Korbit);
    let cases = [
        ("KB-01", "", (30, 30)),
        ("KB-02", "&limit=5", (30, 30)),
        ("KB-02", "&depth=5", (30, 30)),
        ("KB-02", "&count=5", (30, 30)),
        ("KB-03", "&level=1000", (30, 30)),
    ];
    for (case, more, wanted) in cases {
        let got = rig.get(&format!("{BOOK}{more}"));
        assert_eq!((got.status, has_h_kb(&got), depths(&got)), (200, true, wanted), "{case}");
        let body = got.json();
        assert!(body["success"] == true && body["data"]["timestamp"].to_string().len() == 13, "{case}: {body}");
        let keys: Vec<&String> = body["data"]["asks"][0].as_object().expect("a level").keys().collect();
        let keys_wanted: &[&str] = if case == "KB-03" { &["amt", "price", "qty"] } else { &["price", "qty"] };
        assert_eq!(keys, keys_wanted, "{case}");
        assert!(body["data"]["asks"][0].as_object().expect("a level").values().all(Value::is_string), "{case}");
    }
}

/// KB-01 to the letter.
#[test]
fn kb_01_spelling() {
    let rig = Rig::of(Venue::Korbit);
    let body = rig.get(BOOK).body;
    let book = rig.last_book();
    assert_eq!(book.market, "KRW-BTC", "the house's spelling");
    let ((bid, bid_qty), (ask, ask_qty)) = (&book.bids[0], &book.asks[0]);
    let head = format!(
        r#"{{"success":true,"data":{{"timestamp":{},"bids":[{{"price":"{bid}","qty":"{bid_qty}"}},{{"#,
        book.timestamp
    );
    assert!(body.starts_with(&head), "{body}");
    assert!(body.contains(&format!(r#"}}],"asks":[{{"price":"{ask}","qty":"{ask_qty}"}},"#)), "{body}");
    assert_eq!(rig.control.requests(0).expect("the log")[0].markets, ["KRW-BTC"]);
}

#[test]
fn kb_03_grouping() {
    let rig = Rig::of(Venue::Korbit);
    rig.control.strike(None, Fault::SameBody, 9).expect("a good fault");
    let number = |level: &Value, key: &str| level[key].as_str().and_then(|text| text.parse::<f64>().ok());
    let sum = |levels: &Value, key: &str| -> f64 {
        levels.as_array().expect("levels").iter().filter_map(|level| number(level, key)).sum()
    };
    let (plain, grouped) = (rig.get(BOOK).json(), rig.get(&format!("{BOOK}&level=10000")).json());
    for (side, best_is_less) in [("asks", false), ("bids", true)] {
        let (plain, grouped) = (&plain["data"][side], &grouped["data"][side]);
        let rows = grouped.as_array().expect("levels");
        assert!((2..10).contains(&rows.len()), "{grouped}");
        assert!(rows.iter().all(|row| number(row, "price").is_some_and(|price| price % 10_000.0 == 0.0)), "{grouped}");
        assert!((sum(plain, "qty") - sum(grouped, "qty")).abs() < 1e-6);
        assert!(sum(grouped, "amt") > 0.0);
        let (best, step_best) = (number(&plain[0], "price"), number(&rows[0], "price"));
        assert!(if best_is_less { step_best <= best } else { step_best >= best }, "{step_best:?} {best:?}");
    }
}

#[test]
fn kb_09_stopped_pairs() {
    let rig = Rig::of(Venue::Korbit);
    let klay = "/v2/orderbook?symbol=klay_krw";
    let got = rig.get(klay);
    assert_eq!((got.status, has_h_kb(&got), depths(&got)), (200, true, (0, 0)));
    assert!(got.body.ends_with(r#""bids":[],"asks":[]}}"#), "{}", got.body);
    assert_eq!(rig.get(klay).body, got.body, "it stands still");
    let asked = rig.control.requests(0).expect("the log")[0].arrived_us / 1_000;
    let age_days = (asked - rig.last_book().timestamp_ms) / 86_400_000;
    assert_eq!(age_days, 7);

    // A test stops a pair, and launches it again.
    let status = || {
        let pairs = rig.get("/v2/currencyPairs").json();
        let row = pairs["data"].as_array().expect("rows").iter().find(|row| row["symbol"] == "btc_krw").cloned();
        row.expect("btc_krw")["status"].clone()
    };
    let suspend = |suspended| {
        rig.change(&MarketChange { market: "KRW-BTC".to_owned(), suspended, ..MarketChange::default() });
    };
    suspend(Some(true));
    assert_eq!((depths(&rig.get(BOOK)), status()), ((0, 0), json!("stopped")));
    suspend(Some(false));
    assert_eq!((depths(&rig.get(BOOK)), status()), ((30, 30), json!("launched")));
}

#[test]
fn kb_12_and_13_the_limit() {
    let mut world = World::new(Venue::Korbit, 1);
    for left in (0..50).rev() {
        let reply = reply_at(&mut world, BOOK, None, START_US);
        assert!(reply.headers.contains(&("ratelimit", format!("limit=50, remaining={left}, reset=1"))));
        assert_eq!(reply.status, 200);
    }
    // No further penalty for going on.
    for _ in 0..3 {
        let reply = reply_at(&mut world, "/v2/currencyPairs", None, START_US + SECOND_US - 1);
        let headers = [("retry-after", "1".to_owned()), ("ratelimit-policy", "50;w=1".to_owned())];
        assert_eq!(
            (reply.status, reply.body.as_slice(), reply.headers.as_slice()),
            (429, TOO_MANY.as_bytes(), &headers[..])
        );
    }
    assert_eq!(reply_at(&mut world, BOOK, None, START_US + SECOND_US).status, 200, "KB-13");
}

#[test]
fn kb_12_over_http_and_its_bodies() {
    let rig = Rig::of(Venue::Korbit);
    rig.switch(&json!({"korbit": {"limiter": {"enabled": true, "per_second": 2}}}));
    let first = rig.get(BOOK);
    assert_eq!(first.header("ratelimit"), Some("limit=2, remaining=1, reset=1"));
    for (name, content_type, starts) in [("envelope", "application/json", TOO_MANY), ("html", "text/html", "<html>")] {
        rig.switch(&json!({"korbit": {"over_limit": name}}));
        let got = until(|| Some(rig.get(BOOK)).filter(|got| got.status != 200));
        assert_eq!((got.status, got.header("content-type")), (429, Some(content_type)), "{name}");
        assert!(got.body.starts_with(starts), "{name}: {}", got.body);
        assert_eq!((got.header("retry-after"), got.header("ratelimit-policy")), (Some("1"), Some("2;w=1")));
        assert_eq!(got.header("ratelimit"), None);
    }
    let statuses = rig.control.summary().expect("the summary").statuses;
    assert!(statuses["KRW-BTC"][&429] >= 2);
}

#[test]
fn kb_14_pairs() {
    let rig = Rig::of(Venue::Korbit);
    let got = rig.get("/v2/currencyPairs");
    assert!(has_h_kb(&got));
    assert_eq!(got.header("cache-control"), Some("public, max-age=60"));
    let pairs = got.json();
    let rows = pairs["data"].as_array().expect("rows");
    let with = |status: &str| rows.iter().filter(|row| row["status"] == status).count();
    assert_eq!((rows.len(), with("launched"), with("stopped")), (227, 193, 34));
    let first = json!({"symbol": "btc_krw", "status": "launched", "baseCurrency": "btc", "quoteCurrency": "krw",
        "minOrderValue": "5000", "maxOrderValue": "1000000000"});
    assert_eq!(rows[0], first);
    assert!(rows.iter().any(|row| row["symbol"] == "klay_krw" && row["status"] == "stopped"));
    rig.control.delist(&["KRW-BTC"]).expect("it is there");
    assert_eq!(rig.get(BOOK).body, INVALID_PAIR);
    assert!(!rig.get("/v2/currencyPairs").body.contains("btc_krw"));
}

#[test]
fn kb_11_and_15_calls_that_the_adapter_does_not_need() {
    let rig = Rig::of(Venue::Korbit);
    let all = rig.get("/v2/tickers").json();
    assert_eq!(all["data"].as_array().map(Vec::len), Some(227));
    let one = rig.get("/v2/tickers?symbol=btc_krw").json();
    assert_eq!(one["data"], json!([{"symbol": "btc_krw", "close": "157123000"}]));
    let got = rig.get("/v2/time");
    assert!(has_h_kb(&got), "KB-15");
    assert_eq!(got.json()["data"]["time"].to_string().len(), 13, "KB-15");
}

#[test]
fn kb_16_a_thin_market() {
    let rig = Rig::of(Venue::Korbit);
    let (asks, bids) = depths(&rig.get("/v2/orderbook?symbol=nft_krw"));
    assert!(asks == 30 && bids < 30, "{asks} asks, {bids} bids");
    let book = rig.last_book();
    assert!(book.asks.iter().chain(&book.bids).all(|(price, size)| price != "0" && size != "0"));
}
