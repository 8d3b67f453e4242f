//! The control endpoint, from the test's side.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::api::{
    BookChange, BookOverride, Fault, FaultRule, LevelText, MarketChange, Page, Pause, RequestSeen, ServedBook, Summary,
    Switches, Target,
};

const TIMEOUT: Duration = Duration::from_secs(30);
/// A page holds at most 5,000 books of 60 levels.
const REPLY_BYTES_MAX: u64 = 64 << 20;

/// Steers an exchange that runs anywhere.
#[derive(Clone, Debug)]
pub struct ExchangeControl {
    base_url: String,
    agent: ureq::Agent,
}

impl ExchangeControl {
    /// `base_url` is what the exchange printed at start: `http://127.0.0.1:PORT`.
    pub fn new(base_url: &str) -> ExchangeControl {
        let config =
            ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).proxy(None).build();
        ExchangeControl { base_url: base_url.trim_end_matches('/').to_owned(), agent: config.into() }
    }

    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    pub fn switches(&self) -> Result<Switches, String> {
        self.get("switches")
    }

    /// Changes the switches that `patch` names: `json!({"bithumb_v2": {"numbers": "exponent"}})`.
    pub fn set_switches(&self, patch: &Value) -> Result<Switches, String> {
        self.post("switches", patch)
    }

    pub fn add_fault(&self, rule: &FaultRule) -> Result<(), String> {
        self.done("faults", rule)
    }

    /// Strikes the next `times` requests that name `market`, or (`None`) any request for books.
    pub fn strike(&self, market: Option<&str>, fault: Fault, times: u64) -> Result<(), String> {
        let target = market.map_or(Target::Books, |market| Target::Market(market.to_owned()));
        self.add_fault(&FaultRule { target, fault, times: Some(times) })
    }

    /// The rules that can still strike.
    pub fn faults(&self) -> Result<Vec<FaultRule>, String> {
        self.get("faults")
    }

    pub fn clear_faults(&self) -> Result<(), String> {
        let reply = self.agent.delete(self.url("faults")).call();
        self.read::<Value>("faults", reply).map(|_| ())
    }

    pub fn change_market(&self, change: &MarketChange) -> Result<(), String> {
        self.done("market", change)
    }

    /// Serves this book, text for text, until [`ExchangeControl::generate_book`].
    pub fn set_book(&self, market: &str, asks: &[(&str, &str)], bids: &[(&str, &str)]) -> Result<(), String> {
        let side = |side: &[(&str, &str)]| -> Vec<LevelText> {
            side.iter().map(|(price, quantity)| ((*price).to_owned(), (*quantity).to_owned())).collect()
        };
        let book = BookOverride { asks: side(asks), bids: side(bids), timestamp: None };
        self.change_market(&MarketChange {
            market: market.to_owned(),
            book: Some(BookChange::Override(book)),
            ..MarketChange::default()
        })
    }

    pub fn generate_book(&self, market: &str) -> Result<(), String> {
        self.change_market(&MarketChange {
            market: market.to_owned(),
            book: Some(BookChange::Generated),
            ..MarketChange::default()
        })
    }

    pub fn list(&self, markets: &[&str]) -> Result<(), String> {
        self.done("list", &markets)
    }

    pub fn delist(&self, markets: &[&str]) -> Result<(), String> {
        self.done("delist", &markets)
    }

    pub fn pause(&self, how: Pause) -> Result<(), String> {
        self.done("pause", &how)
    }

    pub fn resume(&self) -> Result<(), String> {
        self.done("resume", &())
    }

    /// Everything as at start, and the logs empty. Sequence numbers and timestamps go on.
    pub fn reset(&self) -> Result<(), String> {
        self.done("reset", &())
    }

    pub fn stop(&self) -> Result<(), String> {
        self.done("stop", &())
    }

    pub fn summary(&self) -> Result<Summary, String> {
        self.get("summary")
    }

    /// Every request after the sequence number `since`.
    pub fn requests(&self, since: u64) -> Result<Vec<RequestSeen>, String> {
        self.all_pages("requests", since)
    }

    /// Every book after the sequence number `since`.
    pub fn served(&self, since: u64) -> Result<Vec<ServedBook>, String> {
        self.all_pages("served", since)
    }

    fn all_pages<T: DeserializeOwned>(&self, log: &str, since: u64) -> Result<Vec<T>, String> {
        let mut all = Vec::new();
        let mut from = since;
        loop {
            let page: Page<T> = self.get(&format!("{log}?since={from}"))?;
            if page.dropped > 0 {
                return Err(format!(
                    "the exchange dropped {} entries of its log {log}: too much for one test",
                    page.dropped
                ));
            }
            if page.next == from {
                return Ok(all);
            }
            from = page.next;
            all.extend(page.entries);
        }
    }

    fn url(&self, route: &str) -> String {
        format!("{}/control/{route}", self.base_url)
    }

    fn get<T: DeserializeOwned>(&self, route: &str) -> Result<T, String> {
        self.read(route, self.agent.get(self.url(route)).call())
    }

    fn post<T: DeserializeOwned>(&self, route: &str, body: &impl Serialize) -> Result<T, String> {
        let json = serde_json::to_string(body).map_err(|error| error.to_string())?;
        self.read(route, self.agent.post(self.url(route)).content_type("application/json").send(json))
    }

    fn done(&self, route: &str, body: &impl Serialize) -> Result<(), String> {
        self.post::<Value>(route, body).map(|_| ())
    }

    fn read<T: DeserializeOwned>(
        &self,
        route: &str,
        reply: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, String> {
        let mut reply = reply.map_err(|error| format!("{}: {error}", self.url(route)))?;
        let status = reply.status();
        let text = reply.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| format!("{}: {error}", self.url(route)))?;
        if status != 200 {
            return Err(format!("{}: {status} {text}", self.url(route)));
        }
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", self.url(route)))
    }
}
