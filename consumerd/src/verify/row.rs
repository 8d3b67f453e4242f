//! A row of the table as PostgreSQL sends it in binary, compared with the book of its record.
//!
//! Values are read from the bytes by code of its own, which shares nothing with the encoder that stored them: what that
//! got wrong must not be right here.

use coinflow_common::orderbook::{Decimal, Level, OrderBook, Side, Timestamp};

/// 2000-01-01 in microseconds since 1970: PostgreSQL counts from there.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Differences of one row that are told; how many more there are, is.
const TOLD_MAX: usize = 8;

/// The columns that a record decides. Texts and lists are as the bytes have them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) offset: i64,
    pub(super) exchange: &'a [u8],
    pub(super) market: &'a [u8],
    /// Times in PostgreSQL's microseconds.
    pub(super) exchange_ts: Option<i64>,
    pub(super) requested_at: Option<i64>,
    pub(super) received_at: Option<i64>,
    pub(super) run: &'a [u8],
    pub(super) sequence: i64,
    /// `numeric[]` of ask prices, ask quantities, bid prices, bid quantities.
    pub(super) lists: [&'a [u8]; 4],
}

/// A time of PostgreSQL in microseconds since 1970.
pub(super) fn from_postgres(micros: i64) -> i64 {
    micros.saturating_add(POSTGRES_EPOCH_MICROS)
}

/// What differs, in words; None if nothing does.
pub(super) fn difference(book: &OrderBook, row: &Row<'_>) -> Option<String> {
    let mut told = Told::default();
    told.text("exchange", book.exchange.as_str(), row.exchange);
    told.text("market", book.market.as_str(), row.market);
    told.time("exchange_ts", book.exchange_ts, row.exchange_ts);
    told.time("requested_at", book.requested_at, row.requested_at);
    told.time("received_at", Some(book.received_at), row.received_at);
    if book.run.as_bytes() != row.run {
        let hex: String = row.run.iter().map(|byte| format!("{byte:02x}")).collect();
        told.tell("producer_run", book.run, hex);
    }
    if book.sequence != row.sequence {
        told.tell("producer_sequence", book.sequence, row.sequence);
    }
    let [ask_prices, ask_quantities, bid_prices, bid_quantities] = row.lists;
    told.side(Side::Asks, &book.asks, [ask_prices, ask_quantities]);
    told.side(Side::Bids, &book.bids, [bid_prices, bid_quantities]);
    told.end()
}

/// Collects differences. Nothing is allocated as long as there is none.
#[derive(Default)]
struct Told {
    words: Vec<String>,
    more: usize,
}

impl Told {
    fn push(&mut self, words: impl FnOnce() -> String) {
        if self.words.len() < TOLD_MAX {
            self.words.push(words());
        } else {
            self.more += 1;
        }
    }

    fn tell(&mut self, what: &str, record: impl std::fmt::Display, row: impl std::fmt::Display) {
        self.push(|| format!("{what}: {record} in the topic, {row} in the table"));
    }

    fn text(&mut self, what: &str, record: &str, row: &[u8]) {
        if record.as_bytes() != row {
            self.tell(what, record, String::from_utf8_lossy(row));
        }
    }

    fn time(&mut self, what: &str, record: Option<Timestamp>, row: Option<i64>) {
        let row = row.map(from_postgres);
        if record.map(Timestamp::as_micros) != row {
            let shown = |time: Option<Timestamp>| time.map_or("null".to_owned(), |time| time.to_string());
            let row = match row.map(Timestamp::from_micros) {
                Some(Err(_)) => "a time outside the years 0 to 9999".to_owned(),
                Some(Ok(time)) => shown(Some(time)),
                None => shown(None),
            };
            self.tell(what, shown(record), row);
        }
    }

    fn side(&mut self, side: Side, levels: &[Level], [prices, quantities]: [&[u8]; 2]) {
        self.list(side, "price", levels, |level| level.price, prices);
        self.list(side, "quantity", levels, |level| level.quantity, quantities);
    }

    fn list(&mut self, side: Side, what: &str, levels: &[Level], value: impl Fn(&Level) -> Decimal, list: &[u8]) {
        let side = side.name();
        let Some(numbers) = Numbers::of(list) else {
            self.push(|| format!("{side} {what}: not a list of numbers that begins at 1"));
            return;
        };
        if numbers.left != levels.len() {
            self.tell(
                &format!("{side} {what}"),
                format_args!("{} levels", levels.len()),
                format_args!("{} levels", numbers.left),
            );
        }
        for (level, (record, number)) in (1..).zip(levels.iter().zip(numbers)) {
            let record = value(record);
            let number = number.map(Number::of);
            let is_same = matches!(&number, Some(Some(number)) if number.is(record));
            if !is_same {
                let shown = match number {
                    None => "null".to_owned(),
                    Some(None) => "another number".to_owned(),
                    Some(Some(number)) => number.to_string(),
                };
                self.tell(&format!("{side} level {level} {what}"), record, shown);
            }
        }
    }

    fn end(mut self) -> Option<String> {
        if self.more > 0 {
            self.words.push(format!("and {} more", self.more));
        }
        (!self.words.is_empty()).then(|| self.words.join("; "))
    }
}

/// The elements of a `numeric[]`; None is a null.
struct Numbers<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Numbers<'a> {
    /// None for anything but a list of one dimension that begins at 1, or an empty one.
    fn of(list: &'a [u8]) -> Option<Self> {
        let mut rest = list;
        let dimensions = take_i32(&mut rest)?;
        let _has_nulls = take_i32(&mut rest)?;
        let _type = take_i32(&mut rest)?;
        match dimensions {
            0 => Some(Self { left: 0, rest }),
            1 => {
                let left = usize::try_from(take_i32(&mut rest)?).ok()?;
                (take_i32(&mut rest)? == 1).then_some(Self { left, rest })
            }
            _ => None,
        }
    }
}

