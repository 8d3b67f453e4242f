//! Bithumb API 2.x over REST: `/v1/orderbook`, `/v1/market/all`, and as much of `/v1/ticker` as has a case (B2-01 to B2-20).

use std::fmt::Write as _;

use super::api::{ErrorName, ObjectOrder, OverLimitV2, TimestampUnit};
use super::book::{LEVELS, QUANTITY_SCALE, fnv, mix};
use super::http::{Reply, Request};
use super::limiter::Verdict;
use super::market::Snapshot;
use super::number::{Number, spell as spell_number};
use super::world::{Answer, SentBook, World, no_route, spell};

/// Levels a side when more than one market is asked for.
const LEVELS_OF_MANY: usize = 15;
/// Characters of a query from which on the gateway refuses the request.
const QUERY_MAX: usize = 4_096;
const TICKER_MARKETS_MAX: usize = 200;

pub(crate) fn answer(world: &mut World, request: &Request, now_us: u64) -> Answer {
    let category = match request.path() {
        _ if request.query().len() > QUERY_MAX => return Reply::empty(414).into(),
        "/v1/orderbook" => "orderbook",
        "/v1/ticker" => "ticker",
        "/v1/market/all" => "rest",
        _ => return no_route().into(),
    };
    let limiter = &world.switches.bithumb_v2.limiter;
    let verdict = world.buckets.take(limiter, request.client, category, now_us);
    let limit = limiter.per_second;
    let mut answer = match verdict {
        Verdict::Refuse => {
            Answer { markets: markets_asked(request), ..over_limit(world.switches.bithumb_v2.over_limit).into() }
        }
        Verdict::Pass { .. } => match category {
            "orderbook" => order_book(world, request, now_us),
            "ticker" => ticker(world, request, now_us),
            _ => market_all(world, request),
        },
    };
    let remaining = match verdict {
        Verdict::Pass { remaining } => remaining,
        Verdict::Refuse => 0,
    };
    answer.reply.headers = vec![
        ("x-ratelimit-remaining", remaining.to_string()),
        ("x-ratelimit-requested-tokens", "1".to_owned()),
        ("x-ratelimit-burst-capacity", limit.to_string()),
        ("x-ratelimit-replenish-rate", limit.to_string()),
    ];
    answer
}

