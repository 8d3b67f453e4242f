//! Each row of what exchanges answer over REST, through the built producerd: `--dry-run` and `markets` against the replayed
//! exchange. A row whose request producerd never makes is sent to it as the reply to one that it does make.

use std::collections::BTreeMap;
use std::time::Duration;

use coinflow_tests::exchange::Venue;
use coinflow_tests::exchange::api::{Fault, Ghost, Target};
use serde_json::{Value, json};

use super::bench::{Bench, Given, Row, Then, change, check_all, next_second, row, side, with};

const BTC: &[&str] = &["BTC"];
const PAIR: &[&str] = &["BTC", "ETH"];
const FULL: Then = Then::Books(&[(30, 30)]);

/// A refusal with this as `Retry-After`, in seconds.
fn too_many(retry_after: &str) -> Given {
    let headers = BTreeMap::from([("retry-after".to_owned(), retry_after.to_owned())]);
    Given::Fault(Fault::Reply { status: 429, content_type: String::new(), headers, body: String::new() })
}

/// F-01 to F-09, which are the same for every exchange.
fn faults() -> Vec<Row> {
    let fault = |name, fault, then| with("timeout = \"500ms\"", row(name, BTC, Given::Fault(fault), then));
    vec![
        fault("F-01", Fault::StuckTimestamp, Then::StandsStill { levels: false }),
        fault("F-02", Fault::SameBody, Then::StandsStill { levels: true }),
        fault("F-03", Fault::Delisted, Then::Error("knows no such market")),
        fault("F-04 502", Fault::Gateway { status: 502 }, Then::Error("HTTP status 502")),
        fault("F-04 503", Fault::Gateway { status: 503 }, Then::Error("HTTP status 503")),
        fault("F-05", Fault::TruncatedJson, Then::Error("bad reply: EOF while parsing")),
        fault("F-06", Fault::Trickle { bytes: 10, every_ms: 100 }, Then::Error("no complete reply within 500ms")),
        fault("F-07", Fault::Reset, Then::Error("KRW-BTC: Peer disconnected")),
        fault("F-08", Fault::Huge { bytes: 64 << 20 }, Then::Error("larger than 8MiB")),
        fault("F-09", Fault::EmptyBody, Then::Error("bad reply: empty body")),
    ]
}

const BATCH: &str = "markets_per_request = 200";

