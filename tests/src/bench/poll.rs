//! producerd's polls: how late they start, what they cost, and what waits in memory while Kafka is away.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use coinflow_common::orderbook::Timestamp;
use serde_json::{Value, json};

use super::limit;
use super::report::Figure;
use super::stats::{Goal, Runs, percentile};
use super::{READY, Size, at_full_rate, cpu, progress, stop, summary};
use crate::servers::{Daemon, ExchangeProcess, Kafka, KafkaRecord, Program};

pub(super) const TOPIC: &str = "coinflow.orderbook.bithumb";
/// Takes what is sent for comparison.
const BESIDE: &str = "beside";
const WARM_UP: Duration = Duration::from_secs(5);
const MARKETS: u32 = 200;
/// 200 markets: 500 requests a second.
const INTERVAL: Duration = Duration::from_millis(400);
const PER_SECOND: u32 = 500;
const STEP: Duration = Duration::from_millis(2);
const FACTORS: [u32; 3] = [1, 3, 10];
/// As in producerd's `schedule/grid.rs`.
const GOLDEN: u32 = 2_654_435_769;

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
        // It takes any rate, and says so: producerd keeps to what an exchange declares.
        exchange
            .control()
            .set_switches(&json!({"bithumb_v2": {"limiter": {"enabled": false, "per_second": 100_000}}}))?;
        let codes = codes(0..markets);
        exchange.control().list(&codes.iter().map(String::as_str).collect::<Vec<_>>())?;
        let text = format!(
            "symbols_file = \"symbols.toml\"\nspool = {{ directory = \"spool\" }}\n\
             [kafka]\nbrokers = [\"{}\"]\n[kafka.topic]\npartitions = {partitions}\n\
             [exchange.bithumb]\nbase_url = \"{}\"\nrequests_per_second = 1000\n",
            kafka.bootstrap(),
            exchange.base_url()
        );
        producerd.write("producerd.toml", &text)?;
        producerd.write("symbols.toml", &symbols(interval, 0..markets))?;
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

/// The markets of these numbers, of the ones that the exchange is told to have.
pub(super) fn codes(numbers: Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("KRW-T{number:03}")).collect()
}

pub(super) fn symbols(interval: Duration, numbers: Range<u32>) -> String {
    let symbols: Vec<String> = codes(numbers).iter().map(|code| format!("{code:?}")).collect();
    format!("interval = \"{}ms\"\n[bithumb]\nsymbols = [{}]\n", interval.as_millis(), symbols.join(", "))
}

/// What producerd did not do in its last life: polls skipped and failed, and books dropped.
pub(super) fn not_done(producerd: &Daemon) -> Result<u64, String> {
    ["polls_skipped", "polls_failed", "books_dropped"].into_iter().map(|key| summary(producerd, key)).sum()
}

/// That there was none of them.
pub(super) fn nothing_left_out(part: &'static str, not_done: Vec<f64>) -> Figure {
    Figure {
        part,
        what: "polls skipped or failed, books dropped",
        unit: "",
        beside: "",
        runs: Runs { ours: not_done, limit: Vec::new() },
        goal: Goal::AtMost(0.0),
        note: String::new(),
    }
}

pub(super) fn lateness(size: Size) -> Result<Vec<Figure>, String> {
    let [mut runs, mut memory] = [Runs::default(), Runs::default()];
    let mut left_out = Vec::new();
    let kafka = super::kafka()?;
    let client = kafka.client();
    for run in 0..size.runs {
        let mut polling = Polling::new(&kafka, MARKETS, INTERVAL, 3)?;
        let before = if run == 0 { BTreeMap::new() } else { client.watermarks(TOPIC)? };
        let pid = polling.start()?;
        let since = Timestamp::from_system(SystemTime::now());
        std::thread::sleep(Duration::from_secs(size.seconds));
        memory.ours.push(cpu::peak_mb(pid)?);
        stop(&mut polling.producerd)?;
        left_out.push(not_done(&polling.producerd)? as f64);
        let before = before.into_iter().map(|(partition, (_, end))| (partition, end)).collect();
        let late = late_starts(&client.records_from(TOPIC, &before)?, since)?;
        at_full_rate(late.len() as u64, u64::from(PER_SECOND) * size.seconds, "polls")?;
        drop(polling);
        let bare = limit::sleeper(STEP, PER_SECOND * size.seconds as u32);
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
            note: "behind the grid of all markets, which lies where the most punctual request was".to_owned(),
        },
        nothing_left_out("poll", left_out),
        Figure {
            part: "memory",
            what: "peak of producerd under poll",
            unit: "MB",
            beside: "",
            runs: memory,
            goal: Goal::AtMost(20.0),
            note: String::new(),
        },
    ])
}

