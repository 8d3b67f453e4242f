//! `consumerd offsets`: how far each partition is stored, and setting that by hand.

mod show;

use clap::{Arg, ArgMatches, Command};
use coinflow_common::daemon::{Exit, Options, Signals};

use crate::command;

pub(crate) const NAME: &str = "offsets";

pub(crate) fn command() -> Command {
    let source = || {
        Arg::new("source").long("source").value_name("NAME").help("The table [source.NAME] of the configuration file")
    };
    Command::new(NAME).about("Show and set how far each partition is stored").subcommand_required(true).subcommand(
        Command::new("show")
            .about("List the partitions with their positions in the database and what Kafka holds")
            .arg(source()),
    )
}

pub(crate) fn run(options: &Options, signals: Signals, matches: &ArgMatches) -> Exit {
    command::run(options, signals, |config| match matches.subcommand() {
        Some(("show", of)) => show::run(config, of.get_one::<String>("source").map(String::as_str)),
        _ => Ok(Exit::Usage),
    })
}
