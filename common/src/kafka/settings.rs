//! The settings of a Kafka client.

use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::config::{Table, Value};

/// Statistics tell whether a broker is connected, and a consumer's lag.
const STATISTICS_INTERVAL_MS: &str = "1000";
/// A broker that is away is tried again at least this often.
const RECONNECT_BACKOFF_MAX_MS: &str = "2000";

/// Which client the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Producer,
    Consumer,
}

/// How to reach a Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterConfig {
    /// `host:port` each.
    pub brokers: Vec<String>,
    pub overrides: Overrides,
}

/// librdkafka properties from the configuration file, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Overrides(Vec<(String, Setting)>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Setting {
    Text(String),
    /// A secret in a file, read at start.
    File(PathBuf),
    /// A secret that systemd passes as a credential, read at start.
    Credential(String),
}

/// Properties that coinflow's promises rest on, by prefix, and what to use instead.
const REFUSED: [(&str, &str); 30] = [
    ("acks", "coinflow always waits for all in-sync replicas"),
    ("allow.auto.create.topics", "producerd makes missing topics by [kafka.topic]"),
    ("auto.offset.reset", "use the key start"),
    ("bootstrap.servers", "use the key brokers"),
    ("delivery.report.only.error", "coinflow counts every delivery"),
    ("delivery.timeout.ms", "books wait for Kafka as long as there is room"),
    ("enable.auto.", "positions are committed after the rows are stored"),
    ("auto.commit", "positions are committed after the rows are stored"),
    ("enable.gapless.guarantee", "coinflow's producer is idempotent"),
    ("enable.idempotence", "coinflow's producer is idempotent"),
    ("enable.partition.eof", "coinflow does not use it"),
    ("group.id", "use the key group"),
    ("group.protocol", "coinflow uses the classic protocol"),
    ("group.remote.assignor", "coinflow uses the classic protocol"),
    ("max.in.flight", "coinflow's producer is idempotent"),
    ("message.max.bytes", "use max_message_size in [kafka.topic]"),
    ("message.send.max.retries", "books are sent until Kafka has them"),
    ("message.timeout.ms", "books wait for Kafka as long as there is room"),
    ("metadata.broker.list", "use the key brokers"),
    ("offset.store", "positions live in PostgreSQL"),
    ("partitioner", "a market's records go to one partition"),
    ("plugin.library.paths", "coinflow loads no plugins"),
    ("partition.assignment.strategy", "coinflow uses cooperative-sticky"),
    ("queue.buffering.backpressure.threshold", "coinflow's producer is idempotent"),
    ("queuing.strategy", "coinflow's producer is idempotent"),
    ("queue.buffering.max.", "coinflow bounds its memory itself"),
    ("request.required.acks", "coinflow always waits for all in-sync replicas"),
    ("retries", "books are sent until Kafka has them"),
    ("statistics.interval.ms", "coinflow's STATUS rests on it"),
    ("transactional.id", "coinflow's producer uses no transactions"),
];

/// Properties whose values are secrets: they may not stand in the file, which everybody may read.
const SECRETS: [&str; 8] = [
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.assertion.private.key.passphrase",
];

impl Overrides {
    /// Reads the key `librdkafka` of a table; the properties of `inherited` stand behind those of the file.
    pub fn read(table: &mut Table<'_>, role: Role, inherited: &Self) -> Self {
        let mut settings = inherited.0.clone();
        let Some(value) = table.value("librdkafka") else { return Self(settings) };
        value.table(|properties| {
            for (name, value) in properties.entries() {
                if let Some(setting) = read_setting(&name, &value, role) {
                    settings.retain(|(known, _)| *known != name);
                    settings.push((name, setting));
                }
            }
        });
        Self(settings)
    }
}