#[test]
fn bithumb_v2() {
    let v2 = |patch: Value| Given::Switch(json!({ "bithumb_v2": patch }));
    // One request a second, so that the second one is refused.
    let tight = |over_limit: &str| v2(json!({"over_limit": over_limit, "limiter": {"per_second": 1}}));
    let fast = "requests_per_second = 1000";
    let mut rows = vec![
        row("B2-01", BTC, Given::Nothing, FULL),
        with(BATCH, row("B2-02", PAIR, Given::Nothing, Then::Books(&[(15, 15), (15, 15)]))),
        row("B2-03 best", BTC, change("KRW-BTC", |c| c.ghost = Some(Ghost::Best)), Then::Books(&[(29, 30)])),
        row("B2-03 deep", BTC, change("KRW-BTC", |c| c.ghost = Some(Ghost::Deep)), Then::Books(&[(29, 30)])),
        row("B2-04", &["NFT"], change("KRW-NFT", |c| c.book = Some(thin())), Then::Books(&[(2, 1)])),
        row("B2-05", BTC, Given::ReplyTo("/v1/orderbook?markets=krw-btc"), FULL),
        row("B2-07", &["NOPE"], Given::Nothing, Then::Error("knows no such market")),
        with(BATCH, row("B2-08", &["BTC", "NOPE"], Given::Nothing, Then::OneGood("knows no such market"))),
        row("B2-09", BTC, Given::ReplyTo("/v1/orderbook"), Then::Error("refused: 400: Missing request parameter")),
        row("B2-10", BTC, Given::ReplyTo("/v1/nope"), Then::Error("HTTP status 404")),
        with(fast, row("B2-12", PAIR, tight("429_empty"), Then::OneGood("HTTP 429), to be left alone for 1m"))),
        with(fast, row("B2-12 body", PAIR, tight("429_body"), Then::OneGood("HTTP 429), to be left alone for 1m"))),
        with(fast, row("B2-12 403", PAIR, tight("403"), Then::OneGood("HTTP 403), to be left alone for 1m"))),
        row("Retry-After", BTC, too_many("7"), Then::Error("HTTP 429), to be left alone for 1m")),
        row("Retry-After of 2 m", BTC, too_many("120"), Then::Error("HTTP 429), to be left alone for 2m")),
        row("B2-15", &[], Given::Nothing, Then::Markets(262, "KRW-BTC", "KRW-NOPE")),
        row("B2-16", &[], Given::ListReplyTo("/v1/market/all"), Then::Markets(262, "BTC-ETH", "KRW-NOPE")),
        with(
            BATCH,
            row(
                "B2-17",
                PAIR,
                Given::ReplyTo("/v1/orderbook?markets=KRW-BTC&markets=KRW-ETH"),
                Then::Books(&[(15, 15), (15, 15)]),
            ),
        ),
        with(BATCH, row("B2-18", &["BTC", "XRP"], Given::Delisted("KRW-XRP"), Then::OneGood("knows no such market"))),
        row("B2-20", BTC, change("KRW-BTC", |c| c.suspended = Some(true)), FULL),
        // The switches in their other position.
        row("unknown_market", &["NOPE"], v2(json!({"unknown_market": 404})), Then::Error("knows no such market")),
        row("error_name", &["NOPE"], v2(json!({"error_name": "string"})), Then::Error("knows no such market")),
        row("single_timestamp", BTC, v2(json!({"single_timestamp": "us"})), FULL),
        row("numbers zeros", BTC, v2(json!({"numbers": "trailing_zeros"})), FULL),
        row(
            "numbers exponent",
            &["BTC", "PEPE"],
            v2(json!({"numbers": "exponent"})),
            Then::Books(&[(30, 30), (30, 30)]),
        ),
        with(
            BATCH,
            row("object_order", PAIR, v2(json!({"object_order": "shuffled"})), Then::Books(&[(15, 15), (15, 15)])),
        ),
        row("gzip", BTC, Given::Switch(json!({"gzip": "never"})), FULL),
    ];
    rows.extend(faults());
    check_all(Venue::Bithumb, rows);
}

/// Two asks and one bid behind the padding.
fn thin() -> coinflow_tests::exchange::api::BookChange {
    let level = |price: &str, quantity: &str| (price.to_owned(), quantity.to_owned());
    coinflow_tests::exchange::api::BookChange::Override(coinflow_tests::exchange::api::BookOverride {
        asks: vec![level("0.61", "5"), level("0.62", "5")],
        bids: vec![level("0.6", "7"), level("0", "0")],
        timestamp: None,
    })
}

