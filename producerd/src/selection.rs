//! What symbols.toml wants of one exchange: markets, patterns, and exceptions from these. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use coinflow_common::config::nearest;
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

/// A part of a selection that has nothing to match on the exchange's list, with what may have been meant. Displays as what
/// the operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Idle {
    pub(crate) symbol: String,
    nearest: Option<String>,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} matches no market of the exchange", self.symbol)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
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

    /// Patterns and exceptions that this list gives nothing to.
    pub(crate) fn idle(&self, listed: &BTreeSet<Market>) -> Vec<Idle> {
        let quotes: BTreeSet<&str> = listed.iter().map(Market::quote).collect();
        let patterns = self.patterns.iter().filter(|pattern| !quotes.contains(pattern.quote.as_str())).map(|pattern| {
            let nearest = nearest(&pattern.quote, quotes.iter().copied()).map(|quote| format!("{quote}-*"));
            Idle { symbol: pattern.to_string(), nearest }
        });
        let excluded = self.excluded.iter().filter(|market| !listed.contains(market)).map(|market| {
            let nearest = nearest(market.as_str(), listed.iter().map(Market::as_str)).map(|code| format!("!{code}"));
            Idle { symbol: format!("!{market}"), nearest }
        });
        patterns.chain(excluded).collect()
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
        assert_eq!(selection.idle(&listed), []);
    }

    #[test]
    fn what_matches_nothing_is_told() {
        let selection = Selection {
            markets: Vec::new(),
            patterns: ["KWR", "BTC"].map(|quote| Pattern { quote: quote.to_owned(), interval: Duration::ZERO }).into(),
            excluded: BTreeSet::from([market("BTC-HET"), market("BTC-XRP")]),
        };
        let listed = BTreeSet::from(["KRW-BTC", "BTC-ETH", "BTC-XRP"].map(market));
        let idle: Vec<String> = selection.idle(&listed).iter().map(ToString::to_string).collect();
        assert_eq!(
            idle,
            [
                "KWR-* matches no market of the exchange; did you mean KRW-*?",
                "!BTC-HET matches no market of the exchange; did you mean !BTC-ETH?",
            ]
        );
    }
}
