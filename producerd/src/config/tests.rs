//! Configuration files, right and wrong, with the exact lines that they give.

use std::fs;
use std::time::Duration;

use coinflow_common::orderbook::Exchange;

use super::*;
use crate::selection::Selection;
use crate::shipped::{self, Manual, uncommented};

const FILE: &str = "/etc/coinflow/producerd.toml";

fn parse(text: &str) -> Result<Loaded<Config>, Problems> {
    let path = Path::new(FILE);
    config::parse(path, text, |root| Config::read(root, path))
}

fn parse_symbols(text: &str, config: &Config) -> Result<Loaded<Symbols>, Problems> {
    config::parse(Path::new(SYMBOLS_FILE), text, |root| symbols::read(root, &config.exchanges))
}

fn default() -> Config {
    parse("").unwrap().value
}

/// The problems without the name of the file.
fn lines<T>(parsed: Result<Loaded<T>, Problems>, file: &str) -> Vec<String> {
    let Err(problems) = parsed else { return Vec::new() };
    let line = |problem: &config::Problem| problem.to_string().replacen(&format!("{file}:"), "", 1);
    problems.iter().map(line).collect()
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let config = default();
    assert_eq!(config.symbols_file, Path::new("/etc/coinflow/symbols.toml"));
    assert_eq!(config.kafka.cluster.brokers, ["localhost:9092"]);
    let [bithumb, upbit, korbit] = &config.exchanges[..] else { panic!("three exchanges") };
    assert_eq!((upbit.api.exchange, &*upbit.base_url), ("upbit", "https://api.upbit.com"));
    assert_eq!((upbit.requests_per_second, upbit.markets_per_request, upbit.levels), (9, 100, 30));
    assert_eq!((korbit.api.exchange, &*korbit.base_url), ("korbit", "https://api.digitalx.miraeasset.com"));
    assert_eq!((korbit.requests_per_second, korbit.markets_per_request, korbit.levels), (45, 1, 30));
    assert_eq!((bithumb.api.exchange, bithumb.api.name), ("bithumb", "v2"));
    assert_eq!(bithumb.base_url, "https://api.bithumb.com");
    assert_eq!((bithumb.requests_per_second, bithumb.markets_per_request, bithumb.workers), (100, 1, 16));
    assert_eq!((bithumb.timeout, bithumb.markets_refresh), (Duration::from_secs(3), Duration::from_secs(600)));
    assert_eq!((bithumb.levels, bithumb.skip_unchanged), (30, false));
    assert_eq!(bithumb.kafka, config.kafka);
}

#[test]
fn an_exchange_takes_over_what_its_own_kafka_leaves_out() {
    let text = r#"
        [kafka]
        topic_prefix = "books"
        librdkafka = { "linger.ms" = 1 }
        [kafka.topic]
        partitions = 6
        [exchange.bithumb.kafka]
        brokers = ["a:1", "b:2"]
        librdkafka = { "compression.type" = "zstd" }
        [exchange.bithumb.kafka.topic]
        retention = "1d"
    "#;
    let config = parse(text).unwrap().value;
    let kafka = &config.exchanges[0].kafka;
    assert_eq!(kafka.cluster.brokers, ["a:1", "b:2"]);
    assert_eq!(kafka.topic_prefix, "books");
    assert_eq!((kafka.topic.partitions, kafka.topic.retention), (6, Duration::from_secs(86_400)));
    assert_ne!(kafka.cluster.overrides, config.kafka.cluster.overrides);
}

#[test]
fn the_symbols_file_is_looked_for_beside_producerd_toml() {
    let file = |text| parse(text).unwrap().value.symbols_file;
    assert_eq!(file("symbols_file = 'mine.toml'"), Path::new("/etc/coinflow/mine.toml"));
    assert_eq!(file("symbols_file = '/srv/mine.toml'"), Path::new("/srv/mine.toml"));
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let named = |text| default().differing_keys(&parse(text).unwrap().value);
    assert_eq!(named(""), [""; 0]);
    assert_eq!(named("[exchange.bithumb]\nworkers = 16"), [""; 0]);
    assert_eq!(
        named(
            "symbols_file = 'a'\n[kafka]\nbrokers = ['a:1']\n[exchange.bithumb]\nworkers = 8\napi = 'legacy'\n[log]\nlevel = 'debug'"
        ),
        ["symbols_file", "kafka.brokers", "exchange.bithumb.api", "exchange.bithumb.workers", "log.level"]
    );
    assert_eq!(named("[exchange.bithumb.kafka.topic]\npartitions = 1"), ["exchange.bithumb.kafka.topic.partitions"]);
}