#[test]
fn bithumb_v2_of_many_markets_and_of_none() {
    let bench = Bench::new(Venue::Bithumb);
    // B2-06: 200 markets, one request, 15 levels each.
    let codes: Vec<String> = (1..=200).map(|number| format!("G{number:03}")).collect();
    bench.prepare(&with(BATCH, row("B2-06", &[], Given::Nothing, FULL)));
    bench.producerd.write("symbols.toml", &format!("[bithumb]\nsymbols = {codes:?}\n")).expect("a file");
    let finished = bench.dry_run();
    assert_eq!((finished.status.code(), finished.stdout.lines().count()), (Some(0), 200), "{}", finished.stderr);
    assert_eq!(bench.control.requests(0).expect("requests").len(), 1);
    for line in finished.stdout.lines() {
        let record: Value = serde_json::from_str(line).expect("a record");
        assert_eq!((side(&record, "asks").len(), side(&record, "bids").len()), (15, 15), "{line}");
    }
    // B2-11: so many codes would make the query too long; producerd asks in two requests. The refusal itself is told.
    let long: Vec<String> = (0..200).map(|number| format!("QUITELONGNAME{number:03}")).collect();
    let listed: Vec<String> = long.iter().map(|code| format!("KRW-{code}")).collect();
    bench.control.list(&listed.iter().map(String::as_str).collect::<Vec<_>>()).expect("listed");
    bench.producerd.write("symbols.toml", &format!("[bithumb]\nsymbols = {long:?}\n")).expect("a file");
    let finished = bench.dry_run();
    assert_eq!((finished.status.code(), finished.stdout.lines().count()), (Some(0), 200), "{}", finished.stderr);
    let requests = bench.control.requests(0).expect("requests");
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.status == 200 && request.path.len() < 4096));
    let too_long = format!("/v1/orderbook?markets={}", listed.join(","));
    let fault = bench.reply(&too_long);
    assert!(matches!(fault, Fault::Reply { status: 414, .. }));
    bench.strike(Target::Books, fault);
    bench.producerd.write("symbols.toml", "[bithumb]\nsymbols = [\"BTC\"]\n").expect("a file");
    let finished = bench.dry_run();
    assert!(finished.stderr.contains("HTTP status 414"), "{}", finished.stderr);
    // B2-19: the ticker's refusal of too many, which the order book may come to have.
    bench.control.clear_faults().expect("no faults");
    let many: Vec<String> = (1..=201).map(|number| format!("KRW-G{number:03}")).collect();
    let fault = bench.reply(&format!("/v1/ticker?markets={}", many.join(",")));
    bench.strike(Target::Books, fault);
    let finished = bench.dry_run();
    assert!(finished.stderr.contains("refused: 400: Parameter 'markets' must be less than"), "{}", finished.stderr);
    // B2-13 and B2-14: refused for as long as the block lasts, and good behind it.
    bench.control.reset().expect("reset");
    let limiter = json!({"bithumb_v2": {"limiter": {"per_second": 1, "block_ms": 1500}}});
    bench.control.set_switches(&limiter).expect("switched");
    let status = || bench.status("/v1/orderbook?markets=KRW-ETH");
    assert_eq!((status(), status()), (200, 429));
    let finished = bench.dry_run();
    assert!(finished.stderr.contains("refused for its rate limit (HTTP 429)"), "{}", finished.stderr);
    std::thread::sleep(Duration::from_millis(1600));
    let finished = bench.dry_run();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
}

#[test]
fn bithumb_legacy() {
    let legacy = |patch: Value| Given::Switch(json!({ "bithumb_legacy": patch }));
    let tight = |over_limit: &str| legacy(json!({"over_limit": over_limit, "limiter": {"per_second": 1}}));
    let book = |name, path: &'static str, then| row(name, BTC, Given::ReplyTo(path), then);
    let other = "the reply has no book of this market";
    let rows = vec![
        row("BL-01", BTC, Given::Nothing, FULL),
        book("BL-02", "/public/orderbook/BTC_KRW?count=2", Then::Books(&[(2, 2)])),
        book("BL-03", "/public/orderbook/ALL_KRW", Then::Error(other)),
        book("BL-04", "/public/orderbook/ALL_KRW?count=1", Then::Error(other)),
        row("BL-05", &["NOPE"], Given::Nothing, Then::Error("knows no such market")),
        book("BL-06", "/public/ticker/ALL_USDT", Then::Error("knows no such market")),
        book("BL-07", "/public/orderbook/ALL_USDT", Then::Error("knows no such market")),
        book("BL-08", "/public/orderbook", Then::Error("HTTP status 404")),
        book("BL-09", "/public/nope", Then::Error("HTTP status 404")),
        book("BL-10", "/public/orderbook/btc_krw", FULL),
        book("BL-11", "/public/orderbook/BTC_KRW?count=31", FULL),
        book("BL-11", "/public/orderbook/BTC_KRW?count=0", FULL),
        book("BL-11", "/public/orderbook/BTC_KRW?count=abc", FULL),
        book("another market", "/public/orderbook/ETH_KRW", Then::Error(other)),
        with(
            "requests_per_second = 1000",
            row("BL-12 429", PAIR, tight("429_empty"), Then::OneGood("HTTP 429), to be left alone for 1m")),
        ),
        with(
            "requests_per_second = 1000",
            row("BL-12 5600", PAIR, tight("200_5600"), Then::OneGood("), to be left alone for 1m")),
        ),
        row("BL-13", &["NFT"], change("KRW-NFT", |c| c.padding = Some(25)), Then::Books(&[(30, 0)])),
        row("BL-14", BTC, change("KRW-BTC", |c| c.ghost = Some(Ghost::Best)), Then::Books(&[(29, 30)])),
        row("BL-15", &[], change("KRW-ETH", |c| c.suspended = Some(true)), Then::Markets(261, "BTC-ETH", "KRW-ETH")),
        row("timestamp", BTC, legacy(json!({"timestamp": "number"})), FULL),
        row("error_status", &["NOPE"], legacy(json!({"error_status": 400})), Then::Error("knows no such market")),
        row("numbers", BTC, legacy(json!({"numbers": "exponent"})), FULL),
    ];
    let rows = rows.into_iter().chain(faults());
    let legacy_rows = rows.map(|row| {
        let config: &'static str = Box::leak(format!("api = \"legacy\"\n{}", row.config).into_boxed_str());
        with(config, row)
    });
    check_all(Venue::Bithumb, legacy_rows.collect());
    // BL-10 and BL-11 the other way.
    let bench = Bench::new(Venue::Bithumb);
    for (patch, path) in [
        (json!({"lower_case": "error"}), "/public/orderbook/btc_krw"),
        (json!({"bad_count": "error"}), "/public/orderbook/BTC_KRW?count=0"),
        (json!({"bad_count": "error"}), "/public/orderbook/BTC_KRW?count=31"),
        (json!({"bad_count": "error"}), "/public/orderbook/BTC_KRW?count=abc"),
    ] {
        bench.prepare(&with("api = \"legacy\"", row("BL", BTC, legacy(patch), FULL)));
        let fault = bench.reply(path);
        bench.strike(Target::Books, fault);
        let finished = bench.dry_run();
        assert!(finished.stderr.contains("knows no such market"), "{path}: {}", finished.stderr);
    }
}

