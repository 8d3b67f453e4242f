//! Symbols as symbols.toml writes them.

use coinflow_common::orderbook::Market;

/// The quote currency of a symbol that names none.
const DEFAULT_QUOTE: &str = "KRW";

/// `BTC`, `KRW-BTC` or `krw-btc` as a market.
///
/// # Errors
/// What to write instead.
pub(crate) fn parse_symbol(symbol: &str) -> Result<Market, String> {
    if symbol.contains('*') || symbol.starts_with('!') {
        return Err(format!("{symbol:?} is a pattern; this version takes single markets only"));
    }
    let code = symbol.to_ascii_uppercase();
    if let Ok(market) = Market::parse(&code) {
        return Ok(market);
    }
    if let Ok(market) = Market::parse(&format!("{DEFAULT_QUOTE}-{code}")) {
        return Ok(market);
    }
    // KRW_BTC, KRW/BTC and the like; and BTC_KRW, as the legacy API of Bithumb and Korbit write it.
    let parts: Vec<&str> = code.split(['_', '/', '.', ':', ' ']).collect();
    let meant = match parts[..] {
        [base, quote @ ("KRW" | "USDT")] if base != quote => format!("{quote}-{base}"),
        [quote, base] => format!("{quote}-{base}"),
        _ => String::new(),
    };
    Err(match Market::parse(&meant) {
        Ok(market) => format!("{symbol:?} is not a market code; write {market}"),
        Err(_) => format!("{symbol:?} is not a market code; write it like KRW-BTC"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_mapped_to_markets() {
        for (symbol, market) in [
            ("BTC", "KRW-BTC"),
            ("KRW-ETH", "KRW-ETH"),
            ("BTC-ETH", "BTC-ETH"),
            ("krw-eth", "KRW-ETH"),
            ("1inch", "KRW-1INCH"),
        ] {
            assert_eq!(parse_symbol(symbol).map(|m| m.to_string()), Ok(market.to_owned()));
        }
    }

    #[test]
    fn a_wrong_symbol_says_what_to_write() {
        for (symbol, message) in [
            ("KRW_BTC", r#""KRW_BTC" is not a market code; write KRW-BTC"#),
            ("BTC_KRW", r#""BTC_KRW" is not a market code; write KRW-BTC"#),
            ("krw/btc", r#""krw/btc" is not a market code; write KRW-BTC"#),
            ("BTC_ETH", r#""BTC_ETH" is not a market code; write BTC-ETH"#),
            ("", r#""" is not a market code; write it like KRW-BTC"#),
            ("KRW-", r#""KRW-" is not a market code; write it like KRW-BTC"#),
            ("KRW-B-C", r#""KRW-B-C" is not a market code; write it like KRW-BTC"#),
            ("비트코인", r#""비트코인" is not a market code; write it like KRW-BTC"#),
            ("KRW-*", r#""KRW-*" is a pattern; this version takes single markets only"#),
            ("!KRW-BTC", r#""!KRW-BTC" is a pattern; this version takes single markets only"#),
        ] {
            assert_eq!(parse_symbol(symbol), Err(message.to_owned()));
        }
    }
}
