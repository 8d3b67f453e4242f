//! The campaign: both daemons, three brokers and PostgreSQL under random faults, and an account after each round of them.
//!
//! ```text
//! plan ── pure: rounds of strokes, a stroke is one fault or two that overlap
//!   │
//! mod ──── fault: how each kind begins and ends ──── world: servers, daemons, and a proxy before each server
//!   │                                       └─────── ledger: each life of producerd
//!   └───── account: served = published = stored?    report: the table
//! ```

mod account;
mod books;
mod fault;
mod ledger;
mod plan;
mod proxy;
mod report;
mod table;
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use account::{Account, Verify};
use ledger::Ledger;
use plan::{Fault, Round, Stroke, Subject};
use report::Report;
use world::{MARKETS, World, now};

/// After so many rounds `consumerd verify` has its turn, beside the account of each round.
const VERIFY_EACH: usize = 10;

#[derive(Clone, Debug)]
pub struct Options {
    pub faults: usize,
    pub seed: u64,
    /// Where the table is written to as well.
    pub out: Option<PathBuf>,
    /// The table's first line, which says what was tested and when.
    pub title: String,
}

/// The plan, one line for each fault.
pub fn plan_text(faults: usize, seed: u64) -> String {
    plan::text(&plan::plan(seed, faults))
}

