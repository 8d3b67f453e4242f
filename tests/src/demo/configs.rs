//! The three files that the daemons read.

pub(super) const TOPIC: &str = "coinflow.orderbook.bithumb";

pub(super) fn producerd(bootstrap: &str, base_url: Option<&str>) -> String {
    let base_url = base_url.map_or(String::new(), |url| format!("base_url = \"{url}\"\n"));
    format!(
        "symbols_file = \"symbols.toml\"\n\n\
         [kafka]\nbrokers = [{}]\n\n\
         [exchange.bithumb]\n{base_url}",
        list(bootstrap.split(',')),
    )
}

pub(super) fn consumerd(bootstrap: &str, connection: &str) -> String {
    format!(
        "[postgres]\nconnection = \"{connection}\"\n\n\
         [source.main]\nbrokers = [{}]\ntopics = [\"{TOPIC}\"]\n",
        list(bootstrap.split(','))
    )
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

/// What symbols.toml watches, before and after the reload.
#[derive(Debug, Default)]
pub(super) struct Watched {
    changed: bool,
}

/// Polled five times a second.
const FAST: &str = "KRW-BTC";
const ALWAYS: [&str; 5] = ["KRW-ETH", "KRW-XRP", "KRW-SOL", "KRW-ADA", "BTC-ETH"];
const REMOVED: &str = "KRW-DOGE";
const ADDED: &str = "KRW-LINK";

impl Watched {
    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    pub(super) fn added(&self) -> &'static str {
        ADDED
    }

    pub(super) fn removed(&self) -> &'static str {
        REMOVED
    }

    pub(super) fn markets(&self) -> Vec<&'static str> {
        let last = if self.changed { ADDED } else { REMOVED };
        [FAST].into_iter().chain(ALWAYS).chain([last]).collect()
    }

    pub(super) fn symbols(&self) -> String {
        let slow = self.markets().into_iter().filter(|&market| market != FAST);
        format!(
            "interval = \"1s\"\n\n[bithumb]\nsymbols = [{{ symbol = \"{FAST}\", interval = \"200ms\" }}, {}]\n",
            list(slow)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files() {
        assert_eq!(
            producerd("127.0.0.1:1", Some("http://127.0.0.1:2")),
            "symbols_file = \"symbols.toml\"\n\n[kafka]\nbrokers = [\"127.0.0.1:1\"]\n\n\
             [exchange.bithumb]\nbase_url = \"http://127.0.0.1:2\"\n"
        );
        assert!(!producerd("127.0.0.1:1", None).contains("base_url"));
        assert_eq!(
            consumerd("127.0.0.1:1", "host=/tmp/p port=3"),
            "[postgres]\nconnection = \"host=/tmp/p port=3\"\n\n[source.main]\nbrokers = [\"127.0.0.1:1\"]\n\
             topics = [\"coinflow.orderbook.bithumb\"]\n"
        );
        let mut watched = Watched::default();
        assert_eq!(
            watched.symbols(),
            "interval = \"1s\"\n\n[bithumb]\nsymbols = [{ symbol = \"KRW-BTC\", interval = \"200ms\" }, \"KRW-ETH\", \
             \"KRW-XRP\", \"KRW-SOL\", \"KRW-ADA\", \"BTC-ETH\", \"KRW-DOGE\"]\n"
        );
        watched.change();
        assert!(watched.symbols().contains("KRW-LINK") && !watched.symbols().contains("KRW-DOGE"));
    }
}
