//! The command line: exit codes, what goes to stdout and what to stderr.

use std::path::Path;
use std::time::Duration;

use coinflow_tests::servers::{Daemon, Finished, Program};
use serde_json::Value;

use crate::rig::Rig;

const END: Duration = Duration::from_secs(20);

fn run(daemon: &Daemon, arguments: &[&str]) -> (i32, Finished) {
    let finished = daemon.run(arguments, END).expect("it ends");
    (finished.status.code().expect("an exit code"), finished)
}

#[test]
fn the_shipped_files_are_valid_and_watch_nothing() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    let producerd = Daemon::new(Program::Producerd).expect("a folder");
    for file in ["producerd.toml", "symbols.toml"] {
        let text = std::fs::read_to_string(etc.join(file)).expect("a shipped file");
        producerd.write(file, &text).expect("a copy");
    }
    // The shipped file names symbols.toml by its place in /etc; here it is beside it.
    let text = std::fs::read_to_string(producerd.folder().join("producerd.toml")).expect("a copy");
    producerd.write("producerd.toml", &format!("symbols_file = \"symbols.toml\"\n{text}")).expect("a copy");
    let (code, finished) = run(&producerd, &["--check"]);
    assert_eq!((code, finished.stdout.as_str(), finished.stderr.as_str()), (0, "", ""));
    let (code, finished) = run(&producerd, &["--dry-run"]);
    assert_eq!((code, finished.stdout.as_str()), (0, ""), "{}", finished.stderr);

    let consumerd = Daemon::new(Program::Consumerd).expect("a folder");
    let text = std::fs::read_to_string(etc.join("consumerd.toml")).expect("a shipped file");
    consumerd.write("consumerd.toml", &text).expect("a copy");
    let (code, finished) = run(&consumerd, &["--check"]);
    assert_eq!((code, finished.stdout.as_str(), finished.stderr.as_str()), (0, "", ""));
}

#[test]
fn a_wrong_file_ends_a_daemon_with_78_and_every_problem() {
    let mut producerd = Daemon::new(Program::Producerd).expect("a folder");
    let symbols = producerd.write("symbols.toml", "[bithumb]\nsymbols = [\"BTC\", \"KRW-BTC\"]\n").expect("a file");
    let config =
        producerd.write("producerd.toml", "symbols_file = \"symbols.toml\"\n[kafak]\nbrokers = []\n").expect("a file");
    let expected = [
        format!("{}:2:2: kafak: unknown key; did you mean kafka?", config.display()),
        format!("{}:2:19: bithumb.symbols[1]: ", symbols.display()),
    ];
    for arguments in [&["--check"][..], &[]] {
        let (code, finished) = run(&producerd, arguments);
        assert_eq!((code, finished.stdout.as_str()), (78, ""), "{}", finished.stderr);
        let lines: Vec<_> = finished.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{}", finished.stderr);
        for (line, expected) in lines.iter().zip(&expected) {
            assert!(line.starts_with(expected), "{line}");
        }
    }
    producerd.start().expect("it starts");
    assert_eq!(producerd.wait_exit(END).expect("it ends").code(), Some(78));
    assert!(producerd.notify().all().is_empty(), "never ready");

    let consumerd = Daemon::new(Program::Consumerd).expect("a folder");
    let (code, finished) = run(&consumerd, &["--check"]);
    assert_eq!(code, 78, "a missing file\n{}", finished.stderr);
    assert!(finished.stderr.contains("consumerd.toml: cannot be read: No such file"), "{}", finished.stderr);
}

#[test]
fn usage() {
    for program in [Program::Producerd, Program::Consumerd] {
        let daemon = Daemon::new(program).expect("a folder");
        let (code, finished) = run(&daemon, &["--version"]);
        assert_eq!((code, finished.stdout), (0, format!("{} {}\n", program.name(), env!("CARGO_PKG_VERSION"))));
        let (code, finished) = run(&daemon, &["--help"]);
        assert_eq!(code, 0);
        for option in ["--config", "--check", "--log-level", "--log-target"] {
            assert!(finished.stdout.contains(option), "{}", finished.stdout);
        }
        let (code, finished) = run(&daemon, &["--nonsense"]);
        assert_eq!((code, finished.stdout.as_str()), (2, ""), "{}", finished.stderr);
        let (code, _) = run(&daemon, &["--log-level", "loud"]);
        assert_eq!(code, 2);
    }
}

#[test]
fn markets_and_dry_run() {
    let rig = Rig::new();
    let (code, finished) = run(&rig.producerd, &["markets", "bithumb", "--log-level", "warn"]);
    assert_eq!(code, 0, "{}", finished.stderr);
    let markets: Vec<_> = finished.stdout.lines().collect();
    assert!(markets.is_sorted() && markets.len() > 200 && markets.contains(&"KRW-BTC"), "{markets:?}");
    let (code, _) = run(&rig.producerd, &["markets", "binance"]);
    assert_eq!(code, 2);

    rig.watch("1s", &["BTC", "ETH", "BTC-ETH"]);
    let (code, finished) = run(&rig.producerd, &["--dry-run"]);
    assert_eq!(code, 0, "{}", finished.stderr);
    let books: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
    let markets: Vec<_> = books.iter().map(|book| book["market"].as_str().expect("a market")).collect();
    assert_eq!(markets, ["KRW-BTC", "KRW-ETH", "BTC-ETH"]);
    rig.watch("1s", &["BTC", "NOPE"]);
    let (code, finished) = run(&rig.producerd, &["--dry-run"]);
    assert_eq!((code, finished.stdout.lines().count()), (1, 1), "{}", finished.stderr);
    assert!(finished.stderr.contains("bithumb") && finished.stderr.contains("KRW-NOPE"), "{}", finished.stderr);
}
