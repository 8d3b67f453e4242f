//! Everything that a campaign has started: it all ends with this.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::proxy::{Mode, Proxy};
use crate::exchange::now_us;
use crate::servers::{Daemon, ExchangeProcess, Kafka, KafkaOptions, Postgres, PostgresOptions, Program, free_port};

pub(super) const TOPIC: &str = "coinflow.orderbook.bithumb";
pub(super) const PARTITIONS: usize = 4;
/// What a fault has to be recovered from in.
const RECOVERY: Duration = Duration::from_secs(120);
const READY: Duration = Duration::from_secs(60);
pub(super) const MARKETS: [&str; 10] =
    ["KRW-BTC", "KRW-ETH", "KRW-XRP", "KRW-SOL", "KRW-ADA", "KRW-DOGE", "KRW-LINK", "KRW-AVAX", "KRW-TRX", "BTC-ETH"];
/// A session that PostgreSQL has lost sight of must not hold up the account for ever.
const STATEMENT: &str = "SET statement_timeout = '60s'";

#[derive(Debug)]
pub(super) struct World {
    // Ended in this order: the daemons before what they talk to.
    pub(super) producerd: Daemon,
    pub(super) consumerds: [Daemon; 3],
    pub(super) exchange: ExchangeProcess,
    /// One for each broker.
    pub(super) to_kafka: Vec<Proxy>,
    pub(super) to_postgres: Proxy,
    pub(super) kafka: Kafka,
    pub(super) postgres: Postgres,
    /// A standby, or a copy, that will take the database's place.
    pub(super) copy: Option<Postgres>,
    pub(super) folder: PathBuf,
    /// The spool is on a small file system of its own.
    pub(super) small_spool: Option<Mount>,
    /// The library that lets a daemon's clock jump.
    pub(super) faketime: Option<String>,
    pub(super) interrupted: Arc<AtomicBool>,
}

