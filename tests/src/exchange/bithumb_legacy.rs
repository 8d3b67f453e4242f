//! Bithumb API 1.0 over REST: `/public/orderbook/…`, and as much of `/public/ticker/…` as gives the list of markets
//! (BL-01 to BL-15).

use std::fmt::Write as _;

use super::api::{BadCount, LevelText, LowerCase, OverLimitLegacy, TimestampType};
use super::book::LEVELS;
use super::http::Request;
use super::limiter::Verdict;
use super::market::{Frozen, Snapshot};
use super::quotation::{spell, write_array};
use super::reply::Reply;
use super::world::{Answer, SentBook, World, no_route};

/// Levels a side of `ALL_KRW`, at most.
const LEVELS_OF_ALL: usize = 5;
/// The currencies that markets are paid in here.
const PAYMENT: [&str; 2] = ["KRW", "BTC"];

/// `route` is the path after `/public/`.
pub(crate) fn answer(world: &mut World, request: &Request, route: &str, now_us: u64) -> Answer {
    let Some((kind @ ("orderbook" | "ticker"), pair)) = route.split_once('/') else {
        return no_route().into();
    };
    let upper = pair.to_ascii_uppercase();
    let limiter = &world.switches.bithumb_legacy.limiter;
    if world.buckets.take(limiter, request.client, "legacy", now_us) == Verdict::Refuse {
        let reply = match world.switches.bithumb_legacy.over_limit {
            OverLimitLegacy::Empty429 => Reply::empty(429),
            OverLimitLegacy::Status5600 => error(world, "5600", "접속 차단된 IP입니다."),
        };
        let market = upper.split_once('_').map(|(base, quote)| format!("{quote}-{base}"));
        return Answer { markets: market.into_iter().collect(), ..reply.into() };
    }
    if pair != upper && world.switches.bithumb_legacy.lower_case == LowerCase::Error {
        return not_listed(world).into();
    }
    let Some((base, quote)) = upper.split_once('_') else { return not_listed(world).into() };
    match (kind, base) {
        (_, "ALL") if !PAYMENT.contains(&quote) => bad_parameter(world).into(),
        ("ticker", _) => ticker(world, base, quote, now_us),
        (_, "ALL") => all_books(world, request, quote, now_us),
        _ => one_book(world, request, format!("{quote}-{base}"), now_us),
    }
}

