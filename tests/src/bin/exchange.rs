//! The replayed exchange as a program, so that producerd can be pointed at it with `base_url`.

use std::process::ExitCode;

use clap::{Arg, Command, value_parser};
use coinflow_tests::exchange::{Exchange, Options, Venue};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]
fn main() -> ExitCode {
    let options = arguments();
    match Exchange::start(&options) {
        Ok(exchange) => {
            println!("listening on {}", exchange.base_url());
            exchange.wait();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot listen on 127.0.0.1:{}: {error}", options.port);
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Options {
    let matches = Command::new("exchange")
        .about("Plays an exchange on 127.0.0.1: order books, errors, rate limits, and faults on demand")
        .arg(
            Arg::new("venue")
                .long("venue")
                .value_name("VENUE")
                .value_parser(value_parser!(Venue))
                .default_value("bithumb")
                .help("Which exchange; Bithumb with both its API generations"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .value_parser(value_parser!(u16))
                .default_value("0")
                .help("Port to listen on; 0 picks a free one"),
        )
        .arg(
            Arg::new("seed")
                .long("seed")
                .value_name("SEED")
                .value_parser(value_parser!(u64))
                .default_value("1")
                .help("The same seed gives the same books, tick by tick"),
        )
        .get_matches();
    let defaults = Options::default();
    Options {
        venue: matches.get_one("venue").copied().unwrap_or(defaults.venue),
        port: matches.get_one("port").copied().unwrap_or(defaults.port),
        seed: matches.get_one("seed").copied().unwrap_or(defaults.seed),
    }
}
