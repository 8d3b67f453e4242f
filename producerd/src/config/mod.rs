//! producerd.toml and symbols.toml as checked types.

mod symbols;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coinflow_common::config::{self, Bytes, Loaded, Problems, Table, show_duration};
use coinflow_common::kafka::{ClusterConfig, Overrides, Role, read_brokers};
use coinflow_common::logging::LogConfig;
use coinflow_common::orderbook::Exchange;
use ureq::http::Uri;

pub(crate) use self::symbols::{Symbols, load as load_symbols};
use crate::exchange::{self, Api};

/// Where the packages put it.
pub(crate) const DEFAULT_FILE: &str = "/etc/coinflow/producerd.toml";

const SYMBOLS_FILE: &str = "/etc/coinflow/symbols.toml";
const BROKERS: &str = "localhost:9092";
const TOPIC_PREFIX: &str = "coinflow.orderbook";
/// Kafka's limit for a topic's name is 249; an exchange's name and a dot take up to 33.
const TOPIC_PREFIX_BYTES_MAX: usize = 216;
const TOPIC: TopicConfig = TopicConfig {
    partitions: 3,
    replication_factor: 1,
    retention: Duration::from_secs(7 * 86_400),
    retention_size: 10 << 30,
    max_message_size: 1 << 20,
};
const WORKERS: u64 = 16;
const TIMEOUT: Duration = Duration::from_secs(3);
const MARKETS_REFRESH: Duration = Duration::from_secs(600);

const REQUESTS_PER_SECOND_RANGE: RangeInclusive<u64> = 1..=100_000;
const WORKERS_RANGE: RangeInclusive<u64> = 1..=256;
const TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const LEVELS_RANGE: RangeInclusive<u64> = 1..=10_000;
const MARKETS_REFRESH_RANGE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(86_400);
const PARTITIONS_RANGE: RangeInclusive<u64> = 1..=1000;
const REPLICATION_FACTOR_RANGE: RangeInclusive<u64> = 1..=100;
const RETENTION_RANGE: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(36_500 * 86_400);
const RETENTION_SIZE_RANGE: RangeInclusive<u64> = 1 << 20..=1 << 50;
/// A book of 30 levels a side takes about 2 KiB; librdkafka's own limit is a little below 1 GB.
const MAX_MESSAGE_SIZE_RANGE: RangeInclusive<u64> = 16 << 10..=512 << 20;

/// producerd.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) symbols_file: PathBuf,
    pub(crate) kafka: KafkaConfig,
    /// One for each exchange that this version knows.
    pub(crate) exchanges: Vec<ExchangeConfig>,
    pub(crate) log: LogConfig,
}

/// The table `[kafka]`, or that of one exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KafkaConfig {
    pub(crate) cluster: ClusterConfig,
    pub(crate) topic_prefix: String,
    pub(crate) topic: TopicConfig,
}

/// How a missing topic is made; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicConfig {
    pub(crate) partitions: u64,
    pub(crate) replication_factor: u64,
    pub(crate) retention: Duration,
    /// Of each partition.
    pub(crate) retention_size: u64,
    pub(crate) max_message_size: u64,
}

#[derive(Debug, Clone, PartialEq)]
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

impl Eq for ExchangeConfig {}

/// Both files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) config: Config,
    pub(crate) symbols: Symbols,
    pub(crate) warnings: Problems,
}

/// Reads and checks producerd.toml and the symbols file that it names.
///
/// # Errors
/// All problems of both files.
pub(crate) fn load(path: &Path) -> Result<Files, Problems> {
    // The symbols are checked even if producerd.toml has problems, by what of it could be understood.
    let mut understood = None;
    let config = config::load(path, |root| understood.insert(Config::read(root, path)).clone());
    let symbols = understood.as_ref().map(|config| load_symbols(&config.symbols_file, &config.exchanges));
    match (config, symbols) {
        (Ok(Loaded { value, mut warnings }), Some(Ok(symbols))) => {
            warnings.append(symbols.warnings);
            Ok(Files { config: value, symbols: symbols.value, warnings })
        }
        (config, symbols) => {
            let mut problems = config.err().unwrap_or_default();
            problems.append(symbols.and_then(Result::err).unwrap_or_default());
            Err(problems)
        }
    }
}

/// Reads and checks producerd.toml alone.
///
/// # Errors
/// All its problems.
pub(crate) fn load_daemon(path: &Path) -> Result<Config, Problems> {
    config::load(path, |root| Config::read(root, path)).map(|loaded| loaded.value)
}

impl Config {
    fn read(root: &mut Table<'_>, path: &Path) -> Self {
        let symbols_file = root.string("symbols_file", SYMBOLS_FILE);
        let default = KafkaConfig {
            cluster: ClusterConfig { brokers: vec![BROKERS.to_owned()], overrides: Overrides::default() },
            topic_prefix: TOPIC_PREFIX.to_owned(),
            topic: TOPIC,
        };
        let kafka = root.table("kafka", |table| KafkaConfig::read(table, &default));
        let exchanges = root.table("exchange", |table| {
            let read = |name| table.table(name, |table| ExchangeConfig::read(table, name, &kafka));
            exchange::exchanges().filter_map(read).collect()
        });
        Self {
            symbols_file: path.parent().unwrap_or(Path::new("")).join(symbols_file),
            kafka,
            exchanges,
            log: LogConfig::read(root),
        }
    }