impl World {
    pub(super) fn start(folder: &Path, seed: u64, interrupted: Arc<AtomicBool>) -> Result<World, String> {
        let folders =
            ["producerd", "consumerd-1", "consumerd-2", "consumerd-3", "producerd/spool"].map(|name| folder.join(name));
        for path in &folders {
            std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let small_spool = Mount::small(&folders[4]);
        let mut ports = Vec::new();
        let mut to_kafka = Vec::new();
        for _ in 0..3 {
            ports.push((free_port()?, free_port()?));
        }
        for &(listens, advertised) in &ports {
            to_kafka.push(Proxy::start(advertised, listens)?);
        }
        let properties = [("min.insync.replicas", "2"), ("replica.lag.time.max.ms", "5000")];
        let options = KafkaOptions {
            brokers: 3,
            properties: properties.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
            proxied: ports,
            ..KafkaOptions::default()
        };
        let settings = [("wal_retrieve_retry_interval", "200ms")];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let (kafka, postgres) = std::thread::scope(|scope| {
            let kafka = scope.spawn(|| Kafka::start_with(&options));
            let postgres = Postgres::start_with(&PostgresOptions { durable: false, settings });
            (kafka.join().unwrap_or_else(|_| Err("the Kafka launcher panicked".to_owned())), postgres)
        });
        let (kafka, postgres) = (kafka?, postgres?);
        let world = World {
            producerd: Daemon::in_folder(Program::Producerd, &folders[0])?,
            consumerds: [
                Daemon::in_folder(Program::Consumerd, &folders[1])?,
                Daemon::in_folder(Program::Consumerd, &folders[2])?,
                Daemon::in_folder(Program::Consumerd, &folders[3])?,
            ],
            exchange: ExchangeProcess::start(folder, seed)?,
            to_kafka,
            to_postgres: Proxy::start(free_port()?, postgres.port())?,
            kafka,
            postgres,
            copy: None,
            folder: folder.to_owned(),
            small_spool,
            faketime: std::env::var("COINFLOW_FAKETIME").ok(),
            interrupted,
        };
        world.configure()?;
        Ok(world)
    }

    fn configure(&self) -> Result<(), String> {
        let brokers: Vec<String> =
            self.to_kafka.iter().map(|proxy| format!("\"127.0.0.1:{}\"", proxy.port())).collect();
        let brokers = brokers.join(", ");
        self.producerd.write(
            "producerd.toml",
            &format!(
                "symbols_file = \"symbols.toml\"\n[spool]\ndirectory = \"spool\"\nmax_size = \"1GiB\"\n\
                 [kafka]\nbrokers = [{brokers}]\n[kafka.topic]\npartitions = {PARTITIONS}\nreplication_factor = 3\n\
                 [exchange.bithumb]\nbase_url = \"{}\"\n",
                self.exchange.base_url()
            ),
        )?;
        self.watch(&MARKETS)?;
        // A session of 6 s, so that a frozen member is given up soon.
        for daemon in &self.consumerds {
            daemon.write(
                "consumerd.toml",
                &format!(
                    "[postgres]\nconnection = \"host=127.0.0.1 port={} user=coinflow dbname=coinflow\"\ntls = \"off\"\n\
                     [source.main]\nbrokers = [{brokers}]\ntopics = [\"{TOPIC}\"]\n\
                     librdkafka = {{ \"session.timeout.ms\" = 6000, \"heartbeat.interval.ms\" = 1000 }}\n",
                    self.to_postgres.port()
                ),
            )?;
        }
        Ok(())
    }

    /// The symbols that producerd reads at its next start or reload.
    pub(super) fn watch(&self, markets: &[&str]) -> Result<(), String> {
        let markets: Vec<String> = markets.iter().map(|market| format!("\"{market}\"")).collect();
        let text = format!("interval = \"200ms\"\n[bithumb]\nsymbols = [{}]\n", markets.join(", "));
        self.producerd.write("symbols.toml", &text).map(|_| ())
    }

    pub(super) fn start_consumerds(&mut self) -> Result<(), String> {
        for daemon in &mut self.consumerds[..2] {
            daemon.start()?;
        }
        self.consumerds[..2].iter_mut().try_for_each(|daemon| daemon.wait_ready(READY))
    }

    /// Straight to the database, past the proxy.
    pub(super) fn connect(&self) -> Result<postgres::Client, String> {
        let mut client = self.postgres.connect()?;
        client.batch_execute(STATEMENT).map_err(|error| format!("PostgreSQL: {error}"))?;
        Ok(client)
    }

    /// Waits until of each market a book is stored that was received after `since_us`.
    pub(super) fn wait_flow(&mut self, since_us: u64) -> Result<(), String> {
        // Stored since then as well: after a jump of producerd's clock, older books look newer.
        let query = "SELECT count(*) FROM unnest($1::text[]) AS watched (market), \
                     (SELECT to_timestamp($2::double precision / 1e6) AS at) AS since \
                     WHERE EXISTS (SELECT FROM coinflow.orderbook WHERE exchange = 'bithumb' \
                     AND orderbook.market = watched.market AND received_at > since.at AND stored_at > since.at)";
        let markets = MARKETS.map(str::to_owned).to_vec();
        let deadline = Instant::now() + RECOVERY;
        let mut client = None;
        let mut flowing = 0;
        while Instant::now() < deadline {
            self.go_on()?;
            if client.is_none() {
                client = self.connect().ok();
            }
            if let Some(open) = &mut client {
                match open.query_one(query, &[&markets, &(since_us as f64)]) {
                    Ok(row) => flowing = row.get::<_, i64>(0),
                    Err(_) => client = None,
                }
            }
            if flowing == MARKETS.len() as i64 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("not recovered after {RECOVERY:?}: books of {flowing} of {} markets arrive", MARKETS.len()))
    }

    /// Waits until every replica is in sync again, so that the next broker may fail.
    pub(super) fn wait_in_sync(&mut self) -> Result<(), String> {
        self.kafka.client().wait_in_sync(TOPIC, RECOVERY).and_then(|()| self.go_on())
    }

    /// An error if somebody wants it to end, or if a daemon has ended by itself.
    pub(super) fn go_on(&mut self) -> Result<(), String> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        let daemons = [&mut self.producerd].into_iter().chain(&mut self.consumerds[..2]);
        for daemon in daemons {
            if !daemon.is_running() {
                return Err(format!("{} has ended by itself", daemon.folder().display()));
            }
        }
        Ok(())
    }

    /// To all brokers, or to one of them.
    pub(super) fn links(&self, target: usize) -> &[Proxy] {
        self.to_kafka.get(target..=target).unwrap_or(&self.to_kafka)
    }

    pub(super) fn all_links(&self, mode: Mode) {
        self.to_kafka.iter().for_each(|proxy| proxy.set(mode));
    }

    /// Copies the servers' logs beside those of the daemons, to be looked at after the end.
    pub(super) fn keep_logs(&self) {
        let brokers = (0..3).map(|at| (self.kafka.log(at), format!("broker-{}.log", at + 1)));
        for (from, to) in brokers.chain([(self.postgres.log(), "postgresql.log".to_owned())]) {
            // Nothing depends on it.
            let _ = std::fs::copy(from, self.folder.join(to));
        }
    }
}

/// A file system in memory; it ends when dropped.
#[derive(Debug)]
pub(super) struct Mount(PathBuf);

impl Mount {
    /// A few MiB in this folder, if this process may: `tests/campaign` gives it mounts of its own, which end with it however it
    /// ends.
    fn small(folder: &Path) -> Option<Mount> {
        std::env::var_os("COINFLOW_OWN_MOUNTS")?;
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(folder).status();
        status.is_ok_and(|status| status.success()).then(|| Mount(folder.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // What cannot be taken away ends with this process.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A moment, and the same as producerd and the exchange write it.
pub(super) fn now() -> (Instant, u64) {
    (Instant::now(), now_us())
}
