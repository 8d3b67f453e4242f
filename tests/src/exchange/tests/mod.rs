//! Every case of the exchange reference, through real HTTP against a server of its own.

mod bithumb;
mod faults;
mod korbit;
mod upbit;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{Fault, MarketChange, Pause, ServedBook};
use super::http::Request;
use super::reply::Reply;
use super::world::World;
use super::{Exchange, ExchangeControl, Options, Venue};

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
}

impl Rig {
    fn new() -> Rig {
        Rig::of(Venue::Bithumb)
    }

    fn of(venue: Venue) -> Rig {
        let exchange = Exchange::start(&Options { venue, ..Options::default() }).expect("a free port on the loopback");
        let control = exchange.control();
        let off = json!({"limiter": {"enabled": false}});
        let switches = json!({"bithumb_v2": off, "bithumb_legacy": off, "upbit": off, "korbit": off});
        control.set_switches(&switches).expect("good switches");
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .proxy(None)
            .build();
        Rig { exchange, control, agent: config.into() }
    }

    fn try_get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Got, ureq::Error> {
        let request = self.agent.get(format!("{}{path}", self.exchange.base_url()));
        let mut reply = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).call()?;
        let headers = reply.headers().iter();
        let headers =
            headers.map(|(key, value)| (key.to_string(), value.to_str().expect("ASCII").to_owned())).collect();
        Ok(Got { status: reply.status().as_u16(), headers, body: reply.body_mut().read_to_string()? })
    }

    fn get(&self, path: &str) -> Got {
        self.get_with(path, &[])
    }

    fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Got {
        self.try_get(path, headers).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The book that was served last.
    fn last_book(&self) -> ServedBook {
        self.control.served(0).expect("the log").pop().expect("a book")
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

/// The units of the only book in a reply of Bithumb v2 or Upbit.
fn units(got: &Got) -> Vec<Value> {
    let books = got.json();
    assert_eq!(books.as_array().map(Vec::len), Some(1), "{}", got.body);
    books[0]["orderbook_units"].as_array().expect("units").clone()
}

/// (market, number of units) of each book in such a reply.
fn shape(got: &Got) -> Vec<(String, usize)> {
    let books = got.json();
    let books = books.as_array().expect("an array of books");
    let units = |book: &Value| book["orderbook_units"].as_array().expect("units").len();
    books.iter().map(|book| (book["market"].as_str().expect("a code").to_owned(), units(book))).collect()
}

const UNKNOWN: &str = r#"{"error":{"name":404,"message":"Code not found"}}"#;
const MISSING: &str =
    r#"{"error":{"name":400,"message":"Missing request parameter error. Check the required parameters!"}}"#;
const NOT_LISTED: &str = r#"{"status":"5500","message":"상장 코인 아님"}"#;

/// A second's first microsecond, for tests that set the clock themselves.
const SECOND_US: u64 = 1_000_000;
const START_US: u64 = 1_790_133_480 * SECOND_US;

/// The reply of a world whose clock stands at `now_us`.
fn reply_at(world: &mut World, path: &str, origin: Option<&str>, now_us: u64) -> Reply {
    let request = Request { origin: origin.map(str::to_owned), ..Request::get(path) };
    world.answer(&request, now_us).reply
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
    assert!(rig.try_get("/v1/orderbook?markets=KRW-BTC", &[]).is_err());
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
