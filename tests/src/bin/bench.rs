//! The benchmarks: see `tests/bench`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, value_parser};
use coinflow_tests::bench::{self, Options, Outcome, PARTS};

#[expect(clippy::print_stderr, clippy::print_stdout, reason = "a program that prints a table")]
fn main() -> ExitCode {
    match bench::run(&arguments()) {
        Ok(Outcome { table, failed }) => {
            print!("{table}");
            if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Options {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    let parts: Vec<String> = PARTS.iter().map(|(name, what)| format!("  {name:<11} {what}")).collect();
    let matches = Command::new("bench")
        .about("What coinflow takes, beside what the same work takes at least")
        .after_help(format!("Parts:\n{}", parts.join("\n")))
        .arg(
            Arg::new("quick")
                .long("quick")
                .action(ArgAction::SetTrue)
                .help("Three short runs of each in place of five"),
        )
        .arg(file("markdown", "Write the table there, too"))
        .arg(file("json", "Write all figures there"))
        .arg(
            Arg::new("part")
                .value_name("NAME")
                .value_parser(PossibleValuesParser::new(PARTS.map(|(name, _)| name)))
                .help("Only this part"),
        )
        .get_matches();
    Options {
        is_quick: matches.get_flag("quick"),
        part: matches.get_one::<String>("part").cloned(),
        markdown: matches.get_one("markdown").cloned(),
        json: matches.get_one("json").cloned(),
    }
}