#[test]
fn the_shipped_files_have_every_key_with_its_default() {
    let text = shipped::read("etc/producerd.toml");
    assert_eq!(parse(&text).unwrap().value, default());
    let all = parse(&uncommented(&text)).unwrap();
    // The properties shown are the ones that the producer sets by itself.
    let differing: Vec<String> = default().differing_keys(&all.value);
    assert_eq!(differing, ["kafka.librdkafka"]);

    let mut keys: Vec<String> = shipped::keys(&text).into_iter().map(|(key, _)| key).collect();
    let mut settings: Vec<String> = default().settings().into_iter().map(|(key, _)| key).collect();
    keys.sort_by_key(|key| settings.iter().position(|setting| setting == key));
    // Of the other exchanges, the file shows what differs from Bithumb.
    let all = default().settings();
    let value = |key: &str| all.iter().find(|(setting, _)| setting == key).map(|(_, value)| value);
    settings.retain(|key| {
        let other = ["exchange.upbit.", "exchange.korbit."].iter().find_map(|other| key.strip_prefix(other));
        let differs = other.is_some_and(|rest| value(&format!("exchange.bithumb.{rest}")) != value(key));
        other.is_none() || differs || keys.contains(key)
    });
    assert_eq!(keys, settings);

    let text = shipped::read("etc/symbols.toml");
    for text in [text.clone(), uncommented(&text)] {
        let symbols = parse_symbols(&text, &default()).unwrap();
        assert!(symbols.value.values().all(|selection| *selection == Selection::default()));
        assert!(symbols.warnings.is_empty());
    }
    assert!(uncommented(&text).contains("\nsymbols = []"));
}

#[test]
fn the_manual_has_every_key_with_its_default_and_its_range() {
    let manual = Manual {
        page: "packaging/man/producerd.toml.5",
        file: "etc/producerd.toml",
        tables: &[("exchange.bithumb.kafka", "kafka"), ("exchange.bithumb.kafka.topic", "kafka.topic")],
        examples: &["kafka.librdkafka"],
    };
    manual.check(|text| parse(text).map_or_else(|problems| problems.to_string(), |_| String::new()));
    let manual = Manual {
        page: "packaging/man/symbols.toml.5",
        file: "etc/symbols.toml",
        tables: &[],
        examples: &["bithumb.interval", "upbit.interval", "korbit.interval"],
    };
    manual
        .check(|text| parse_symbols(text, &default()).map_or_else(|problems| problems.to_string(), |_| String::new()));
}

