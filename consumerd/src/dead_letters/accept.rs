//! `dead-letters accept`: lets the dead letters of a partition pass that is held for them.
//!
//! The daemon, whichever has the partition, looks at the database every five seconds.

use clap::{Arg, ArgMatches, Command, value_parser};
use coinflow_common::daemon::Exit;

use crate::breaker::{LETTERS_MAX, Phase, Run};
use crate::command::{Failure, Outcome, database, print, source, told};
use crate::config::Config;
use crate::record::Partition;
use crate::source::Lookup;
use crate::store::{Schema, offsets, runs};

pub(super) fn command() -> Command {
    let arg = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("accept")
        .about(
            "Let a held partition go on: records with the cause it is held for become dead letters until one is stored \
             again; 1 if it is not held",
        )
        .arg(arg("source", "NAME", "The table [source.NAME] of the configuration file"))
        .arg(arg("topic", "TOPIC", "The topic").required(true))
        .arg(
            arg("partition", "PARTITION", "The number of the partition")
                .required(true)
                .value_parser(value_parser!(i32).range(0..)),
        )
}

pub(super) fn run(config: &Config, matches: &ArgMatches) -> Outcome {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let (Some(topic), Some(number)) = (text("topic"), matches.get_one::<i32>("partition")) else {
        return Ok(Exit::Usage);
    };
    let source = source(&config.sources, text("source"), topic).map_err(Failure::usage)?;
    let partition = Partition::new(topic, *number);
    let schema = Schema::new(&config.postgres.schema);
    let mut client = database(&config.postgres)?;
    // The same topic may be read from more than one cluster.
    let cluster_id = Lookup::open(source)?.cluster_id;
    if let Some(Run { cause, letters, .. }) =
        runs::accept(&mut client, &schema, &cluster_id, &partition).map_err(told)?
    {
        let name = &source.name;
        print(&format!("accepted source={name} {partition} cause=\"{cause}\" letters={letters}\n"));
        return Ok(Exit::Done);
    }
    let at = offsets::position(&mut client, &schema, &cluster_id, &partition).map_err(told)?;
    let at =
        at.ok_or_else(|| format!("the database has no position of {partition} in Kafka's cluster {cluster_id}"))?;
    let run = runs::find(&mut client, &schema, &cluster_id, &partition, at.generation).map_err(told)?;
    Err(format!("{partition} is not held{}", why_not(run.as_ref())).into())
}

fn why_not(run: Option<&Run>) -> String {
    match run {
        None => String::new(),
        Some(Run { cause, letters, phase: Phase::Counting }) => {
            format!(": {letters} dead letters in a row with {cause}, and {LETTERS_MAX} would hold it")
        }
        Some(Run { cause, phase: Phase::Accepted, .. }) => format!(": dead letters with {cause} pass already"),
        // Held since it was looked at.
        Some(Run { phase: Phase::Held, .. }) => " yet: try again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::Cause;

    #[test]
    fn a_refusal_says_what_there_is() {
        let run = |phase| Run { cause: Cause::Major(2), letters: 40, phase };
        assert_eq!(why_not(None), "");
        let counting = ": 40 dead letters in a row with schema major 2, and 100 would hold it";
        assert_eq!(why_not(Some(&run(Phase::Counting))), counting);
        assert_eq!(why_not(Some(&run(Phase::Accepted))), ": dead letters with schema major 2 pass already");
    }
}
