//! producerd's polls: how late they start, what they cost, and what waits in memory while Kafka is away.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::limit;
use super::report::Figure;
use super::stats::{Goal, Runs, percentile};
use super::{READY, Size, cpu, progress, stop, summary};
use crate::servers::{Daemon, ExchangeProcess, Kafka, Program};

pub(super) const TOPIC: &str = "coinflow.orderbook.bithumb";
const WARM_UP: Duration = Duration::from_secs(5);
const MARKETS: u32 = 200;
/// 200 markets: 500 requests a second.
const INTERVAL: Duration = Duration::from_millis(400);
const PER_SECOND: u32 = 500;

/// An exchange that takes any rate, and a producerd that polls it.
#[derive(Debug)]
pub(super) struct Polling {
    pub(super) producerd: Daemon,
    pub(super) exchange: ExchangeProcess,
}

impl Polling {
    pub(super) fn new(kafka: &Kafka, markets: u32, interval: Duration, partitions: u32) -> Result<Polling, String> {
        let producerd = Daemon::new(Program::Producerd)?;
        let exchange = ExchangeProcess::start(producerd.folder(), 1)?;
        exchange.control().set_switches(&json!({"bithumb_v2": {"limiter": {"enabled": false}}}))?;
        let codes = codes(markets);
        exchange.control().list(&codes.iter().map(String::as_str).collect::<Vec<_>>())?;
        let text = format!(
            "symbols_file = \"symbols.toml\"\nspool = {{ directory = \"spool\" }}\n\
             [kafka]\nbrokers = [\"{}\"]\n[kafka.topic]\npartitions = {partitions}\n\
             [exchange.bithumb]\nbase_url = \"{}\"\nrequests_per_second = 1000\n",
            kafka.bootstrap(),
            exchange.base_url()
        );
        producerd.write("producerd.toml", &text)?;
        producerd.write("symbols.toml", &symbols(interval, markets))?;
        Ok(Polling { producerd, exchange })
    }

    pub(super) fn start(&mut self) -> Result<u32, String> {
        self.producerd.start()?;
        self.producerd.wait_ready(READY)?;
        std::thread::sleep(WARM_UP);
        self.producerd.pid()
    }

    pub(super) fn polls(&self) -> Result<u64, String> {
        Ok(self.exchange.control().summary()?.books)
    }
}

/// The first markets of the ones that the exchange is told to have.
pub(super) fn codes(number: u32) -> Vec<String> {
    (0..number).map(|number| format!("KRW-T{number:03}")).collect()
}

pub(super) fn symbols(interval: Duration, number: u32) -> String {
    let symbols: Vec<String> = codes(number).iter().map(|code| format!("{code:?}")).collect();
    format!("interval = \"{}ms\"\n[bithumb]\nsymbols = [{}]\n", interval.as_millis(), symbols.join(", "))
}

pub(super) fn lateness(size: Size) -> Result<Vec<Figure>, String> {
    let mut runs = Runs::default();
    let mut memory = Runs::default();
    let mut skipped = 0;
    let kafka = Kafka::start()?;
    for run in 0..size.runs {
        let mut polling = Polling::new(&kafka, MARKETS, INTERVAL, 3)?;
        let client = kafka.client();
        let before = client.watermarks(TOPIC).unwrap_or_default();
        let pid = polling.start()?;
        std::thread::sleep(Duration::from_secs(size.seconds));
        memory.ours.push(cpu::peak_mib(pid)?);
        stop(&mut polling.producerd)?;
        skipped += summary(&polling.producerd, "polls_skipped")?;
        let late = late_starts(&client.records(TOPIC)?, &before)?;
        drop(polling);
        let bare = limit::sleeper(Duration::from_secs(1) / PER_SECOND, PER_SECOND * size.seconds as u32);
        let (ours, beside) = (percentile(&late, 99), percentile(&bare, 99));
        progress(&format!(
            "poll run {run}: p50 {:.2} p99 {ours:.2} ms late of {}, sleeper p99 {beside:.2}",
            percentile(&late, 50),
            late.len()
        ));
        runs.ours.push(ours);
        runs.limit.push(beside);
    }
    Ok(vec![
        Figure {
            part: "poll",
            what: "p99 of how late a request starts, 500/s over 200 markets",
            unit: "ms",
            beside: "p99 of a sleeper",
            runs,
            goal: Goal::AboveByAtMost(3.0),
            note: format!("{skipped} polls skipped"),
        },
        Figure {
            part: "memory",
            what: "peak of producerd under poll",
            unit: "MiB",
            beside: "",
            runs: memory,
            goal: Goal::AtMost(20.0),
            note: String::new(),
        },
    ])
}

