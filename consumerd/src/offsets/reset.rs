//! `offsets reset`: a position, set by hand.
//!
//! The generation is raised with it. That tells the daemon, which holds the old one, and keeps rows of the same offset
//! apart.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use coinflow_common::daemon::Exit;

use super::target::{Target, aim_again, check_moved, check_stored, is_beyond, reason};
use crate::command::{Failure, Outcome, database, print, source, told};
use crate::config::Config;
use crate::record::Partition;
use crate::source::Lookup;
use crate::store::{Schema, offsets};

pub(super) fn command(source: Arg) -> Command {
    let wanted = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).required(true)
    };
    Command::new("reset")
        .about("Set the position of a partition; the daemon goes on from there within seconds")
        .arg(source)
        .arg(wanted("topic", "TOPIC", "The topic"))
        .arg(
            wanted("partition", "PARTITION", "The number of the partition").value_parser(value_parser!(i32).range(0..)),
        )
        .arg(
            wanted("to", "OFFSET", "earliest, latest, or the offset of the next record to be stored")
                .value_parser(Target::parse),
        )
        .arg(wanted("reason", "TEXT", "Why; it is kept in the table offset_event").value_parser(reason))
        .arg(
            Arg::new("force")
                .long("force")
                .help("Also where records are stored already: they are stored again, in a new generation")
                .action(ArgAction::SetTrue),
        )
}

pub(super) fn run(config: &Config, matches: &ArgMatches) -> Outcome {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let (Some(topic), Some(number), Some(target), Some(reason)) =
        (text("topic"), matches.get_one::<i32>("partition"), matches.get_one::<Target>("to"), text("reason"))
    else {
        return Ok(Exit::Usage);
    };
    let is_forced = matches.get_flag("force");
    let source = source(&config.sources, text("source"), topic).map_err(Failure::usage)?;
    let partition = Partition::new(topic, *number);
    let schema = Schema::new(&config.postgres.schema);
    let mut client = database(&config.postgres)?;
    let kafka = Lookup::open(source)?;
    let cluster_id = kafka.cluster_id.as_str();
    let unknown = || format!("the database has no position of {partition} in Kafka's cluster {cluster_id}");

    let before = offsets::position(&mut client, &schema, cluster_id, &partition).map_err(told)?;
    let before = before.ok_or_else(unknown)?;
    let watermarks =
        || kafka.watermarks(&partition).map_err(|unanswered| format!("{partition}: {}", unanswered.reason));
    let (low, high) = watermarks()?;
    let mut to = target.aim(low, high)?;
    if !is_forced && !is_beyond(to, offsets::reach(&mut client, &schema, &partition).map_err(told)?) {
        // Looks through the whole table, so the position is not held meanwhile: the daemon would wait for it.
        log::info!("looking through the table for records that are stored already {partition} from={to}");
        check_stored(offsets::stored_from(&mut client, &schema, &partition, to).map_err(told)?, to)?;
        to = aim_again(*target, to, watermarks()?)?;
    }

    let mut transaction = client.transaction().map_err(|error| told(error.into()))?;
    let now = offsets::lock(&mut transaction, &schema, cluster_id, &partition).map_err(told)?.ok_or_else(unknown)?;
    check_moved(before, now, to, is_forced)?;
    let reset = offsets::Reset { cluster_id, source: &source.name, partition: &partition, from: now, to, reason };
    offsets::reset(&mut transaction, &schema, &reset).map_err(told)?;
    transaction.commit().map_err(|error| told(error.into()))?;
    let generation = reset.generation();
    print(&format!("reset source={} {partition} generation={generation} from={} to={to}\n", source.name, now.next));
    Ok(Exit::Done)
}
