//! `producerd` watches order books of crypto exchanges and publishes each one as a Kafka record.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that meets the unexpected is to fail"))]

mod books;
mod cli;
mod config;
mod exchange;
mod handout;
mod http;
mod once;
mod publish;
mod schedule;
mod selection;
mod spool;
mod status;
mod supervisor;
mod unit;
mod worker;

#[cfg(test)]
#[path = "../../packaging/shipped.rs"]
mod shipped;

fn main() -> ! {
    cli::run().leave()
}
