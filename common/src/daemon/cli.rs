//! The options that both daemons have.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use log::LevelFilter;

use crate::logging::{LEVELS, LogConfig, TARGETS, Target};

/// What was given on the command line.
#[derive(Debug, Clone)]
pub struct Options {
    pub config: PathBuf,
    pub check: bool,
    log_level: Option<LevelFilter>,
    log_target: Option<Target>,
}

/// A daemon's command with the shared options. They may stand before or after a subcommand.
#[must_use]
pub fn command(name: &'static str, about: &'static str, version: &'static str, config: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .version(version)
        .subcommand_required(false)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("The configuration file")
                .default_value(config)
                .value_parser(value_parser!(PathBuf))
                .global(true),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .help("Check the configuration and exit: silent and 0, or 78 with one line for each problem; offline, and no secret is opened")
                .action(ArgAction::SetTrue),
        )
        .arg(word("log-level", "LEVEL", "Log lines of this level and above, whatever the file says", &LEVELS))
        .arg(word(
            "log-target",
            "TARGET",
            "Where log lines go, whatever the file says; auto is syslog under systemd, else stderr",
            &TARGETS,
        ))
}

fn word<T: Copy + Send + Sync + 'static>(
    name: &'static str,
    placeholder: &'static str,
    help: &'static str,
    words: &'static [(&'static str, T)],
) -> Arg {
    let parser = PossibleValuesParser::new(words.iter().map(|(word, _)| *word));
    let find = |given: String| words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value);
    let parser = parser.try_map(move |given| find(given).ok_or("not one of the words"));
    Arg::new(name).long(name).value_name(placeholder).help(help).value_parser(parser).global(true)
}

impl Options {
    /// From the matches of a [`command`].
    #[must_use]
    pub fn from_matches(matches: &ArgMatches) -> Self {
        Self {
            config: matches.get_one::<PathBuf>("config").cloned().unwrap_or_default(),
            check: matches.get_flag("check"),
            log_level: matches.get_one("log-level").copied(),
            log_target: matches.get_one("log-target").copied(),
        }
    }

    /// The command line goes before the file.
    #[must_use]
    pub fn log(&self, file: LogConfig) -> LogConfig {
        LogConfig { level: self.log_level.unwrap_or(file.level), target: self.log_target.unwrap_or(file.target) }
    }
}
