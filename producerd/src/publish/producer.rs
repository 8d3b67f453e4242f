//! One Kafka producer, for all exchanges that publish to one cluster.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coinflow_common::daemon::Beat;
use coinflow_common::kafka::{Cluster, restore_addresses};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig};
use tokio::sync::mpsc;

use super::flow::WINDOW_BYTES;
use super::guard::{Guard, Seen};
use super::outlet::{Outlet, Ticket};

/// A book waits for no other: at the rates that exchanges allow, hardly two of a partition come within some milliseconds.
const LINGER_MS: &str = "0";
const COMPRESSION: &str = "lz4";
/// A topic that somebody else made may take less than we would, and refuses a batch as a whole.
const BATCH_BYTES_MAX: u64 = 256 << 10;
/// A turn of the poll thread, and a shorter one while records wait for room.
const TURN: Duration = Duration::from_millis(100);
const SHORT_TURN: Duration = Duration::from_millis(10);
/// While reports keep coming they are served together, so often: to be woken for each costs more than to serve it.
const GATHER: Duration = Duration::from_millis(10);

/// Room for what all outlets may have on their way, each with one record beyond its window, in KiB.
fn window_kib(outlets: usize, message_bytes_max: u64) -> u64 {
    ((outlets as u64 * (WINDOW_BYTES as u64 + message_bytes_max)) >> 10).clamp(1024, 2_097_151)
}

/// Hands librdkafka's callbacks on.
pub(super) struct Context {
    cluster: Arc<Cluster>,
    outlets: Vec<Arc<Outlet>>,
    guard: Mutex<Option<Guard>>,
    /// Delivery reports so far.
    reports: AtomicU64,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.cluster.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.cluster.stats(statistics);
        let mut last = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        match Guard::observe(&mut last, statistics) {
            Seen::Nothing => {}
            seen => self.outlets.iter().for_each(|outlet| outlet.guarded(seen == Seen::Anew)),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.cluster.error(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        self.reports.fetch_add(1, Ordering::Relaxed);
        ticket.reported(result);
        // One broker of several may go on refusing: then some books stay on their way.
        if result.is_ok() && ticket.is_last() {
            self.cluster.not_refused();
        }
    }
}

/// The producer and its outlets.
pub(crate) struct Producer {
    base: BaseProducer<Context>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) outlets: Vec<Arc<Outlet>>,
    pub(super) stop: AtomicBool,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Producer {
    /// `settings` are those that both kinds of clients share, with the file's properties in place.
    pub(super) fn new(settings: &ClientConfig, cluster: Arc<Cluster>, outlets: Vec<Arc<Outlet>>) -> KafkaResult<Self> {
        let sizes = || outlets.iter().map(|outlet| outlet.config.topic.max_message_size);
        let message_bytes_max = sizes().max().unwrap_or_default();
        let batch_bytes = sizes().min().unwrap_or_default().clamp(1, BATCH_BYTES_MAX).to_string();
        let mut config = settings.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("message.max.bytes", message_bytes_max.to_string())
            // Each outlet keeps to its own window, so that none has to wait for another; this one is out of their way.
            .set("queue.buffering.max.kbytes", window_kib(outlets.len(), message_bytes_max).to_string());
        for (name, alias, default) in [
            ("linger.ms", "queue.buffering.max.ms", LINGER_MS),
            ("compression.type", "compression.codec", COMPRESSION),
            ("batch.size", "batch.size", &batch_bytes),
        ] {
            if config.get(name).or(config.get(alias)).is_none() {
                config.set(name, default);
            }
        }
        let context = Context {
            cluster: Arc::clone(&cluster),
            outlets: outlets.clone(),
            guard: Mutex::new(None),
            reports: AtomicU64::new(0),
        };
        let base = config.create_with_context(context)?;
        Ok(Self { base, cluster, outlets, stop: AtomicBool::new(false) })
    }

    pub(super) fn send(&self, record: BaseRecord<'_, str, Vec<u8>, Box<Ticket>>) -> KafkaResult<()> {
        self.base.send(record).map_err(|(error, _)| error)
    }

    pub(super) fn client(&self) -> &rdkafka::client::Client<Context> {
        self.base.client()
    }

    fn reports(&self) -> u64 {
        self.base.client().context().reports.load(Ordering::Relaxed)
    }

    /// Serves all reports that there are after a while.
    fn serve_after(&self, pause: Duration) {
        std::thread::sleep(pause);
        let mut before = None;
        // Each call serves one event, of several reports at most times.
        while before != Some(self.reports()) {
            before = Some(self.reports());
            self.base.poll(Duration::ZERO);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Makes librdkafka report all that it still has, without waiting: its threads may be looking up names for long.
    pub(super) fn take_back(&self) {
        self.base.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }

    /// The thread `kafka-poll`: serves delivery reports, hands waiting records on, and watches for a fatal error.
    pub(super) fn run(&self, beat: &Beat, fatal: &mpsc::Sender<String>) {
        let (mut was_up, mut reports) = (true, 0);
        while !self.is_stopped() {
            beat.turn();
            let is_up = self.cluster.is_up();
            if is_up && !was_up {
                self.outlets.iter().for_each(|outlet| outlet.compare_again());
            }
            was_up = is_up;
            restore_addresses(self.base.client(), &self.cluster);
            let is_waiting = self.outlets.iter().any(|outlet| outlet.is_waiting());
            let reports_before = std::mem::replace(&mut reports, self.reports());
            match reports > reports_before {
                _ if is_waiting => self.base.poll(SHORT_TURN),
                false => self.base.poll(TURN),
                true => self.serve_after(GATHER),
            }
            for outlet in &self.outlets {
                outlet.drain(self);
            }
            if let Some((code, reason)) = self.base.client().fatal_error() {
                let reason = format!("{code}: {reason}");
                self.cluster.set_fatal(reason.clone());
                // One is enough to end the daemon.
                _ = fatal.try_send(reason);
                return;
            }
        }
    }
}
