//! Apache Kafka itself: one JVM per broker, each broker and controller in one (KRaft).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use uuid::Uuid;

use super::kafka_jars::Jars;
use super::{KafkaClient, Process, free_port};

const START: Duration = Duration::from_secs(180);
const STOP: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct KafkaOptions {
    pub brokers: u16,
    /// Lines of server.properties; a later one replaces an earlier one.
    pub properties: Vec<(String, String)>,
    /// What a single broker listens at beside its plain port: `SASL_SSL://127.0.0.1:PORT`.
    pub listeners: Vec<String>,
    /// For each broker a port that it listens at as well, and the port that clients who come there are told in its place: that
    /// of a proxy. Brokers among themselves do not pass it.
    pub proxied: Vec<(u16, u16)>,
    pub jvm: Jvm,
}

impl Default for KafkaOptions {
    fn default() -> KafkaOptions {
        KafkaOptions { brokers: 1, properties: Vec::new(), listeners: Vec::new(), proxied: Vec::new(), jvm: Jvm::Small }
    }
}

#[derive(Debug)]
struct Broker {
    id: u16,
    port: u16,
    controller_port: u16,
    folder: PathBuf,
    process: Option<Process>,
}

/// How a broker's JVM is set up.
#[derive(Clone, Copy, Debug)]
pub enum Jvm {
    /// It starts sooner and takes less memory: for tests, in which a broker is never busy, and for Kafka's tools.
    Small,
    /// As by Kafka's own scripts (`kafka-server-start.sh` and `kafka-run-class.sh`).
    AsShipped,
}

impl Jvm {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Jvm::Small => &["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xms256m", "-Xmx512m"],
            Jvm::AsShipped => &[
                "-server",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35",
                "-XX:+ExplicitGCInvokesConcurrent",
                "-XX:MaxInlineLevel=15",
                "-Xms1G",
                "-Xmx1G",
            ],
        }
    }
}

/// A cluster. Brokers are numbered from 0 in the calls, and keep their ports and their data over restarts.
#[derive(Debug)]
pub struct Kafka {
    folder: TempDir,
    jars: Jars,
    jvm: Jvm,
    brokers: Vec<Broker>,
}

impl Kafka {
    /// One broker.
    pub fn start() -> Result<Kafka, String> {
        Kafka::start_with(&KafkaOptions::default())
    }

