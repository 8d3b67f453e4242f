//! The state of one Kafka cluster as its client sees it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Deserialize;

use crate::orderbook::Timestamp;

/// So many statistics in a row without a connected broker make a cluster unreachable: a single one may have been
/// taken while a connection that had idled too long was made anew.
const SILENT_STATISTICS_MAX: u32 = 2;
/// librdkafka repeats itself; a line of one kind is passed on at most once in this time, else at debug level.
const REPEAT_AFTER: Duration = Duration::from_secs(60);
/// So many statistics lie between two attempts to give an unconnected client its addresses again, at most: librdkafka keeps a
/// note of each.
const RESTORE_EVERY: u32 = 1024;

/// Whether the cluster can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not known yet.
    Starting,
    Up,
    /// Since then.
    Down(Timestamp),
}

/// One Kafka cluster: fed by a client's callbacks, read by STATUS. Logs one line per change of state.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    silent_statistics: u32,
    /// Whether a connection has failed since the last one that was up.
    has_failed: bool,
    last_error: String,
    /// What brokers that are reached do not let us do.
    refusal: Option<String>,
    fatal: Option<String>,
    /// So many statistics in a row had no broker that is both an address of the cluster and connected, and no answer of any.
    unconnected: u32,
    /// Answers so far, of the brokers that the client still lists.
    answers: u64,
    stranded: Option<Stranded>,
    logged: HashMap<String, Instant>,
}

/// The part of librdkafka's statistics that is read here (its STATISTICS.md).
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    rx: u64,
    #[serde(default)]
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    state: String,
    source: String,
}

/// Why a client may have no address left that it could connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stranded {
    /// It lists none.
    Surely,
    /// It has been unconnected for a while.
    Perhaps,
}

/// What the connections to the brokers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connections {
    Some,
    /// None: either none is wanted, for librdkafka connects when it has something to say, or it waits before the next try.
    Idle,
    None,
}

impl Cluster {
    /// `name`: the brokers' addresses, with commas between them.
    pub fn new(name: impl Into<String>) -> Self {
        let inner = Inner {
            state: State::Starting,
            silent_statistics: 0,
            has_failed: false,
            last_error: "no broker has answered".to_owned(),
            refusal: None,
            fatal: None,
            unconnected: 0,
            answers: 0,
            stranded: None,
            logged: HashMap::new(),
        };
        Self { name: name.into(), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the process, so no half-made state is ever seen here.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.lock().state
    }

    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state() == State::Up
    }

    /// Whether the client may have no address left; told once each time that statistics say so.
    pub(super) fn take_stranded(&self) -> Option<Stranded> {
        self.lock().stranded.take()
    }

    /// An error after which the client is of no use any more.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.lock().fatal.clone()
    }

    /// For STATUS: `Kafka up`, or since when and why it is not.
    #[must_use]
    pub fn describe(&self) -> String {
        let inner = self.lock();
        match inner.state {
            State::Starting => "Kafka not reached yet".to_owned(),
            State::Up => "Kafka up".to_owned(),
            State::Down(since) => format!("Kafka down since {}: {}", since.to_clock_text(), inner.last_error),
        }
    }

    /// To be called from `ClientContext::stats_raw`.
    pub fn stats(&self, raw: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(raw) else { return };
        let connections = connections(statistics.brokers.values().map(|broker| broker.state.as_str()));
        self.lock().observe_addresses(&statistics);
        self.connections(connections, Timestamp::from_system(SystemTime::now()));
    }

    fn connections(&self, connections: Connections, now: Timestamp) {
        let mut inner = self.lock();
        let before = inner.state;
        inner.observe(connections, now);
        match (before, inner.state) {
            (State::Starting | State::Down(_), State::Up) => log::info!("kafka is reachable brokers={}", self.name),
            (State::Starting | State::Up, State::Down(_)) => {
                log::warn!("kafka is not reachable brokers={} err={:?}", self.name, inner.last_error);
            }
            _ => {}
        }
    }

    /// To be called from `ClientContext::error`. Remembers the reason; the line comes with the change of state.
    pub fn error(&self, error: &KafkaError, reason: &str) {
        log::debug!("kafka client error brokers={} err={error} reason={reason:?}", self.name);
        let mut inner = self.lock();
        if error.rdkafka_error_code().is_some_and(is_refusal) {
            if inner.refusal.as_deref() != Some(reason) {
                log::warn!("kafka refuses brokers={} err={reason:?}", self.name);
                inner.refusal = Some(reason.to_owned());
            }
            return;
        }
        inner.has_failed = true;
        // That all brokers are down says less than why the last one is.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            inner.last_error = short_reason(reason).to_owned();
        }
    }

    /// What Kafka refuses although it is reached, such as a topic or a group without rights to it.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.lock().refusal.clone()
    }

    /// To be called when the client gets what it was refused before.
    pub fn not_refused(&self) {
        if let Some(reason) = self.lock().refusal.take() {
            log::info!("kafka no longer refuses brokers={} err={reason:?}", self.name);
        }
    }

    /// To be called when the client says that it has had a fatal error.
    pub fn set_fatal(&self, reason: String) {
        self.lock().fatal = Some(reason);
    }

    /// To be called from `ClientContext::log`.
    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let level = self.lock().level_of(level, facility, Instant::now());
        log::log!(target: "librdkafka", level, "{facility} {message} brokers={}", self.name);
    }
}

