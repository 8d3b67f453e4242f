//! What makes two books the same, whoever spells them.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;

use crate::exchange::api::{LevelText, ServedBook};

/// The books that producerd keeps of a side.
const LEVELS: usize = 30;

/// A decimal as the power of ten of its first digit and its digits, so that the order of these is the order of numbers.
/// None for zero, and for what is no decimal.
fn canonical(text: &str) -> Option<(i32, String)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let zeros = digits.len() - significant.len();
    let power = whole.len() as i32 - zeros as i32 + exponent.trim_start_matches('+').parse::<i32>().ok()?;
    let significant = significant.trim_end_matches('0');
    (!significant.is_empty()).then(|| (power, significant.to_owned()))
}

/// A number that two books share only if every price and quantity is the same. No level of price or quantity zero, best first.
fn fingerprint(asks: &[LevelText], bids: &[LevelText]) -> u64 {
    let levels = |side: &[LevelText]| {
        let mut levels: Vec<_> = side.iter().filter_map(|(p, q)| Some((canonical(p)?, canonical(q)?))).collect();
        levels.sort_unstable();
        levels
    };
    let (mut asks, mut bids) = (levels(asks), levels(bids));
    bids.reverse();
    asks.truncate(LEVELS);
    bids.truncate(LEVELS);
    let mut hasher = DefaultHasher::new();
    (asks, bids).hash(&mut hasher);
    hasher.finish()
}

/// Names a book: the replayed exchange gives no two books of a market one time.
pub(super) type Key = (String, i64);

pub(super) fn served(book: &ServedBook) -> (Key, u64) {
    ((book.market.clone(), book.timestamp_ms as i64), fingerprint(&book.asks, &book.bids))
}

/// A record's value, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Published {
    pub(super) market: String,
    exchange_ts: String,
    pub(super) received_at: String,
    pub(super) run: String,
    pub(super) sequence: i64,
    asks: Vec<LevelText>,
    bids: Vec<LevelText>,
}

impl Published {
    pub(super) fn read(value: &[u8]) -> Result<Published, String> {
        serde_json::from_slice(value).map_err(|error| error.to_string())
    }

    pub(super) fn key(&self) -> Option<(Key, u64)> {
        Some(((self.market.clone(), unix_ms(&self.exchange_ts)?), fingerprint(&self.asks, &self.bids)))
    }

    /// When its run began: a UUIDv7 begins with it.
    pub(super) fn run_began_ms(&self) -> Option<u64> {
        let digits: String = self.run.chars().filter(|digit| *digit != '-').take(12).collect();
        u64::from_str_radix(&digits, 16).ok()
    }
}

/// `2026-11-23T10:00:00.123Z`
fn unix_ms(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: &str| text.parse::<i64>().ok();
    let mut date = date.split('-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.split(':').map(number);
    let seconds = (time.next()?? * 60 + time.next()??) * 60 + time.next()??;
    let ms = number(&format!("{fraction:0<3}")[..3])?;
    // Days since 1970, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some((days * 86_400 + seconds) * 1000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for (text, power, digits) in [
            ("1.16539E8", 9, "116539"),
            ("116539000", 9, "116539"),
            ("5.0E-7", -6, "5"),
            ("0.00000050", -6, "5"),
            ("1.50", 1, "15"),
        ] {
            assert_eq!(canonical(text), Some((power, digits.to_owned())), "{text}");
        }
        assert_eq!(canonical("0.000"), None);
        assert!(canonical("99.5") < canonical("1e2") && canonical("1.2") < canonical("1.21"));
    }

    #[test]
    fn times() {
        assert_eq!(unix_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_ms("2024-02-29T12:34:56.7Z"), Some(1_709_210_096_700));
        assert_eq!(unix_ms("2026-11-23T10:00:00.123456Z"), Some(1_795_428_000_123));
        assert_eq!(unix_ms("yesterday"), None);
    }

    #[test]
    fn the_same_book_in_other_words() {
        let side = |levels: &[(&str, &str)]| -> Vec<LevelText> {
            levels.iter().map(|(price, quantity)| ((*price).to_owned(), (*quantity).to_owned())).collect()
        };
        let asks = side(&[("101", "1"), ("1.00E2", "2.50"), ("0", "0")]);
        let same = fingerprint(&side(&[("100", "2.5"), ("101.0", "1")]), &[]);
        assert_eq!(fingerprint(&asks, &[]), same);
        assert_ne!(fingerprint(&side(&[("100", "2.5"), ("101.0", "1.1")]), &[]), same);
        assert_ne!(fingerprint(&[], &asks), same);
    }
}
