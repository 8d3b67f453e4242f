//! consumerd stores each order book record of Kafka exactly once in PostgreSQL.

mod backoff;
mod breaker;
mod cli;
mod columns;
mod command;
mod config;
mod daemon;
mod dead_letters;
mod decode;
mod handover;
mod offsets;
mod record;
mod source;
mod state;
mod status;
mod store;
mod upkeep;
mod verify;
mod writer;

#[cfg(test)]
#[path = "../../packaging/shipped.rs"]
mod shipped;

fn main() -> ! {
    cli::run().leave()
}
