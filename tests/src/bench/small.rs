//! Reload and start.

use std::time::{Duration, Instant};

use super::poll::{Polling, not_done, nothing_left_out, symbols};
use super::report::Figure;
use super::stats::{Goal, Runs};
use super::{READY, Size, stop};
use crate::servers::Signal;

const SYMBOLS: u32 = 500;
const INTERVAL: Duration = Duration::from_secs(2);
/// In one run; the longest counts.
const TIMES: u32 = 10;

pub(super) fn run(size: Size) -> Result<Vec<Figure>, String> {
    let kafka = super::kafka()?;
    let postgres = super::postgres()?;
    let mut consumerd = super::consumerd(&kafka, &postgres, super::poll::TOPIC)?;
    let [mut reload, mut producer, mut consumer] = [Runs::default(), Runs::default(), Runs::default()];
    let mut left_out = Vec::new();
    for _ in 0..size.runs {
        let mut polling = Polling::new(&kafka, 2 * SYMBOLS, INTERVAL, 3)?;
        polling.producerd.write("symbols.toml", &symbols(INTERVAL, 0..SYMBOLS))?;
        let mut longest = [Duration::ZERO; 3];
        for _ in 0..TIMES {
            for (at, daemon) in [(0, &mut polling.producerd), (1, &mut consumerd)] {
                let (mark, began) = (daemon.notify().mark(), Instant::now());
                daemon.start()?;
                let (ready, _) = daemon.notify().wait_for_after(mark, "READY=1", READY)?;
                longest[at] = longest[at].max(ready.at.saturating_duration_since(began));
                stop(daemon)?;
            }
        }
        polling.start()?;
        for turn in 1..=TIMES {
            // Half of them go, and as many others come; the rest is not to notice.
            let from = if turn % 2 == 0 { 0 } else { SYMBOLS / 2 };
            polling.producerd.write("symbols.toml", &symbols(INTERVAL, from..from + SYMBOLS))?;
            let (mark, began) = (polling.producerd.notify().mark(), Instant::now());
            polling.producerd.signal(Signal::HUP)?;
            let (_, reloading) = polling.producerd.notify().wait_for_after(mark, "RELOADING=1", READY)?;
            let (ready, _) = polling.producerd.notify().wait_for_after(reloading, "READY=1", READY)?;
            longest[2] = longest[2].max(ready.at.saturating_duration_since(began));
        }
        std::thread::sleep(INTERVAL);
        stop(&mut polling.producerd)?;
        left_out.push(not_done(&polling.producerd)? as f64);
        for (runs, longest) in [&mut producer, &mut consumer, &mut reload].into_iter().zip(longest) {
            runs.ours.push(longest.as_secs_f64() * 1000.0);
        }
    }
    let figure = |part, what, runs, goal, note| Figure {
        part,
        what,
        unit: "ms",
        beside: "",
        runs,
        goal: Goal::AtMost(goal),
        note,
    };
    Ok(vec![
        figure(
            "reload",
            "SIGHUP to READY, 500 symbols",
            reload,
            50.0,
            format!("the longest of {TIMES}; half of them change"),
        ),
        nothing_left_out("reload", left_out),
        figure("start", "producerd, to READY", producer, 100.0, format!("the longest of {TIMES}")),
        figure("start", "consumerd, to READY", consumer, 100.0, format!("the longest of {TIMES}")),
    ])
}
