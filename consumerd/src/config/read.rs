//! From TOML to the checked types.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use coinflow_common::config::{Table, Value};
use coinflow_common::kafka::{ClusterConfig, Overrides, Role, read_brokers};
use coinflow_common::logging::LogConfig;
use postgres::config::{Host, SslMode};

use super::{Batch, Config, OnOverrun, Postgres, Source, Start, Tls};

const CONNECTION: &str = "host=/run/postgresql user=coinflow dbname=coinflow";
const SCHEMA: &str = "coinflow";
/// PostgreSQL cuts longer names.
const SCHEMA_BYTES_MAX: usize = 63;
const RETENTION: RangeInclusive<Duration> = days(1)..=days(36_500);
const SOURCE: &str = "main";
const SOURCE_BYTES_MAX: usize = 63;
const BROKER: &str = "localhost:9092";
const GROUP: &str = "coinflow-consumerd";
const TOPICS: [&str; 3] = ["coinflow.orderbook.bithumb", "coinflow.orderbook.upbit", "coinflow.orderbook.korbit"];
const TOPIC_BYTES_MAX: usize = 249;
const STARTS: [(&str, Start); 3] = [("earliest", Start::Earliest), ("latest", Start::Latest), ("group", Start::Group)];
const OVERRUNS: [(&str, OnOverrun); 2] = [("stop", OnOverrun::Stop), ("continue", OnOverrun::Continue)];
const MAX_BOOKS: u64 = 2000;
const MAX_SIZE: u64 = 4 << 20;

const fn days(number: u64) -> Duration {
    Duration::from_secs(number * 86_400)
}

pub(super) fn config(root: &mut Table<'_>) -> Config {
    Config {
        postgres: root.table("postgres", postgres),
        sources: root.table("source", sources),
        batch: root.table("batch", |batch| Batch {
            max_books: batch.integer("max_books", MAX_BOOKS, 1..=100_000) as usize,
            max_size: batch.size("max_size", MAX_SIZE, 64 << 10..=256 << 20) as usize,
        }),
        log: LogConfig::read(root),
    }
}

fn postgres(table: &mut Table<'_>) -> Postgres {
    let text = table.string("connection", CONNECTION);
    let tls = table.choice("tls", Tls::Verify, &[("verify", Tls::Verify), ("off", Tls::Off)]);
    let connection = connection(&text, tls).unwrap_or_else(|problem| {
        table.problem("connection", problem);
        postgres::Config::new()
    });
    let schema = table.string("schema", SCHEMA);
    if schema.len() > SCHEMA_BYTES_MAX || schema.starts_with("pg_") || schema.contains('\0') {
        table.problem("schema", format!("{schema:?} cannot be a schema: at most 63 bytes, and not beginning with pg_"));
    }
    Postgres {
        connection,
        password_file: table.optional_string("password_file").map(Into::into),
        tls,
        ca_file: table.optional_string("ca_file").map(Into::into),
        schema,
        retention: table.optional_duration("retention", RETENTION),
    }
}

fn connection(text: &str, tls: Tls) -> Result<postgres::Config, String> {
    let config: postgres::Config = text.parse().map_err(|error: postgres::Error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}")
    })?;
    if config.get_ssl_mode() != SslMode::Prefer {
        return Err("sslmode cannot be set here: use the key tls".to_owned());
    }
    let hosts = config.get_hosts();
    let on_tcp = |host: &Host| matches!(host, Host::Tcp(_));
    if hosts.is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".to_owned());
    }
    if tls == Tls::Verify && hosts.is_empty() {
        return Err("names no host beside hostaddr, which tls = \"verify\" needs for the certificate".to_owned());
    }
    if tls == Tls::Verify && hosts.iter().any(on_tcp) && !hosts.iter().all(on_tcp) {
        return Err("names unix sockets and TCP hosts together, which tls = \"verify\" does not allow".to_owned());
    }
    Ok(config)
}

fn sources(table: &mut Table<'_>) -> Vec<Source> {
    let entries = table.entries();
    if entries.is_empty() {
        return vec![table.table(SOURCE, |table| source(SOURCE, table))];
    }
    let mut sources: Vec<Source> = Vec::new();
    for (name, value) in entries {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > SOURCE_BYTES_MAX || !name.chars().all(good) {
            value.problem("a source's name is made of letters, digits, - and _, at most 63 of them");
        }
        if let Some(source) = value.table(|table| source(&name, table)) {
            if let Some((other, topic)) = sources.iter().find_map(|other| Some((other, shared(other, &source)?))) {
                value.problem(format!("reads topic {topic} of the same brokers as source.{}", other.name));
            }
            sources.push(source);
        }
    }
    sources
}

/// A topic that two sources on one cluster both read. Two lists of brokers without a common one may still be one
/// cluster; that is found when its id is known.
fn shared<'a>(a: &'a Source, b: &Source) -> Option<&'a str> {
    let same_cluster = a.cluster.brokers.iter().any(|broker| b.cluster.brokers.contains(broker));
    let topic = a.topics.iter().find(|topic| b.topics.contains(topic))?;
    same_cluster.then_some(topic)
}

fn source(name: &str, table: &mut Table<'_>) -> Source {
    let brokers = read_brokers(table, &[BROKER.to_owned()]);
    let overrides = Overrides::read(table, Role::Consumer, &Overrides::default());
    Source {
        name: name.to_owned(),
        cluster: ClusterConfig { brokers, overrides },
        group: table.string("group", GROUP),
        topics: topics(table),
        start: table.choice("start", Start::Earliest, &STARTS),
        on_overrun: table.choice("on_overrun", OnOverrun::Stop, &OVERRUNS),
    }
}

fn topics(table: &mut Table<'_>) -> Vec<String> {
    let Some(value) = table.value("topics") else { return TOPICS.map(str::to_owned).to_vec() };
    let items = value.items();
    if value.is_array() && items.is_empty() {
        value.problem("must name at least one topic");
    }
    let mut known = BTreeSet::new();
    let read = |item: Value<'_>| {
        let topic = item.string()?;
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || !topic.chars().all(good) || topic.starts_with("__") {
            item.problem(format!("{topic:?} is not a topic's name"));
        } else if !known.insert(topic.to_owned()) {
            item.problem(format!("{topic:?} stands here twice"));
        }
        Some(topic.to_owned())
    };
    items.into_iter().filter_map(read).collect()
}
