//! The main job on this machine: see `tests/demo`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Arg, ArgAction, Command, value_parser};
use coinflow_tests::demo::{self, Options};
use signal_hook::consts::{SIGINT, SIGTERM};

#[expect(clippy::print_stderr, reason = "where a program says why it failed")]
fn main() -> ExitCode {
    let options = arguments();
    let interrupted = Arc::new(AtomicBool::new(false));
    let registered = [SIGINT, SIGTERM].map(|signal| signal_hook::flag::register(signal, Arc::clone(&interrupted)));
    if let Some(error) = registered.into_iter().find_map(Result::err) {
        eprintln!("demo: signals: {error}");
        return ExitCode::FAILURE;
    }
    match demo::run(options, &interrupted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Options {
    let matches = Command::new("demo")
        .about("Order books through Kafka into PostgreSQL, live; everything it needs it starts, and ends, itself")
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=86_400))
                .default_value("60")
                .help("How long books flow; Ctrl-C ends it earlier"),
        )
        .arg(
            Arg::new("keep")
                .long("keep")
                .action(ArgAction::SetTrue)
                .help("Leave everything running, and print how to look inside"),
        )
        .arg(Arg::new("live").long("live").action(ArgAction::SetTrue).help("Poll the real exchange"))
        .get_matches();
    Options {
        time: Duration::from_secs(matches.get_one("seconds").copied().unwrap_or(60)),
        keep: matches.get_flag("keep"),
        live: matches.get_flag("live"),
    }
}