fn read_setting(name: &str, value: &Value<'_>, role: Role) -> Option<Setting> {
    if let Some((_, instead)) = REFUSED.iter().find(|(prefix, _)| is_refused(name, prefix, role)) {
        value.problem(format!("cannot be set here: {instead}"));
        return None;
    }
    // librdkafka itself knows which properties and values are right.
    let probe = |text: &str| ClientConfig::new().set(name, text).create_native_config().map(|_| ());
    if value.is_table() {
        if let Err(error) = probe("1") {
            value.problem(error.to_string());
        }
        return value.table(|secret| {
            let file = secret.optional_string("file").map(|path| Setting::File(path.into()));
            let credential = secret.optional_string("credential").map(Setting::Credential);
            if file.is_some() == credential.is_some() {
                value.problem("expected { file = \"/path\" } or { credential = \"name\" }");
            }
            file.or(credential)
        })?;
    }
    let text = value.scalar_text()?;
    if SECRETS.contains(&name) {
        value.problem("is a secret; write { file = \"/path\" } or { credential = \"name\" }");
        return None;
    }
    if let Err(error) = probe(&text) {
        value.problem(error.to_string());
        return None;
    }
    Some(Setting::Text(text))
}

fn is_refused(name: &str, refused: &str, role: Role) -> bool {
    match refused {
        // A consumer has this name for how many messages it fetches; it bounds nothing of the producer's.
        "message.max.bytes" => name == refused && role == Role::Producer,
        prefix => name.starts_with(prefix),
    }
}

/// Reads the key `brokers`: at least one `host:port`.
pub fn read_brokers(table: &mut Table<'_>, default: &[String]) -> Vec<String> {
    let Some(value) = table.value("brokers") else { return default.to_vec() };
    let items = value.items();
    if items.is_empty() && value.is_array() {
        value.problem("must name at least one broker");
    }
    let read = |item: Value<'_>| {
        let text = item.string()?;
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        if !text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && !host.contains([',', '/']) && is_port(port))
        {
            item.problem(format!("{text:?} is not of the form host:port"));
        }
        Some(text.to_owned())
    };
    items.into_iter().filter_map(read).collect()
}