    /// Returns when every broker answers. Topics are not made by themselves.
    pub fn start_with(options: &KafkaOptions) -> Result<Kafka, String> {
        let jars = Jars::fetched()?;
        let folder = tempfile::Builder::new().prefix("coinflow-kafka-").tempdir();
        let folder = folder.map_err(|error| format!("a temporary folder: {error}"))?;
        let mut brokers = Vec::new();
        for id in 1..=options.brokers {
            let folder = folder.path().join(id.to_string());
            std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            brokers.push(Broker { id, port: free_port()?, controller_port: free_port()?, folder, process: None });
        }
        for broker in &brokers {
            let path = broker.folder.join("server.properties");
            std::fs::write(&path, properties(broker, &brokers, options))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let mut kafka = Kafka { folder, jars, jvm: options.jvm, brokers };
        kafka.format()?;
        kafka.start_all()?;
        Ok(kafka)
    }

    /// Gives every broker's data folder the identity of a new cluster.
    fn format(&self) -> Result<(), String> {
        let cluster = base64url(Uuid::now_v7().as_bytes());
        let mut formatters = Vec::new();
        for broker in &self.brokers {
            let mut java = self.jars.java();
            java.args(Jvm::Small.arguments()).args(["kafka.tools.StorageTool", "format", "-t", &cluster, "-c"]);
            java.arg(broker.folder.join("server.properties")).stdout(Stdio::piped()).stderr(Stdio::piped());
            let formatter =
                java.spawn().map_err(|error| format!("cannot start java (a JRE of 17 or later): {error}"))?;
            formatters.push(formatter);
        }
        for formatter in formatters {
            let output = formatter.wait_with_output().map_err(|error| format!("StorageTool: {error}"))?;
            if !output.status.success() {
                let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                return Err(format!("StorageTool: {}:\n{}", output.status, last_lines(&text.concat())));
            }
        }
        Ok(())
    }

    /// Starts every broker that does not run, and waits until all answer.
    pub fn start_all(&mut self) -> Result<(), String> {
        for at in 0..self.brokers.len() {
            self.begin_broker(at)?;
        }
        self.wait_ready(self.brokers.len())
    }

    /// Waits until this many brokers are in the cluster's metadata.
    pub fn wait_ready(&mut self, brokers: usize) -> Result<(), String> {
        let dead = |broker: &mut Broker| broker.process.as_mut().and_then(Process::exited).is_some();
        // A broker that ended at once would be waited for in vain.
        let client = self.client();
        let deadline = std::time::Instant::now() + START;
        loop {
            let error = match client.wait_brokers(brokers, Duration::from_secs(2)) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let ended = self.brokers.iter_mut().position(dead);
            if ended.is_some() || std::time::Instant::now() > deadline {
                let at = ended.unwrap_or(0);
                return Err(format!("{error}; log of broker {at}:\n{}", tail(&self.log(at))));
            }
        }
    }

    pub fn start_broker(&mut self, at: usize) -> Result<(), String> {
        self.begin_broker(at)?;
        let running = self.brokers.iter().filter(|broker| broker.process.is_some()).count();
        self.wait_ready(running)
    }

    /// Starts a broker unless it runs, and waits for nothing.
    pub fn begin_broker(&mut self, at: usize) -> Result<(), String> {
        let log = self.log(at);
        let broker = &mut self.brokers[at];
        if broker.process.as_mut().is_some_and(|process| process.exited().is_none()) {
            return Ok(());
        }
        let mut java = self.jars.java();
        java.args(self.jvm.arguments()).arg("kafka.Kafka").arg(broker.folder.join("server.properties"));
        java.current_dir(&broker.folder);
        broker.process = Some(Process::spawn(&format!("Kafka broker {}", broker.id), &mut java, &log, &log)?);
        Ok(())
    }

    /// SIGTERM: the brokers shut down in order.
    pub fn stop(&mut self) -> Result<(), String> {
        for broker in &mut self.brokers {
            if let Some(process) = &mut broker.process {
                process.signal(Signal::TERM)?;
            }
        }
        (0..self.brokers.len()).try_for_each(|at| self.stop_broker(at))
    }

    pub fn stop_broker(&mut self, at: usize) -> Result<(), String> {
        match self.brokers[at].process.take() {
            Some(mut process) => process.stop(STOP).map(|_| ()),
            None => Ok(()),
        }
    }

    /// SIGKILL to every broker.
    pub fn kill9(&mut self) -> Result<(), String> {
        (0..self.brokers.len()).try_for_each(|at| self.kill9_broker(at))
    }

    pub fn kill9_broker(&mut self, at: usize) -> Result<(), String> {
        match self.brokers[at].process.take() {
            Some(mut process) => process.kill9().map(|_| ()),
            None => Ok(()),
        }
    }

    pub fn restart(&mut self) -> Result<(), String> {
        self.stop()?;
        self.start_all()
    }

    /// To one broker that runs.
    pub fn signal_broker(&mut self, at: usize, signal: Signal) -> Result<(), String> {
        self.brokers[at].process.as_mut().map_or(Ok(()), |process| process.signal(signal))
    }

    /// Every broker freezes: connections stay open, and nothing answers.
    pub fn sigstop(&mut self) -> Result<(), String> {
        self.signal(Signal::STOP)
    }

    pub fn sigcont(&mut self) -> Result<(), String> {
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), String> {
        self.brokers
            .iter_mut()
            .filter_map(|broker| broker.process.as_mut())
            .try_for_each(|process| process.signal(signal))
    }

    /// `127.0.0.1:PORT,…`
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect::<Vec<_>>().join(",")
    }

