//! The two daemons, as the binaries that cargo built.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Lines, Notify, NotifyMessage, Process};
use crate::wait::wait_until;

/// producerd may take 15 s for its spool.
const STOP: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Producerd,
    Consumerd,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Program::Producerd => "producerd",
            Program::Consumerd => "consumerd",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Program::Producerd => "coinflow-producerd",
            Program::Consumerd => "coinflow-consumerd",
        }
    }
}

/// A built binary of the workspace: in COINFLOW_BIN_DIR, else in the profile folder that this program was built into.
pub(super) fn binary(name: &str, package: &str) -> Result<PathBuf, String> {
    let folder = match std::env::var_os("COINFLOW_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
            let folder = own.parent().unwrap_or(Path::new("."));
            // Test programs are one level deeper.
            if folder.ends_with("deps") { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() }
        }
    };
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let profile = if folder.ends_with("release") { " --release" } else { "" };
    Err(format!("{} is missing; build it: cargo build{profile} -p {package}", path.display()))
}

/// A built program of this crate, such as `exchange`.
pub fn program(name: &str) -> Result<PathBuf, String> {
    binary(name, "coinflow-tests")
}

/// What a command of a daemon (`--check`, `verify`, …) left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A daemon with a folder of its own for its configuration and its output. Dropping it stops it.
#[derive(Debug)]
pub struct Daemon {
    program: Program,
    // Dropped first: the others have to be there until it has ended.
    process: Option<Process>,
    folder: PathBuf,
    /// Removes the folder at the end, unless somebody else owns it.
    _owned: Option<TempDir>,
    notify: Notify,
    /// Where the notifications of the latest start begin.
    started_at: usize,
    environment: Vec<(String, String)>,
}

impl Daemon {
    /// In a temporary folder.
    pub fn new(program: Program) -> Result<Daemon, String> {
        let owned = tempfile::Builder::new().prefix(&format!("coinflow-{}-", program.name())).tempdir();
        let owned = owned.map_err(|error| format!("a temporary folder: {error}"))?;
        let folder = owned.path().to_owned();
        Ok(Daemon { _owned: Some(owned), ..Daemon::in_folder(program, &folder)? })
    }

    /// In a folder that exists and stays.
    pub fn in_folder(program: Program, folder: &Path) -> Result<Daemon, String> {
        let notify = Notify::bind(&folder.join(format!("{}.notify", program.name())))?;
        Ok(Daemon {
            program,
            folder: folder.to_owned(),
            _owned: None,
            notify,
            started_at: 0,
            environment: Vec::new(),
            process: None,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file (`producerd.toml`, `symbols.toml`, …) into the folder, in one step.
    pub fn write(&self, file: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.folder.join(file);
        let new = self.folder.join(format!("{file}.new"));
        std::fs::write(&new, text)
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// For each start from now on.
    pub fn set_environment(&mut self, key: &str, value: &str) {
        self.environment.push((key.to_owned(), value.to_owned()));
    }

    /// For each start from now on, as this program has it.
    pub fn clear_environment(&mut self) {
        self.environment.clear();
    }

    /// As `WatchdogSec=` in the unit: the daemon has to report at least this often.
    pub fn set_watchdog(&mut self, interval: Duration) {
        self.set_environment("WATCHDOG_USEC", &interval.as_micros().to_string());
    }

    /// The binary with its configuration, for whoever starts it otherwise.
    pub fn command(&self) -> Result<Command, String> {
        let mut command = Command::new(binary(self.program.name(), self.program.package())?);
        command.arg("--config").arg(self.folder.join(format!("{}.toml", self.program.name())));
        command.args(["--log-target", "stderr"]);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        Ok(command)
    }

    pub fn start(&mut self) -> Result<(), String> {
        if self.process.as_mut().is_some_and(|process| process.exited().is_none()) {
            return Err(format!("{} runs already", self.program.name()));
        }
        self.started_at = self.notify.mark();
        let mut command = self.command()?;
        command.env("NOTIFY_SOCKET", self.notify.path());
        self.process =
            Some(Process::spawn(self.program.name(), &mut command, self.stdout().path(), self.stderr().path())?);
        Ok(())
    }

    /// Runs the binary with more arguments to its end, at most for `timeout`, beside the daemon.
    pub fn run(&self, arguments: &[&str], timeout: Duration) -> Result<Finished, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
        let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let mut command = self.command()?;
        command.args(arguments);
        let mut process = Process::spawn(self.program.name(), &mut command, &stdout, &stderr)?;
        let status = process.wait_exit(timeout)?;
        let read = |path: &Path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let read = |path: &Path| read(path).map_err(|error| format!("{}: {error}", path.display()));
        Ok(Finished { status, stdout: read(&stdout)?, stderr: read(&stderr)? })
    }

    pub fn stdout(&self) -> Lines {
        Lines::new(&self.folder.join(format!("{}.stdout", self.program.name())))
    }

    /// The log.
    pub fn stderr(&self) -> Lines {
        Lines::new(&self.folder.join(format!("{}.stderr", self.program.name())))
    }

    /// The first line of the log that contains `text`.
    pub fn wait_for_line(&self, text: &str, timeout: Duration) -> Result<String, String> {
        self.stderr().wait_for(text, timeout)
    }

    pub fn notify(&self) -> &Notify {
        &self.notify
    }

    pub fn wait_for_notify(&self, prefix: &str, timeout: Duration) -> Result<NotifyMessage, String> {
        self.notify.wait_for(prefix, timeout)
    }

    /// Waits for READY=1 of the latest start; a daemon that ends first is not waited for.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<(), String> {
        let mark = self.started_at;
        wait_until(timeout, &format!("READY=1 of {}", self.program.name()), || {
            if self.notify.all().iter().skip(mark).any(|message| message.value("READY") == Some("1")) {
                return Some(Ok(()));
            }
            let exit = self.process.as_mut().and_then(Process::exited)?;
            Some(Err(format!("{} ended before it was ready: {exit}", self.program.name())))
        })?
    }

    pub fn process(&mut self) -> Result<&mut Process, String> {
        self.process.as_mut().ok_or_else(|| format!("{} was not started", self.program.name()))
    }

    pub fn signal(&mut self, signal: Signal) -> Result<(), String> {
        self.process()?.signal(signal)
    }

    pub fn sigstop(&mut self) -> Result<(), String> {
        self.signal(Signal::STOP)
    }

    pub fn sigcont(&mut self) -> Result<(), String> {
        self.signal(Signal::CONT)
    }

    pub fn kill9(&mut self) -> Result<ExitStatus, String> {
        self.process()?.kill9()
    }

    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus, String> {
        self.process()?.wait_exit(timeout)
    }

    /// SIGTERM, and what came of it.
    pub fn stop(&mut self) -> Result<ExitStatus, String> {
        self.process()?.stop(STOP)
    }

    pub fn restart(&mut self) -> Result<(), String> {
        self.stop()?;
        self.start()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.exited().is_none())
    }

    pub fn pid(&mut self) -> Result<u32, String> {
        Ok(self.process()?.pid())
    }

    /// Resident memory in bytes.
    pub fn rss(&mut self) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.pid()?);
        let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| format!("no VmRSS in {path}"))
    }

    /// Leaves it running, for good; returns its pid.
    pub fn leave(mut self) -> Result<u32, String> {
        let process = self.process.take().ok_or_else(|| format!("{} was not started", self.program.name()))?;
        let pid = process.pid();
        process.leave();
        Ok(pid)
    }
}