fn over_limit(wanted: OverLimitV2) -> Reply {
    match wanted {
        OverLimitV2::Empty429 => Reply::empty(429),
        OverLimitV2::Body429 => {
            Reply::json(429, r#"{"error":{"name":"too_many_requests","message":"Too many API requests."}}"#)
        }
        OverLimitV2::Forbidden403 => Reply::empty(403),
    }
}

/// The markets of the query, upper-cased, each once: `markets=A,B` and `markets=A&markets=B` alike.
fn markets_asked(request: &Request) -> Vec<String> {
    let mut markets: Vec<String> = Vec::new();
    for value in request.parameters("markets") {
        for code in value.split(',').filter(|code| !code.is_empty()) {
            let code = code.to_ascii_uppercase();
            if !markets.contains(&code) {
                markets.push(code);
            }
        }
    }
    markets
}

fn error(world: &World, status: u16, code: u16, message: &str) -> Reply {
    let name = match world.switches.bithumb_v2.error_name {
        ErrorName::Integer => code.to_string(),
        ErrorName::String => format!("\"{code}\""),
    };
    Reply::json(status, format!(r#"{{"error":{{"name":{name},"message":"{message}"}}}}"#))
}

fn missing_parameter(world: &World) -> Reply {
    error(world, 200, 400, "Missing request parameter error. Check the required parameters!")
}

fn unknown_market(world: &World) -> Reply {
    error(world, world.switches.bithumb_v2.unknown_market, 404, "Code not found")
}

fn order_book(world: &mut World, request: &Request, now_us: u64) -> Answer {
    let markets = markets_asked(request);
    if markets.is_empty() {
        return missing_parameter(world).into();
    }
    let struck = world.faults.strike_books(&markets);
    let known = |market: &String| world.markets.is_listed(market) && !struck.delists(market);
    if !markets.iter().all(known) {
        return Answer { markets, ..unknown_market(world).into() }.struck(&struck);
    }
    let read = |market: &String| world.markets.read(market, now_us / 1_000, struck.frozen(market));
    let mut snapshots: Vec<Snapshot> = markets.iter().filter_map(read).collect();
    if world.switches.bithumb_v2.object_order == ObjectOrder::Shuffled {
        snapshots.sort_by_key(|snapshot| mix(fnv(&snapshot.market) ^ snapshot.timestamp_ms));
    }
    let (mut body, mut books) = (String::from("["), Vec::new());
    for snapshot in &snapshots {
        if body.len() > 1 {
            body.push(',');
        }
        books.push(write_book(world, snapshot, snapshots.len() == 1, &mut body));
    }
    body.push(']');
    Answer { markets, books, ..Reply::json(200, body).into() }.struck(&struck)
}

fn write_book(world: &World, snapshot: &Snapshot, single: bool, body: &mut String) -> SentBook {
    let switches = &world.switches.bithumb_v2;
    let timestamp = match (&snapshot.timestamp_override, single, switches.single_timestamp) {
        (Some(json), _, _) => json.clone(),
        (None, true, TimestampUnit::Us) => format!("{}{:03}", snapshot.timestamp_ms, snapshot.timestamp_ms % 1_000),
        (None, _, _) => snapshot.timestamp_ms.to_string(),
    };
    // A book that a test has made is sent whole, however deep it is.
    let is_made = snapshot.book.asks.first().is_some_and(|(price, _)| matches!(price, Number::Verbatim(_)));
    let depth = match single {
        true if is_made => usize::MAX,
        true => LEVELS,
        false => LEVELS_OF_MANY,
    };
    let side = |side| spell(side, depth, switches.numbers);
    let (mut asks, mut bids) = (side(&snapshot.book.asks), side(&snapshot.book.bids));
    // A side with too few orders is padded with zeros.
    let zero = spell_number(0, QUANTITY_SCALE, switches.numbers);
    let units = asks.len().max(bids.len());
    for side in [&mut asks, &mut bids] {
        side.resize(units, (zero.clone(), zero.clone()));
    }
    let total = |side: &[super::book::Level]| {
        let units = side.iter().take(depth).map(|(_, quantity)| quantity.units_at(QUANTITY_SCALE)).sum();
        spell_number(units, QUANTITY_SCALE, switches.numbers)
    };
    // Writing to a string cannot fail.
    let _ = write!(
        body,
        r#"{{"market":"{}","timestamp":{timestamp},"total_ask_size":{},"total_bid_size":{},"orderbook_units":["#,
        snapshot.market,
        total(&snapshot.book.asks),
        total(&snapshot.book.bids),
    );
    for (at, ((ask_price, ask_size), (bid_price, bid_size))) in asks.iter().zip(&bids).enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            body,
            r#"{comma}{{"ask_price":{ask_price},"bid_price":{bid_price},"ask_size":{ask_size},"bid_size":{bid_size}}}"#
        );
    }
    body.push_str("]}");
    SentBook { market: snapshot.market.clone(), timestamp_ms: snapshot.timestamp_ms, timestamp, asks, bids }
}

fn market_all(world: &mut World, request: &Request) -> Answer {
    let struck = world.faults.strike_list();
    let details = request.parameters("isDetails").iter().any(|value| value == "true");
    let rows: Vec<serde_json::Value> = world
        .markets
        .listed()
        .map(|market| {
            let (code, name) = (&market.profile.code, &market.profile.name);
            let mut row = serde_json::json!({"market": code, "korean_name": korean(name), "english_name": name});
            if details {
                row["market_warning"] = "NONE".into();
            }
            row
        })
        .collect();
    Answer::from(Reply::json(200, serde_json::Value::from(rows).to_string())).struck(&struck)
}

/// Real names for two, so that clients meet text that is not ASCII.
fn korean(name: &str) -> &str {
    match name {
        "Bitcoin" => "비트코인",
        "Ethereum" => "이더리움",
        other => other,
    }
}

/// The adapters do not use it; it is here for the cap on its `markets`, which the order book may get one day.
fn ticker(world: &mut World, request: &Request, now_us: u64) -> Answer {
    let markets = markets_asked(request);
    if markets.is_empty() {
        return missing_parameter(world).into();
    }
    let reply = if markets.len() > TICKER_MARKETS_MAX {
        // Here the name is a string, whatever it is elsewhere.
        Reply::json(
            400,
            r#"{"error":{"name":"400","message":"Parameter 'markets' must be less than or equal to 200 items."}}"#,
        )
    } else if markets.iter().all(|market| world.markets.is_listed(market)) {
        // 9 hours ahead, as the real one.
        let timestamp_ms = now_us / 1_000 + 9 * 3_600_000;
        let rows: Vec<serde_json::Value> =
            markets.iter().map(|market| serde_json::json!({"market": market, "timestamp": timestamp_ms})).collect();
        Reply::json(200, serde_json::Value::from(rows).to_string())
    } else {
        unknown_market(world)
    };
    Answer { markets, ..reply.into() }
}