    /// Runs one of Kafka's own command line tools, by its class.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<String, String> {
        let mut java = self.jars.java();
        java.args(Jvm::Small.arguments());
        java.arg(class).args(["--bootstrap-server", &self.bootstrap()]).args(arguments);
        let output = java.output().map_err(|error| format!("{class}: {error}"))?;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        if output.status.success() { Ok(text) } else { Err(format!("{class}: {}:\n{text}", output.status)) }
    }

    /// A client of its own that knows nothing of coinflow.
    pub fn client(&self) -> KafkaClient {
        KafkaClient::new(&self.bootstrap())
    }

    pub fn log(&self, at: usize) -> PathBuf {
        self.brokers[at].folder.join("broker.log")
    }

    /// Leaves it running, for good; returns the pids and the folder.
    pub fn leave(mut self) -> Result<(Vec<u32>, PathBuf), String> {
        let mut pids = Vec::new();
        for process in self.brokers.iter_mut().filter_map(|broker| broker.process.take()) {
            pids.push(process.pid());
            process.leave();
        }
        let placeholder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
        Ok((pids, std::mem::replace(&mut self.folder, placeholder).keep()))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // The data goes with the folder, so that there is nothing to shut down in order.
        let _ = self.kill9();
    }
}

fn properties(broker: &Broker, all: &[Broker], options: &KafkaOptions) -> String {
    let replicas = all.len().min(3).to_string();
    let in_sync = all.len().min(2).to_string();
    let voters: Vec<String> = all.iter().map(|one| format!("{}@127.0.0.1:{}", one.id, one.controller_port)).collect();
    let (port, controller_port) = (broker.port, broker.controller_port);
    let proxied = options.proxied.get(usize::from(broker.id) - 1);
    let listeners = |proxied: Option<u16>| {
        let proxied: Vec<String> = proxied.iter().map(|port| format!("PROXIED://127.0.0.1:{port}")).collect();
        [&[format!("PLAINTEXT://127.0.0.1:{port}")], &options.listeners[..], &proxied].concat().join(",")
    };
    let (at, advertised) = (listeners(proxied.map(|ports| ports.0)), listeners(proxied.map(|ports| ports.1)));
    let own = [
        ("process.roles", "broker,controller"),
        ("node.id", &broker.id.to_string()),
        ("controller.quorum.voters", &voters.join(",")),
        ("listeners", &format!("{at},CONTROLLER://127.0.0.1:{controller_port}")),
        ("advertised.listeners", &advertised),
        ("controller.listener.names", "CONTROLLER"),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
        ),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("log.dirs", &broker.folder.join("data").display().to_string()),
        ("auto.create.topics.enable", "false"),
        ("offsets.topic.num.partitions", "4"),
        ("offsets.topic.replication.factor", &replicas),
        ("transaction.state.log.replication.factor", &replicas),
        ("transaction.state.log.min.isr", &in_sync),
        ("share.coordinator.state.topic.replication.factor", &replicas),
        ("share.coordinator.state.topic.min.isr", &in_sync),
        ("group.initial.rebalance.delay.ms", "0"),
        // A lost broker is noticed after 3 s in place of 9.
        ("broker.session.timeout.ms", "3000"),
        ("broker.heartbeat.interval.ms", "500"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut text = String::new();
    for (key, value) in own.iter().chain(&options.properties) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

/// Kafka spells a cluster's id so.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| (bits << 8) | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

fn tail(path: &Path) -> String {
    last_lines(&std::fs::read_to_string(path).unwrap_or_default())
}

fn last_lines(text: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::base64url;

    #[test]
    fn base64url_without_padding() {
        for (bytes, text) in [(&b""[..], ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"\xff\xfe\xfd", "__79")]
        {
            assert_eq!(base64url(bytes), text);
        }
    }
}