#[test]
fn upbit() {
    let upbit = |patch: Value| Given::Switch(json!({ "upbit": patch }));
    let tight = |over_limit: &str| upbit(json!({"over_limit": over_limit, "limiter": {"per_second": 1}}));
    let one_by_one = "requests_per_second = 1000\nmarkets_per_request = 1";
    let book = |name, path: &'static str, then| row(name, BTC, Given::ReplyTo(path), then);
    let mut rows = vec![
        row("UP-01", BTC, Given::Nothing, FULL),
        row("UP-02", PAIR, Given::Nothing, Then::Books(&[(30, 30), (30, 30)])),
        book("UP-03", "/v1/orderbook?markets=KRW-BTC&count=5", FULL),
        book("UP-04", "/v1/orderbook?markets=KRW-BTC&count=31", FULL),
        book("UP-04", "/v1/orderbook?markets=KRW-BTC&count=50", FULL),
        book("UP-05", "/v1/orderbook?markets=KRW-BTC&count=abc", Then::Error("refused: 400: Type mismatch error.")),
        book("UP-06", "/v1/orderbook?markets=KRW-BTC&level=7", Then::Error("the reply has no book of this market")),
        row("UP-07", &["NFT"], change("KRW-NFT", |c| c.book = Some(thin())), Then::Books(&[(2, 1)])),
        book("UP-08", "/v1/orderbook?markets=krw-btc", FULL),
        row("UP-09", &["NOPE"], Given::Nothing, Then::Error("knows no such market")),
        row("UP-10", &["BTC", "NOPE"], Given::Nothing, Then::OneGood("knows no such market")),
        book("UP-11", "/v1/orderbook", Then::Error("refused: 400: Missing request parameter")),
        book("UP-12", "/v1/nope", Then::Error("refused: not_found: no Route matched")),
        with(one_by_one, row("UP-14 JSON", PAIR, tight("json"), Then::OneGood("HTTP 429), to be left alone for 1s"))),
        with(one_by_one, row("UP-14 plain", PAIR, tight("plain"), Then::OneGood("HTTP 429), to be left alone for 1s"))),
        with(one_by_one, row("UP-14 empty", PAIR, tight("empty"), Then::OneGood("HTTP 429), to be left alone for 1s"))),
        // Two requests at once; UP-17 and UP-18 are looked at with each row.
        with(one_by_one, row("UP-18", PAIR, Given::Nothing, Then::Books(&[(30, 30), (30, 30)]))),
        row("UP-19", BTC, change("KRW-BTC", |c| c.quiet = Some(true)), Then::StandsStill { levels: true }),
        row("Retry-After", BTC, too_many("7"), Then::Error("HTTP 429), to be left alone for 7s")),
        row("Retry-After of 0", BTC, too_many("0"), Then::Error("HTTP 429), to be left alone for 1s")),
        row("UP-20", &[], Given::Nothing, Then::Markets(855, "USDT-BTC", "KRW-NOPE")),
        row(
            "UP-20 details",
            &[],
            Given::ListReplyTo("/v1/market/all?is_details=true"),
            Then::Markets(855, "KRW-BTC", "KRW-NOPE"),
        ),
        row("UP-21", PAIR, upbit(json!({"prices": "exponent"})), Then::Books(&[(30, 30), (30, 30)])),
        row("UP-22", BTC, change("KRW-BTC", |c| c.suspended = Some(true)), FULL),
        row("UP-23", &["BTC", "XRP"], Given::Delisted("KRW-XRP"), Then::OneGood("knows no such market")),
        row("unit_keys", BTC, upbit(json!({"unit_keys": "ask_first"})), FULL),
        row("prices zeros", BTC, upbit(json!({"prices": "trailing_zeros"})), FULL),
    ];
    rows.extend(faults());
    check_all(Venue::Upbit, rows);
}

