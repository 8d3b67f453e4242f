//! F-01 to F-09, at every exchange.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::Venue;
use super::super::api::{Fault, FaultRule, Target};
use super::{NOT_LISTED, Rig, UNKNOWN, until};

/// A venue, the path of the book of KRW-BTC and that of the list of markets.
type Api = (Venue, &'static str, &'static str);

const V2: Api = (Venue::Bithumb, "/v1/orderbook?markets=KRW-BTC", "/v1/market/all?isDetails=true");
const LEGACY: Api = (Venue::Bithumb, "/public/orderbook/BTC_KRW", "/public/ticker/ALL_KRW");
const UPBIT: Api = (Venue::Upbit, "/v1/orderbook?markets=KRW-BTC", "/v1/market/all?is_details=true");
const KORBIT: Api = (Venue::Korbit, "/v2/orderbook?symbol=btc_krw", "/v2/currencyPairs");

#[test]
fn f_01_and_02_a_book_that_stands_still() {
    for (venue, path, _) in [V2, LEGACY, UPBIT, KORBIT] {
        let rig = Rig::of(venue);
        let read = || (rig.get(path).body, rig.last_book().timestamp_ms);
        let (body, timestamp_ms) = read();
        rig.fault(Fault::SameBody);
        assert_eq!(read(), (body.clone(), timestamp_ms), "F-02 {path}");
        rig.fault(Fault::StuckTimestamp);
        let stuck = read();
        assert_eq!(stuck.1, timestamp_ms, "F-01 {path}");
        assert_ne!(stuck.0, body, "F-01 {path}");
        assert!(read().1 > timestamp_ms, "F-01 {path}");
    }
}

#[test]
fn f_03_a_market_leaves_for_one_request() {
    const INVALID: &str = r#"{"success":false,"error":{"code":400,"message":"INVALID_CURRENCY_PAIR"}}"#;
    let both = "/v1/orderbook?markets=KRW-ETH,KRW-BTC";
    // venue, a path without KRW-BTC, one with it, what this gives
    let cases = [
        (Venue::Bithumb, "/v1/orderbook?markets=KRW-ETH", both, 200, UNKNOWN),
        (Venue::Bithumb, "/public/orderbook/ETH_KRW", LEGACY.1, 200, NOT_LISTED),
        (Venue::Upbit, "/v1/orderbook?markets=KRW-ETH", both, 404, UNKNOWN),
        (Venue::Korbit, "/v2/orderbook?symbol=eth_krw", KORBIT.1, 400, INVALID),
    ];
    for (venue, without, with, status, body) in cases {
        let rig = Rig::of(venue);
        rig.control.strike(Some("KRW-BTC"), Fault::Delisted, 1).expect("a good fault");
        assert_eq!(rig.get(without).status, 200, "not about it");
        let got = rig.get(with);
        assert_eq!((got.status, got.body.as_str()), (status, body), "{with}");
        assert_eq!(rig.get(with).status, 200, "{with}");
        assert_eq!(rig.last_book().market, "KRW-BTC");
    }
}

#[test]
fn f_04_05_09_broken_replies_that_arrive() {
    for (venue, path, _) in [V2, LEGACY, UPBIT, KORBIT] {
        let rig = Rig::of(venue);
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
        rig.fault(Fault::reply(418, "text/plain", "teapot"));
        let got = rig.get(path);
        assert_eq!((got.status, got.body.as_str()), (418, "teapot"), "{path}");
        assert_eq!(rig.control.served(0).expect("the log").len(), 0, "broken replies serve no book");
        assert!(serde_json::from_str::<Value>(&rig.get(path).body).is_ok(), "and then all is well again");
        assert_eq!(rig.control.served(0).expect("the log").len(), 1);
        let seen: Vec<Vec<String>> =
            rig.control.requests(0).expect("the log").into_iter().map(|seen| seen.faults).collect();
        assert_eq!(seen[..4], [["F-04"], ["F-05"], ["F-09"], ["reply"]]);
    }
}

#[test]
fn f_06_07_08_broken_replies_that_do_not() {
    for (venue, path, _) in [V2, UPBIT, KORBIT] {
        let rig = Rig::of(venue);
        let url = format!("{}{path}", rig.exchange.base_url());
        let read = |timeout_ms: u64| -> Result<String, ureq::Error> {
            let request = rig.agent.get(&url).config().timeout_global(Some(Duration::from_millis(timeout_ms))).build();
            request.call()?.body_mut().read_to_string()
        };
        rig.fault(Fault::Trickle { bytes: 1, every_ms: 50 });
        assert!(matches!(read(100), Err(ureq::Error::Timeout(_))), "F-06 {path}");
        rig.fault(Fault::Reset);
        let mut stream = TcpStream::connect(("127.0.0.1", rig.exchange.port())).expect("it listens");
        stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).expect("sent");
        let mut half = Vec::new();
        let reset = stream.read_to_end(&mut half).expect_err("F-07");
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset, "F-07 {path}");
        assert!(String::from_utf8_lossy(&half).contains("[{"), "F-07 {path}: half a body comes first");
        rig.fault(Fault::Huge { bytes: 64 << 20 });
        assert!(matches!(read(5_000), Err(ureq::Error::BodyExceedsLimit(_))), "F-08 {path}");
        assert_eq!(rig.control.served(0).expect("the log").len(), 0);

        rig.fault(Fault::Trickle { bytes: 500, every_ms: 1 });
        assert!(read(5_000).is_ok(), "a slow reply that the client waits for");
        until(|| Some(()).filter(|()| rig.control.served(0).expect("the log").len() == 1));
    }
}

#[test]
fn faults_on_the_list_and_delays() {
    for (venue, book, list) in [V2, LEGACY, UPBIT, KORBIT] {
        let rig = Rig::of(venue);
        let rule = FaultRule { target: Target::List, fault: Fault::Gateway { status: 503 }, times: None };
        rig.control.add_fault(&rule).expect("a good fault");
        assert_eq!(rig.get(list).status, 503, "{list}");
        assert_eq!(rig.get(book).status, 200);
        assert_eq!(rig.control.faults().expect("the rules"), [rule]);
        rig.control.clear_faults().expect("cleared");
        assert_eq!(rig.get(list).status, 200, "{list}");

        rig.fault(Fault::Delay { ms: 20 });
        let asked = Instant::now();
        assert_eq!(rig.get(book).status, 200);
        assert!(asked.elapsed() >= Duration::from_millis(20), "{book}");
    }
}
