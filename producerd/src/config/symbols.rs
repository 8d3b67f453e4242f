//! symbols.toml: what to watch.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use coinflow_common::config::{self, Loaded, Problems, Table, Value};
use coinflow_common::orderbook::{Exchange, Market};

use super::ExchangeConfig;
use crate::exchange::parse_symbol;
use crate::schedule::Watch;

const INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// What to watch on each exchange, in file order and each market once.
pub(crate) type Symbols = BTreeMap<Exchange, Vec<Watch>>;

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
        let watches = root.table(name, |table| {
            let interval = table.duration("interval", interval, INTERVAL_RANGE);
            let watches = table.value("symbols").map(|symbols| read_symbols(&symbols, interval)).unwrap_or_default();
            warn_of_too_many(table, &watches, config);
            watches
        });
        (config.exchange.clone(), watches)
    };
    exchanges.iter().map(read).collect()
}

fn read_symbols(symbols: &Value<'_>, interval: Duration) -> Vec<Watch> {
    let mut first: HashMap<Market, (String, usize)> = HashMap::new();
    let mut watches = Vec::new();
    for item in symbols.items() {
        let Some(watch) = read_watch(&item, interval) else { continue };
        match first.get(&watch.market) {
            Some((key, line)) => {
                item.problem(format!("{} is watched already, by {key} on line {line}", watch.market));
            }
            None => {
                first.insert(watch.market.clone(), (item.key().to_owned(), item.line()));
                watches.push(watch);
            }
        }
    }
    watches
}

/// `"BTC"`, or `{ symbol = "BTC", interval = "200ms" }`.
fn read_watch(item: &Value<'_>, interval: Duration) -> Option<Watch> {
    let market = |value: &Value<'_>| {
        let text = value.string()?;
        parse_symbol(text).map_err(|message| value.problem(message)).ok()
    };
    if item.is_table() {
        return item.table(|table| {
            let interval = table.duration("interval", interval, INTERVAL_RANGE);
            match table.value("symbol") {
                Some(symbol) => Some(Watch { market: market(&symbol)?, interval }),
                None => {
                    item.problem("has no symbol; write { symbol = \"BTC\", interval = \"200ms\" }");
                    None
                }
            }
        })?;
    }
    Some(Watch { market: market(item)?, interval })
}

/// Symbols that need more requests than the exchange's limiter lets pass are no reason to watch none of them.
fn warn_of_too_many(table: &Table<'_>, watches: &[Watch], config: &ExchangeConfig) {
    let mut by_interval: BTreeMap<Duration, u64> = BTreeMap::new();
    for watch in watches {
        *by_interval.entry(watch.interval).or_default() += 1;
    }
    let requests = |(interval, markets): (&Duration, &u64)| {
        markets.div_ceil(config.markets_per_request) as f64 / interval.as_secs_f64()
    };
    let needed: f64 = by_interval.iter().map(requests).sum();
    if needed > config.requests_per_second as f64 {
        table.warning(
            "symbols",
            format!(
                "these need {needed:.0} requests a second, and exchange.{}.requests_per_second is {}: some polls will be skipped",
                config.exchange, config.requests_per_second
            ),
        );
    }
}
