//! The command line, and what each of its forms does.

use std::path::Path;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use coinflow_common::config::Problems;
use coinflow_common::daemon::{self, Exit, OnHup, Options, Signals};
use coinflow_common::logging;
use log::Level;

use crate::{config, exchange, once, supervisor};

const NAME: &str = "producerd";
/// The log's last lines get this long.
const LOG_FINISH: Duration = Duration::from_millis(300);

/// Does what the command line asks for.
pub(crate) fn run() -> Exit {
    daemon::install_panic_hook();
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are no errors, and go to stdout.
            _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let options = Options::from_matches(&matches);
    if let Some(("markets", of)) = matches.subcommand() {
        return markets(&options.config, of);
    }
    if options.check || matches.get_flag("dry-run") {
        return match config::load(&options.config) {
            Ok(files) => {
                say(&files.warnings, Level::Warn);
                if options.check { Exit::Done } else { once::dry_run(&files) }
            }
            Err(problems) => wrong(&problems),
        };
    }
    watch(options)
}

fn command() -> Command {
    let about = "Watches order books of crypto exchanges and publishes each one as a Kafka record";
    let exchange = Arg::new("exchange").value_name("EXCHANGE").required(true).help("Such as bithumb");
    daemon::command(NAME, about, env!("CARGO_PKG_VERSION"), config::DEFAULT_FILE)
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .help("Fetch each watched symbol once, print its record, and exit; no Kafka")
                .action(ArgAction::SetTrue)
                .conflicts_with("check"),
        )
        .args_conflicts_with_subcommands(false)
        .subcommand(
            Command::new("markets")
                .about("List the market codes that an exchange offers, one per line")
                .arg(exchange.value_parser(exchange::exchanges().collect::<Vec<_>>())),
        )
}

fn markets(file: &Path, matches: &ArgMatches) -> Exit {
    let exchange = matches.get_one::<String>("exchange").map(String::as_str).unwrap_or_default();
    match config::load_daemon(file) {
        Ok(config) => once::markets(&config, exchange),
        Err(problems) => wrong(&problems),
    }
}

/// The daemon.
fn watch(options: Options) -> Exit {
    let signals = match Signals::install(OnHup::Reload) {
        Ok(signals) => signals,
        Err(error) => {
            logging::say(Level::Error, &format!("{NAME}: no signal handlers: {error}"));
            return Exit::Failed;
        }
    };
    let files = match config::load(&options.config) {
        Ok(files) => files,
        Err(problems) => return wrong(&problems),
    };
    if let Err(error) = logging::start(options.log(files.config.log), NAME) {
        logging::say(Level::Error, &format!("{NAME}: no log: {error}"));
        return Exit::Failed;
    }
    for warning in files.warnings.iter() {
        log::warn!("{warning}");
    }
    let exit = supervisor::run(options.config, files, signals);
    logging::finish(LOG_FINISH);
    exit
}

fn wrong(problems: &Problems) -> Exit {
    say(problems, Level::Error);
    Exit::Config
}

fn say(problems: &Problems, level: Level) {
    for problem in problems.iter() {
        logging::say(level, &problem.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped;

    #[test]
    fn completion_and_manual_are_those_of_the_command_line() {
        shipped::check_completions(&command());
        shipped::check_manual_of_command(&command());
    }
}
