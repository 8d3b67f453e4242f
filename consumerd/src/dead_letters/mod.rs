//! `consumerd dead-letters`: records that could not be stored, and another try once the reason is gone.

mod accept;
mod list;
mod retry;
mod show;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use coinflow_common::daemon::{Exit, Options, Signals};

use crate::command;

pub(crate) const NAME: &str = "dead-letters";

pub(crate) fn command() -> Command {
    let id =
        |help: &'static str| Arg::new("id").value_name("ID").help(help).value_parser(value_parser!(i64).range(1..));
    let all = |help: &'static str| Arg::new("all").long("all").help(help).action(ArgAction::SetTrue);
    let limit = Arg::new("limit").long("limit").value_name("NUMBER").help("At most so many, the newest ones");
    let list = Command::new("list")
        .about("List the records that could not be stored, the newest last")
        .arg(limit.default_value("100").value_parser(value_parser!(i64).range(1..=1_000_000)))
        .arg(all("Also those that a retry has stored"));
    let show = Command::new("show")
        .about("Show all that is kept of a record that could not be stored")
        .arg(id("As list shows it").required(true));
    let retry = Command::new("retry")
        .about("Store records now that could not be stored, as if they had been stored then; 1 if one is not, or not known to be")
        .arg(id("As list shows them").num_args(1..))
        .arg(all("All that are not stored yet"))
        .group(ArgGroup::new("which").args(["id", "all"]).required(true));
    Command::new(NAME)
        .about("Look at records that could not be stored, and try again")
        .subcommand_required(true)
        .subcommands([list, show, retry, accept::command()])
}

pub(crate) fn run(options: &Options, signals: Signals, matches: &ArgMatches) -> Exit {
    command::run(options, signals, |config| match matches.subcommand() {
        Some(("list", of)) => list::run(config, of.get_flag("all"), of.get_one("limit").copied().unwrap_or_default()),
        Some(("show", of)) => show::run(config, of.get_one("id").copied().unwrap_or_default()),
        Some(("retry", of)) => {
            let ids: Vec<i64> = of.get_many("id").unwrap_or_default().copied().collect();
            retry::run(config, if of.get_flag("all") { retry::Which::All } else { retry::Which::These(ids) })
        }
        Some(("accept", of)) => accept::run(config, of),
        _ => Ok(Exit::Usage),
    })
}
