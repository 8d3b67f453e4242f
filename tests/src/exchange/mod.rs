//! The replayed exchange: a small HTTP server that answers as an exchange does, with deterministic books that move like real
//! ones, the exchange's own errors and rate limits, and faults on demand.
//!
//! ```text
//! server ── connections, pause ── http: parse requests; reply: write, or break, replies
//!    │
//!    ├── /control/…  control ─┐                  client: the same from a test's side
//!    │                        ├── world: switches, faults, markets, limiter, journals
//!    └── everything else ─────┘
//!          one file per exchange API: bithumb_v2, bithumb_legacy, upbit, korbit, and in quotation what they share
//!          they read their books from market, which begins with catalogue and moves them with book, and spell them with number
//! ```
//!
//! The cases `B2-*`, `BL-*`, `UP-*`, `KB-*` and `F-*` of the exchange reference are named in [`tests`] and in [`api`].

pub mod api;
mod bithumb_legacy;
mod bithumb_v2;
mod book;
mod catalogue;
mod client;
mod control;
mod fault;
mod http;
mod journal;
mod korbit;
mod limiter;
mod market;
mod number;
mod quotation;
mod reply;
mod server;
mod switches;
#[cfg(test)]
mod tests;
mod upbit;
mod world;

use std::io;

use clap::ValueEnum;
use clap::builder::PossibleValue;

pub use client::ExchangeControl;
pub use number::Spelling;
pub use server::now_us;

pub(crate) use book::fnv as fingerprint;

/// Which exchange is played. Exchanges share paths, so that one server plays one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Venue {
    /// Both API generations: `/v1/…` and `/public/…`.
    #[default]
    Bithumb,
    /// `/v1/…`
    Upbit,
    /// `/v2/…`
    Korbit,
}

impl Venue {
    pub fn name(self) -> &'static str {
        match self {
            Venue::Bithumb => "bithumb",
            Venue::Upbit => "upbit",
            Venue::Korbit => "korbit",
        }
    }
}

impl ValueEnum for Venue {
    fn value_variants<'a>() -> &'a [Venue] {
        &[Venue::Bithumb, Venue::Upbit, Venue::Korbit]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub venue: Venue,
    /// 0: any free one.
    pub port: u16,
    /// The same seed gives the same books, tick by tick.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { venue: Venue::default(), port: 0, seed: 1 }
    }
}

/// A running exchange; it stops when dropped.
#[derive(Debug)]
pub struct Exchange {
    server: server::Server,
}

impl Exchange {
    pub fn start(options: &Options) -> io::Result<Exchange> {
        Ok(Exchange { server: server::Server::start(options)? })
    }

    /// `http://127.0.0.1:PORT`
    pub fn base_url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    pub fn control(&self) -> ExchangeControl {
        ExchangeControl::new(&self.base_url())
    }

    /// Returns when the exchange was told to stop over its control endpoint.
    pub fn wait(mut self) {
        self.server.join();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.server.request_stop();
        self.server.join();
    }
}