/// Of the records since then: how far behind its point of the grid each request started, in ms, sorted. Where each market's
/// points lie is known (producerd's `schedule/grid.rs`), but for one constant: the most punctual request gives it.
fn late_starts(records: &[KafkaRecord], since: Timestamp) -> Result<Vec<f64>, String> {
    let step = INTERVAL.as_micros() as i64;
    let mut rests = Vec::new();
    for record in records {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default())
            .map_err(|error| format!("offset {}: {error}", record.offset))?;
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        let at = Timestamp::parse(text("requested_at")).map_err(|error| format!("requested_at: {error}"))?;
        if at < since {
            continue;
        }
        let market = text("market");
        let slot: u32 = market
            .strip_prefix("KRW-T")
            .and_then(|slot| slot.parse().ok())
            .ok_or_else(|| format!("market {market:?}"))?;
        let phase = slot.reverse_bits().wrapping_add((INTERVAL.as_millis() as u32).wrapping_mul(GOLDEN));
        rests.push((at.as_micros() - ((step as u64 * u64::from(phase)) >> 32) as i64).rem_euclid(step));
    }
    // Relative to the first one, whose own lateness must not make the others early.
    let first = rests.first().copied().unwrap_or_default();
    let late = |rest: &i64| (rest - first + step / 2).rem_euclid(step);
    let earliest = rests.iter().map(late).min().unwrap_or_default();
    let mut late: Vec<f64> = rests.iter().map(|rest| (late(rest) - earliest) as f64 / 1000.0).collect();
    late.sort_by(f64::total_cmp);
    Ok(late)
}

/// CPU of producerd for a poll, in µs, at 500 a second.
fn cpu_of(polling: &mut Polling, seconds: u64) -> Result<f64, String> {
    let pid = polling.start()?;
    let (cpu_before, before) = (cpu::of_process(pid)?, polling.polls()?);
    std::thread::sleep(Duration::from_secs(seconds));
    let (cpu_after, after) = (cpu::of_process(pid)?, polling.polls()?);
    stop(&mut polling.producerd)?;
    at_full_rate(after - before, u64::from(PER_SECOND) * seconds, "polls")?;
    Ok((cpu_after - cpu_before).as_secs_f64() / (after - before) as f64 * 1e6)
}

