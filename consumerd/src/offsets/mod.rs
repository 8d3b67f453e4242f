//! `consumerd offsets`: how far each partition is stored, and setting that by hand.

mod reset;
mod show;
mod target;

use clap::{Arg, ArgMatches, Command};
use coinflow_common::daemon::{Exit, Options, Signals};

use crate::command;

pub(crate) const NAME: &str = "offsets";

pub(crate) fn command() -> Command {
    let source = || {
        Arg::new("source").long("source").value_name("NAME").help("The table [source.NAME] of the configuration file")
    };
    let show = Command::new("show")
        .about("List the partitions with their positions in the database and what Kafka holds")
        .arg(source());
    Command::new(NAME)
        .about("Show and set how far each partition is stored")
        .subcommand_required(true)
        .subcommand(show)
        .subcommand(reset::command(source()))
}

pub(crate) fn run(options: &Options, signals: Signals, matches: &ArgMatches) -> Exit {
    command::run(options, signals, |config| match matches.subcommand() {
        Some(("show", of)) => show::run(config, of.get_one::<String>("source").map(String::as_str)),
        Some(("reset", of)) => reset::run(config, of),
        _ => Ok(Exit::Usage),
    })
}
