//! PostgreSQL itself: a private cluster from Debian's binaries, in a folder of its own.

mod standby;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use postgres::{Client, NoTls};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use super::process::children;
use super::{Process, free_port};
use crate::wait::wait_until;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);
const VERSIONS: &str = "/usr/lib/postgresql";
/// Role and database that coinflow uses by default.
const COINFLOW: &str = "coinflow";

#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// With fsync. Without it a crash of the machine loses data, but never one of PostgreSQL.
    pub durable: bool,
    /// Settings such as `("max_connections", "20")`.
    pub settings: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// SIGINT: sessions are ended, and all is written.
    Fast,
    /// SIGQUIT: recovery at the next start.
    Immediate,
    /// SIGKILL to the postmaster and all its children.
    Kill9,
}

/// A running cluster with the role `coinflow` and its database of the same name. It keeps its port over restarts.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    bin: PathBuf,
    user: Option<User>,
    port: u16,
    options: PostgresOptions,
    process: Option<Process>,
}

/// PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl Postgres {
    pub fn start() -> Result<Postgres, String> {
        Postgres::start_with(&PostgresOptions::default())
    }

    pub fn start_with(options: &PostgresOptions) -> Result<Postgres, String> {
        let (bin, user) = (binaries()?, server_user()?);
        let folder = folder_for(user)?;
        let port = free_port()?;
        let mut server = Postgres { folder, bin, user, port, options: options.clone(), process: None };
        server.initdb()?;
        server.start_again()?;
        let mut client = server.connect_as("postgres", "postgres")?;
        for statement in
            [format!("CREATE ROLE {COINFLOW} LOGIN"), format!("CREATE DATABASE {COINFLOW} OWNER {COINFLOW}")]
        {
            client.batch_execute(&statement).map_err(|error| format!("{statement}: {error}"))?;
        }
        Ok(server)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    fn initdb(&self) -> Result<(), String> {
        let mut initdb = self.command("initdb");
        initdb
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(self.data());
        let output = initdb.output().map_err(|error| format!("cannot start initdb: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("initdb: {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Starts it if it does not run, and waits until it takes connections.
    pub fn start_again(&mut self) -> Result<(), String> {
        if self.process.as_mut().is_some_and(|process| process.exited().is_none()) {
            return Ok(());
        }
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path()).args(["-p", &self.port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1"]);
        if !self.options.durable {
            command.args(["-c", "fsync=off"]);
        }
        for (key, value) in &self.options.settings {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        self.process = Some(Process::spawn("PostgreSQL", &mut command, &self.log(), &self.log())?);
        let ready = wait_until(START, "PostgreSQL to take connections", || {
            if self.process.as_mut().and_then(Process::exited).is_some() {
                return Some(Err("PostgreSQL ended".to_owned()));
            }
            self.connect_as("postgres", "postgres").ok().map(|_| Ok(()))
        });
        ready
            .and_then(|started| started)
            .map_err(|error| format!("{error}; its log:\n{}", std::fs::read_to_string(self.log()).unwrap_or_default()))
    }

    pub fn stop(&mut self, mode: StopMode) -> Result<(), String> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        match mode {
            StopMode::Fast => process.signal(Signal::INT)?,
            StopMode::Immediate => process.signal(Signal::QUIT)?,
            StopMode::Kill9 => {
                // Each backend is in a session of its own, where a signal to the group does not reach it.
                let children = children(process.pid());
                process.kill9()?;
                for child in children {
                    // It may have seen the end of the postmaster, and be gone.
                    let _ = kill_process(child, Signal::KILL);
                }
            }
        }
        process.wait_exit(STOP).map(|_| ())
    }

    pub fn kill9(&mut self) -> Result<(), String> {
        self.stop(StopMode::Kill9)
    }

    pub fn restart(&mut self, mode: StopMode) -> Result<(), String> {
        self.stop(mode)?;
        self.start_again()
    }

    /// The postmaster and every backend freeze: connections stay open, and nothing answers.
    pub fn sigstop(&mut self) -> Result<(), String> {
        self.signal_all(Signal::STOP)
    }

    pub fn sigcont(&mut self) -> Result<(), String> {
        self.signal_all(Signal::CONT)
    }

    fn signal_all(&mut self, signal: Signal) -> Result<(), String> {
        let process = self.process.as_mut().ok_or("PostgreSQL does not run")?;
        process.signal(signal)?;
        for child in children(process.pid()) {
            // It may have ended meanwhile.
            let _ = kill_process(child, signal);
        }
        Ok(())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with the unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("postgresql.log")
    }

    /// As `[postgres] connection` has it, over the unix socket.
    pub fn connection(&self) -> String {
        format!("host={} port={} user={COINFLOW} dbname={COINFLOW}", self.folder.path().display(), self.port)
    }

    /// The same over TCP.
    pub fn connection_tcp(&self) -> String {
        format!("host=127.0.0.1 port={} user={COINFLOW} dbname={COINFLOW}", self.port)
    }

    /// As role coinflow in database coinflow.
    pub fn connect(&self) -> Result<Client, String> {
        self.connect_as(COINFLOW, COINFLOW)
    }

    pub fn connect_as(&self, user: &str, database: &str) -> Result<Client, String> {
        let mut config = postgres::Config::new();
        config.host_path(self.folder.path()).port(self.port).user(user).dbname(database);
        config.connect_timeout(Duration::from_secs(5)).application_name("coinflow-tests");
        config.connect(NoTls).map_err(|error| format!("PostgreSQL as {user}: {error}"))
    }

    /// Leaves it running, for good; returns its pid and its folder.
    pub fn leave(mut self) -> Result<(u32, PathBuf), String> {
        let process = self.process.take().ok_or("PostgreSQL does not run")?;
        let pid = process.pid();
        process.leave();
        let placeholder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
        Ok((pid, std::mem::replace(&mut self.folder, placeholder).keep()))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Frozen backends would outlive the postmaster. SIGTERM would wait for the sessions to end. What cannot be stopped so,
        // its process kills.
        let _ = self.sigcont();
        let _ = self.stop(StopMode::Fast);
    }
}

/// A folder of the server's user.
fn folder_for(user: Option<User>) -> Result<TempDir, String> {
    // In /tmp whatever TMPDIR says: the server's user has to reach it, and the path of a socket is short.
    let folder = tempfile::Builder::new().prefix("coinflow-pg-").tempdir_in("/tmp");
    let folder = folder.map_err(|error| format!("a folder in /tmp: {error}"))?;
    if let Some(user) = user {
        std::os::unix::fs::chown(folder.path(), Some(user.uid), Some(user.gid))
            .map_err(|error| format!("{}: {error}", folder.path().display()))?;
    }
    Ok(folder)
}

/// The newest version's folder: Debian keeps one per major version.
fn binaries() -> Result<PathBuf, String> {
    let versions = std::fs::read_dir(VERSIONS).map_err(|error| format!("{VERSIONS} (package postgresql): {error}"))?;
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| Path::new(VERSIONS).join(format!("{version}/bin/postgres")).is_file())
        .max();
    let newest = newest.ok_or_else(|| format!("no server in {VERSIONS} (package postgresql)"))?;
    Ok(Path::new(VERSIONS).join(format!("{newest}/bin")))
}

/// Who runs the server: this user, or postgres in place of root.
fn server_user() -> Result<Option<User>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let user = passwd.lines().find_map(|line| {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    });
    user.map(Some).ok_or_else(|| "no user postgres in /etc/passwd (package postgresql)".to_owned())
}
