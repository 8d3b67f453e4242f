//! Random faults with an account: see `tests/campaign`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Arg, ArgAction, Command, value_parser};
use coinflow_tests::campaign::{self, Options};
use signal_hook::consts::{SIGINT, SIGTERM};

#[expect(clippy::print_stderr, reason = "where a program says why it failed")]
fn main() -> ExitCode {
    let matches = Command::new("campaign")
        .about("Both daemons, three brokers and PostgreSQL under random faults, with an account after each round")
        .arg(number("faults", "N", "How many faults", "30"))
        .arg(number("seed", "S", "The same seed gives the same plan", "1"))
        .arg(Arg::new("plan").long("plan").action(ArgAction::SetTrue).help("Print the plan, and do nothing"))
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("FILE")
                .value_parser(value_parser!(std::path::PathBuf))
                .help("Write the table into this file as well"),
        )
        .get_matches();
    let faults = matches.get_one::<u64>("faults").copied().unwrap_or(30);
    let seed = matches.get_one::<u64>("seed").copied().unwrap_or(1);
    if matches.get_flag("plan") {
        let plan = campaign::plan_text(faults as usize, seed);
        return if writeln!(std::io::stdout(), "{plan}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let registered = [SIGINT, SIGTERM].map(|signal| signal_hook::flag::register(signal, Arc::clone(&interrupted)));
    if let Some(error) = registered.into_iter().find_map(Result::err) {
        eprintln!("campaign: signals: {error}");
        return ExitCode::FAILURE;
    }
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    let title = format!(
        "campaign of {faults} faults, seed {seed}, commit {}, {}",
        variable("COINFLOW_COMMIT"),
        variable("COINFLOW_DATE")
    );
    let options = Options { faults: faults as usize, seed, out: matches.get_one("out").cloned(), title };
    match campaign::run(&options, &interrupted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campaign: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(name: &'static str, value: &'static str, help: &'static str, default: &'static str) -> Arg {
    let range = value_parser!(u64).range(u64::from(name == "faults")..);
    Arg::new(name).long(name).value_name(value).value_parser(range).default_value(default).help(help)
}