/// Runs it; an error is a fault that was not recovered from, or books that were lost or doubled.
pub fn run(options: &Options, interrupted: &Arc<AtomicBool>) -> Result<(), String> {
    let began = Instant::now();
    let rounds = plan::plan(options.seed, options.faults);
    let folder = tempfile::Builder::new().prefix("coinflow-campaign-").tempdir();
    let folder = folder.map_err(|error| format!("a temporary folder: {error}"))?;
    say(&format!("{}; logs in {}", options.title, folder.path().display()));
    let mut report = Report::default();
    let outcome = World::start(folder.path(), options.seed, Arc::clone(interrupted)).and_then(|mut world| {
        say(&format!("three brokers, PostgreSQL and the exchange run ({:.1} s)", began.elapsed().as_secs_f64()));
        let outcome = carry_out(&mut world, &rounds, options.faults, &mut report);
        if outcome.is_err() {
            world.keep_logs();
        }
        outcome
    });
    let verdict = match &outcome {
        Ok(()) => "passed".to_owned(),
        Err(error) => format!("FAILED: {error}"),
    };
    let text =
        format!("{}\n\n{}\n{verdict}, after {:.0} s\n", options.title, report.text(), began.elapsed().as_secs_f64());
    say(&format!("\n{text}"));
    if let Some(path) = &options.out {
        std::fs::write(path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    outcome.map_err(|error| {
        let kept = folder.keep();
        // It is printed as well.
        let _ = std::fs::write(kept.join("report.txt"), &text);
        format!("seed {}: {error}\nlogs are left in {}", options.seed, kept.display())
    })
}

fn carry_out(world: &mut World, rounds: &[Round], faults: usize, report: &mut Report) -> Result<(), String> {
    let mut ledger = Ledger::default();
    let mut offsets = BTreeMap::new();
    world.start_consumerds()?;
    for (number, round) in rounds.iter().enumerate() {
        let began = Instant::now();
        let (_, since_us) = now();
        world.watch(&MARKETS)?;
        ledger.started(&world.producerd);
        world.producerd.start()?;
        world.wait_flow(since_us)?;
        let flowed = began.elapsed();
        for stroke in round {
            strike(world, &mut ledger, stroke, faults, report)
                .map_err(|error| format!("fault {} ({}): {error}", stroke.first.number, names(stroke)))?;
        }
        let settling = Instant::now();
        let verify = match number + 1 {
            last if last == rounds.len() => Verify::Whole,
            some if some % VERIFY_EACH == 0 => Verify::Round,
            _ => Verify::Nothing,
        };
        let account = account::settle(world, &mut ledger, &mut offsets, verify)
            .map_err(|error| format!("the account of round {}: {error}", number + 1))?;
        report.add(&account);
        tell(number + 1, &account, flowed, settling.elapsed());
        if !account.violations.is_empty() {
            let faults: Vec<String> =
                round.iter().flat_map(Stroke::faults).map(|fault| fault.number.to_string()).collect();
            return Err(format!(
                "round {}, faults {}:\n  {}",
                number + 1,
                faults.join(" "),
                account.violations.join("\n  ")
            ));
        }
    }
    world.consumerds[..2].iter_mut().try_for_each(fault::stop_cleanly)
}

/// One fault or two that overlap, and the recovery.
fn strike(
    world: &mut World,
    ledger: &mut Ledger,
    stroke: &Stroke,
    of: usize,
    report: &mut Report,
) -> Result<(), String> {
    pause(world, stroke.pause)?;
    if stroke.faults().any(|fault| fault.kind.subject() == Subject::Kafka) {
        // A partition that has lost a second replica takes no records; that is no fault of the daemons.
        world.wait_in_sync()?;
    }
    let mut under_way: Vec<(Fault, Instant, u32)> = Vec::new();
    let mut waiting: Vec<(Duration, Fault)> = vec![(Duration::ZERO, stroke.first)];
    waiting.extend(stroke.second);
    let mut done = Vec::new();
    let began = Instant::now();
    while !(waiting.is_empty() && under_way.is_empty()) {
        if let Some(at) = waiting.iter().position(|(after, _)| began.elapsed() >= *after) {
            let (_, fault) = waiting.remove(at);
            if fault::begin(world, ledger, fault)? {
                under_way.push((fault, Instant::now(), 0));
            } else {
                report.impossible(fault);
            }
        }
        for (fault, _, turn) in &mut under_way {
            fault::turn(world, *fault, *turn)?;
            *turn += 1;
        }
        std::thread::sleep(fault::TURN.min(stroke.first.hold + Duration::from_millis(1)));
        let ends = |(fault, since, _): &(Fault, Instant, u32)| since.elapsed() >= fault.hold;
        while let Some(at) = under_way.iter().position(ends) {
            let (fault, ..) = under_way.remove(at);
            fault::end(world, ledger, fault)?;
            done.push(fault);
        }
    }
    ledger.easy_soon();
    let (ended, ended_us) = now();
    world.wait_flow(ended_us)?;
    let recovery = ended.elapsed();
    done.sort_by_key(|fault| fault.number);
    for fault in done {
        report.done(fault, recovery);
        let line = format!("{:>4}/{of}  {fault}", fault.number);
        say(&format!("{line:<62} recovered {:>5.1} s", recovery.as_secs_f64()));
    }
    Ok(())
}

/// Sleeps in small pieces, so that an interrupt is soon seen.
fn pause(world: &mut World, time: Duration) -> Result<(), String> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        world.go_on()?;
        std::thread::sleep(Duration::from_millis(50).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

fn names(stroke: &Stroke) -> String {
    stroke.faults().map(|fault| fault.to_string()).collect::<Vec<_>>().join(" + ")
}

fn tell(round: usize, account: &Account, flowed: Duration, settled: Duration) {
    let verdict = if account.violations.is_empty() { "equal" } else { "NOT EQUAL" };
    let unknown: u64 = account.unknown_lost.values().sum();
    let again: u64 = account.unknown_doubled.values().sum();
    say(&format!(
        "round {round}: {verdict}; {} books served, {} records; lost {} doubled {}; unknown: lost {unknown} doubled {again}; \
         start {:.1} s, account {:.1} s",
        account.served,
        account.records,
        account.lost,
        account.doubled,
        flowed.as_secs_f64(),
        settled.as_secs_f64()
    ));
}

fn say(text: &str) {
    // Nobody may read it any more; the account goes on.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