/// The settings that both clients share, with the file's properties in place and secrets read.
///
/// # Errors
/// A secret that cannot be read; the text names the property and the file, never the secret.
pub fn client_config(cluster: &ClusterConfig, client_id: &str) -> Result<ClientConfig, String> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.brokers.join(","))
        .set("client.id", client_id)
        .set("allow.auto.create.topics", "false")
        .set("statistics.interval.ms", STATISTICS_INTERVAL_MS)
        .set("reconnect.backoff.max.ms", RECONNECT_BACKOFF_MAX_MS)
        .set("socket.keepalive.enable", "true")
        .set_log_level(RDKafkaLogLevel::Info);
    for (name, setting) in &cluster.overrides.0 {
        let secret = |path: PathBuf| {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("librdkafka property {name}: {}: {error}", path.display()))?;
            Ok::<_, String>(text.trim_end_matches(['\n', '\r']).to_owned())
        };
        let value = match setting {
            Setting::Text(text) => text.clone(),
            Setting::File(path) => secret(path.clone())?,
            Setting::Credential(credential) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    format!("librdkafka property {name}: no credential {credential:?}, for systemd passed none at all")
                })?;
                secret(PathBuf::from(directory).join(credential))?
            }
        };
        if name == "debug" {
            // Who asks for these lines wants to see them.
            config.set_log_level(RDKafkaLogLevel::Debug);
        }
        config.set(name, value);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn read(text: &str, role: Role) -> Result<Overrides, String> {
        parse(Path::new("f.toml"), text, |root| Overrides::read(root, role, &Overrides::default()))
            .map(|loaded| loaded.value)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn properties_are_passed_on_and_the_file_goes_before_what_is_inherited() {
        let inherited = read("librdkafka = { \"linger.ms\" = 1, \"compression.type\" = \"zstd\" }", Role::Producer);
        let inherited = inherited.expect("good properties");
        let own = |root: &mut Table<'_>| Overrides::read(root, Role::Producer, &inherited);
        let overrides = parse(Path::new("f.toml"), "librdkafka = { \"linger.ms\" = 5 }", own).expect("good").value;
        let cluster = ClusterConfig { brokers: vec!["a:1".to_owned(), "b:2".to_owned()], overrides };
        let config = client_config(&cluster, "test").expect("no secrets");
        assert_eq!(config.get("linger.ms"), Some("5"));
        assert_eq!(config.get("compression.type"), Some("zstd"));
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(config.get("client.id"), Some("test"));
    }

    #[test]
    fn a_second_instance_may_have_a_client_id_of_its_own() {
        let overrides = read("librdkafka = { \"client.id\" = \"second\" }", Role::Consumer).expect("good properties");
        let cluster = ClusterConfig { brokers: vec!["a:1".to_owned()], overrides };
        assert_eq!(client_config(&cluster, "first").expect("no secrets").get("client.id"), Some("second"));
    }

    #[test]
    fn debug_lines_are_seen_if_asked_for() {
        for (text, level) in [("", RDKafkaLogLevel::Info), ("librdkafka = { debug = \"msg\" }", RDKafkaLogLevel::Debug)]
        {
            let cluster = ClusterConfig { brokers: vec![], overrides: read(text, Role::Producer).expect("good") };
            assert_eq!(client_config(&cluster, "test").expect("no secrets").log_level as i32, level as i32);
        }
    }

    #[test]
    fn what_promises_rest_on_is_refused() {
        for (property, role) in [
            ("acks", Role::Producer),
            ("enable.idempotence", Role::Producer),
            ("bootstrap.servers", Role::Consumer),
            ("enable.auto.commit", Role::Consumer),
            ("max.in.flight.requests.per.connection", Role::Producer),
            ("group.id", Role::Consumer),
            ("partitioner", Role::Producer),
            ("delivery.report.only.error", Role::Producer),
            ("message.max.bytes", Role::Producer),
        ] {
            let error = read(&format!("librdkafka = {{ \"{property}\" = \"1\" }}"), role).expect_err(property);
            assert!(
                error.starts_with("f.toml:1:") && error.contains(&format!("librdkafka.{property}: cannot be set here")),
                "{error}"
            );
        }
        assert!(read("librdkafka = { \"message.max.bytes\" = 2000000 }", Role::Consumer).is_ok());
    }

    #[test]
    fn unknown_properties_and_values_are_found_offline() {
        let error = read("librdkafka = { \"lingr.ms\" = 1 }", Role::Producer).expect_err("no such property");
        assert!(error.contains("librdkafka.lingr.ms: ") && error.contains("No such configuration property"), "{error}");
        let error = read("librdkafka = { \"linger.ms\" = \"x\" }", Role::Producer).expect_err("no such value");
        assert!(error.contains("librdkafka.linger.ms: "), "{error}");
    }

    #[test]
    fn secrets_come_from_elsewhere_and_are_never_shown() {
        let error = read("librdkafka = { \"sasl.password\" = \"hush\" }", Role::Producer).expect_err("a secret");
        assert!(error.contains("is a secret") && !error.contains("hush"), "{error}");
        let mistyped = "librdkafka = { \"sasl.pasword\" = { file = \"/a\" } }";
        assert!(
            read(mistyped, Role::Producer).expect_err("no such property").contains("No such configuration property")
        );
        let both = "librdkafka = { \"sasl.password\" = { file = \"/a\", credential = \"b\" } }";
        assert!(read(both, Role::Producer).expect_err("both").contains("expected { file"));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, "hush\n").expect("a file");
        let text = format!("librdkafka = {{ \"sasl.password\" = {{ file = \"{}\" }} }}", path.display());
        let overrides = read(&text, Role::Producer).expect("a secret in a file");
        assert!(!format!("{overrides:?}").contains("hush"));
        let cluster = ClusterConfig { brokers: vec!["a:1".to_owned()], overrides };
        assert_eq!(client_config(&cluster, "test").expect("a secret").get("sasl.password"), Some("hush"));
        std::fs::remove_file(&path).expect("the file");
        let error = client_config(&cluster, "test").expect_err("no file");
        assert!(error.starts_with("librdkafka property sasl.password: "), "{error}");
    }

    #[test]
    fn brokers_are_host_and_port() {
        let read = |text: &str| {
            parse(Path::new("f.toml"), text, |root| read_brokers(root, &["localhost:9092".to_owned()]))
                .map(|loaded| loaded.value)
                .map_err(|problems| problems.to_string())
        };
        assert_eq!(read(""), Ok(vec!["localhost:9092".to_owned()]));
        assert_eq!(read("brokers = [\"[::1]:9092\"]"), Ok(vec!["[::1]:9092".to_owned()]));
        for text in
            ["brokers = []", "brokers = [\"localhost\"]", "brokers = [\"localhost:0\"]", "brokers = [\"a,b:1\"]"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