impl<'a> Iterator for Numbers<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let length = take_i32(&mut self.rest)?;
        let Ok(length) = usize::try_from(length) else { return Some(None) };
        let (number, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(number))
    }
}

fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*word))
}

/// A finite `numeric`: its value is `digits / 10^scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number {
    is_negative: bool,
    digits: u128,
    scale: u32,
}

impl Number {
    /// None if it is none, infinite, or too long for a price.
    fn of(bytes: &[u8]) -> Option<Self> {
        let (head, groups) = bytes.split_first_chunk::<8>()?;
        let word = |at: usize| i16::from_be_bytes([head[at], head[at + 1]]);
        let (count, weight, scale) = (word(0), word(2), u32::try_from(word(6)).ok()?);
        let is_negative = match word(4) {
            0 => false,
            0x4000 => true,
            _ => return None,
        };
        if groups.len() != 2 * usize::try_from(count).ok()? {
            return None;
        }
        // Decimals that the number has behind its last group of four; below 0, the group has more than the scale shows.
        let behind = 4 * (i64::from(weight) - i64::from(count) + 1) + i64::from(scale);
        let mut digits = 0u128;
        let mut left = count;
        for group in groups.chunks_exact(2) {
            left -= 1;
            let group = u128::from(u16::from_be_bytes([group[0], group[1]]));
            let is_cut = left == 0 && behind < 0;
            let cut = if is_cut { u32::try_from(-behind).ok().filter(|cut| *cut < 4)? } else { 0 };
            if group % 10u128.pow(cut) != 0 {
                return None;
            }
            digits = digits.checked_mul(10u128.pow(4 - cut))?.checked_add(group / 10u128.pow(cut))?;
        }
        if behind > 0 && digits > 0 {
            digits = digits.checked_mul(10u128.checked_pow(u32::try_from(behind).ok()?)?)?;
        }
        Some(Self { is_negative, digits, scale })
    }

    /// To the last digit: 1.5 is not 1.50.
    fn is(self, decimal: Decimal) -> bool {
        !self.is_negative && self.digits == decimal.digits() && self.scale == u32::from(decimal.scale())
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scale = self.scale as usize;
        let digits = format!("{:0>width$}", self.digits, width = scale + 1);
        let (integer, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.is_negative { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        write!(f, "{sign}{integer}{point}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PostgreSQL sends it: weight, sign, scale, groups.
    fn number(weight: i16, sign: u16, scale: i16, groups: &[u16]) -> Option<String> {
        let mut bytes = Vec::new();
        for word in [groups.len() as u16, weight as u16, sign, scale as u16].iter().chain(groups) {
            bytes.extend(word.to_be_bytes());
        }
        Some(Number::of(&bytes)?.to_string())
    }

    #[test]
    fn numbers_read_as_postgresql_shows_them() {
        let table: [(i16, u16, i16, &[u16], &str); 12] = [
            (0, 0, 0, &[], "0"),
            (0, 0, 2, &[], "0.00"),
            (0, 0, 0, &[1], "1"),
            (1, 0, 0, &[1], "10000"),
            (0, 0, 1, &[1, 5000], "1.5"),
            (0, 0, 2, &[1, 5000], "1.50"),
            (-1, 0, 4, &[123], "0.0123"),
            (-5, 0, 18, &[100], "0.000000000000000001"),
            (2, 0, 8, &[1, 0, 0, 1], "100000000.00010000"),
            (0, 0x4000, 1, &[1, 5000], "-1.5"),
            (4, 0, 0, &[9999; 5], "99999999999999999999"),
            (
                4,
                0,
                18,
                &[9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9900],
                "99999999999999999999.999999999999999999",
            ),
        ];
        for (weight, sign, scale, groups, text) in table {
            assert_eq!(number(weight, sign, scale, groups).as_deref(), Some(text));
        }
        // NaN, infinity, what no price can be, and what PostgreSQL never sends.
        assert_eq!(number(0, 0xC000, 0, &[]), None);
        assert_eq!(number(0, 0xD000, 0, &[]), None);
        assert_eq!(number(40, 0, 0, &[1]), None);
        assert_eq!(number(0, 0, 1, &[1, 5050]), None);
        assert_eq!(Number::of(&[0; 7]), None);
    }

    #[test]
    fn scale_and_value_decide() {
        let number = Number { is_negative: false, digits: 150, scale: 2 };
        let is = |text| number.is(Decimal::parse_plain(text).expect("a decimal"));
        assert!(is("1.50") && !is("1.5") && !is("1.500") && !is("1.51"));
        assert!(!Number { is_negative: true, ..number }.is(Decimal::parse_plain("1.50").expect("a decimal")));
    }

    #[test]
    fn lists_of_other_forms_are_none() {
        let list = |words: &[i32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        assert_eq!(Numbers::of(&list(&[0, 0, 1700])).map(Iterator::count), Some(0));
        assert_eq!(Numbers::of(&list(&[1, 1, 1700, 2, 1, -1, -1])).map(Iterator::count), Some(2));
        assert!(Numbers::of(&list(&[1, 0, 1700, 1, 0, -1])).is_none());
        assert!(Numbers::of(&list(&[2, 0, 1700, 1, 1, 1, 1])).is_none());
        assert!(Numbers::of(&[]).is_none());
    }
}