/// An answer of a broker that somebody has to do something about.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::InconsistentGroupProtocol
            | Code::InvalidSessionTimeout
    )
}

fn connections<'a>(states: impl Iterator<Item = &'a str>) -> Connections {
    let mut result = Connections::Idle;
    for state in states {
        match state {
            state if is_connected(state) => return Connections::Some,
            "INIT" => {}
            _ => result = Connections::None,
        }
    }
    result
}

fn is_connected(state: &str) -> bool {
    matches!(state, "UP" | "UPDATE")
}

/// librdkafka puts addresses before and statistics behind the reason.
fn short_reason(reason: &str) -> &str {
    let reason = reason.split(" (after ").next().unwrap_or(reason);
    reason.rsplit("/bootstrap: ").next().unwrap_or(reason)
}

impl Inner {
    fn observe(&mut self, connections: Connections, now: Timestamp) {
        match connections {
            Connections::Some => {
                self.silent_statistics = 0;
                self.has_failed = false;
                self.state = State::Up;
            }
            Connections::Idle if !self.has_failed => {}
            Connections::Idle | Connections::None => {
                self.silent_statistics += 1;
                let already = matches!(self.state, State::Down(_));
                if self.silent_statistics >= SILENT_STATISTICS_MAX && !already {
                    self.state = State::Down(now);
                }
            }
        }
    }

    /// A client that is not connected may be stranded although it lists addresses: librdkafka lists a broker that it has given
    /// up for as long as anything refers to it, as if it were one that does not answer.
    fn observe_addresses(&mut self, statistics: &Statistics) {
        // The others are librdkafka's own: queues, and the coordinator, which is one of these two as well.
        let mut addresses = statistics
            .brokers
            .values()
            .filter(|broker| matches!(broker.source.as_str(), "configured" | "learned"))
            .peekable();
        let has_none = addresses.peek().is_none();
        let is_connected = addresses.any(|broker| is_connected(&broker.state));
        let has_answers = std::mem::replace(&mut self.answers, statistics.rx) != statistics.rx;
        self.unconnected = if is_connected || has_answers { 0 } else { self.unconnected.saturating_add(1) };
        let is_due = match self.unconnected {
            0 | 1 => false,
            few @ ..RESTORE_EVERY => few.is_power_of_two(),
            many => many % RESTORE_EVERY == 0,
        };
        match () {
            () if has_none => self.stranded = Some(Stranded::Surely),
            () if is_connected => self.stranded = None,
            () if is_due => self.stranded = Some(Stranded::Perhaps),
            // What has not been taken yet stays.
            () => {}
        }
    }