#[test]
fn upbit_of_all_markets_and_of_none() {
    let bench = Bench::new(Venue::Upbit);
    // UP-13, in as few requests as the length of a query allows. The pattern finds them all.
    bench.prepare(&with("markets_per_request = 500", row("UP-13", &[], Given::Nothing, FULL)));
    bench.producerd.write("symbols.toml", "[upbit]\nsymbols = [\"KRW-*\", \"BTC-*\", \"USDT-*\"]\n").expect("a file");
    let finished = bench.dry_run();
    assert_eq!((finished.status.code(), finished.stdout.lines().count()), (Some(0), 855), "{}", finished.stderr);
    let books: Vec<_> =
        bench.control.requests(0).expect("requests").into_iter().filter(|request| request.markets.len() > 1).collect();
    assert_eq!(books.len(), 2, "{}", books.len());
    // UP-03 the other way: fewer levels than asked for are as good.
    bench.prepare(&row("count", BTC, Given::Switch(json!({"upbit": {"count": "honoured"}})), FULL));
    let fault = bench.reply("/v1/orderbook?markets=KRW-BTC&count=5");
    bench.strike(Target::Books, fault);
    let finished = bench.dry_run();
    let record: Value = serde_json::from_str(finished.stdout.trim()).expect("a record");
    assert_eq!(side(&record, "asks").len(), 5);
    // UP-15 and UP-16: who goes on is blocked, for a time that is stated; after it, all is well.
    bench.prepare(&row(
        "block",
        BTC,
        Given::Switch(json!({"upbit": {"limiter": {"per_second": 1, "block_s": 2}}})),
        FULL,
    ));
    let path = "/v1/orderbook?markets=KRW-BTC";
    let go_on = || {
        let statuses = std::iter::repeat_with(|| bench.status(path));
        let statuses: Vec<u16> = statuses.take_while(|status| *status != 418).collect();
        assert!(statuses.ends_with(&[429]), "{statuses:?}");
        bench.dry_run().stderr
    };
    let told = |seconds: u64| format!("refused for its rate limit (HTTP 418), to be left alone for {seconds}s");
    let stderr = go_on();
    assert!((1..=2).any(|seconds| stderr.contains(&told(seconds))), "{stderr}");
    std::thread::sleep(Duration::from_millis(3100));
    assert_eq!(bench.dry_run().status.code(), Some(0));
    // Once more, and it lasts longer.
    let stderr = go_on();
    assert!((3..=4).any(|seconds| stderr.contains(&told(seconds))), "{stderr}");
    std::thread::sleep(Duration::from_millis(5100));
    assert_eq!(bench.dry_run().status.code(), Some(0));
    // UP-16: one refusal is over in the next second.
    next_second();
    assert_eq!((bench.status(path), bench.status(path)), (200, 429));
    std::thread::sleep(Duration::from_millis(1100));
    let finished = bench.dry_run();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
}

