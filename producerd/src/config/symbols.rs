//! symbols.toml: what to watch.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use coinflow_common::config::{self, Loaded, Problems, Table, Value};
use coinflow_common::orderbook::Exchange;

use super::ExchangeConfig;
use crate::exchange::{Symbol, parse_symbol};
use crate::schedule::Watch;
use crate::selection::{Pattern, Selection};

const INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// What to watch on each exchange.
pub(crate) type Symbols = BTreeMap<Exchange, Selection>;

/// Reads and checks the file.
///
/// # Errors
/// All its problems.
pub(crate) fn load(path: &Path, exchanges: &[ExchangeConfig]) -> Result<Loaded<Symbols>, Problems> {
    config::load(path, |root| read(root, exchanges))
}

pub(super) fn read(root: &mut Table<'_>, exchanges: &[ExchangeConfig]) -> Symbols {
    let interval = root.duration("interval", INTERVAL, INTERVAL_RANGE);
    let read = |config: &ExchangeConfig| {
        let name = config.exchange.as_str();
        let selection = root.table(name, |table| {
            let interval = table.duration("interval", interval, INTERVAL_RANGE);
            let selection = table.value("symbols").map(|symbols| read_symbols(&symbols, interval)).unwrap_or_default();
            // Symbols that need more requests than may go out are no reason to watch none of them.
            if let Some(message) = config.limits().overload(&selection.markets) {
                table.warning("symbols", message);
            }
            selection
        });
        (config.exchange.clone(), selection)
    };
    exchanges.iter().map(read).collect()
}

fn read_symbols(symbols: &Value<'_>, interval: Duration) -> Selection {
    let mut first: HashMap<Symbol, (String, usize)> = HashMap::new();
    let mut selection = Selection::default();
    let mut exceptions = Vec::new();
    for item in symbols.items() {
        let Some((symbol, interval)) = read_symbol(&item, interval) else { continue };
        if let Some((key, line)) = first.get(&symbol) {
            item.problem(format!("{symbol} stands here already, as {key} on line {line}"));
            continue;
        }
        first.insert(symbol.clone(), (item.key().to_owned(), item.line()));
        match symbol {
            Symbol::Market(market) => selection.markets.push(Watch { market, interval }),
            Symbol::Pattern(quote) => selection.patterns.push(Pattern { quote, interval }),
            Symbol::Exception(market) => exceptions.push((market, item)),
        }
    }
    for (market, item) in exceptions {
        if let Some((key, line)) = first.get(&Symbol::Market(market.clone())) {
            item.problem(format!("{market} is watched by {key} on line {line}, and taken out here"));
        } else if !selection.patterns.iter().any(|pattern| pattern.quote == market.quote()) {
            item.warning(format!("takes nothing out, for no pattern {}-* stands here", market.quote()));
        }
        selection.excluded.insert(market);
    }
    selection
}

/// `"BTC"`, or `{ symbol = "BTC", interval = "200ms" }`.
fn read_symbol(item: &Value<'_>, interval: Duration) -> Option<(Symbol, Duration)> {
    let parse = |value: &Value<'_>| {
        let text = value.string()?;
        parse_symbol(text).map_err(|message| value.problem(message)).ok()
    };
    if !item.is_table() {
        return Some((parse(item)?, interval));
    }
    item.table(|table| {
        let own = table.optional_duration("interval", INTERVAL_RANGE);
        let Some(symbol) = table.value("symbol") else {
            item.problem("has no symbol; write { symbol = \"BTC\", interval = \"200ms\" }");
            return None;
        };
        let symbol = parse(&symbol)?;
        if matches!(symbol, Symbol::Exception(_)) && own.is_some() {
            table.problem("interval", format!("{symbol} takes a market out, which has no interval"));
        }
        Some((symbol, own.unwrap_or(interval)))
    })?
}
