//! One exchange, and a producerd that asks it once: what is given, and what has to come of it.

use std::time::Duration;

use coinflow_tests::exchange::api::{Fault, FaultRule, LevelText, MarketChange, ServedBook, Target};
use coinflow_tests::exchange::{ExchangeControl, Venue, now_us};
use coinflow_tests::servers::{Daemon, ExchangeProcess, Finished, Program};
use serde_json::Value;

pub(super) const END: Duration = Duration::from_secs(20);

/// What is different from an exchange at rest.
pub(super) enum Given {
    Nothing,
    Switch(Value),
    Change(MarketChange),
    Delisted(&'static str),
    /// The next request for books, or for the list, gets the reply to this one.
    ReplyTo(&'static str),
    ListReplyTo(&'static str),
    Fault(Fault),
}

pub(super) enum Then {
    /// A record for each symbol, with so many asks and bids, and the levels that were served.
    Books(&'static [(usize, usize)]),
    /// No record, exit code 1, and a line with the market and this.
    Error(&'static str),
    /// The first symbol has a record, the second one this error.
    OneGood(&'static str),
    /// Asked twice, there is a record each time, and both have the exchange's time in common, and the levels if this says so.
    StandsStill { levels: bool },
    /// `markets`: so many lines, this one among them, and this one not.
    Markets(usize, &'static str, &'static str),
}

pub(super) struct Row {
    pub(super) name: &'static str,
    symbols: &'static [&'static str],
    /// Further lines of the exchange's table.
    pub(super) config: &'static str,
    given: Given,
    then: Then,
}

pub(super) fn row(name: &'static str, symbols: &'static [&'static str], given: Given, then: Then) -> Row {
    Row { name, symbols, config: "", given, then }
}

pub(super) fn with(config: &'static str, row: Row) -> Row {
    Row { config, ..row }
}

pub(super) fn change(market: &str, change: impl FnOnce(&mut MarketChange)) -> Given {
    let mut one = MarketChange { market: market.to_owned(), ..MarketChange::default() };
    change(&mut one);
    Given::Change(one)
}

/// One exchange, and a producerd that knows its address.
pub(super) struct Bench {
    exchange: ExchangeProcess,
    pub(super) control: ExchangeControl,
    pub(super) producerd: Daemon,
    venue: Venue,
}

impl Bench {
    pub(super) fn new(venue: Venue) -> Bench {
        let producerd = Daemon::new(Program::Producerd).expect("a folder");
        let exchange = ExchangeProcess::start_venue(producerd.folder(), 1, venue).expect("the exchange starts");
        Bench { control: exchange.control(), exchange, producerd, venue }
    }

    /// The exchange's reply to a request of ours.
    pub(super) fn reply(&self, path: &str) -> Fault {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        let reply = ureq::Agent::from(config).get(format!("{}{path}", self.exchange.base_url())).call();
        let mut reply = reply.unwrap_or_else(|error| panic!("{path}: {error}"));
        let content_type =
            reply.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = content_type.to_owned();
        // What the exchange says of itself; the rest is the connection's.
        let told = |name: &str| name.contains("ratelimit") || matches!(name, "remaining-req" | "retry-after");
        let headers = reply.headers().iter().filter(|(name, _)| told(name.as_str()));
        let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
        let status = reply.status().as_u16();
        Fault::Reply { status, content_type, headers, body: reply.body_mut().read_to_string().expect("a body") }
    }

    pub(super) fn status(&self, path: &str) -> u16 {
        let Fault::Reply { status, .. } = self.reply(path) else { panic!("a reply") };
        status
    }

    pub(super) fn strike(&self, target: Target, fault: Fault) {
        self.control.add_fault(&FaultRule { target, fault, times: None }).expect("a fault");
    }

    pub(super) fn dry_run(&self) -> Finished {
        self.producerd.run(&["--dry-run"], END).expect("it ends")
    }

    pub(super) fn prepare(&self, row: &Row) {
        self.control.reset().expect("reset");
        match &row.given {
            Given::Nothing => {}
            Given::Switch(patch) => _ = self.control.set_switches(patch).expect("switched"),
            Given::Change(change) => self.control.change_market(change).expect("changed"),
            Given::Delisted(market) => self.control.delist(&[market]).expect("delisted"),
            Given::ReplyTo(path) => self.strike(Target::Books, self.reply(path)),
            Given::ListReplyTo(path) => self.strike(Target::List, self.reply(path)),
            Given::Fault(fault) => self.strike(Target::Books, fault.clone()),
        }
        let (name, url) = (self.venue.name(), self.exchange.base_url());
        let text = format!(
            "symbols_file = \"symbols.toml\"\nspool.directory = \"spool\"\n[exchange.{name}]\nbase_url = \"{url}\"\n{}\n",
            row.config
        );
        self.producerd.write("producerd.toml", &text).expect("producerd.toml");
        let symbols = format!("[{name}]\nsymbols = {:?}\n", row.symbols);
        self.producerd.write("symbols.toml", &symbols).expect("symbols.toml");
    }

    pub(super) fn check(&self, row: &Row) {
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
        if matches!(&row.given, Given::Switch(switches) if switches.to_string().contains("limiter")) {
            next_second();
        }
        let mark = self.control.served(0).expect("books").last().map_or(0, |book| book.sequence);
        let finished = self.dry_run();
        let served = self.control.served(mark).expect("books");
        self.judge(row, &finished, &served);
        let requests = self.control.requests(0).expect("requests");
        // UP-17 and UP-18: who sends an Origin gets one request in ten seconds.
        assert!(requests.iter().filter(|request| request.user_agent.is_some()).all(|request| {
            let is_ours = request.user_agent.as_deref().is_some_and(|agent| agent.starts_with("coinflow-producerd/"));
            !is_ours || request.origin.is_none()
        }));
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
            Then::StandsStill { levels } => {
                std::thread::sleep(Duration::from_millis(300));
                let again = self.dry_run();
                let second: Value = serde_json::from_str(again.stdout.trim()).expect("a record");
                assert_eq!(
                    (records.len(), finished.status.code(), again.status.code()),
                    (1, Some(0), Some(0)),
                    "{what}"
                );
                let first = &records[0];
                assert_eq!(first["exchange_ts"], second["exchange_ts"], "{what}");
                assert!(first["received_at"].as_str() < second["received_at"].as_str(), "{what}");
                assert!(!levels || (first["asks"] == second["asks"] && first["bids"] == second["bids"]), "{what}");
            }
            Then::Markets(..) => unreachable!("looked at already"),
        }
    }
}

pub(super) fn side(record: &Value, side: &str) -> Vec<LevelText> {
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

/// Waits until the exchange's next second begins: nothing of its limit is used up.
pub(super) fn next_second() {
    std::thread::sleep(Duration::from_micros(1_000_000 - now_us() % 1_000_000));
}

pub(super) fn check_all(venue: Venue, rows: Vec<Row>) {
    let bench = Bench::new(venue);
    for row in rows {
        bench.check(&row);
    }
}

#[test]
fn exponents_are_moved_on_the_text() {
    for (text, expected) in
        [("1.16539E8", "116539000"), ("1.0E8", "100000000"), ("5.0E-7", "0.00000050"), ("1.50", "1.50")]
    {
        assert_eq!(plain(text), expected);
    }
}
