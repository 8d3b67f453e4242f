//! The three files that the daemons read.

use std::fmt::Write;

use crate::exchange::Venue;

pub(super) const VENUES: [Venue; 3] = [Venue::Bithumb, Venue::Upbit, Venue::Korbit];

pub(super) fn topics() -> [String; 3] {
    VENUES.map(|venue| format!("coinflow.orderbook.{}", venue.name()))
}

/// `base_urls`: where the exchanges are, in the order of [`VENUES`]; none for the real ones.
pub(super) fn producerd(bootstrap: &str, base_urls: &[String]) -> String {
    let mut text = format!(
        "symbols_file = \"symbols.toml\"\n\n[spool]\ndirectory = \"spool\"\n\n[kafka]\nbrokers = [{}]\n",
        list(bootstrap.split(','))
    );
    for (venue, url) in VENUES.iter().zip(base_urls) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[exchange.{}]\nbase_url = \"{url}\"\n", venue.name());
    }
    text
}

pub(super) fn consumerd(bootstrap: &str, connection: &str) -> String {
    format!(
        "[postgres]\nconnection = \"{connection}\"\n\n\
         [source.main]\nbrokers = [{}]\ntopics = [{}]\n",
        list(bootstrap.split(',')),
        list(topics().iter().map(String::as_str))
    )
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

/// A market and its exchange.
pub(super) type Watch = (&'static str, &'static str);

/// What symbols.toml watches, before and after the reload.
#[derive(Debug, Default)]
pub(super) struct Watched {
    changed: bool,
}

/// Polled five times a second.
const FAST: Watch = ("bithumb", "KRW-BTC");
const ALWAYS: [Watch; 8] = [
    ("bithumb", "KRW-ETH"),
    ("bithumb", "KRW-XRP"),
    ("bithumb", "BTC-ETH"),
    ("upbit", "KRW-BTC"),
    ("upbit", "KRW-ETH"),
    ("upbit", "KRW-SOL"),
    ("korbit", "KRW-BTC"),
    ("korbit", "KRW-ETH"),
];
const REMOVED: Watch = ("bithumb", "KRW-DOGE");
const ADDED: Watch = ("bithumb", "KRW-LINK");

impl Watched {
    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    pub(super) fn added(&self) -> Watch {
        ADDED
    }

    pub(super) fn removed(&self) -> Watch {
        REMOVED
    }

    pub(super) fn markets(&self) -> Vec<Watch> {
        let last = if self.changed { ADDED } else { REMOVED };
        [FAST].into_iter().chain(ALWAYS).chain([last]).collect()
    }

    pub(super) fn symbols(&self) -> String {
        let mut text = "interval = \"1s\"\n".to_owned();
        for venue in VENUES.map(Venue::name) {
            let markets =
                self.markets().into_iter().filter(|(exchange, _)| *exchange == venue).map(|watch| match watch {
                    FAST => format!("{{ symbol = \"{}\", interval = \"200ms\" }}", watch.1),
                    (_, market) => format!("\"{market}\""),
                });
            // Writing to a string cannot fail.
            let _ = write!(text, "\n[{venue}]\nsymbols = [{}]\n", markets.collect::<Vec<_>>().join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files() {
        let urls = [2, 3, 4].map(|port| format!("http://127.0.0.1:{port}"));
        assert_eq!(
            producerd("127.0.0.1:1", &urls),
            "symbols_file = \"symbols.toml\"\n\n[spool]\ndirectory = \"spool\"\n\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n\n\
             [exchange.bithumb]\nbase_url = \"http://127.0.0.1:2\"\n\n\
             [exchange.upbit]\nbase_url = \"http://127.0.0.1:3\"\n\n\
             [exchange.korbit]\nbase_url = \"http://127.0.0.1:4\"\n"
        );
        assert!(!producerd("127.0.0.1:1", &[]).contains("base_url"));
        assert_eq!(
            consumerd("127.0.0.1:1", "host=/tmp/p port=3"),
            "[postgres]\nconnection = \"host=/tmp/p port=3\"\n\n[source.main]\nbrokers = [\"127.0.0.1:1\"]\n\
             topics = [\"coinflow.orderbook.bithumb\", \"coinflow.orderbook.upbit\", \"coinflow.orderbook.korbit\"]\n"
        );
        let mut watched = Watched::default();
        assert_eq!(
            watched.symbols(),
            "interval = \"1s\"\n\n\
             [bithumb]\nsymbols = [{ symbol = \"KRW-BTC\", interval = \"200ms\" }, \"KRW-ETH\", \"KRW-XRP\", \
             \"BTC-ETH\", \"KRW-DOGE\"]\n\n\
             [upbit]\nsymbols = [\"KRW-BTC\", \"KRW-ETH\", \"KRW-SOL\"]\n\n\
             [korbit]\nsymbols = [\"KRW-BTC\", \"KRW-ETH\"]\n"
        );
        watched.change();
        assert!(watched.symbols().contains("KRW-LINK") && !watched.symbols().contains("KRW-DOGE"));
    }
}
