//! The live table of best prices.

use std::time::Duration;

use super::configs::Watch;
use super::rows::Latest;

pub(super) fn lines(latest: &[Latest], watched: &[Watch], elapsed: Duration) -> Vec<String> {
    let total: i64 = latest.iter().map(|row| row.books).sum();
    let mut lines = vec![format!(
        "{:<8} {:<8} {:>12} {:>12} | {:<12} {:<12} {:>6} {:>7}   {:.0} s, {total} books in PostgreSQL",
        "exchange",
        "market",
        "bid quantity",
        "bid",
        "ask",
        "ask quantity",
        "books",
        "age",
        elapsed.as_secs_f64()
    )];
    for row in latest {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let is_watched = watched.contains(&(row.exchange.as_str(), row.market.as_str()));
        let note = if is_watched { "" } else { "   no longer watched" };
        lines.push(format!(
            "{:<8} {:<8} {:>12} {:>12} | {:<12} {:<12} {:>6} {:>5.1} s{note}",
            row.exchange,
            row.market,
            text(&row.bid_quantity),
            text(&row.bid_price),
            text(&row.ask_price),
            text(&row.ask_quantity),
            row.books,
            row.age_s.max(0.0)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table() {
        let row = |market: &str, bid: Option<&str>, age_s| Latest {
            exchange: "bithumb".to_owned(),
            market: market.to_owned(),
            bid_quantity: bid.map(|_| "0.5".to_owned()),
            bid_price: bid.map(str::to_owned),
            ask_price: Some("157123000".to_owned()),
            ask_quantity: Some("0.0123".to_owned()),
            age_s,
            books: 12,
        };
        let rows = [row("KRW-BTC", Some("157122000"), 0.24), row("KRW-DOGE", None, 12.0)];
        assert_eq!(
            lines(&rows, &[("bithumb", "KRW-BTC"), ("upbit", "KRW-DOGE")], Duration::from_secs(9)),
            [
                "exchange market   bid quantity          bid | ask          ask quantity  books     age   9 s, 24 books in PostgreSQL",
                "bithumb  KRW-BTC           0.5    157122000 | 157123000    0.0123           12   0.2 s",
                "bithumb  KRW-DOGE            -            - | 157123000    0.0123           12  12.0 s   no longer watched",
            ]
        );
    }
}
