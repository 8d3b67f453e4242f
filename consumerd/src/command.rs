//! What the commands beside the daemon share: they do one thing, and end.

use std::io::Write as _;
use std::time::Duration;

use coinflow_common::daemon::{Exit, Options, Signal, Signals};
use coinflow_common::logging::{self, LogConfig, Target};
use log::{Level, LevelFilter};
use postgres::Client;

use crate::config::{Config, Postgres};
use crate::store::{Bounds, PgFault, connect};

/// The last lines may wait so long for the log.
const LOG_FINISH: Duration = Duration::from_millis(300);
/// Unless the command line says otherwise: `[log]` is for the daemon, and a command has its results on stdout.
const LOG: LogConfig = LogConfig { level: LevelFilter::Warn, target: Target::Stderr };

/// How a command ends, or why it failed.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a command failed, and the exit code for it.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: String,
    exit: Exit,
}

impl Failure {
    /// The command line names what is not there: the same command can never succeed with this configuration.
    pub(crate) fn usage(reason: String) -> Self {
        Self { reason, exit: Exit::Usage }
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, exit: Exit::Failed }
    }
}

/// Reads the configuration and does what the command does.
pub(crate) fn run(options: &Options, signals: Signals, command: impl FnOnce(&Config) -> Outcome) -> Exit {
    let loaded = match Config::load(&options.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            problems.iter().for_each(|problem| logging::say(Level::Error, &problem.to_string()));
            return Exit::Config;
        }
    };
    loaded.warnings.iter().for_each(|warning| logging::say(Level::Warn, &warning.to_string()));
    let started = end_at(signals).and_then(|()| logging::start(options.log(LOG), "consumerd"));
    let outcome = started.map_err(|error| error.to_string().into()).and_then(|()| command(&loaded.value));
    logging::finish(LOG_FINISH);
    outcome.unwrap_or_else(|failure| {
        logging::say(Level::Error, &failure.reason);
        failure.exit
    })
}

/// Makes SIGINT and SIGTERM end the process, whatever it waits for. What a transaction has not committed is undone.
pub(crate) fn end_at(mut signals: Signals) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let wait = move || {
        while !matches!(runtime.block_on(signals.next()), Signal::Stop(_)) {}
        Exit::Done.leave_amid(None)
    };
    std::thread::Builder::new().name("signal-end".to_owned()).spawn(wait).map(drop)
}

/// Connects as the daemon does. The schema is left as it is: a command is no time to migrate.
///
/// # Errors
/// Why not.
pub(crate) fn database(settings: &Postgres) -> Result<Client, String> {
    connect(settings, Bounds::COMMAND).map_err(told)
}

/// A fault of PostgreSQL, for the operator.
pub(crate) fn told(fault: PgFault) -> String {
    match fault.code.as_deref() {
        Some("42P01" | "3F000") => format!("PostgreSQL: {fault}; the daemon makes its tables at its first start"),
        _ => format!("PostgreSQL: {fault}"),
    }
}

/// A result. That nobody reads it is no failure.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A remark beside the results.
pub(crate) fn remark(text: &str) {
    logging::say(Level::Warn, text);
}