pub(super) fn cpu_per_poll(size: Size) -> Result<Vec<Figure>, String> {
    let kafka = super::kafka()?;
    let client = kafka.client();
    client.create_topic(BESIDE, 3, 1, &[])?;
    client.wait_topic(BESIDE, 3, READY)?;
    let (mut runs, mut sends) = (Runs::default(), Vec::new());
    for run in 0..size.runs {
        let mut polling = Polling::new(&kafka, MARKETS, INTERVAL, 3)?;
        let ours = cpu_of(&mut polling, size.seconds)?;
        let url = format!("{}/v1/orderbook?markets=KRW-T001", polling.exchange.base_url());
        let bare = limit::requests(&url, STEP, PER_SECOND * size.seconds as u32)? * 1e6;
        let records = client.records(TOPIC)?;
        let number = PER_SECOND as usize * size.seconds as usize;
        let values: Vec<Vec<u8>> = records.into_iter().rev().filter_map(|record| record.value).take(number).collect();
        let sent = limit::sends(&kafka.bootstrap(), BESIDE, &values, STEP)? * 1e6;
        progress(&format!("poll-cpu run {run}: {ours:.0} µs a poll, ureq {bare:.0}, librdkafka {sent:.0}"));
        runs.ours.push(ours);
        runs.limit.push(bare);
        sends.push(sent);
    }
    sends.sort_by(f64::total_cmp);
    Ok(vec![Figure {
        part: "poll-cpu",
        what: "CPU of producerd, from the request to Kafka's answer",
        unit: "µs a poll",
        beside: "a bare ureq loop at the same rate",
        runs,
        goal: Goal::RatioAtMost(1.3),
        note: format!(
            "30 levels a side; a bare librdkafka that sends the same records, one at a time, takes {:.0} µs for each",
            percentile(&sends, 50)
        ),
    }])
}

/// The same rate with more markets and partitions.
pub(super) fn growth(size: Size) -> Result<Vec<Figure>, String> {
    // The partitions of a topic differ.
    let kafkas = [super::kafka()?, super::kafka()?, super::kafka()?];
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    for run in 0..size.runs {
        for turn in 0..costs.len() {
            let at = (run + turn) % costs.len();
            let factor = FACTORS[at];
            let mut polling = Polling::new(&kafkas[at], 50 * factor, Duration::from_millis(100) * factor, 3 * factor)?;
            let cost = cpu_of(&mut polling, size.seconds.div_ceil(2))?;
            progress(&format!("poll-growth ×{factor} run {run}: {cost:.0} µs a poll"));
            costs[at].push(cost);
        }
    }
    let figure = |at: usize, what| Figure {
        part: "growth",
        what,
        unit: "µs",
        beside: "×1",
        runs: Runs { ours: costs[at].clone(), limit: costs[0].clone() },
        goal: Goal::RatioAtMost(1.2),
        note: "500 polls a second at each".to_owned(),
    };
    Ok(vec![
        figure(1, "CPU of a poll with three times the markets and partitions"),
        figure(2, "CPU of a poll with ten times the markets and partitions"),
    ])
}

/// Kafka stands still for the whole time; books go to the disk, and come from there when it is back.
pub(super) fn away(size: Size) -> Result<Vec<Figure>, String> {
    let [mut producer, mut consumer] = [Runs::default(), Runs::default()];
    let mut left_out = Vec::new();
    for run in 0..size.runs {
        let mut kafka = super::kafka()?;
        let postgres = super::postgres()?;
        let mut consumerd = super::consumerd(&kafka, &postgres, TOPIC)?;
        let mut polling = Polling::new(&kafka, MARKETS, INTERVAL, 3)?;
        consumerd.start()?;
        consumerd.wait_ready(READY)?;
        let pid = polling.start()?;
        kafka.sigstop()?;
        std::thread::sleep(Duration::from_secs(size.seconds));
        kafka.sigcont()?;
        std::thread::sleep(Duration::from_secs(size.seconds / 3 + 5));
        producer.ours.push(cpu::peak_mb(pid)?);
        consumer.ours.push(cpu::peak_mb(consumerd.pid()?)?);
        stop(&mut polling.producerd)?;
        stop(&mut consumerd)?;
        left_out.push(not_done(&polling.producerd)? as f64);
        progress(&format!("away run {run}: {:.1} and {:.1} MB", producer.ours[run], consumer.ours[run]));
    }
    let memory = |what, runs, goal| Figure {
        part: "memory",
        what,
        unit: "MB",
        beside: "",
        runs,
        goal: Goal::AtMost(goal),
        note: format!("500 books/s, Kafka away for {} s and back", size.seconds),
    };
    Ok(vec![
        memory("peak of producerd with Kafka away", producer, 20.0),
        memory("peak of consumerd with Kafka away", consumer, 40.0),
        nothing_left_out("away", left_out),
    ])
}
