//! The replayed exchange as a process of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::daemon::binary;
use super::{Lines, Process, free_port};
use crate::exchange::ExchangeControl;

const START: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct ExchangeProcess {
    port: u16,
    process: Process,
}

impl ExchangeProcess {
    /// Its output goes to `exchange.log` in `folder`.
    pub fn start(folder: &Path, seed: u64) -> Result<ExchangeProcess, String> {
        let port = free_port()?;
        let log = folder.join("exchange.log");
        let mut command = Command::new(binary("exchange", "coinflow-tests")?);
        command.args(["--port", &port.to_string(), "--seed", &seed.to_string()]);
        let process = Process::spawn("exchange", &mut command, &log, &log)?;
        Lines::new(&log).wait_for("listening on ", START)?;
        Ok(ExchangeProcess { port, process })
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
