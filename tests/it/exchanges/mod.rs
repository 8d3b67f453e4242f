//! All three exchanges: what each of them may answer, how they are spared, and that the trouble of one is no other's.

mod bench;
mod isolation;
mod patterns;
mod politeness;
mod rows;

use std::collections::BTreeMap;

use coinflow_tests::exchange::{ExchangeControl, Venue};
use coinflow_tests::servers::{Daemon, ExchangeProcess};

use crate::rig::Rig;

pub(crate) const NAMES: [&str; 3] = ["bithumb", "upbit", "korbit"];

/// A rig whose exchange is Bithumb, with Upbit and Korbit beside it.
pub(crate) struct Three {
    pub(crate) rig: Rig,
    pub(crate) upbit: ExchangeProcess,
    pub(crate) korbit: ExchangeProcess,
}

impl Three {
    pub(crate) fn new() -> Three {
        let rig = Rig::new();
        let folder = rig.producerd.folder();
        let start = |venue| ExchangeProcess::start_venue(folder, 1, venue).expect("an exchange starts");
        let (upbit, korbit) = (start(Venue::Upbit), start(Venue::Korbit));
        let three = Three { rig, upbit, korbit };
        three.configure([""; 3]);
        three
    }

    /// Writes producerd.toml, with further lines of the tables of Bithumb, Upbit and Korbit.
    pub(crate) fn configure(&self, lines: [&str; 3]) {
        let mut text = format!(
            "symbols_file = \"symbols.toml\"\nspool.directory = \"spool\"\n[kafka]\nbrokers = [\"{}\"]\n",
            self.rig.kafka.bootstrap()
        );
        let exchanges = [&self.rig.exchange, &self.upbit, &self.korbit];
        for ((exchange, name), lines) in exchanges.into_iter().zip(NAMES).zip(lines) {
            text += &format!("[exchange.{name}]\nbase_url = \"{}\"\n{lines}\n", exchange.base_url());
        }
        self.rig.producerd.write("producerd.toml", &text).expect("producerd.toml");
    }

    /// Writes symbols.toml, as text.
    pub(crate) fn symbols(&self, text: &str) {
        self.rig.producerd.write("symbols.toml", text).expect("symbols.toml");
    }

    pub(crate) fn controls(&self) -> [ExchangeControl; 3] {
        [&self.rig.exchange, &self.upbit, &self.korbit].map(ExchangeProcess::control)
    }
}

/// When each market was asked for, in microseconds.
pub(crate) fn polls(control: &ExchangeControl) -> BTreeMap<String, Vec<u64>> {
    let mut polls: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for request in control.requests(0).expect("requests") {
        for market in request.markets {
            polls.entry(market).or_default().push(request.arrived_us);
        }
    }
    polls
}

/// The last STATUS of a daemon.
pub(crate) fn status(daemon: &Daemon) -> String {
    let all = daemon.notify().all();
    all.iter().rev().find_map(|message| message.value("STATUS").map(str::to_owned)).unwrap_or_default()
}
