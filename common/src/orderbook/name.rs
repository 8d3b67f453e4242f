//! Names of exchanges and markets.

use std::fmt;
use std::sync::Arc;

/// Longest name of an exchange, in bytes.
const EXCHANGE_BYTES_MAX: usize = 32;
/// Longest currency code of a market, in bytes.
const CURRENCY_BYTES_MAX: usize = 32;

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Not lower-case letters, digits, `_` or `-`, starting with a letter.
    Exchange,
    /// Not a code of the form `QUOTE-BASE`.
    Market,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchange => "not an exchange name",
            Self::Market => "not a market code of the form KRW-BTC",
        })
    }
}

impl std::error::Error for NameError {}

/// The name of an exchange, such as `bithumb`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exchange(Arc<str>);

impl Exchange {
    /// # Errors
    /// [`NameError::Exchange`]
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        let bytes = text.as_bytes();
        if bytes.len() <= EXCHANGE_BYTES_MAX
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes.iter().all(|b| good(*b))
        {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Exchange)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A market code as Bithumb v2 and Upbit write it: quote, dash, base, upper case. `KRW-BTC` is bitcoin priced in won.
///
/// Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Market(Arc<str>);

impl Market {
    /// # Errors
    /// [`NameError::Market`]; lower case is one.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let currency = |part: &str| {
            (1..=CURRENCY_BYTES_MAX).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        };
        match text.split_once('-') {
            Some((quote, base)) if currency(quote) && currency(base) => Ok(Self(text.into())),
            _ => Err(NameError::Market),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The currency of the prices: `KRW` in `KRW-BTC`.
    #[must_use]
    pub fn quote(&self) -> &str {
        self.0.split_once('-').map_or("", |(quote, _)| quote)
    }

    /// The currency of the quantities: `BTC` in `KRW-BTC`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.split_once('-').map_or("", |(_, base)| base)
    }
}

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["KRW-BTC", "BTC-ETH", "KRW-1INCH"] {
            assert_eq!(Market::parse(good).expect("a market").as_str(), good);
        }
        for bad in ["", "KRW", "KRW-", "-BTC", "krw-btc", "KRW_BTC", "KRW-BTC-X", "KRW-BT C", "KRW-비트", "KRW-B\0"] {
            assert_eq!(Market::parse(bad), Err(NameError::Market), "{bad:?}");
        }
        assert!(Exchange::parse("bithumb").is_ok());
        for bad in ["", "Bithumb", "1x", "a b", "a.b"] {
            assert_eq!(Exchange::parse(bad), Err(NameError::Exchange), "{bad:?}");
        }
    }

    #[test]
    fn quote_and_base() {
        let market = Market::parse("KRW-BTC").expect("a market");
        assert_eq!((market.quote(), market.base()), ("KRW", "BTC"));
    }
}
