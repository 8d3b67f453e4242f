//! What the commands beside the daemon share: they do one thing, and end.

use std::io::Write as _;
use std::time::Duration;

use coinflow_common::daemon::{Exit, Options, Signal, Signals};
use coinflow_common::logging::{self, LogConfig, Target};
use log::{Level, LevelFilter};
use postgres::Client;

use crate::config::{Config, Postgres, Source};
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

/// The source that reads the topic.
pub(crate) fn source<'a>(sources: &'a [Source], name: Option<&str>, topic: &str) -> Result<&'a Source, String> {
    if let Some(name) = name {
        let found = sources.iter().find(|source| source.name == name);
        let found = found.ok_or_else(|| format!("there is no source {name} in the configuration file"))?;
        let reads = found.topics.iter().any(|read| read == topic);
        return if reads { Ok(found) } else { Err(format!("source {name} reads no topic {topic}")) };
    }
    let mut reading = sources.iter().filter(|source| source.topics.iter().any(|read| read == topic));
    match (reading.next(), reading.next()) {
        (Some(source), None) => Ok(source),
        (Some(a), Some(b)) => {
            Err(format!("sources {} and {} both read a topic {topic}: say which one by --source", a.name, b.name))
        }
        (None, _) => Err(format!("no source reads topic {topic}")),
    }
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

#[cfg(test)]
mod tests {
    use coinflow_common::kafka::{ClusterConfig, Overrides};

    use super::*;
    use crate::config::{OnOverrun, Start};

    #[test]
    fn the_source_is_the_one_that_reads_the_topic() {
        let reads = |name: &str, topics: &[&str]| Source {
            name: name.to_owned(),
            cluster: ClusterConfig { brokers: Vec::new(), overrides: Overrides::default() },
            group: "g".to_owned(),
            topics: topics.iter().map(ToString::to_string).collect(),
            start: Start::Earliest,
            on_overrun: OnOverrun::Stop,
        };
        let sources = [reads("a", &["t", "u"]), reads("b", &["t", "v"])];
        let found = |name, topic| source(&sources, name, topic).map(|source| source.name.as_str());
        assert_eq!(found(None, "u"), Ok("a"));
        assert_eq!(found(None, "v"), Ok("b"));
        assert_eq!(found(Some("b"), "t"), Ok("b"));
        assert!(found(None, "t").is_err_and(|reason| reason.contains("--source")));
        assert_eq!(found(None, "w"), Err("no source reads topic w".to_owned()));
        assert_eq!(found(Some("a"), "v"), Err("source a reads no topic v".to_owned()));
        assert!(found(Some("c"), "t").is_err());
    }
}
