use std::path::Path;

use coinflow_common::config::parse;

use super::*;
use crate::shipped::{self, Manual, uncommented};

fn read(text: &str) -> Result<Config, String> {
    parse(Path::new("c.toml"), text, super::read::config)
        .map(|loaded| loaded.value)
        .map_err(|problems| problems.to_string())
}

/// `postgres::Config` can only be compared as it shows itself.
fn shown(text: &str) -> Result<String, String> {
    read(text).map(|config| format!("{config:?}"))
}

#[test]
fn an_empty_file_reads_the_local_kafka_into_the_local_postgresql() {
    let config = read("").expect("a good file");
    assert_eq!(config.postgres.connection.get_user(), Some("coinflow"));
    assert_eq!(config.postgres.schema, "coinflow");
    assert_eq!(config.postgres.retention, None);
    let [source] = &config.sources[..] else { panic!("one source") };
    assert_eq!(source.name, "main");
    assert_eq!(source.cluster.brokers, ["localhost:9092"]);
    assert_eq!(source.topics.len(), 3);
    assert_eq!(config.batch, Batch { max_books: 2000, max_size: 4 << 20 });
    assert_eq!(shown("[source]"), Ok(format!("{config:?}")));
}

#[test]
fn the_shipped_file_is_good_and_shows_the_defaults() {
    let default = shown("");
    assert_eq!(shown(&shipped::read("etc/consumerd.toml")), default);
    // These keys have no default; what stands there is an example.
    let examples = ["password_file", "ca_file", "retention"];
    let text: String = uncommented(&shipped::read("etc/consumerd.toml"))
        .lines()
        .filter(|line| !examples.iter().any(|key| line.starts_with(&format!("{key} "))))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(shown(&text), default);
}

#[test]
fn the_manual_has_every_key_with_its_default_and_its_range() {
    let examples = ["postgres.password_file", "postgres.ca_file", "postgres.retention"];
    let manual = Manual {
        page: "packaging/man/consumerd.toml.5",
        file: "etc/consumerd.toml",
        tables: &[("source.main", "source.NAME")],
        examples: &examples,
    };
    manual.check(|text| read(text).err().unwrap_or_default());
    let config = read(&uncommented(&shipped::read("etc/consumerd.toml"))).expect("the examples are good, too");
    assert_eq!(config.postgres.retention, Some(Duration::from_secs(90 * 86_400)));
}

#[test]
fn each_problem_has_its_line() {
    let table = [
        ("batch = 1", "c.toml:1:9: batch: expected a table, found an integer"),
        ("[batch]\nmax_boks = 1", "c.toml:2:1: batch.max_boks: unknown key; did you mean max_books?"),
        ("[batch]\nmax_books = 0", "c.toml:2:13: batch.max_books: 0 is not between 1 and 100000"),
        ("[batch]\nmax_books = \"5\"", "c.toml:2:13: batch.max_books: expected a whole number, found a string"),
        ("[batch]\nmax_size = \"1GiB\"", "c.toml:2:12: batch.max_size: 1GiB is not between 64KiB and 256MiB"),
        ("[postgres]\ntls = \"on\"", "c.toml:2:7: postgres.tls: \"on\" is not one of \"verify\", \"off\""),
        ("[postgres]\nretention = \"1h\"", "c.toml:2:13: postgres.retention: 1h is not between 1d and 36500d"),
        (
            "[postgres]\nschema = \"pg_x\"",
            "c.toml:2:10: postgres.schema: \"pg_x\" cannot be a schema: at most 63 bytes, and not beginning with pg_",
        ),
        (
            "[postgres]\nconnection = \"host=a port=x\"",
            "c.toml:2:14: postgres.connection: invalid connection string: invalid value for option `port`",
        ),
        ("[postgres]\nconnection = \"user=a\"", "c.toml:2:14: postgres.connection: names no host"),
        (
            "[postgres]\nconnection = \"host=a sslmode=disable\"",
            "c.toml:2:14: postgres.connection: sslmode cannot be set here: use the key tls",
        ),
        (
            "[postgres]\nconnection = \"host=a,/run\"",
            "c.toml:2:14: postgres.connection: names unix sockets and TCP hosts together, which tls = \"verify\" does not allow",
        ),
        (
            "[source.\"a b\"]",
            "c.toml:1:1: source.a b: a source's name is made of letters, digits, - and _, at most 63 of them",
        ),
        ("[source]\nmain = 1", "c.toml:2:8: source.main: expected a table, found an integer"),
        ("[source.a]\nbroker = []", "c.toml:2:1: source.a.broker: unknown key; did you mean brokers?"),
        ("[source.a]\nbrokers = [\"x\"]", "c.toml:2:12: source.a.brokers[0]: \"x\" is not of the form host:port"),
        ("[source.a]\ntopics = []", "c.toml:2:10: source.a.topics: must name at least one topic"),
        ("[source.a]\ntopics = [\"^x\"]", "c.toml:2:11: source.a.topics[0]: \"^x\" is not a topic's name"),
        ("[source.a]\ntopics = [\"x\", \"x\"]", "c.toml:2:16: source.a.topics[1]: \"x\" stands here twice"),
        (
            "[source.a]\nstart = \"end\"",
            "c.toml:2:9: source.a.start: \"end\" is not one of \"earliest\", \"latest\", \"group\"",
        ),
        (
            "[source.a]\non_overrun = \"go\"",
            "c.toml:2:14: source.a.on_overrun: \"go\" is not one of \"stop\", \"continue\"",
        ),
        ("[source.a]\ngroup = \"\"", "c.toml:2:9: source.a.group: must not be empty"),
        (
            "[source.a]\n[source.b]",
            "c.toml:2:1: source.b: reads topic coinflow.orderbook.bithumb of the same brokers as source.a",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "c.toml:2:9: log.level: \"loud\" is not one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ),
    ];
    for (text, problem) in table {
        assert_eq!(read(text).expect_err(text).trim_end(), problem, "{text}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_file_order() {
    let text = "[batch]\nmax_books = 0\nmax_size = 1\n[log]\ntarget = 5\n[sources]";
    let problems = read(text).expect_err("problems");
    let places: Vec<_> = problems.lines().map(|line| line.split(": ").next().unwrap_or("")).collect();
    assert_eq!(places, ["c.toml:2:13", "c.toml:3:12", "c.toml:5:10", "c.toml:6:2"]);
}

#[test]
fn two_sources_may_read_two_clusters_or_two_topics() {
    let clusters = "[source.a]\nbrokers = [\"a:1\"]\n[source.b]\nbrokers = [\"b:1\"]";
    assert_eq!(read(clusters).map(|config| config.sources.len()), Ok(2));
    let topics = "[source.a]\ntopics = [\"x\"]\n[source.b]\ntopics = [\"y\"]";
    assert_eq!(read(topics).map(|config| config.sources.len()), Ok(2));
}

#[test]
fn a_password_is_never_shown() {
    let shown = shown("[postgres]\nconnection = \"postgres://me:hush@db/books\"").expect("a good file");
    assert!(!shown.contains("hush"), "{shown}");
}