#[test]
fn symbols_are_read() {
    let text = r#"
        interval = "2s"
        [bithumb]
        symbols = ["BTC", "KRW-ETH", "btc-eth", { symbol = "XRP", interval = "200ms" }]
    "#;
    let symbols = parse_symbols(text, &default()).unwrap().value;
    let watched: Vec<(&str, u128)> = symbols[&Exchange::parse("bithumb").unwrap()]
        .markets
        .iter()
        .map(|watch| (watch.market.as_str(), watch.interval.as_millis()))
        .collect();
    assert_eq!(watched, [("KRW-BTC", 2000), ("KRW-ETH", 2000), ("BTC-ETH", 2000), ("KRW-XRP", 200)]);
    let text = "[upbit]\ninterval = '2s'\nsymbols = ['KRW-*', '!KRW-USDT', { symbol = 'BTC', interval = '200ms' }, { symbol = 'btc-*', interval = '5s' }]";
    let parsed = parse_symbols(text, &default()).unwrap();
    assert!(parsed.warnings.is_empty());
    let upbit = &parsed.value[&Exchange::parse("upbit").unwrap()];
    assert_eq!(upbit.markets.len(), 1);
    let patterns: Vec<_> =
        upbit.patterns.iter().map(|pattern| (pattern.to_string(), pattern.interval.as_secs())).collect();
    assert_eq!(patterns, [("KRW-*".to_owned(), 2), ("BTC-*".to_owned(), 5)]);
    assert_eq!(upbit.excluded.iter().map(|market| market.as_str()).collect::<Vec<_>>(), ["KRW-USDT"]);
    let warnings = parse_symbols("[upbit]\nsymbols = ['BTC-*', '!KRW-USDT']", &default()).unwrap().warnings;
    assert_eq!(
        warnings.to_string(),
        "/etc/coinflow/symbols.toml:2:21: upbit.symbols[1]: warning: takes nothing out, for no pattern KRW-* stands here"
    );
    for text in ["", "interval = '1h'", "[bithumb]", "[bithumb]\nsymbols = []"] {
        assert!(
            parse_symbols(text, &default()).unwrap().value.values().all(|selection| *selection == Selection::default()),
            "{text}"
        );
    }
    let text = "[bithumb]\ninterval = '5s'\nsymbols = ['BTC']";
    let symbols = parse_symbols(text, &default()).unwrap().value;
    assert!(
        symbols.values().flat_map(|selection| &selection.markets).all(|watch| watch.interval == Duration::from_secs(5))
    );
}

#[test]
fn symbols_that_cannot_fit_give_a_warning() {
    let text = "interval = '100ms'\n[bithumb]\nsymbols = ['A','B','C','D','E','F','G','H','I','J','K']";
    let warnings = parse_symbols(text, &default()).unwrap().warnings;
    assert_eq!(
        warnings.to_string(),
        "/etc/coinflow/symbols.toml:3:11: bithumb.symbols: warning: needs 110 requests/s, requests_per_second allows 100: \
         KRW-A will be polled every 0.11 s instead of 100ms"
    );
    let batched = parse("[exchange.bithumb]\nmarkets_per_request = 2").unwrap().value;
    assert!(parse_symbols(text, &batched).unwrap().warnings.is_empty());
}

