//! The control endpoint `/control/…`: JSON in, JSON out; how tests steer the exchange and look at what it saw.
//!
//! | request | body | does |
//! |---|---|---|
//! | `GET switches`, `POST switches` | part of [`Switches`](super::api::Switches) | what is named changes |
//! | `GET faults`, `POST faults` | [`FaultRule`] | adds a rule |
//! | `DELETE faults` | | clears all rules |
//! | `POST market` | [`MarketChange`] | changes one market |
//! | `POST list`, `POST delist` | `["KRW-BTC", …]` | a market comes, or goes |
//! | `POST pause` | `"hang"` or `"reset"` | see [`Pause`] |
//! | `POST resume`, `POST reset`, `POST stop` | | |
//! | `GET requests?since=N&limit=M` | | a [`Page`](super::api::Page) of [`RequestSeen`](super::api::RequestSeen) |
//! | `GET served?since=N&limit=M` | | a page of [`ServedBook`](super::api::ServedBook) |
//! | `GET summary` | | [`Summary`](super::api::Summary) |

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::{FaultRule, MarketChange, Pause, Switches};
use super::http::Request;
use super::reply::Reply;
use super::world::World;

/// Entries in one page, unless the request names fewer.
const PAGE_MAX: usize = 5_000;

/// What the server has to do besides answering.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    Stop,
}

/// `route` is the path after `/control/`.
pub(crate) fn answer(world: &mut World, request: &Request, route: &str) -> (Reply, Then) {
    let then = if route == "stop" && request.method == "POST" { Then::Stop } else { Then::GoOn };
    match control(world, request, route) {
        Ok(json) => (Reply::json(200, json), then),
        Err((status, message)) => (Reply::json(status, serde_json::json!({"error": message}).to_string()), Then::GoOn),
    }
}

type Outcome = Result<String, (u16, String)>;

fn control(world: &mut World, request: &Request, route: &str) -> Outcome {
    match (request.method.as_str(), route) {
        ("GET", "switches") => json(&world.switches),
        ("POST", "switches") => {
            world.switches = patched(&world.switches, body(request)?)?;
            json(&world.switches)
        }
        ("GET", "faults") => json(&world.faults.rules()),
        ("POST", "faults") => {
            let rule: FaultRule = body(request)?;
            done(world.faults.add(rule))
        }
        ("DELETE", "faults") => {
            world.faults.clear();
            done(Ok(()))
        }
        ("POST", "market") => {
            let change: MarketChange = body(request)?;
            done(world.markets.change(change))
        }
        ("POST", "list") => {
            let codes: Vec<String> = body(request)?;
            done(codes.iter().try_for_each(|code| world.markets.list(code)))
        }
        ("POST", "delist") => {
            let codes: Vec<String> = body(request)?;
            done(codes.iter().try_for_each(|code| world.markets.delist(code)))
        }
        ("POST", "pause") => {
            let pause: Pause = body(request)?;
            world.pause = Some(pause);
            done(Ok(()))
        }
        ("POST", "resume") => {
            world.pause = None;
            done(Ok(()))
        }
        ("POST", "reset") => {
            world.reset();
            done(Ok(()))
        }
        ("POST", "stop") => done(Ok(())),
        ("GET", "requests") => json(&world.requests.page(number(request, "since")?.unwrap_or(0), limit(request)?)),
        ("GET", "served") => json(&world.served.page(number(request, "since")?.unwrap_or(0), limit(request)?)),
        ("GET", "summary") => json(&world.summary),
        (method, route) => Err((404, format!("no {method} /control/{route}"))),
    }
}

fn json<T: Serialize>(value: &T) -> Outcome {
    serde_json::to_string(value).map_err(|error| (500, error.to_string()))
}

fn done(result: Result<(), String>) -> Outcome {
    result.map(|()| "{}".to_owned()).map_err(|message| (400, message))
}

fn body<T: DeserializeOwned>(request: &Request) -> Result<T, (u16, String)> {
    serde_json::from_slice(&request.body).map_err(|error| (400, error.to_string()))
}

fn number(request: &Request, name: &str) -> Result<Option<u64>, (u16, String)> {
    let value = request.parameters(name).into_iter().next();
    value.map(|text| text.parse().map_err(|_| (400, format!("{name} must be a number, not {text:?}")))).transpose()
}

fn limit(request: &Request) -> Result<usize, (u16, String)> {
    Ok(number(request, "limit")?.map_or(PAGE_MAX, |limit| usize::try_from(limit).unwrap_or(PAGE_MAX)).min(PAGE_MAX))
}

/// The switches with the keys of `patch` in place of their own.
fn patched(switches: &Switches, patch: Value) -> Result<Switches, (u16, String)> {
    fn merge(into: &mut Value, patch: Value) {
        match (into, patch) {
            (Value::Object(into), Value::Object(patch)) => {
                for (key, value) in patch {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, patch) => *into = patch,
        }
    }
    let mut merged = serde_json::to_value(switches).map_err(|error| (500, error.to_string()))?;
    merge(&mut merged, patch);
    serde_json::from_value(merged).map_err(|error| (400, error.to_string()))
}
