//! Everything that one end-to-end test needs: servers, exchange and both daemons, configured to find each other.

use std::collections::BTreeMap;
use std::time::Duration;

use coinflow_tests::exchange::ExchangeControl;
use coinflow_tests::servers::{
    Daemon, ExchangeProcess, Kafka, KafkaClient, KafkaOptions, Postgres, PostgresOptions, Program,
};
use coinflow_tests::wait::wait_until;
use tempfile::TempDir;

pub(crate) const TOPIC: &str = "coinflow.orderbook.bithumb";
pub(crate) const GROUP: &str = "coinflow-consumerd";
/// For what should come within seconds, on a machine that does a lot else.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// For what takes a restart of a server, or a rebalance.
pub(crate) const LATER: Duration = Duration::from_secs(90);

pub(crate) struct Rig {
    // In this order they are dropped: the daemons before what they talk to.
    pub(crate) producerd: Daemon,
    pub(crate) consumerd: Daemon,
    pub(crate) exchange: ExchangeProcess,
    pub(crate) kafka: Kafka,
    pub(crate) postgres: Postgres,
    _folder: TempDir,
}

impl Rig {
    /// Servers and exchange run; the daemons are configured and do not run yet.
    pub(crate) fn new() -> Rig {
        Rig::with(&KafkaOptions::default(), &PostgresOptions::default())
    }

