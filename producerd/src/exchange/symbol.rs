//! Symbols as symbols.toml writes them.

use std::fmt;

use coinflow_common::orderbook::Market;

/// The quote currency of a symbol that names none.
const DEFAULT_QUOTE: &str = "KRW";

/// What a symbol says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Symbol {
    Market(Market),
    /// `KRW-*`: every market of this quote currency.
    Pattern(String),
    /// `!KRW-USDT`: not this one of a pattern.
    Exception(Market),
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Market(market) => write!(f, "{market}"),
            Self::Pattern(quote) => write!(f, "{quote}-*"),
            Self::Exception(market) => write!(f, "!{market}"),
        }
    }
}

/// `BTC`, `KRW-BTC` or `krw-btc` as a market, `KRW-*` as a pattern, and `!` before a market as an exception from one.
///
/// # Errors
/// What to write instead.
pub(crate) fn parse_symbol(symbol: &str) -> Result<Symbol, String> {
    if let Some(market) = symbol.strip_prefix('!') {
        return match parse_market(market) {
            Ok(market) => Ok(Symbol::Exception(market)),
            Err(_) => Err(format!("{symbol:?} takes out no market; write it like !KRW-BTC")),
        };
    }
    if symbol.contains('*') {
        let quote = symbol.strip_suffix("-*").unwrap_or_default().to_ascii_uppercase();
        // A quote currency is whatever makes a market's code.
        return match Market::parse(&format!("{quote}-X")) {
            Ok(_) => Ok(Symbol::Pattern(quote)),
            Err(_) => Err(format!("{symbol:?} is not a pattern; write it like KRW-*")),
        };
    }
    parse_market(symbol).map(Symbol::Market)
}

fn parse_market(symbol: &str) -> Result<Market, String> {
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
        ["KRW", base] => format!("KRW-{base}"),
        [base, quote @ ("KRW" | "USDT")] => format!("{quote}-{base}"),
        ["USDT", base] => format!("USDT-{base}"),
        [base, "BTC"] => format!("BTC-{base}"),
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
            assert_eq!(parse_symbol(symbol), Ok(Symbol::Market(Market::parse(market).unwrap())));
        }
        for (symbol, shown) in
            [("KRW-*", "KRW-*"), ("usdt-*", "USDT-*"), ("!KRW-USDT", "!KRW-USDT"), ("!usdt", "!KRW-USDT")]
        {
            assert_eq!(parse_symbol(symbol).map(|symbol| symbol.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn a_wrong_symbol_says_what_to_write() {
        for (symbol, message) in [
            ("KRW_BTC", r#""KRW_BTC" is not a market code; write KRW-BTC"#),
            ("BTC_KRW", r#""BTC_KRW" is not a market code; write KRW-BTC"#),
            ("krw/btc", r#""krw/btc" is not a market code; write KRW-BTC"#),
            ("KRW_USDT", r#""KRW_USDT" is not a market code; write KRW-USDT"#),
            ("USDT_KRW", r#""USDT_KRW" is not a market code; write KRW-USDT"#),
            ("USDT_BTC", r#""USDT_BTC" is not a market code; write USDT-BTC"#),
            ("ETH_BTC", r#""ETH_BTC" is not a market code; write BTC-ETH"#),
            ("BTC_ETH", r#""BTC_ETH" is not a market code; write BTC-ETH"#),
            ("", r#""" is not a market code; write it like KRW-BTC"#),
            ("KRW-", r#""KRW-" is not a market code; write it like KRW-BTC"#),
            ("KRW-B-C", r#""KRW-B-C" is not a market code; write it like KRW-BTC"#),
            ("비트코인", r#""비트코인" is not a market code; write it like KRW-BTC"#),
            ("*", r#""*" is not a pattern; write it like KRW-*"#),
            ("KRW*", r#""KRW*" is not a pattern; write it like KRW-*"#),
            ("KRW-B*", r#""KRW-B*" is not a pattern; write it like KRW-*"#),
            ("!", r#""!" takes out no market; write it like !KRW-BTC"#),
            ("!KRW-*", r#""!KRW-*" takes out no market; write it like !KRW-BTC"#),
        ] {
            assert_eq!(parse_symbol(symbol), Err(message.to_owned()));
        }
    }
}