/// From the records behind `before`: how far behind its market's grid each request started, in ms, sorted. The grid of a
/// market lies where its most punctual request was.
fn late_starts(
    records: &[crate::servers::KafkaRecord],
    before: &BTreeMap<i32, (i64, i64)>,
) -> Result<Vec<f64>, String> {
    let mut starts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for record in records {
        if before.get(&record.partition).is_some_and(|(_, end)| record.offset < *end) {
            continue;
        }
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default())
            .map_err(|error| format!("offset {}: {error}", record.offset))?;
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let at = coinflow_common::orderbook::Timestamp::parse(&text("requested_at"))
            .map_err(|error| format!("requested_at: {error}"))?;
        starts.entry(text("market")).or_default().push(at.as_micros());
    }
    let step = INTERVAL.as_micros() as i64;
    let mut late = Vec::new();
    for times in starts.values() {
        // Relative to the first one, whose own lateness must not make the others early.
        let first = times.first().copied().unwrap_or_default();
        let phase = |at: i64| (at - first + step / 2).rem_euclid(step) - step / 2;
        let earliest = times.iter().map(|at| phase(*at)).min().unwrap_or(0);
        late.extend(times.iter().map(|at| (phase(*at) - earliest) as f64 / 1000.0));
    }
    late.sort_by(f64::total_cmp);
    Ok(late)
}

pub(super) fn cpu_per_poll(size: Size) -> Result<Vec<Figure>, String> {
    let kafka = Kafka::start()?;
    let mut runs = Runs::default();
    for run in 0..size.runs {
        let mut polling = Polling::new(&kafka, MARKETS, INTERVAL, 3)?;
        let pid = polling.start()?;
        let (cpu_before, before) = (cpu::of_process(pid)?, polling.polls()?);
        std::thread::sleep(Duration::from_secs(size.seconds));
        let (cpu_after, after) = (cpu::of_process(pid)?, polling.polls()?);
        stop(&mut polling.producerd)?;
        let ours = (cpu_after - cpu_before).as_secs_f64() / (after - before) as f64 * 1e6;
        let url = format!("{}/v1/orderbook?markets=KRW-T001", polling.exchange.base_url());
        let bare = limit::requests(&url, 5000)? * 1e6;
        progress(&format!("poll-cpu run {run}: {ours:.0} µs a poll, ureq {bare:.0}"));
        runs.ours.push(ours);
        runs.limit.push(bare);
    }
    Ok(vec![Figure {
        part: "poll-cpu",
        what: "CPU of producerd, from the request to Kafka's answer",
        unit: "µs a poll",
        beside: "a bare ureq loop",
        runs,
        goal: Goal::RatioAtMost(1.3),
        note: "30 levels a side".to_owned(),
    }])
}

/// Kafka stands still for the whole time; books go to the disk.
pub(super) fn away(size: Size) -> Result<Vec<Figure>, String> {
    let mut memory = Runs::default();
    for run in 0..size.runs {
        let mut kafka = Kafka::start()?;
        let mut polling = Polling::new(&kafka, MARKETS, INTERVAL, 3)?;
        let pid = polling.start()?;
        kafka.sigstop()?;
        std::thread::sleep(Duration::from_secs(size.seconds));
        memory.ours.push(cpu::peak_mib(pid)?);
        kafka.sigcont()?;
        stop(&mut polling.producerd)?;
        progress(&format!("away run {run}: {:.1} MiB", memory.ours[run]));
    }
    Ok(vec![Figure {
        part: "memory",
        what: "peak of producerd with Kafka away, 500 books/s",
        unit: "MiB",
        beside: "",
        runs: memory,
        goal: Goal::AtMost(20.0),
        note: format!("for {} s", size.seconds),
    }])
}