    /// The keys whose values differ in another configuration.
    pub(crate) fn differing_keys(&self, other: &Self) -> Vec<String> {
        let (mine, theirs) = (self.settings(), other.settings());
        let differing = mine.iter().zip(&theirs).filter(|(mine, theirs)| mine != theirs);
        let keys: Vec<String> = differing.map(|((key, _), _)| key.clone()).collect();
        // What an exchange takes over from [kafka] is named there.
        let is_inherited = |key: &&String| {
            let kafka = key.strip_prefix("exchange.").and_then(|key| key.split_once('.'));
            kafka.is_some_and(|(_, key)| keys.iter().any(|named| named == key))
        };
        keys.iter().filter(|key| !is_inherited(key)).cloned().collect()
    }

    /// Every key with its value in effect, in the order of the shipped file.
    fn settings(&self) -> Vec<(String, String)> {
        let mut settings = vec![("symbols_file".to_owned(), self.symbols_file.display().to_string())];
        self.kafka.settings("kafka", &mut settings);
        for exchange in &self.exchanges {
            exchange.settings(&mut settings);
        }
        settings.push(("log.level".to_owned(), debug(&self.log.level)));
        settings.push(("log.target".to_owned(), debug(&self.log.target)));
        settings
    }
}

fn debug(value: &impl Debug) -> String {
    format!("{value:?}")
}

impl KafkaConfig {
    fn read(table: &mut Table<'_>, inherited: &Self) -> Self {
        let brokers = read_brokers(table, &inherited.cluster.brokers);
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let topic_prefix = match table.optional_string("topic_prefix") {
            Some(prefix) if !prefix.chars().all(is_allowed) || prefix.len() > TOPIC_PREFIX_BYTES_MAX => {
                let message = format!(
                    "{prefix:?} is no start of a topic name: letters, digits, '.', '_', '-', at most {TOPIC_PREFIX_BYTES_MAX}"
                );
                table.problem("topic_prefix", message);
                prefix
            }
            prefix => prefix.unwrap_or_else(|| inherited.topic_prefix.clone()),
        };
        let overrides = Overrides::read(table, Role::Producer, &inherited.cluster.overrides);
        let topic = table.table("topic", |topic| TopicConfig::read(topic, inherited.topic));
        Self { cluster: ClusterConfig { brokers, overrides }, topic_prefix, topic }
    }

    fn settings(&self, table: &str, settings: &mut Vec<(String, String)>) {
        let topic = &self.topic;
        let mut put = |key: &str, value: String| settings.push((format!("{table}.{key}"), value));
        put("brokers", self.cluster.brokers.join(","));
        put("topic_prefix", self.topic_prefix.clone());
        put("librdkafka", debug(&self.cluster.overrides));
        put("topic.partitions", topic.partitions.to_string());
        put("topic.replication_factor", topic.replication_factor.to_string());
        put("topic.retention", show_duration(topic.retention));
        put("topic.retention_size", Bytes(topic.retention_size).to_string());
        put("topic.max_message_size", Bytes(topic.max_message_size).to_string());
    }
}

impl TopicConfig {
    fn read(table: &mut Table<'_>, default: Self) -> Self {
        Self {
            partitions: table.integer("partitions", default.partitions, PARTITIONS_RANGE),
            replication_factor: table.integer(
                "replication_factor",
                default.replication_factor,
                REPLICATION_FACTOR_RANGE,
            ),
            retention: table.duration("retention", default.retention, RETENTION_RANGE),
            retention_size: table.size("retention_size", default.retention_size, RETENTION_SIZE_RANGE),
            max_message_size: table.size("max_message_size", default.max_message_size, MAX_MESSAGE_SIZE_RANGE),
        }
    }
}

impl ExchangeConfig {
    fn read(table: &mut Table<'_>, name: &str, kafka: &KafkaConfig) -> Option<Self> {
        let apis: Vec<(&str, &'static Api)> = exchange::apis_of(name).map(|api| (api.name, api)).collect();
        let (_, default) = *apis.first()?;
        let api = table.choice("api", default, &apis);
        let base_url = table.string("base_url", api.base_url);
        let url = read_url(&base_url);
        if let Err(message) = &url {
            table.problem("base_url", message);
        }
        let requests_per_second =
            table.integer("requests_per_second", u64::from(api.requests_per_second), REQUESTS_PER_SECOND_RANGE);
        let is_own_host = url.is_ok_and(|url| Some(url) == read_url(api.base_url).ok());
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

    fn settings(&self, settings: &mut Vec<(String, String)>) {
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
    let number = table.integer("markets_per_request", 1, 1..=u64::from(u16::MAX));
    if number != 1 {
        table.problem("markets_per_request", format!("the API {} answers one market a request; write 1", api.name));
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
    let is_plain = matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none();
    match uri.host() {
        Some(host) if is_plain && !host.is_empty() => Ok(host.to_ascii_lowercase()),
        _ => Err(bad()),
    }
}
