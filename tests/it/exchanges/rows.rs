//! Each row of what exchanges answer over REST, through the built producerd: `--dry-run` and `markets` against the replayed
//! exchange. A row whose request producerd never makes is sent to it as the reply to one that it does make.

use std::time::Duration;

use coinflow_tests::exchange::api::{Fault, FaultRule, Ghost, LevelText, MarketChange, ServedBook, Target};
use coinflow_tests::exchange::{ExchangeControl, Venue};
use coinflow_tests::servers::{Daemon, ExchangeProcess, Finished, Program};
use serde_json::{Value, json};

const END: Duration = Duration::from_secs(20);

/// What is different from an exchange at rest.
enum Given {
    Nothing,
    Switch(Value),
    Change(MarketChange),
    Delisted(&'static str),
    /// The next request for books, or for the list, gets the reply to this one.
    ReplyTo(&'static str),
    ListReplyTo(&'static str),
    Fault(Fault),
}

enum Then {
    /// A record for each symbol, with so many asks and bids, and the levels that were served.
    Books(&'static [(usize, usize)]),
    /// No record, exit code 1, and a line with the market and this.
    Error(&'static str),
    /// The first symbol has a record, the second one this error.
    OneGood(&'static str),
    /// `markets`: so many lines, this one among them, and this one not.
    Markets(usize, &'static str, &'static str),
}

struct Row {
    name: &'static str,
    symbols: &'static [&'static str],
    /// Further lines of the exchange's table.
    config: &'static str,
    given: Given,
    then: Then,
}

const BTC: &[&str] = &["BTC"];
const PAIR: &[&str] = &["BTC", "ETH"];
const FULL: Then = Then::Books(&[(30, 30)]);

fn row(name: &'static str, symbols: &'static [&'static str], given: Given, then: Then) -> Row {
    Row { name, symbols, config: "", given, then }
}

fn with(config: &'static str, row: Row) -> Row {
    Row { config, ..row }
}

fn change(market: &str, change: impl FnOnce(&mut MarketChange)) -> Given {
    let mut one = MarketChange { market: market.to_owned(), ..MarketChange::default() };
    change(&mut one);
    Given::Change(one)
}

/// One exchange, and a producerd that knows its address.
struct Bench {
    exchange: ExchangeProcess,
    control: ExchangeControl,
    producerd: Daemon,
    venue: Venue,
}

impl Bench {
    fn new(venue: Venue) -> Bench {
        let producerd = Daemon::new(Program::Producerd).expect("a folder");
        let exchange = ExchangeProcess::start_venue(producerd.folder(), 1, venue).expect("the exchange starts");
        Bench { control: exchange.control(), exchange, producerd, venue }
    }

    /// The exchange's reply to a request of ours.
    fn reply(&self, path: &str) -> Fault {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        let reply = ureq::Agent::from(config).get(format!("{}{path}", self.exchange.base_url())).call();
        let mut reply = reply.unwrap_or_else(|error| panic!("{path}: {error}"));
        let content_type =
            reply.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        Fault::Reply {
            status: reply.status().as_u16(),
            content_type: content_type.to_owned(),
            body: reply.body_mut().read_to_string().expect("a body"),
        }
    }

    fn prepare(&self, row: &Row) {
        self.control.reset().expect("reset");
        let strike = |target, fault| {
            self.control.add_fault(&FaultRule { target, fault, times: None }).expect("a fault");
        };
        match &row.given {
            Given::Nothing => {}
            Given::Switch(patch) => _ = self.control.set_switches(patch).expect("switched"),
            Given::Change(change) => self.control.change_market(change).expect("changed"),
            Given::Delisted(market) => self.control.delist(&[market]).expect("delisted"),
            Given::ReplyTo(path) => strike(Target::Books, self.reply(path)),
            Given::ListReplyTo(path) => strike(Target::List, self.reply(path)),
            Given::Fault(fault) => strike(Target::Books, fault.clone()),
        }
        let (name, url) = (self.venue.name(), self.exchange.base_url());
        let text =
            format!("symbols_file = \"symbols.toml\"\n[exchange.{name}]\nbase_url = \"{url}\"\n{}\n", row.config);
        self.producerd.write("producerd.toml", &text).expect("producerd.toml");
        let symbols = format!("[{name}]\nsymbols = {:?}\n", row.symbols);
        self.producerd.write("symbols.toml", &symbols).expect("symbols.toml");
    }

    fn check(&self, row: &Row) {
        self.prepare(row);
        let name = self.venue.name();
        if let Then::Markets(count, one, not) = row.then {
            let finished = self.producerd.run(&["markets", name], END).expect("it ends");
            let lines: Vec<&str> = finished.stdout.lines().collect();
            assert_eq!(finished.status.code(), Some(0), "{}: {}", row.name, finished.stderr);
            assert!(lines.contains(&one) && !lines.contains(&not), "{}", row.name);
            assert_eq!(lines.len(), count, "{}", row.name);
            return;
        }
        let mark = self.control.served(0).expect("books").last().map_or(0, |book| book.sequence);
        let finished = self.producerd.run(&["--dry-run"], END).expect("it ends");
        let served = self.control.served(mark).expect("books");
        self.judge(row, &finished, &served);
    }

    fn judge(&self, row: &Row, finished: &Finished, served: &[ServedBook]) {
        let what = format!("{}: {finished:?}", row.name);
        let records: Vec<Value> =
            finished.stdout.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        let is_error = |told: &str, symbol: &str| {
            let market = format!("{} KRW-{symbol}: ", self.venue.name());
            let is_told = |line: &str| line.starts_with(&market) && line.contains(told);
            assert!(finished.stderr.lines().any(is_told), "{told:?}: {what}");
            assert_eq!(finished.status.code(), Some(1), "{what}");
        };
        match row.then {
            Then::Books(sides) => {
                assert_eq!((finished.status.code(), records.len()), (Some(0), sides.len()), "{what}");
                for (record, expected) in records.iter().zip(sides) {
                    assert_eq!((side(record, "asks").len(), side(record, "bids").len()), *expected, "{what}");
                    // A reply that was made up is in no log.
                    if !matches!(row.given, Given::ReplyTo(_)) {
                        let of_market = |book: &&ServedBook| record["market"] == book.market;
                        assert_is(record, served.iter().find(of_market).expect("a book"), row.name);
                    }
                }
            }
            Then::Error(told) => {
                assert_eq!(records.len(), 0, "{what}");
                is_error(told, row.symbols[0]);
            }
            Then::OneGood(told) => {
                assert_eq!(records.len(), 1, "{what}");
                is_error(told, row.symbols[1]);
            }
            Then::Markets(..) => unreachable!("looked at already"),
        }
    }
}

fn side(record: &Value, side: &str) -> Vec<LevelText> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    record[side].as_array().expect("levels").iter().map(|level| (text(&level[0]), text(&level[1]))).collect()
}

/// The record has the digits that were served, in plain notation, without levels of 0.
fn assert_is(record: &Value, served: &ServedBook, name: &str) {
    for (which, levels) in [("asks", &served.asks), ("bids", &served.bids)] {
        let plain = levels.iter().map(|(price, quantity)| (plain(price), plain(quantity)));
        let is_zero = |text: &str| text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        let expected: Vec<LevelText> =
            plain.filter(|(price, quantity)| !is_zero(price) && !is_zero(quantity)).collect();
        assert_eq!(side(record, which), expected, "{name}: {} {which}", served.market);
    }
    let ms = record["exchange_ts"].as_str().map(|text| {
        let time = coinflow_common::orderbook::Timestamp::parse(text).expect("a time");
        time.as_millis() as u64
    });
    assert_eq!(ms, Some(served.timestamp_ms), "{name}");
}

/// `1.57E8` as `157000000`, `5.0E-7` as `0.00000050`: on the text, by moving the point.
fn plain(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return text.to_owned() };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().expect("an exponent");
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i32 + exponent;
    let scale = (fraction.len() as i32 - exponent).max(0) as usize;
    let mut padded = digits.clone();
    if point <= 0 {
        padded = format!("{}{digits}", "0".repeat((1 - point) as usize));
    }
    let whole_digits = point.max(1) as usize;
    while padded.len() < whole_digits + scale {
        padded.push('0');
    }
    let (whole, fraction) = padded.split_at(whole_digits);
    if scale == 0 { whole.to_owned() } else { format!("{whole}.{}", &fraction[..scale]) }
}

#[test]
fn exponents_are_moved_on_the_text() {
    for (text, expected) in
        [("1.16539E8", "116539000"), ("1.0E8", "100000000"), ("5.0E-7", "0.00000050"), ("1.50", "1.50")]
    {
        assert_eq!(plain(text), expected);
    }
}

/// F-01 to F-09, which are the same for every exchange.
fn faults() -> Vec<Row> {
    let fault = |name, fault, then| with("timeout = \"500ms\"", row(name, BTC, Given::Fault(fault), then));
    vec![
        fault("F-01", Fault::StuckTimestamp, FULL),
        fault("F-02", Fault::SameBody, FULL),
        fault("F-03", Fault::Delisted, Then::Error("knows no such market")),
        fault("F-04 502", Fault::Gateway { status: 502 }, Then::Error("HTTP status 502")),
        fault("F-04 503", Fault::Gateway { status: 503 }, Then::Error("HTTP status 503")),
        fault("F-05", Fault::TruncatedJson, Then::Error("bad reply: EOF while parsing")),
        fault("F-06", Fault::Trickle { bytes: 10, every_ms: 100 }, Then::Error("no complete reply within 500ms")),
        fault("F-07", Fault::Reset, Then::Error("")),
        fault("F-08", Fault::Huge { bytes: 64 << 20 }, Then::Error("larger than 8MiB")),
        fault("F-09", Fault::EmptyBody, Then::Error("bad reply: empty body")),
    ]
}

fn check_all(venue: Venue, rows: Vec<Row>) {
    let bench = Bench::new(venue);
    for row in rows {
        bench.check(&row);
    }
}

const BATCH: &str = "markets_per_request = 200";

#[test]
fn bithumb_v2() {
    let v2 = |patch: Value| Given::Switch(json!({ "bithumb_v2": patch }));
    // One request a second, so that the second one is refused.
    let tight = |over_limit: &str| v2(json!({"over_limit": over_limit, "limiter": {"per_second": 1}}));
    let refused = |status: &'static str| Then::OneGood(status);
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
        with(fast, row("B2-12", PAIR, tight("429_empty"), refused("HTTP 429"))),
        with(fast, row("B2-12 body", PAIR, tight("429_body"), refused("HTTP 429"))),
        with(fast, row("B2-12 403", PAIR, tight("403"), refused("HTTP 403"))),
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
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    assert_eq!((finished.status.code(), finished.stdout.lines().count()), (Some(0), 200), "{}", finished.stderr);
    assert_eq!(bench.control.requests(0).expect("requests").len(), 1);
    // B2-11: so many codes would make the query too long; producerd asks in two requests. The refusal itself is told.
    let long: Vec<String> = (0..200).map(|number| format!("QUITELONGNAME{number:03}")).collect();
    let listed: Vec<String> = long.iter().map(|code| format!("KRW-{code}")).collect();
    bench.control.list(&listed.iter().map(String::as_str).collect::<Vec<_>>()).expect("listed");
    bench.producerd.write("symbols.toml", &format!("[bithumb]\nsymbols = {long:?}\n")).expect("a file");
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    assert_eq!((finished.status.code(), finished.stdout.lines().count()), (Some(0), 200), "{}", finished.stderr);
    let requests = bench.control.requests(0).expect("requests");
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.status == 200 && request.path.len() < 4096));
    let too_long = format!("/v1/orderbook?markets={}", listed.join(","));
    let fault = bench.reply(&too_long);
    assert!(matches!(fault, Fault::Reply { status: 414, .. }));
    bench.control.add_fault(&FaultRule { target: Target::Books, fault, times: None }).expect("a fault");
    bench.producerd.write("symbols.toml", "[bithumb]\nsymbols = [\"BTC\"]\n").expect("a file");
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    assert!(finished.stderr.contains("HTTP status 414"), "{}", finished.stderr);
    // B2-19: the ticker's refusal of too many, which the order book may come to have.
    bench.control.clear_faults().expect("no faults");
    let many: Vec<String> = (1..=201).map(|number| format!("KRW-G{number:03}")).collect();
    let fault = bench.reply(&format!("/v1/ticker?markets={}", many.join(",")));
    bench.control.add_fault(&FaultRule { target: Target::Books, fault, times: None }).expect("a fault");
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    assert!(finished.stderr.contains("refused: 400: Parameter 'markets' must be less than"), "{}", finished.stderr);
    // B2-13 and B2-14: refused for as long as the block lasts, and good behind it.
    bench.control.reset().expect("reset");
    let limiter = json!({"bithumb_v2": {"limiter": {"per_second": 1, "block_ms": 1500}}});
    bench.control.set_switches(&limiter).expect("switched");
    let status = || {
        let Fault::Reply { status, .. } = bench.reply("/v1/orderbook?markets=KRW-ETH") else { panic!("a reply") };
        status
    };
    assert_eq!((status(), status()), (200, 429));
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    assert!(finished.stderr.contains("refused for its rate limit (HTTP 429)"), "{}", finished.stderr);
    std::thread::sleep(Duration::from_millis(1600));
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
}

#[test]
fn bithumb_legacy() {
    let legacy = |patch: Value| Given::Switch(json!({ "bithumb_legacy": patch }));
    let tight = |over_limit: &str| legacy(json!({"over_limit": over_limit, "limiter": {"per_second": 1}}));
    let book = |path: &'static str, then| row(path, BTC, Given::ReplyTo(path), then);
    let other = "the reply has no book of this market";
    let rows = vec![
        row("BL-01", BTC, Given::Nothing, FULL),
        book("/public/orderbook/BTC_KRW?count=2", Then::Books(&[(2, 2)])), // BL-02
        book("/public/orderbook/ALL_KRW", Then::Error(other)),             // BL-03
        book("/public/orderbook/ALL_KRW?count=1", Then::Error(other)),     // BL-04
        row("BL-05", &["NOPE"], Given::Nothing, Then::Error("knows no such market")),
        book("/public/ticker/ALL_USDT", Then::Error("knows no such market")), // BL-06
        book("/public/orderbook/ALL_USDT", Then::Error("knows no such market")), // BL-07
        book("/public/orderbook", Then::Error("HTTP status 404")),            // BL-08
        book("/public/nope", Then::Error("HTTP status 404")),                 // BL-09
        book("/public/orderbook/btc_krw", FULL),                              // BL-10
        book("/public/orderbook/BTC_KRW?count=31", FULL),                     // BL-11
        book("/public/orderbook/ETH_KRW", Then::Error(other)),
        with("requests_per_second = 1000", row("BL-12 429", PAIR, tight("429_empty"), Then::OneGood("HTTP 429"))),
        with("requests_per_second = 1000", row("BL-12 5600", PAIR, tight("200_5600"), Then::OneGood("status 5600"))),
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
        (json!({"bad_count": "error"}), "/public/orderbook/BTC_KRW?count=abc"),
    ] {
        bench.prepare(&with("api = \"legacy\"", row("BL", BTC, legacy(patch), FULL)));
        let fault = bench.reply(path);
        bench.control.add_fault(&FaultRule { target: Target::Books, fault, times: None }).expect("a fault");
        let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
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
        // Neither of the two is in the group of who sends an Origin, which gets one request in ten seconds.
        row("UP-17", BTC, Given::Nothing, FULL),
        row("UP-18", BTC, Given::Nothing, FULL),
        row("UP-19", BTC, change("KRW-BTC", |c| c.quiet = Some(true)), FULL),
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
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    assert_eq!((finished.status.code(), finished.stdout.lines().count()), (Some(0), 855), "{}", finished.stderr);
    let books: Vec<_> =
        bench.control.requests(0).expect("requests").into_iter().filter(|request| request.markets.len() > 1).collect();
    assert_eq!(books.len(), 2, "{}", books.len());
    // UP-03 the other way: fewer levels than asked for are as good.
    bench.prepare(&row("count", BTC, Given::Switch(json!({"upbit": {"count": "honoured"}})), FULL));
    let fault = bench.reply("/v1/orderbook?markets=KRW-BTC&count=5");
    bench.control.add_fault(&FaultRule { target: Target::Books, fault, times: None }).expect("a fault");
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
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
    let statuses: Vec<u16> = std::iter::repeat_with(|| match bench.reply(path) {
        Fault::Reply { status, .. } => status,
        _ => 0,
    })
    .take_while(|status| *status != 418)
    .collect();
    assert!(statuses.ends_with(&[429]), "{statuses:?}");
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    let told = "refused for its rate limit (HTTP 418), to be left alone for ";
    assert!(finished.stderr.contains(told) && !finished.stderr.contains("for 1m"), "{}", finished.stderr);
    std::thread::sleep(Duration::from_millis(3100));
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
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
        row("KB-14", &[], Given::Nothing, Then::Markets(193, "KRW-BTC", "KRW-KLAY")),
        book("KB-15", "/v2/time", Then::Error("bad reply: data.asks is missing")),
        row("KB-16", BTC, change("KRW-BTC", |c| c.padding = Some(20)), Then::Books(&[(30, 10)])),
    ];
    rows.extend(faults());
    check_all(Venue::Korbit, rows);
    // KB-03: grouped levels have a field more.
    let bench = Bench::new(Venue::Korbit);
    bench.prepare(&row("KB-03", BTC, Given::ReplyTo("/v2/orderbook?symbol=btc_krw&level=1000"), FULL));
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    assert_eq!((finished.status.code(), finished.stdout.lines().count()), (Some(0), 1), "{}", finished.stderr);
    // KB-13: a second later all is well.
    bench.prepare(&row("KB-13", BTC, Given::Switch(json!({"korbit": {"limiter": {"per_second": 1}}})), FULL));
    while !matches!(bench.reply("/v2/orderbook?symbol=btc_krw"), Fault::Reply { status: 429, .. }) {}
    std::thread::sleep(Duration::from_millis(1100));
    let finished = bench.producerd.run(&["--dry-run"], END).expect("it ends");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
}
