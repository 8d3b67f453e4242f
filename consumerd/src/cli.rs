//! The command line.

use std::time::Duration;

use clap::Command;
use coinflow_common::daemon::{self, Exit, OnHup, Options, Signals};
use coinflow_common::logging;
use log::Level;

use crate::config::Config;
use crate::{command, dead_letters, offsets};

const CONFIG: &str = "/etc/coinflow/consumerd.toml";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The last lines may wait so long for the log.
const LOG_FINISH: Duration = Duration::from_millis(300);

/// The whole program.
pub(crate) fn run() -> Exit {
    // First of all: without a handler a SIGHUP ends the process.
    let signals = match Signals::install(OnHup::Nothing) {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signals cannot be handled: {error}")),
    };
    daemon::install_panic_hook();
    let matches = match definition().try_get_matches() {
        Ok(matches) => matches,
        Err(answer) => {
            // Whoever should read it may not, and a signal ends it then.
            _ = command::end_at(signals);
            // Help and version go to stdout; that it is closed is no reason to fail.
            _ = answer.print();
            return if answer.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let options = Options::from_matches(&matches);
    if options.check && matches.subcommand().is_some() {
        logging::say(Level::Error, "--check stands alone, without a subcommand");
        return Exit::Usage;
    }
    if let Some((offsets::NAME, of)) = matches.subcommand() {
        return offsets::run(&options, signals, of);
    }
    if let Some((dead_letters::NAME, of)) = matches.subcommand() {
        return dead_letters::run(&options, signals, of);
    }
    let loaded = match Config::load(&options.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            problems.iter().for_each(|problem| logging::say(Level::Error, &problem.to_string()));
            return Exit::Config;
        }
    };
    if options.check {
        loaded.warnings.iter().for_each(|warning| logging::say(Level::Warn, &warning.to_string()));
        return Exit::Done;
    }
    let config = loaded.value;
    if let Err(error) = logging::start(options.log(config.log), "consumerd") {
        return fail(&format!("the log cannot be started: {error}"));
    }
    if let Some((name, arguments)) = matches.subcommand() {
        let exit = match name {
            "verify" => crate::verify::run(&config, arguments, signals),
            _ => Exit::Usage,
        };
        logging::finish(LOG_FINISH);
        return exit;
    }
    let sources: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
    log::info!(
        "consumerd {VERSION} starts config={} sources={} schema={}",
        options.config.display(),
        sources.join(","),
        config.postgres.schema
    );
    loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let exit = crate::daemon::run(&config, signals);
    logging::finish(LOG_FINISH);
    exit
}

fn definition() -> Command {
    daemon::command("consumerd", "Stores each order book record of Kafka exactly once in PostgreSQL", VERSION, CONFIG)
        .args_conflicts_with_subcommands(false)
        .subcommand(offsets::command())
        .subcommand(dead_letters::command())
        .subcommand(crate::verify::command())
}

fn fail(reason: &str) -> Exit {
    logging::say(Level::Error, reason);
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped;

    #[test]
    fn completion_and_manual_are_those_of_the_command_line() {
        shipped::check_completions(&definition());
        shipped::check_manual_of_command(&definition());
    }
}
