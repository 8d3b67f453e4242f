//! Korbit (Digital X) over REST: `/v2/orderbook`, `/v2/currencyPairs`, and as much of `/v2/tickers` and `/v2/time` as has a case
//! (KB-01 to KB-16).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::api::{LevelText, OverLimitKorbit};
use super::book::Level;
use super::http::Request;
use super::limiter::{Quota, Rule, Verdict};
use super::market::Market;
use super::number::{Number, Spelling};
use super::quotation::{spell, write_array};
use super::reply::Reply;
use super::world::{Answer, SentBook, World};

/// The values of `level`, in KRW.
const STEPS: [i64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

type Call = fn(&mut World, &Request, u64) -> Answer;

pub(crate) fn answer(world: &mut World, request: &Request, now_us: u64) -> Answer {
    let call: Call = match request.path() {
        "/v2/orderbook" => order_book,
        "/v2/currencyPairs" => currency_pairs,
        "/v2/tickers" => tickers,
        "/v2/time" => time,
        _ => return error(404, "NOT_FOUND").into(),
    };
    let limiter = &world.switches.korbit.limiter;
    let limit = limiter.per_second;
    let rule = Rule { enabled: limiter.enabled, quota: Quota::PerSecond(limit), penalty: None };
    let policy = ("ratelimit-policy", format!("{limit};w=1"));
    let mut answer = match world.windows.take(&rule, request.client, "public", now_us) {
        Verdict::Pass { remaining } => {
            let mut answer = call(world, request, now_us);
            answer.reply.headers.push(("ratelimit", format!("limit={limit}, remaining={remaining}, reset=1")));
            answer
        }
        _ => {
            let mut reply = too_many(world.switches.korbit.over_limit);
            reply.headers.push(("retry-after", "1".to_owned()));
            reply.into()
        }
    };
    answer.reply.headers.push(policy);
    answer.markets = request.parameter("symbol").map(|symbol| code(&symbol).unwrap_or(symbol)).into_iter().collect();
    answer
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, format!(r#"{{"success":false,"error":{{"code":{status},"message":"{message}"}}}}"#))
}

fn success(data: &Value) -> Reply {
    Reply::json(200, format!(r#"{{"success":true,"data":{data}}}"#))
}

fn too_many(wanted: OverLimitKorbit) -> Reply {
    match wanted {
        OverLimitKorbit::Envelope => error(429, "TOO_MANY_REQUESTS"),
        OverLimitKorbit::Html => Reply::html(429),
    }
}

/// `btc_krw` in the house's spelling; upper case is no symbol.
fn code(symbol: &str) -> Option<String> {
    let (base, quote) = symbol.split_once('_')?;
    (symbol == symbol.to_ascii_lowercase()).then(|| format!("{quote}-{base}").to_ascii_uppercase())
}

fn symbol(market: &Market) -> String {
    let (quote, base) = market.pair();
    format!("{base}_{quote}").to_ascii_lowercase()
}

fn order_book(world: &mut World, request: &Request, now_us: u64) -> Answer {
    let Some(symbol) = request.parameter("symbol") else { return error(400, "BAD_REQUEST").into() };
    let level = request.parameter("level");
    let step = level.as_deref().and_then(|level| level.parse().ok()).filter(|step| STEPS.contains(step));
    if level.is_some() && step.is_none() {
        return error(400, "BAD_REQUEST").into();
    }
    let market = code(&symbol);
    let struck = world.faults.strike_books(market.as_slice());
    let Some(snapshot) = market.and_then(|market| world.read(&market, &struck, now_us)) else {
        return Answer::from(error(400, "INVALID_CURRENCY_PAIR")).struck(&struck);
    };
    let rows = |side: &[Level], towards| match step {
        Some(step) => grouped(side, step, towards),
        None => {
            spell(side, usize::MAX, Spelling::Plain, Spelling::Plain).into_iter().map(|level| (level, None)).collect()
        }
    };
    let (asks, bids) = (rows(&snapshot.book.asks, Towards::Next), rows(&snapshot.book.bids, Towards::Last));
    let timestamp = snapshot.timestamp_override.unwrap_or_else(|| snapshot.timestamp_ms.to_string());
    let mut body = format!(r#"{{"success":true,"data":{{"timestamp":{timestamp},"bids":"#);
    write_array(&mut body, &bids, write_row);
    body.push_str(r#","asks":"#);
    write_array(&mut body, &asks, write_row);
    body.push_str("}}");
    let levels = |rows: Vec<Row>| rows.into_iter().map(|(level, _)| level).collect();
    let book = SentBook {
        market: snapshot.market,
        timestamp_ms: snapshot.timestamp_ms,
        timestamp,
        asks: levels(asks),
        bids: levels(bids),
    };
    Answer { books: vec![book], ..Reply::json(200, body).into() }.struck(&struck)
}

/// A level, and its value in KRW if levels are grouped.
type Row = (LevelText, Option<String>);

fn write_row(body: &mut String, ((price, quantity), value): &Row) {
    let value = value.as_ref().map_or_else(String::new, |value| format!(r#","amt":"{value}""#));
    // Writing to a string cannot fail.
    let _ = write!(body, r#"{{"price":"{price}","qty":"{quantity}"{value}}}"#);
}

/// The multiple of a step that a price belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Towards {
    Last,
    Next,
}

/// A side with the levels of each multiple of `step` in one row. A test's own texts cannot be grouped, and are left out.
fn grouped(side: &[Level], step: i64, towards: Towards) -> Vec<Row> {
    let mut groups: Vec<[Number; 3]> = Vec::new();
    for (price, quantity) in side {
        let (&Number::Scaled { units, scale }, &Number::Scaled { units: quantity_units, scale: quantity_scale }) =
            (price, quantity)
        else {
            continue;
        };
        let step = step * 10_i64.pow(scale);
        let multiple = if towards == Towards::Next { (units + step - 1) / step } else { units / step };
        let price = Number::Scaled { units: multiple * step, scale };
        let value = i128::from(units) * i128::from(quantity_units) / 10_i128.pow(quantity_scale);
        let value = Number::Scaled { units: i64::try_from(value).unwrap_or(i64::MAX), scale };
        match groups.last_mut() {
            Some([same, quantities, values]) if *same == price => {
                *quantities = Number::sum([&*quantities, quantity].into_iter());
                *values = Number::sum([&*values, &value].into_iter());
            }
            _ => groups.push([price, quantity.clone(), value]),
        }
    }
    let row = |group: [Number; 3]| {
        let [price, quantity, value] = group.map(|number| number.spell(Spelling::Plain));
        ((price, quantity), Some(value))
    };
    groups.into_iter().map(row).collect()
}

fn currency_pairs(world: &mut World, _request: &Request, _now_us: u64) -> Answer {
    let struck = world.faults.strike_list();
    let row = |market: &Market| {
        let (quote, base) = market.pair();
        json!({
            "symbol": symbol(market),
            "status": if market.suspended { "stopped" } else { "launched" },
            "baseCurrency": base.to_ascii_lowercase(),
            "quoteCurrency": quote.to_ascii_lowercase(),
            "minOrderValue": "5000",
            "maxOrderValue": "1000000000",
        })
    };
    let rows: Value = world.markets.listed().map(row).collect();
    let mut reply = success(&rows);
    reply.headers.push(("cache-control", "public, max-age=60".to_owned()));
    Answer::from(reply).struck(&struck)
}

/// The adapter does not use it; it is here for what an unknown symbol gives: nothing, and no error.
fn tickers(world: &mut World, request: &Request, _now_us: u64) -> Answer {
    let wanted = request.parameter("symbol");
    let listed = world.markets.listed().filter(|market| wanted.as_ref().is_none_or(|wanted| *wanted == symbol(market)));
    let rows: Value = listed
        .map(|market| json!({"symbol": symbol(market), "close": market.profile.price().spell(Spelling::Plain)}))
        .collect();
    success(&rows).into()
}

fn time(_world: &mut World, _request: &Request, now_us: u64) -> Answer {
    success(&json!({"time": now_us / 1_000})).into()
}