    /// Our own lines tell about connections, once per change; librdkafka's tell about each try.
    fn level_of(&mut self, level: RDKafkaLogLevel, facility: &str, now: Instant) -> log::Level {
        let level = match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => log::Level::Error,
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => log::Level::Warn,
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => log::Level::Debug,
            RDKafkaLogLevel::Debug => log::Level::Trace,
        };
        let about_connections = matches!(facility, "FAIL" | "ERROR" | "BROKERFAIL" | "GETADDR" | "REQTMOUT" | "GETPID");
        match self.logged.get(facility) {
            _ if level > log::Level::Warn => level,
            _ if about_connections => log::Level::Debug,
            Some(last) if now.saturating_duration_since(*last) < REPEAT_AFTER => log::Level::Debug,
            _ => {
                self.logged.insert(facility.to_owned(), now);
                level
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_down_after_two_silent_statistics_and_up_after_one_connection() {
        let cluster = Cluster::new("localhost:9092");
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000).expect("in range");
        let mut seen = Vec::new();
        use Connections::{Idle, None, Some};
        for (second, connections) in (0..).zip([Idle, None, None, None, Some, None, Some, Idle]) {
            cluster.connections(connections, at(second));
            seen.push(cluster.state());
        }
        use State::{Down, Starting, Up};
        assert_eq!(seen, [Starting, Starting, Down(at(2)), Down(at(2)), Up, Up, Up, Up]);
    }

    #[test]
    fn a_client_that_waits_after_a_failure_is_not_idle() {
        let cluster = Cluster::new("localhost:9092");
        let now = Timestamp::from_micros(0).expect("in range");
        let observe = |times| {
            for _ in 0..times {
                cluster.connections(Connections::Idle, now);
            }
            cluster.state()
        };
        assert_eq!(observe(3), State::Starting);
        let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        cluster.error(&error, "Connection refused");
        assert_eq!(observe(2), State::Down(now));
    }

    #[test]
    fn a_refusal_is_remembered_until_it_is_over() {
        let cluster = Cluster::new("localhost:9092");
        let error = KafkaError::Global(RDKafkaErrorCode::GroupAuthorizationFailed);
        cluster.error(&error, "JoinGroup failed");
        assert_eq!(cluster.refusal().as_deref(), Some("JoinGroup failed"));
        cluster.not_refused();
        assert_eq!(cluster.refusal(), None);
    }

    #[test]
    fn broker_states() {
        for (states, expected) in [
            (&["UP", "DOWN"][..], Connections::Some),
            (&["INIT", "TRY_CONNECT"], Connections::None),
            (&["INIT", "INIT"], Connections::Idle),
            (&[], Connections::Idle),
        ] {
            assert_eq!(connections(states.iter().copied()), expected, "{states:?}");
        }
    }

    /// Whether the client counts as stranded after statistics with brokers of these sources and states.
    fn stranded_after(cluster: &Cluster, rx: u64, brokers: &[(&str, &str)]) -> Option<Stranded> {
        let broker = |(source, state): &(&str, &str)| {
            format!(r#""{source}": {{"state": "{state}", "source": "{source}", "nodeid": -1}}"#)
        };
        let brokers: Vec<String> = brokers.iter().map(broker).collect();
        cluster.stats(format!(r#"{{"rx": {rx}, "brokers": {{ {} }}}}"#, brokers.join(",")).as_bytes());
        cluster.take_stranded()
    }

    #[test]
    fn a_client_without_addresses_is_stranded() {
        let cluster = Cluster::new("localhost:9092");
        let stranded = |brokers| stranded_after(&cluster, 0, brokers);
        assert_eq!(stranded(&[("configured", "INIT"), ("internal", "UP"), ("logical", "UP")]), None);
        assert_eq!(stranded(&[("learned", "UP"), ("logical", "INIT")]), None);
        assert_eq!(stranded(&[("internal", "UP"), ("logical", "INIT")]), Some(Stranded::Surely));
        assert_eq!(cluster.take_stranded(), None, "told once");
        assert_eq!(stranded(&[]), Some(Stranded::Surely));
    }

    #[test]
    fn a_client_that_stays_unconnected_may_be_stranded() {
        let cluster = Cluster::new("localhost:9092");
        let away = [("learned", "TRY_CONNECT"), ("logical", "UP")];
        let after = |rx, times: u32| {
            let due = |_: &u32| stranded_after(&cluster, rx, &away) == Some(Stranded::Perhaps);
            (1..=times).filter(due).collect::<Vec<u32>>()
        };
        assert_eq!(after(0, 3500), [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3072]);
        assert_eq!(stranded_after(&cluster, 0, &[("configured", "DOWN"), ("learned", "UP")]), None);
        assert_eq!(after(0, 5), [2, 4]);
        // Somebody has answered, if only that there is no broker: the first of these counts as connected.
        assert_eq!(after(1, 6), [3, 5]);
    }

    #[test]
    fn what_statistics_said_stays_until_it_is_taken_or_over() {
        let cluster = Cluster::new("localhost:9092");
        let stats = |state: &str| {
            let broker = format!(r#"{{"state": "{state}", "source": "learned", "nodeid": 1}}"#);
            cluster.stats(format!(r#"{{"rx": 0, "brokers": {{"a": {broker}}}}}"#).as_bytes());
        };
        (0..3).for_each(|_| stats("DOWN"));
        assert_eq!(cluster.take_stranded(), Some(Stranded::Perhaps));
        (0..2).for_each(|_| stats("DOWN"));
        stats("UP");
        assert_eq!(cluster.take_stranded(), None);
    }

    #[test]
    fn librdkafka_does_not_flood_the_log() {
        let cluster = Cluster::new("localhost:9092");
        let now = Instant::now();
        let mut inner = cluster.lock();
        assert_eq!(inner.level_of(RDKafkaLogLevel::Error, "FAIL", now), log::Level::Debug);
        assert_eq!(inner.level_of(RDKafkaLogLevel::Warning, "CONFWARN", now), log::Level::Warn);
        assert_eq!(inner.level_of(RDKafkaLogLevel::Warning, "CONFWARN", now), log::Level::Debug);
        assert_eq!(inner.level_of(RDKafkaLogLevel::Warning, "CONFWARN", now + REPEAT_AFTER), log::Level::Warn);
        assert_eq!(inner.level_of(RDKafkaLogLevel::Info, "GRPJOIN", now), log::Level::Debug);
    }

    #[test]
    fn the_reason_is_what_matters() {
        let reason = "127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)";
        assert_eq!(short_reason(reason), "Connect to ipv4#127.0.0.1:9092 failed: Connection refused");
    }
}