#[test]
fn korbit() {
    let korbit = |patch: Value| Given::Switch(json!({ "korbit": patch }));
    let tight = |over_limit: &str| korbit(json!({"over_limit": over_limit, "limiter": {"per_second": 1}}));
    let fast = "requests_per_second = 1000";
    let book = |name, path: &'static str, then| row(name, BTC, Given::ReplyTo(path), then);
    let mut rows = vec![
        row("KB-01", BTC, Given::Nothing, FULL),
        book("KB-02", "/v2/orderbook?symbol=btc_krw&limit=5", FULL),
        book("KB-02", "/v2/orderbook?symbol=btc_krw&depth=5", FULL),
        book("KB-02", "/v2/orderbook?symbol=btc_krw&count=5", FULL),
        book("KB-04", "/v2/orderbook?symbol=btc_krw&level=7", Then::Error("refused: 400: BAD_REQUEST")),
        book("KB-05", "/v2/orderbook", Then::Error("refused: 400: BAD_REQUEST")),
        row("KB-06", &["NOPE"], Given::Nothing, Then::Error("knows no such market")),
        book("KB-07", "/v2/orderbook?symbol=BTC_KRW", Then::Error("knows no such market")),
        book("KB-08", "/v2/orderbook?symbol=btc_krw,eth_krw", Then::Error("knows no such market")),
        row("KB-09", &["KLAY"], Given::Nothing, Then::Books(&[(0, 0)])),
        book("KB-10", "/v2/nope", Then::Error("refused: 404: NOT_FOUND")),
        book("KB-11", "/v2/tickers?symbol=nope_krw", Then::Error("bad reply: ")),
        with(fast, row("KB-12", PAIR, tight("envelope"), Then::OneGood("HTTP 429), to be left alone for 1s"))),
        with(fast, row("KB-12 HTML", PAIR, tight("html"), Then::OneGood("HTTP 429), to be left alone for 1s"))),
        row("Retry-After", BTC, too_many("7"), Then::Error("HTTP 429), to be left alone for 7s")),
        row("Retry-After of 0", BTC, too_many("0"), Then::Error("HTTP 429), to be left alone for 1s")),
        row("KB-14", &[], Given::Nothing, Then::Markets(193, "KRW-BTC", "KRW-KLAY")),
        book("KB-15", "/v2/time", Then::Error("bad reply: data.asks is missing")),
        row("KB-16", BTC, change("KRW-BTC", |c| c.padding = Some(20)), Then::Books(&[(30, 10)])),
    ];
    rows.extend(faults());
    check_all(Venue::Korbit, rows);
    // KB-03: grouped levels have a field more.
    let bench = Bench::new(Venue::Korbit);
    let grouped = bench.reply("/v2/orderbook?symbol=btc_krw&level=1000");
    let Fault::Reply { body, .. } = &grouped else { panic!("a reply") };
    let body: Value = serde_json::from_str(body).expect("JSON");
    bench.prepare(&row("KB-03", BTC, Given::Nothing, FULL));
    bench.strike(Target::Books, grouped);
    let finished = bench.dry_run();
    let record: Value = serde_json::from_str(finished.stdout.trim()).expect("a record");
    for which in ["asks", "bids"] {
        let text = |level: &Value, name: &str| level[name].as_str().expect("a text").to_owned();
        let levels = body["data"][which].as_array().expect("levels");
        let expected: Vec<_> = levels.iter().map(|level| (text(level, "price"), text(level, "qty"))).collect();
        assert!(levels.iter().all(|level| level["amt"].is_string()) && !expected.is_empty());
        assert_eq!(side(&record, which), expected);
    }
    // KB-13: a second later all is well.
    bench.prepare(&row("KB-13", BTC, Given::Switch(json!({"korbit": {"limiter": {"per_second": 1}}})), FULL));
    while bench.status("/v2/orderbook?symbol=btc_krw") != 429 {}
    std::thread::sleep(Duration::from_millis(1100));
    let finished = bench.dry_run();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
}
