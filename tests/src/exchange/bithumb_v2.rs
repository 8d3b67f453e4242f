//! Bithumb API 2.x over REST: `/v1/orderbook`, `/v1/market/all`, and as much of `/v1/ticker` as has a case (B2-01 to B2-20).

use serde_json::json;

use super::Venue;
use super::api::{ErrorName, ObjectOrder, OverLimitV2, TimestampUnit, UnitKeys};
use super::book::{fnv, mix};
use super::catalogue::quantity_scale;
use super::http::Request;
use super::limiter::Verdict;
use super::market::Snapshot;
use super::number::Number;
use super::quotation::{self, UnitStyle, market_list, markets_asked, write_array, write_units};
use super::reply::Reply;
use super::world::{Answer, SentBook, World, no_route};

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
    let mut answer = match (verdict, category) {
        (Verdict::Pass { .. }, "orderbook") => order_book(world, request, now_us),
        (Verdict::Pass { .. }, "ticker") => ticker(world, request, now_us),
        (Verdict::Pass { .. }, _) => market_list(world, request, "isDetails", ("market_warning", &json!("NONE"))),
        _ => Answer { markets: markets_asked(request), ..over_limit(world.switches.bithumb_v2.over_limit).into() },
    };
    answer.reply.headers = vec![
        ("x-ratelimit-remaining", verdict.remaining().to_string()),
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

fn error(world: &World, status: u16, code: u16, message: &str) -> Reply {
    let name = match world.switches.bithumb_v2.error_name {
        ErrorName::Integer => code.to_string(),
        ErrorName::String => format!("\"{code}\""),
    };
    quotation::error(status, &name, message)
}

fn missing_parameter(world: &World) -> Reply {
    error(world, 200, 400, quotation::MISSING_PARAMETER)
}

fn unknown_market(world: &World) -> Reply {
    error(world, world.switches.bithumb_v2.unknown_market, 404, quotation::UNKNOWN_MARKET)
}

fn order_book(world: &mut World, request: &Request, now_us: u64) -> Answer {
    let markets = markets_asked(request);
    if markets.is_empty() {
        return missing_parameter(world).into();
    }
    let struck = world.faults.strike_books(&markets);
    let Some(mut snapshots) = world.read_all(&markets, &struck, now_us) else {
        return Answer { markets, ..unknown_market(world).into() }.struck(&struck);
    };
    if world.switches.bithumb_v2.object_order == ObjectOrder::Shuffled {
        snapshots.sort_by_key(|snapshot| mix(fnv(&snapshot.market) ^ snapshot.timestamp_ms));
        // Never by chance as they were asked for.
        if snapshots.iter().map(|snapshot| &snapshot.market).eq(&markets) {
            snapshots.reverse();
        }
    }
    let (mut body, mut books) = (String::new(), Vec::new());
    let single = snapshots.len() == 1;
    write_array(&mut body, &snapshots, |body, snapshot| books.push(write_book(world, snapshot, single, body)));
    Answer { markets, books, ..Reply::json(200, body).into() }.struck(&struck)
}

fn write_book(world: &World, snapshot: &Snapshot, single: bool, body: &mut String) -> SentBook {
    let switches = &world.switches.bithumb_v2;
    let timestamp = match (&snapshot.timestamp_override, single, switches.single_timestamp) {
        (Some(json), _, _) => json.clone(),
        (None, true, TimestampUnit::Us) => format!("{}{:03}", snapshot.timestamp_ms, snapshot.timestamp_ms % 1_000),
        (None, _, _) => snapshot.timestamp_ms.to_string(),
    };
    let depth = if single { snapshot.depth() } else { LEVELS_OF_MANY };
    let style = UnitStyle {
        prices: switches.numbers,
        quantities: switches.numbers,
        padding: Number::zero(quantity_scale(Venue::Bithumb)),
        keys: UnitKeys::AskFirst,
        tail: "}",
    };
    write_units(body, snapshot, timestamp, depth, &style)
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
            markets.iter().map(|market| json!({"market": market, "timestamp": timestamp_ms})).collect();
        Reply::json(200, serde_json::Value::from(rows).to_string())
    } else {
        unknown_market(world)
    };
    Answer { markets, ..reply.into() }
}
