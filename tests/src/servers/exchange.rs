//! The replayed exchange as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::daemon::binary;
use super::{Lines, Process, free_port};
use crate::exchange::{ExchangeControl, Venue};

const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct ExchangeProcess {
    venue: Venue,
    port: u16,
    seed: u64,
    log: PathBuf,
    process: Process,
}

impl ExchangeProcess {
    /// Bithumb.
    pub fn start(folder: &Path, seed: u64) -> Result<ExchangeProcess, String> {
        ExchangeProcess::start_venue(folder, seed, Venue::Bithumb)
    }

    /// Its output goes to `exchange-VENUE-PORT.log` in `folder`.
    pub fn start_venue(folder: &Path, seed: u64, venue: Venue) -> Result<ExchangeProcess, String> {
        let port = free_port()?;
        let log = folder.join(format!("exchange-{}-{port}.log", venue.name()));
        let process = spawn(venue, port, seed, &log)?;
        Ok(ExchangeProcess { venue, port, seed, log, process })
    }

    /// Ends it; its port stays its own.
    pub fn stop(&mut self) -> Result<(), String> {
        self.process.stop(STOP).map(|_| ())
    }

    /// At the same port, with nothing of what it knew before.
    pub fn start_again(&mut self) -> Result<(), String> {
        self.process = spawn(self.venue, self.port, self.seed, &self.log)?;
        Ok(())
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn control(&self) -> ExchangeControl {
        ExchangeControl::new(&self.base_url())
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Leaves it running, for good; returns its pid.
    pub fn leave(self) -> u32 {
        let pid = self.process.pid();
        self.process.leave();
        pid
    }
}

fn spawn(venue: Venue, port: u16, seed: u64, log: &Path) -> Result<Process, String> {
    let mut command = Command::new(binary("exchange", "coinflow-tests")?);
    command.args(["--venue", venue.name(), "--port", &port.to_string(), "--seed", &seed.to_string()]);
    let mark = Lines::new(log).mark();
    let process = Process::spawn("exchange", &mut command, log, log)?;
    Lines::new(log).wait_for_after(mark, "listening on ", START)?;
    Ok(process)
}
