//! `producerd` watches order books of crypto exchanges and publishes each one as a Kafka record.

use std::process::ExitCode;

mod books;
mod cli;
mod config;
mod exchange;
mod http;
mod once;
mod publish;
mod schedule;
mod status;
mod supervisor;
mod unit;
mod worker;

fn main() -> ExitCode {
    cli::run().into()
}