fn error(world: &World, code: &str, message: &str) -> Reply {
    let status = world.switches.bithumb_legacy.error_status;
    Reply::json(status, format!(r#"{{"status":"{code}","message":"{message}"}}"#))
}

fn not_listed(world: &World) -> Reply {
    error(world, "5500", "상장 코인 아님")
}

fn bad_parameter(world: &World) -> Reply {
    error(world, "5500", "입력값을 확인해 주세요.")
}

/// The depth asked for; `None`: a bad one that the exchange refuses.
fn depth(world: &World, request: &Request, most: usize) -> Option<usize> {
    let Some(count) = request.parameter("count") else { return Some(most) };
    match (count.parse(), world.switches.bithumb_legacy.bad_count) {
        (Ok(count), _) if (1..=most).contains(&count) => Some(count),
        (_, BadCount::Ignored) => Some(most),
        (_, BadCount::Error) => None,
    }
}

fn one_book(world: &mut World, request: &Request, market: String, now_us: u64) -> Answer {
    let struck = world.faults.strike_books(std::slice::from_ref(&market));
    let Some(depth) = depth(world, request, LEVELS) else {
        return Answer { markets: vec![market], ..bad_parameter(world).into() }.struck(&struck);
    };
    let Some(snapshot) = world.read(&market, &struck, now_us) else {
        return Answer { markets: vec![market], ..not_listed(world).into() }.struck(&struck);
    };
    let (quote, base) = market.split_once('-').expect("a listed market's code has a hyphen");
    let timestamp = timestamp(world, snapshot.timestamp_ms, &snapshot);
    let book = sent(world, &snapshot, &timestamp, depth);
    let mut body = format!(
        r#"{{"status":"0000","data":{{"timestamp":{timestamp},"payment_currency":"{quote}","order_currency":"{base}","bids":"#
    );
    // Writing to a string cannot fail.
    let level = |body: &mut String, (price, quantity): &LevelText| {
        let _ = write!(body, r#"{{"price":"{price}","quantity":"{quantity}"}}"#);
    };
    write_array(&mut body, &book.bids, level);
    body.push_str(r#","asks":"#);
    write_array(&mut body, &book.asks, level);
    body.push_str("}}");
    Answer { markets: vec![market], books: vec![book], ..Reply::json(200, body).into() }.struck(&struck)
}

fn all_books(world: &mut World, request: &Request, quote: &str, now_us: u64) -> Answer {
    let listed = world.markets.listed().filter(|market| market.pair().0 == quote);
    let markets: Vec<String> = listed.map(|market| market.profile.code.clone()).collect();
    let struck = world.faults.strike_books(&markets);
    let Some(depth) = depth(world, request, LEVELS_OF_ALL) else {
        return Answer::from(bad_parameter(world)).struck(&struck);
    };
    let wanted: Vec<(String, Frozen)> = markets
        .iter()
        .filter(|market| !struck.delists(market))
        .map(|market| (market.clone(), struck.frozen(market)))
        .collect();
    let (timestamp_ms, snapshots) = world.markets.read_together(&wanted, now_us / 1_000);
    let timestamp = timestamp_text(world, timestamp_ms);
    let mut body = format!(r#"{{"status":"0000","data":{{"timestamp":{timestamp},"payment_currency":"{quote}""#);
    let level = |body: &mut String, (price, quantity): &LevelText| {
        let _ = write!(body, r#"{{"quantity":"{quantity}","price":"{price}"}}"#);
    };
    let mut books = Vec::with_capacity(snapshots.len());
    for snapshot in &snapshots {
        let book = sent(world, snapshot, &timestamp, depth);
        let base = snapshot.market.split_once('-').map_or("", |(_, base)| base);
        // Writing to a string cannot fail.
        let _ = write!(body, r#","{base}":{{"order_currency":"{base}","bids":"#);
        write_array(&mut body, &book.bids, level);
        body.push_str(r#","asks":"#);
        write_array(&mut body, &book.asks, level);
        body.push('}');
        books.push(book);
    }
    body.push_str("}}");
    Answer { markets, books, ..Reply::json(200, body).into() }.struck(&struck)
}

fn timestamp(world: &World, timestamp_ms: u64, snapshot: &Snapshot) -> String {
    snapshot.timestamp_override.clone().unwrap_or_else(|| timestamp_text(world, timestamp_ms))
}

fn timestamp_text(world: &World, timestamp_ms: u64) -> String {
    match world.switches.bithumb_legacy.timestamp {
        TimestampType::String => format!("\"{timestamp_ms}\""),
        TimestampType::Number => timestamp_ms.to_string(),
    }
}

fn sent(world: &World, snapshot: &Snapshot, timestamp: &str, depth: usize) -> SentBook {
    let numbers = world.switches.bithumb_legacy.numbers;
    let side = |side| spell(side, depth, numbers, numbers);
    SentBook {
        market: snapshot.market.clone(),
        timestamp_ms: snapshot.timestamp_ms,
        timestamp: timestamp.to_owned(),
        asks: side(&snapshot.book.asks),
        bids: side(&snapshot.book.bids),
    }
}

/// The keys of `ALL_KRW` are the list of markets; an inactive coin's value is an empty array.
fn ticker(world: &mut World, base: &str, quote: &str, now_us: u64) -> Answer {
    let struck = world.faults.strike_list();
    let mut data = serde_json::Map::new();
    for market in
        world.markets.listed().filter(|market| market.pair().0 == quote && (base == "ALL" || market.pair().1 == base))
    {
        let value = if market.suspended {
            serde_json::json!([])
        } else {
            serde_json::json!({"closing_price": market.profile.price().spell(world.switches.bithumb_legacy.numbers)})
        };
        data.insert(market.pair().1.to_owned(), value);
    }
    if data.is_empty() {
        return Answer::from(not_listed(world)).struck(&struck);
    }
    data.insert("date".to_owned(), (now_us / 1_000).to_string().into());
    let body = serde_json::json!({"status": "0000", "data": data}).to_string();
    Answer::from(Reply::json(200, body)).struck(&struck)
}