/// Wrong texts of producerd.toml, and the lines that each gives.
const WRONG: &[(&str, &[&str])] = &[
    ("symbols_file", &["1:13: key with no value, expected `=`"]),
    ("symbols_file = ", &["1:16: string values must be quoted, expected literal string"]),
    ("[kafka\nbrokers = []", &["1:7: unclosed table, expected `]`"]),
    ("a = 1\na = 2", &["2:1: duplicate key"]),
    ("symbols_file = 1", &["1:16: symbols_file: expected a string, found an integer"]),
    ("symbols_file = ''", &["1:16: symbols_file: must not be empty"]),
    ("symbol_file = 'a'", &["1:1: symbol_file: unknown key; did you mean symbols_file?"]),
    ("colour = 'red'", &["1:1: colour: unknown key; known here: symbols_file, kafka, spool, exchange, log"]),
    ("kafka = 'localhost:9092'", &["1:9: kafka: expected a table, found a string"]),
    ("[kafka]\nbrokers = 'localhost:9092'", &["2:11: kafka.brokers: expected an array, found a string"]),
    ("[kafka]\nbrokers = []", &["2:11: kafka.brokers: must name at least one broker"]),
    (
        "[kafka]\nbrokers = ['localhost', 'a:0', 'a:99999', 7]",
        &[
            r#"2:12: kafka.brokers[0]: "localhost" is not of the form host:port"#,
            r#"2:25: kafka.brokers[1]: "a:0" is not of the form host:port"#,
            r#"2:32: kafka.brokers[2]: "a:99999" is not of the form host:port"#,
            "2:43: kafka.brokers[3]: expected a string, found an integer",
        ],
    ),
    (
        "[kafka]\ntopic_prefix = 'a b'",
        &[
            r#"2:16: kafka.topic_prefix: "a b" is no start of a topic name: letters, digits, '.', '_', '-', at most 216"#,
        ],
    ),
    (
        "[kafka]\nlibrdkafka = { acks = 1 }",
        &["2:23: kafka.librdkafka.acks: cannot be set here: coinflow always waits for all in-sync replicas"],
    ),
    (
        "[kafka]\nlibrdkafka = { 'bootstrap.servers' = 'a:1' }",
        &["2:38: kafka.librdkafka.bootstrap.servers: cannot be set here: use the key brokers"],
    ),
    (
        "[kafka]\nlibrdkafka = { 'group.id' = 'a' }",
        &["2:29: kafka.librdkafka.group.id: cannot be set here: use the key group"],
    ),
    (
        "[kafka]\nlibrdkafka = { 'enable.idempotence' = false }",
        &["2:39: kafka.librdkafka.enable.idempotence: cannot be set here: coinflow's producer is idempotent"],
    ),
    (
        "[kafka]\nlibrdkafka = { 'sasl.password' = 'geheim' }",
        &[r#"2:34: kafka.librdkafka.sasl.password: is a secret; write { file = "/path" } or { credential = "name" }"#],
    ),
    (
        "[kafka]\nlibrdkafka = { 'sasl.password' = { } }",
        &[r#"2:34: kafka.librdkafka.sasl.password: expected { file = "/path" } or { credential = "name" }"#],
    ),
    (
        "[kafka]\nlibrdkafka = { 'no.such.property' = 1 }",
        &[
            r#"2:37: kafka.librdkafka.no.such.property: Client config error: No such configuration property: "no.such.property" no.such.property 1"#,
        ],
    ),
    (
        "[kafka]\nlibrdkafka = { 'linger.ms' = 'soon' }",
        &[
            r#"2:30: kafka.librdkafka.linger.ms: Client config error: Invalid value for configuration property "queue.buffering.max.ms" linger.ms soon"#,
        ],
    ),
    ("[kafka.topic]\npartitions = 0", &["2:14: kafka.topic.partitions: 0 is not between 1 and 1000"]),
    ("[kafka.topic]\npartitions = 1.5", &["2:14: kafka.topic.partitions: expected a whole number, found a float"]),
    ("[kafka.topic]\nreplication_factor = -1", &["2:22: kafka.topic.replication_factor: -1 is not between 1 and 100"]),
    (
        "[kafka.topic]\nretention = '7 days'",
        &[r#"2:13: kafka.topic.retention: "7 days" is not a duration; write a whole number with ms, s, m, h or d"#],
    ),
    ("[kafka.topic]\nretention = '1s'", &["2:13: kafka.topic.retention: 1s is not between 1m and 36500d"]),
    (
        "[kafka.topic]\nretention_size = '10GB'",
        &[
            r#"2:18: kafka.topic.retention_size: "10GB" is not a size; write a whole number with B, KiB, MiB, GiB or TiB"#,
        ],
    ),
    (
        "[kafka.topic]\nmax_message_size = 1048576",
        &[r#"2:20: kafka.topic.max_message_size: expected a size such as "64KiB" or "10GiB", found an integer"#],
    ),
    (
        "[kafka.topic]\nretention_bytes = '1GiB'",
        &["2:1: kafka.topic.retention_bytes: unknown key; did you mean retention_size?"],
    ),
    ("[spool]\nmax_size = '1MiB'", &["2:12: spool.max_size: 1MiB is not between 16MiB and 1024TiB"]),
    ("[spool]\ndir = '/x'", &["2:1: spool.dir: unknown key; known here: directory, max_size"]),
    ("[exchange.binance]\nworkers = 1", &["1:11: exchange.binance: unknown key; known here: bithumb, upbit, korbit"]),
    (
        "[exchange.upbit]\nrequests_per_second = 11",
        &["2:23: exchange.upbit.requests_per_second: 11 is above the limit of upbit, 10 requests a second"],
    ),
    (
        "[exchange.korbit]\nrequests_per_second = 51\nmarkets_per_request = 2",
        &[
            "2:23: exchange.korbit.requests_per_second: 51 is above the limit of korbit, 50 requests a second",
            "3:23: exchange.korbit.markets_per_request: the API v2 answers one market a request; write 1",
        ],
    ),
    ("[exchange.upbit]\napi = 'v2'", &[r#"2:7: exchange.upbit.api: "v2" is not one of "v1""#]),
    ("[exchange.bithump]\nworkers = 1", &["1:11: exchange.bithump: unknown key; did you mean bithumb?"]),
    ("[exchange.bithumb]\napi = 'v3'", &[r#"2:7: exchange.bithumb.api: "v3" is not one of "v2", "legacy""#]),
    (
        "[exchange.bithumb]\nbase_url = 'api.bithumb.com'",
        &[
            r#"2:12: exchange.bithumb.base_url: "api.bithumb.com" is not a URL of the form https://host or http://host:port"#,
        ],
    ),
    (
        "[exchange.bithumb]\nbase_url = 'ftp://api.bithumb.com'",
        &[
            r#"2:12: exchange.bithumb.base_url: "ftp://api.bithumb.com" is not a URL of the form https://host or http://host:port"#,
        ],
    ),
    (
        "[exchange.bithumb]\nbase_url = 'http://127.0.0.1:99999'",
        &[
            r#"2:12: exchange.bithumb.base_url: "http://127.0.0.1:99999" is not a URL of the form https://host or http://host:port"#,
        ],
    ),
    (
        "[exchange.bithumb]\nbase_url = 'http://127.0.0.1:0'",
        &[
            r#"2:12: exchange.bithumb.base_url: "http://127.0.0.1:0" is not a URL of the form https://host or http://host:port"#,
        ],
    ),
    (
        "[exchange.bithumb]\nbase_url = 'http://127.0.0.1:'",
        &[
            r#"2:12: exchange.bithumb.base_url: "http://127.0.0.1:" is not a URL of the form https://host or http://host:port"#,
        ],
    ),
    (
        "[exchange.bithumb]\nbase_url = 'https://api.bithumb.com/#v1'",
        &[
            r##"2:12: exchange.bithumb.base_url: "https://api.bithumb.com/#v1" is not a URL of the form https://host or http://host:port"##,
        ],
    ),
    (
        "[exchange.bithumb]\nbase_url = 'https://user:pw@api.bithumb.com'",
        &["2:12: exchange.bithumb.base_url: may not have a user name or password"],
    ),
    (
        "[exchange.bithumb]\nrequests_per_second = 151",
        &["2:23: exchange.bithumb.requests_per_second: 151 is above the limit of bithumb, 150 requests a second"],
    ),
    (
        "[exchange.bithumb]\nbase_url = 'https://API.bithumb.com/'\nrequests_per_second = 1000",
        &["3:23: exchange.bithumb.requests_per_second: 1000 is above the limit of bithumb, 150 requests a second"],
    ),
    (
        "[exchange.bithumb]\nrequests_per_second = 0",
        &["2:23: exchange.bithumb.requests_per_second: 0 is not between 1 and 100000"],
    ),
    (
        "[exchange.bithumb]\nmarkets_per_request = 201",
        &["2:23: exchange.bithumb.markets_per_request: 201 is not between 1 and 200"],
    ),
    (
        "[exchange.bithumb]\napi = 'legacy'\nmarkets_per_request = 2",
        &["3:23: exchange.bithumb.markets_per_request: the API legacy answers one market a request; write 1"],
    ),
    (
        "[exchange.bithumb]\nworkers = 'many'",
        &["2:11: exchange.bithumb.workers: expected a whole number, found a string"],
    ),
    ("[exchange.bithumb]\ntimeout = '10ms'", &["2:11: exchange.bithumb.timeout: 10ms is not between 100ms and 1m"]),
    (
        "[exchange.bithumb]\ntimeout = 3",
        &[r#"2:11: exchange.bithumb.timeout: expected a duration such as "500ms" or "10s", found an integer"#],
    ),
    ("[exchange.bithumb]\nlevels = 0", &["2:10: exchange.bithumb.levels: 0 is not between 1 and 10000"]),
    (
        "[exchange.bithumb]\nskip_unchanged = 'no'",
        &["2:18: exchange.bithumb.skip_unchanged: expected true or false, found a string"],
    ),
    (
        "[exchange.bithumb]\nmarkets_refresh = '1s'",
        &["2:19: exchange.bithumb.markets_refresh: 1s is not between 5s and 1d"],
    ),
    (
        "[exchange.bithumb.kafka]\nbroker = ['a:1']",
        &["2:1: exchange.bithumb.kafka.broker: unknown key; did you mean brokers?"],
    ),
    ("[log]\nlevel = 'loud'", &[r#"2:9: log.level: "loud" is not one of "error", "warn", "info", "debug", "trace""#]),
    (
        "[log]\ntarget = 'file'\nlevle = 'info'",
        &[
            r#"2:10: log.target: "file" is not one of "auto", "syslog", "stderr""#,
            "3:1: log.levle: unknown key; did you mean level?",
        ],
    ),
    (
        "[exchange.bithumb]\nworkers = 0\nlevels = 0\n[kafka]\nbrokers = ['x']",
        &[
            "2:11: exchange.bithumb.workers: 0 is not between 1 and 256",
            "3:10: exchange.bithumb.levels: 0 is not between 1 and 10000",
            r#"5:12: kafka.brokers[0]: "x" is not of the form host:port"#,
        ],
    ),
];

#[test]
fn wrong_files_say_what_is_wrong() {
    for (text, expected) in WRONG {
        assert_eq!(lines(parse(text), FILE), *expected, "{text:?}");
    }
}

#[test]
fn a_base_url_elsewhere_has_no_limit_of_its_own() {
    let text = "[exchange.bithumb]\nbase_url = 'http://127.0.0.1:8080/'\nrequests_per_second = 1000";
    let config = parse(text).unwrap().value;
    assert_eq!(config.exchanges[0].base_url, "http://127.0.0.1:8080");
    let config = parse("[exchange.bithumb]\nbase_url = 'http://[::1]:8080/api'").unwrap().value;
    assert_eq!(config.exchanges[0].base_url, "http://[::1]:8080/api");
}

/// Wrong texts of symbols.toml.
const WRONG_SYMBOLS: &[(&str, &[&str])] = &[
    ("[bithumb\n", &["1:9: unclosed table, expected `]`"]),
    ("bithumb = ['BTC']", &["1:11: bithumb: expected a table, found an array"]),
    ("interval = 1", &[r#"1:12: interval: expected a duration such as "500ms" or "10s", found an integer"#]),
    ("interval = '99ms'", &["1:12: interval: 99ms is not between 100ms and 1h"]),
    ("interval = '61m'", &["1:12: interval: 61m is not between 100ms and 1h"]),
    ("interval = '1.5s'", &[r#"1:12: interval: "1.5s" is not a duration; write a whole number with ms, s, m, h or d"#]),
    ("intervall = '1s'", &["1:1: intervall: unknown key; did you mean interval?"]),
    ("[binance]\nsymbols = ['BTC']", &["1:2: binance: unknown key; known here: interval, bithumb, upbit, korbit"]),
    ("[bithump]\nsymbols = ['BTC']", &["1:2: bithump: unknown key; did you mean bithumb?"]),
    ("[bithumb]\nsymbols = 'BTC'", &["2:11: bithumb.symbols: expected an array, found a string"]),
    ("[bithumb]\nsymbol = ['BTC']", &["2:1: bithumb.symbol: unknown key; did you mean symbols?"]),
    (
        "[bithumb]\nsymbols = ['KRW_BTC', 'BTC_KRW', '', 7, '*-BTC', '!KRW_USDT']",
        &[
            r#"2:12: bithumb.symbols[0]: "KRW_BTC" is not a market code; write KRW-BTC"#,
            r#"2:23: bithumb.symbols[1]: "BTC_KRW" is not a market code; write KRW-BTC"#,
            r#"2:34: bithumb.symbols[2]: "" is not a market code; write it like KRW-BTC"#,
            "2:38: bithumb.symbols[3]: expected a string, found an integer",
            r#"2:41: bithumb.symbols[4]: "*-BTC" is not a pattern; write it like KRW-*"#,
            r#"2:50: bithumb.symbols[5]: "!KRW_USDT" takes out no market; write it like !KRW-BTC"#,
        ],
    ),
    (
        "[bithumb]\nsymbols = [\n  'BTC',\n  'ETH',\n  'krw-btc',\n]",
        &["5:3: bithumb.symbols[2]: KRW-BTC stands here already, as bithumb.symbols[0] on line 3"],
    ),
    (
        "[bithumb]\nsymbols = ['BTC', { symbol = 'BTC', interval = '2s' }]",
        &["2:19: bithumb.symbols[1]: KRW-BTC stands here already, as bithumb.symbols[0] on line 2"],
    ),
    (
        "[bithumb]\nsymbols = [{ interval = '2s' }, { symbol = 'ETH', intervall = '2s' }, { symbol = 1 }]",
        &[
            r#"2:12: bithumb.symbols[0]: has no symbol; write { symbol = "BTC", interval = "200ms" }"#,
            "2:51: bithumb.symbols[1].intervall: unknown key; did you mean interval?",
            "2:82: bithumb.symbols[2].symbol: expected a string, found an integer",
        ],
    ),
    (
        "[upbit]\nsymbols = ['KRW-*', 'krw-*', '!BTC', 'KRW-BTC', { symbol = '!ETH', interval = '2s' }]",
        &[
            "2:21: upbit.symbols[1]: KRW-* stands here already, as upbit.symbols[0] on line 2",
            "2:30: upbit.symbols[2]: KRW-BTC is watched by upbit.symbols[3] on line 2, and taken out here",
            "2:79: upbit.symbols[4].interval: !KRW-ETH takes a market out, which has no interval",
        ],
    ),
    (
        "[bithumb]\nsymbols = [{ symbol = 'ETH', interval = '2d' }]",
        &["2:41: bithumb.symbols[0].interval: 2d is not between 100ms and 1h"],
    ),
];

#[test]
fn wrong_symbols_say_what_is_wrong() {
    for (text, expected) in WRONG_SYMBOLS {
        assert_eq!(lines(parse_symbols(text, &default()), SYMBOLS_FILE), *expected, "{text:?}");
    }
}

#[test]
fn both_files_tell_their_problems_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("producerd.toml");
    let symbols = folder.path().join("mine.toml");
    fs::write(&file, "symbols_file = 'mine.toml'\n[exchange.bithumb]\nworkers = 0\n").unwrap();
    fs::write(&symbols, "[bithumb]\nsymbols = ['KRW_BTC']\n").unwrap();
    let problems = load(&file).unwrap_err().to_string();
    assert_eq!(
        problems,
        format!(
            "{}:3:11: exchange.bithumb.workers: 0 is not between 1 and 256\n\
             {}:2:12: bithumb.symbols[0]: \"KRW_BTC\" is not a market code; write KRW-BTC",
            file.display(),
            symbols.display()
        )
    );
    fs::write(&file, "symbols_file = 'other.toml'\n").unwrap();
    let problems = load(&file).unwrap_err().to_string();
    let other = folder.path().join("other.toml");
    assert_eq!(problems, format!("{}: cannot be read: No such file or directory (os error 2)", other.display()));
}

/// Damaged files: understood, or refused with problems that name a line.
#[test]
fn damaged_files_are_understood_or_refused() {
    let shipped = uncommented(&shipped::read("etc/producerd.toml"));
    let symbols = "interval = \"1s\"\n[upbit]\nsymbols = [\"KRW-*\", \"!KRW-USDT\", { symbol = \"BTC\", interval = \"200ms\" }]\n";
    let config = default();
    let (mut good, mut bad) = (0, 0);
    // Two loads, of an operator's own file. The toml crate collects all errors, 16,000 of them in 56 KB at the worst, in a time
    // that grows with their number only.
    let time_max = coinflow_common::mutate::TIME_MAX * 5;
    coinflow_common::mutate::mutate_within(time_max, "config", &[shipped.as_bytes(), symbols.as_bytes()], |input| {
        let text = String::from_utf8_lossy(input);
        for problems in [parse(&text).err(), parse_symbols(&text, &config).err()] {
            let Some(problems) = problems else {
                good += 1;
                continue;
            };
            bad += 1;
            assert!(problems.iter().count() > 0);
            assert!(problems.iter().all(|problem| !problem.to_string().contains(char::is_control)), "{problems:?}");
        }
    });
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}
