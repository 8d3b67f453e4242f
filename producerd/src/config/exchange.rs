//! The table of one exchange, such as `[exchange.bithumb]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use coinflow_common::config::{Table, show_duration};
use coinflow_common::orderbook::Exchange;
use ureq::http::Uri;

use super::KafkaConfig;
use crate::exchange::{Api, apis_of};
use crate::schedule::Limits;

const WORKERS: u64 = 16;
const TIMEOUT: Duration = Duration::from_secs(3);
const MARKETS_REFRESH: Duration = Duration::from_secs(600);

const REQUESTS_PER_SECOND_RANGE: RangeInclusive<u64> = 1..=100_000;
const WORKERS_RANGE: RangeInclusive<u64> = 1..=256;
const TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const LEVELS_RANGE: RangeInclusive<u64> = 1..=10_000;
const MARKETS_REFRESH_RANGE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(86_400);

/// How to ask one exchange, and where its books go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExchangeConfig {
    pub(crate) exchange: Exchange,
    pub(crate) api: &'static Api,
    /// Without a slash at its end.
    pub(crate) base_url: String,
    pub(crate) requests_per_second: u64,
    pub(crate) markets_per_request: u64,
    pub(crate) workers: u64,
    pub(crate) timeout: Duration,
    pub(crate) levels: u64,
    pub(crate) skip_unchanged: bool,
    pub(crate) markets_refresh: Duration,
    pub(crate) kafka: KafkaConfig,
}

impl ExchangeConfig {
    pub(super) fn read(table: &mut Table<'_>, name: &str, kafka: &KafkaConfig) -> Option<Self> {
        let apis: Vec<(&str, &'static Api)> = apis_of(name).map(|api| (api.name, api)).collect();
        let (_, default) = *apis.first()?;
        let api = table.choice("api", default, &apis);
        let base_url = table.string("base_url", api.base_url);
        let url = read_url(&base_url);
        if let Err(message) = &url {
            table.problem("base_url", message);
        }
        let requests_per_second =
            table.integer("requests_per_second", u64::from(api.requests_per_second), REQUESTS_PER_SECOND_RANGE);
        let mut hosts = std::iter::once(&api.base_url).chain(api.other_hosts);
        let is_own_host = url.is_ok_and(|url| hosts.any(|host| Some(&url) == read_url(host).ok().as_ref()));
        if is_own_host && requests_per_second > u64::from(api.requests_per_second_limit) {
            let limit = api.requests_per_second_limit;
            table.problem(
                "requests_per_second",
                format!("{requests_per_second} is above the limit of {name}, {limit} requests a second"),
            );
        }
        let markets_per_request_range = 1..=api.markets_per_request_max as u64;
        Some(Self {
            exchange: Exchange::parse(name).ok()?,
            api,
            base_url: base_url.trim_end_matches('/').to_owned(),
            requests_per_second,
            markets_per_request: match api.markets_per_request_max {
                1 => read_one_market(table, api),
                _ => table.integer("markets_per_request", api.markets_per_request as u64, markets_per_request_range),
            },
            workers: table.integer("workers", WORKERS, WORKERS_RANGE),
            timeout: table.duration("timeout", TIMEOUT, TIMEOUT_RANGE),
            levels: table.integer("levels", api.levels as u64, LEVELS_RANGE),
            skip_unchanged: table.boolean("skip_unchanged", false),
            markets_refresh: table.duration("markets_refresh", MARKETS_REFRESH, MARKETS_REFRESH_RANGE),
            kafka: table.table("kafka", |table| KafkaConfig::read(table, kafka)),
        })
    }

    /// The bounds of its schedule.
    pub(crate) fn limits(&self) -> Limits {
        // The ranges of the file are far inside these types.
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Limits {
            requests_per_second: number(self.requests_per_second),
            requests_per_second_limit: self.api.requests_per_second_limit,
            markets_per_request: self.markets_per_request as usize,
            codes_chars_max: self.api.codes_chars_max,
            requests_per_list: number(self.api.adapter.list_paths().len() as u64),
            workers: self.workers as usize,
            markets_refresh: self.markets_refresh,
        }
    }

    pub(super) fn settings(&self, settings: &mut Vec<(String, String)>) {
        let table = format!("exchange.{}", self.exchange);
        let mut put = |key: &str, value: String| settings.push((format!("{table}.{key}"), value));
        put("api", self.api.name.to_owned());
        put("base_url", self.base_url.clone());
        put("requests_per_second", self.requests_per_second.to_string());
        put("markets_per_request", self.markets_per_request.to_string());
        put("workers", self.workers.to_string());
        put("timeout", show_duration(self.timeout));
        put("levels", self.levels.to_string());
        put("skip_unchanged", self.skip_unchanged.to_string());
        put("markets_refresh", show_duration(self.markets_refresh));
        self.kafka.settings(&format!("{table}.kafka"), settings);
    }
}

/// The key `markets_per_request` where the API has no choice.
fn read_one_market(table: &mut Table<'_>, api: &Api) -> u64 {
    if let Some(value) = table.value("markets_per_request") {
        if value.integer().is_some_and(|number| number != 1) {
            value.problem(format!("the API {} answers one market a request; write 1", api.name));
        }
    }
    1
}

/// The host of a base URL, lower case.
///
/// # Errors
/// What is wrong with the URL; never with a password in it.
fn read_url(url: &str) -> Result<String, String> {
    if url.contains('@') {
        return Err("may not have a user name or password".to_owned());
    }
    let bad = || format!("{url:?} is not a URL of the form https://host or http://host:port");
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let is_plain = matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none() && !url.contains('#');
    let authority = uri.authority().filter(|authority| is_plain && !authority.host().is_empty()).ok_or_else(bad)?;
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    let is_port =
        |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if !port.is_empty() && !is_port(port) {
        return Err(bad());
    }
    Ok(authority.host().to_ascii_lowercase())
}
