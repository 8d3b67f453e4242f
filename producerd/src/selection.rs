//! What symbols.toml wants of one exchange: markets, patterns, and exceptions from these. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use coinflow_common::orderbook::Market;

use crate::schedule::Watch;

/// Every market of one quote currency that the exchange lists: `KRW-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub(crate) quote: String,
    pub(crate) interval: Duration,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-*", self.quote)
    }
}

/// The symbols of one exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Named one by one, in file order and each once. They go before patterns.
    pub(crate) markets: Vec<Watch>,
    pub(crate) patterns: Vec<Pattern>,
    /// Taken out of the patterns.
    pub(crate) excluded: BTreeSet<Market>,
}

impl Selection {
    /// What to watch, each market once, as far as it is known: without a list of markets, patterns have none.
    pub(crate) fn resolve(&self, listed: Option<&BTreeSet<Market>>) -> Vec<Watch> {
        let named: BTreeSet<&Market> = self.markets.iter().map(|watch| &watch.market).collect();
        let by_pattern = |market: &Market| {
            let pattern = self.patterns.iter().find(|pattern| pattern.quote == market.quote())?;
            let is_open = !named.contains(market) && !self.excluded.contains(market);
            is_open.then(|| Watch { market: market.clone(), interval: pattern.interval })
        };
        let followed = listed.into_iter().flatten().filter_map(by_pattern);
        self.markets.iter().cloned().chain(followed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn market(code: &str) -> Market {
        Market::parse(code).unwrap()
    }

    #[test]
    fn a_pattern_is_what_is_listed_but_for_what_is_named_or_taken_out() {
        let [second, quick] = [1000, 200].map(Duration::from_millis);
        let selection = Selection {
            markets: vec![Watch { market: market("KRW-ETH"), interval: quick }],
            patterns: vec![Pattern { quote: "KRW".to_owned(), interval: second }],
            excluded: BTreeSet::from([market("KRW-USDT")]),
        };
        let listed = BTreeSet::from(["KRW-ETH", "KRW-BTC", "KRW-USDT", "BTC-ETH"].map(market));
        let resolved: Vec<(String, Duration)> =
            selection.resolve(Some(&listed)).iter().map(|watch| (watch.market.to_string(), watch.interval)).collect();
        assert_eq!(resolved, [("KRW-ETH".to_owned(), quick), ("KRW-BTC".to_owned(), second)]);
        assert_eq!(selection.resolve(None), selection.markets);
        assert_eq!(selection.patterns[0].to_string(), "KRW-*");
    }
}