    pub(crate) fn with(kafka: &KafkaOptions, postgres: &PostgresOptions) -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let rig = Rig {
            producerd: Daemon::new(Program::Producerd).expect("a folder for producerd"),
            consumerd: Daemon::new(Program::Consumerd).expect("a folder for consumerd"),
            exchange: ExchangeProcess::start(folder.path(), 1).expect("the exchange starts"),
            kafka: Kafka::start_with(kafka).expect("Kafka starts"),
            postgres: Postgres::start_with(postgres).expect("PostgreSQL starts"),
            _folder: folder,
        };
        rig.configure_producerd("");
        rig.configure_consumerd(&rig.consumerd, "");
        rig
    }

    /// `bithumb`: further lines of the table `[exchange.bithumb]`, and tables behind it.
    pub(crate) fn configure_producerd(&self, bithumb: &str) {
        let text = format!(
            "symbols_file = \"symbols.toml\"\nspool = {{ directory = \"spool\", max_size = \"16MiB\" }}\n[kafka]\nbrokers = [\"{}\"]\n[exchange.bithumb]\nbase_url = \"{}\"\n{bithumb}\n",
            self.kafka.bootstrap(),
            self.exchange.base_url(),
        );
        self.producerd.write("producerd.toml", &text).expect("producerd.toml");
    }

    /// `source`: further lines of the table `[source.main]`, and tables behind it.
    pub(crate) fn configure_consumerd(&self, daemon: &Daemon, source: &str) {
        let text = format!(
            "[postgres]\nconnection = \"{}\"\n[source.main]\nbrokers = [\"{}\"]\n{source}\n",
            self.postgres.connection(),
            self.kafka.bootstrap().replace(',', "\", \""),
        );
        daemon.write("consumerd.toml", &text).expect("consumerd.toml");
    }

    /// One interval for these symbols of Bithumb.
    pub(crate) fn watch(&self, interval: &str, symbols: &[&str]) {
        let symbols: Vec<_> = symbols.iter().map(|symbol| format!("{symbol:?}")).collect();
        let text = format!("interval = \"{interval}\"\n[bithumb]\nsymbols = [{}]\n", symbols.join(", "));
        self.producerd.write("symbols.toml", &text).expect("symbols.toml");
    }

    pub(crate) fn start_daemons(&mut self) {
        self.consumerd.start().expect("consumerd starts");
        self.producerd.start().expect("producerd starts");
    }

    pub(crate) fn control(&self) -> ExchangeControl {
        self.exchange.control()
    }

    pub(crate) fn client(&self) -> KafkaClient {
        self.kafka.client()
    }

    /// One number that a query gives; none while the database or the table is not there.
    pub(crate) fn number(&self, query: &str) -> Option<i64> {
        self.postgres.connect().ok()?.query_one(query, &[]).ok()?.get(0)
    }

    pub(crate) fn rows(&self) -> i64 {
        self.number("SELECT count(*) FROM coinflow.orderbook").unwrap_or(0)
    }

    pub(crate) fn dead_letters(&self) -> i64 {
        self.number("SELECT count(*) FROM coinflow.dead_letter").unwrap_or(0)
    }

    pub(crate) fn wait_rows(&self, at_least: i64, timeout: Duration) {
        let what = format!("{at_least} rows");
        let waited = wait_until(timeout, &what, || (self.rows() >= at_least).then_some(()));
        waited.unwrap_or_else(|error| panic!("{error}; there are {}\n{}", self.rows(), self.logs()));
    }

    /// Waits until all records of the topic are stored, and checks that each is there once.
    ///
    /// Returns their number.
    pub(crate) fn settle(&self) -> i64 {
        let client = self.client();
        let watermarks = client.watermarks(TOPIC).expect("watermarks");
        let records: i64 = watermarks.values().map(|(first, end)| end - first).sum();
        let stored = || self.rows() + self.dead_letters();
        let waited = wait_until(LATER, "the topic to be stored", || (stored() >= records).then_some(()));
        waited.unwrap_or_else(|error| panic!("{error}: {} of {records}\n{}", stored(), self.logs()));
        assert_eq!(stored(), records, "rows and dead letters against records");
        let distinct = "SELECT count(*) FROM (SELECT kafka_partition, kafka_offset FROM coinflow.orderbook \
                         UNION SELECT kafka_partition, kafka_offset FROM coinflow.dead_letter) AS records";
        assert_eq!(self.number(distinct), Some(records), "each record once");
        let positions = self.positions();
        for (partition, (_, end)) in watermarks {
            assert_eq!(positions.get(&partition).copied().unwrap_or(0), end, "position of partition {partition}");
        }
        records
    }

    /// Waits until so many different books are stored: how many are, then of all runs the sequence numbers that are missing, those
    /// that are doubled, and the steps back in the order of the topic.
    pub(crate) fn account_of_rows(&self, books: u64) -> (i64, i64, i64, i64) {
        let distinct = "SELECT count(DISTINCT (market, producer_run, producer_sequence)) FROM coinflow.orderbook";
        let stored = || self.number(distinct).unwrap_or(0);
        let all = || (stored() >= books as i64).then_some(());
        _ = wait_until(LATER, "all books", all);
        self.settle();
        let number = |query: &str| self.number(query).expect("a number");
        let missing = number(
            "SELECT coalesce(sum(last - stored), 0)::bigint FROM (SELECT max(producer_sequence) AS last, \
             count(DISTINCT producer_sequence) AS stored FROM coinflow.orderbook GROUP BY market, producer_run) AS runs",
        );
        let doubled = number(
            "SELECT count(*) - count(DISTINCT (market, producer_run, producer_sequence)) FROM coinflow.orderbook",
        );
        // A book that comes twice is behind its first self; what counts is the order of first appearances.
        let disorder = number(
            "SELECT count(*) FROM (SELECT producer_sequence - lag(producer_sequence) OVER (PARTITION BY market, producer_run \
             ORDER BY kafka_partition, kafka_offset) AS step FROM (SELECT DISTINCT ON (market, producer_run, \
             producer_sequence) * FROM coinflow.orderbook ORDER BY market, producer_run, producer_sequence, kafka_offset) \
             AS firsts) AS steps WHERE step <= 0",
        );
        (stored(), missing, doubled, disorder)
    }

    /// The database's positions of the topic.
    pub(crate) fn positions(&self) -> BTreeMap<i32, i64> {
        let Ok(mut client) = self.postgres.connect() else { return BTreeMap::new() };
        let query = "SELECT kafka_partition, next_offset FROM coinflow.kafka_offset WHERE kafka_topic = $1";
        let rows = client.query(query, &[&TOPIC]).unwrap_or_default();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The logs of both daemons, for a failed assertion.
    pub(crate) fn logs(&self) -> String {
        let tail = |daemon: &Daemon| {
            let lines = daemon.stderr().all();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        format!("--- producerd\n{}\n--- consumerd\n{}", tail(&self.producerd), tail(&self.consumerd))
    }

    /// Stops producerd and returns the numbers of its last summary line.
    pub(crate) fn stop_producerd(&mut self) -> BTreeMap<String, u64> {
        let status = self.producerd.stop().expect("producerd ends");
        assert!(status.success(), "{status}\n{}", self.logs());
        summary(&self.producerd)
    }

    pub(crate) fn stop_consumerd(&mut self) -> BTreeMap<String, u64> {
        let status = self.consumerd.stop().expect("consumerd ends");
        assert!(status.success(), "{status}\n{}", self.logs());
        summary(&self.consumerd)
    }
}

/// The numbers of a daemon's last `summary` line.
pub(crate) fn summary(daemon: &Daemon) -> BTreeMap<String, u64> {
    let lines = daemon.stderr().all();
    let line = lines.iter().rev().find(|line| line.contains(" INFO  summary ")).expect("a summary line");
    numbers(line)
}

/// The numbers of a line of `key=value`.
pub(crate) fn numbers(line: &str) -> BTreeMap<String, u64> {
    let pair = |word: &str| {
        let (key, value) = word.split_once('=')?;
        Some((key.to_owned(), value.parse().ok()?))
    };
    line.split_whitespace().filter_map(pair).collect()
}

/// The lines of a log at one level.
pub(crate) fn lines_at(daemon: &Daemon, level: &str) -> Vec<String> {
    daemon.stderr().all().into_iter().filter(|line| line.split_whitespace().nth(1) == Some(level)).collect()
}
