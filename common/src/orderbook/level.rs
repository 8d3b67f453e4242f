//! One side of an order book, and its rules.

use std::cmp::Ordering;
use std::fmt;

use super::Decimal;

/// One price level: so much is asked or bid at this price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// In units of the quote currency for one unit of the base currency.
    pub price: Decimal,
    /// In units of the base currency.
    pub quantity: Decimal,
}

/// The two sides of a book. Asks are offers to sell and rise from the best; bids are offers to buy and fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Offers to sell; the best is the lowest.
    Asks,
    /// Offers to buy; the best is the highest.
    Bids,
}

/// A side of a record that breaks the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SideError {
    /// Level with this index has price 0.
    ZeroPrice(usize),
    /// Level with this index has quantity 0.
    ZeroQuantity(usize),
    /// Level with this index is better than the one before it.
    Order(usize),
}

impl Side {
    /// Its name in the record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Asks => "asks",
            Self::Bids => "bids",
        }
    }

    /// How two prices stand on this side, the better one first.
    fn compare(self, a: Decimal, b: Decimal) -> Ordering {
        match self {
            Self::Asks => a.cmp(&b),
            Self::Bids => b.cmp(&a),
        }
    }

    /// Makes an exchange's levels fit the contract: padding (price 0) and ghosts (quantity 0) are left out,
    /// the rest is sorted best first, and at most `levels_max` are kept.
    ///
    /// Levels of one price keep the exchange's order.
    pub fn tidy(self, levels: &mut Vec<Level>, levels_max: usize) {
        levels.retain(|level| !level.price.is_zero() && !level.quantity.is_zero());
        if !levels.is_sorted_by(|a, b| self.compare(a.price, b.price).is_le()) {
            levels.sort_by(|a, b| self.compare(a.price, b.price));
        }
        levels.truncate(levels_max);
    }

    /// Whether a record's levels keep the contract.
    ///
    /// # Errors
    /// The first level that does not.
    pub fn check(self, levels: &[Level]) -> Result<(), SideError> {
        for (index, level) in levels.iter().enumerate() {
            if level.price.is_zero() {
                return Err(SideError::ZeroPrice(index));
            }
            if level.quantity.is_zero() {
                return Err(SideError::ZeroQuantity(index));
            }
            if index > 0 && self.compare(levels[index - 1].price, level.price).is_gt() {
                return Err(SideError::Order(index));
            }
        }
        Ok(())
    }
}

impl fmt::Display for SideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroPrice(index) => write!(f, "[{index}]: price is 0"),
            Self::ZeroQuantity(index) => write!(f, "[{index}]: quantity is 0"),
            Self::Order(index) => write!(f, "[{index}]: not best first"),
        }
    }
}

impl std::error::Error for SideError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(texts: &[(&str, &str)]) -> Vec<Level> {
        let decimal = |text| Decimal::parse_plain(text).expect("a decimal");
        texts.iter().map(|(price, quantity)| Level { price: decimal(price), quantity: decimal(quantity) }).collect()
    }

    #[test]
    fn tidy_leaves_out_padding_and_ghosts_and_sorts() {
        let mut asks = levels(&[("0", "0"), ("3", "1"), ("1", "0.0000"), ("2", "1"), ("2", "2")]);
        let mut bids = asks.clone();
        Side::Asks.tidy(&mut asks, 30);
        Side::Bids.tidy(&mut bids, 2);
        assert_eq!(asks, levels(&[("2", "1"), ("2", "2"), ("3", "1")]));
        assert_eq!(bids, levels(&[("3", "1"), ("2", "1")]));
    }

    #[test]
    fn check_names_the_level() {
        let check = |side: Side, texts: &[(&str, &str)]| side.check(&levels(texts));
        assert_eq!(check(Side::Asks, &[]), Ok(()));
        assert_eq!(check(Side::Asks, &[("1", "1"), ("1", "1"), ("2", "1")]), Ok(()));
        assert_eq!(check(Side::Bids, &[("1", "1"), ("2", "1")]), Err(SideError::Order(1)));
        assert_eq!(check(Side::Asks, &[("1", "1"), ("0", "1")]), Err(SideError::ZeroPrice(1)));
        assert_eq!(check(Side::Asks, &[("1", "0.00")]), Err(SideError::ZeroQuantity(0)));
    }
}
