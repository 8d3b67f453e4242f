//! Upbit over REST: `/v1/orderbook` and `/v1/market/all` (UP-01 to UP-23).

use std::num::ParseIntError;

use serde_json::json;

use super::api::{Count, OverLimitUpbit};
use super::book::LEVELS;
use super::http::Request;
use super::limiter::{Penalty, Quota, Rule, Verdict};
use super::number::{Number, Spelling};
use super::quotation::{
    MISSING_PARAMETER, UNKNOWN_MARKET, UnitStyle, error, market_list, markets_asked, write_array, write_units,
};
use super::reply::Reply;
use super::world::{Answer, World};

/// The group of all requests with an `Origin` header.
const ORIGIN: &str = "origin";
const ORIGIN_SECONDS: u64 = 10;

type Call = fn(&mut World, &Request, u64) -> Answer;

pub(crate) fn answer(world: &mut World, request: &Request, now_us: u64) -> Answer {
    let (group, call): (_, Call) = match request.path() {
        "/v1/orderbook" => ("orderbook", order_book),
        "/v1/market/all" => ("market", market_all),
        _ => {
            let blocked_s = world.windows.blocked_s(request.client, now_us);
            let blocked_s = blocked_s.filter(|_| world.switches.upbit.limiter.enabled);
            return blocked_s.map_or_else(no_route, blocked).into();
        }
    };
    let group = if request.origin.is_some() { ORIGIN } else { group };
    let rule = rule(world, group);
    let verdict = world.windows.take(&rule, request.client, group, now_us);
    let mut answer = match verdict {
        Verdict::Pass { .. } => call(world, request, now_us),
        Verdict::Refuse => too_many(world.switches.upbit.over_limit).into(),
        Verdict::Block { seconds } => blocked(seconds).into(),
    };
    answer.markets = markets_asked(request);
    let (minute, second) = (rule.quota.per_minute(), verdict.remaining());
    answer.reply.headers = vec![
        ("remaining-req", format!("group={group}; min={minute}; sec={second}")),
        ("limit-by-ip", "Yes".to_owned()),
    ];
    answer
}

fn rule(world: &World, group: &str) -> Rule {
    let limiter = &world.switches.upbit.limiter;
    Rule {
        enabled: limiter.enabled,
        quota: match group {
            ORIGIN => Quota::OneIn { seconds: ORIGIN_SECONDS },
            _ => Quota::PerSecond(limiter.per_second),
        },
        penalty: Some(Penalty { first_s: limiter.block_s, longest_s: limiter.block_max_s }),
    }
}

fn no_route() -> Reply {
    error(404, r#""not_found""#, "no Route matched with those values")
}

fn too_many(wanted: OverLimitUpbit) -> Reply {
    const MESSAGE: &str = "Too many API requests.";
    match wanted {
        OverLimitUpbit::Json => {
            Reply::json(429, format!(r#"{{"error":{{"message":"{MESSAGE}","name":"too_many_requests"}}}}"#))
        }
        OverLimitUpbit::Plain => Reply::new(429, "text/plain", MESSAGE),
        OverLimitUpbit::Empty => Reply::empty(429),
    }
}

/// The wording is made up; that it states the time is documented.
fn blocked(seconds: u64) -> Reply {
    Reply::new(418, "text/plain", format!("Too many API requests. This IP is blocked for {seconds} seconds."))
}

fn order_book(world: &mut World, request: &Request, now_us: u64) -> Answer {
    let markets = markets_asked(request);
    if markets.is_empty() {
        return error(400, "400", MISSING_PARAMETER).into();
    }
    let Ok(count) = count(request) else {
        return error(400, "400", "Type mismatch error. Check the parameters type!").into();
    };
    let struck = world.faults.strike_books(&markets);
    let Some(snapshots) = world.read_all(&markets, &struck, now_us) else {
        return Answer::from(error(404, "404", UNKNOWN_MARKET)).struck(&struck);
    };
    // Grouping is not played, so that every other level is an unsupported one.
    if request.parameter("level").is_some_and(|level| level != "0") {
        return Answer::from(Reply::json(200, "[]")).struck(&struck);
    }
    let switches = &world.switches.upbit;
    let count = count.filter(|_| switches.count == Count::Honoured);
    let style = UnitStyle {
        prices: switches.prices,
        quantities: Spelling::TrailingZeros,
        padding: Number::zero(0),
        keys: switches.unit_keys,
        tail: r#","level":0}"#,
    };
    let (mut body, mut books) = (String::new(), Vec::new());
    write_array(&mut body, &snapshots, |body, snapshot| {
        let timestamp = snapshot.timestamp_override.clone().unwrap_or_else(|| snapshot.timestamp_ms.to_string());
        let depth = count.unwrap_or_else(|| snapshot.depth());
        books.push(write_units(body, snapshot, timestamp, depth, &style));
    });
    Answer { books, ..Reply::json(200, body).into() }.struck(&struck)
}

/// The `count` of the query; one out of range counts as none, one that is no number is an error.
fn count(request: &Request) -> Result<Option<usize>, ParseIntError> {
    let count: Option<i64> = request.parameter("count").map(|text| text.parse()).transpose()?;
    Ok(count.and_then(|count| usize::try_from(count).ok()).filter(|count| (1..=LEVELS).contains(count)))
}

fn market_all(world: &mut World, request: &Request, _now_us: u64) -> Answer {
    let event = json!({"warning": false, "caution": {
        "PRICE_FLUCTUATIONS": false, "TRADING_VOLUME_SOARING": false, "DEPOSIT_AMOUNT_SOARING": false,
        "GLOBAL_PRICE_DIFFERENCES": false, "CONCENTRATION_OF_SMALL_ACCOUNTS": false,
    }});
    market_list(world, request, "is_details", ("market_event", &event))
}
