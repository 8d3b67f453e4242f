//! Exact decimals with their own scale.

use std::cmp::Ordering;
use std::fmt;

/// Most digits before the decimal point; with [`SCALE_MAX`] the value fits PostgreSQL's `DECIMAL(38,18)`.
const INTEGER_DIGITS_MAX: usize = 20;
/// Most digits after the decimal point.
const SCALE_MAX: u8 = 18;
/// An exponent beyond this cannot give a value within the limits, whatever its digits are.
const EXPONENT_MAX: i32 = 60;

/// A decimal number of at most 20 digits before the point and 18 after it, never negative.
///
/// It is kept as digits and scale, so that `1.50` stays `1.50` and no float is involved: the value is
/// `digits / 10^scale`. 38 digits fit a `u128`. Equality and order are by value: `1.5 == 1.50`.
#[derive(Clone, Copy)]
pub struct Decimal {
    digits: u128,
    scale: u8,
}

/// Why a text is not a [`Decimal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalError {
    /// Empty, a sign, NaN, Infinity, blanks, or anything else that is not a decimal number.
    NotADecimal,
    /// A number with an exponent, where only plain notation is allowed.
    Exponent,
    /// More than 20 digits before the point.
    IntegerDigits,
    /// More than 18 digits after the point.
    FractionDigits,
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotADecimal => "not a decimal number",
            Self::Exponent => "has an exponent; the record wants plain notation",
            Self::IntegerDigits => "has more than 20 digits before the point",
            Self::FractionDigits => "has more than 18 digits after the point",
        })
    }
}

impl std::error::Error for DecimalError {}

/// A text taken apart: the digits on both sides of the point, and the exponent.
struct Parts<'a> {
    integer: &'a [u8],
    fraction: &'a [u8],
    exponent: Option<&'a [u8]>,
}

impl Decimal {
    /// Zero, with scale 0.
    pub const ZERO: Self = Self { digits: 0, scale: 0 };

    /// Reads what the record contract allows: plain notation, such as `157123000` or `0.00000050`.
    ///
    /// # Errors
    /// See [`DecimalError`]; an exponent is one.
    pub fn parse_plain(text: &str) -> Result<Self, DecimalError> {
        if let Some(decimal) = short(text.as_bytes()) {
            return Ok(decimal);
        }
        let parts = split(text.as_bytes())?;
        match parts.exponent {
            Some(_) => Err(DecimalError::Exponent),
            None => from_parts(parts.integer, parts.fraction, 0),
        }
    }

    /// Reads what exchanges send: plain notation or an exponent, such as `1.16539E8` or `5.0E-7`.
    ///
    /// The scale is the number of decimals less the exponent, at least 0: `1.0E8` is `100000000` and
    /// `5.0E-7` is `0.00000050`.
    ///
    /// # Errors
    /// See [`DecimalError`].
    pub fn parse_exchange(text: &str) -> Result<Self, DecimalError> {
        if let Some(decimal) = short(text.as_bytes()) {
            return Ok(decimal);
        }
        let parts = split(text.as_bytes())?;
        let exponent = match parts.exponent {
            None => 0,
            Some(text) => exponent(text)?,
        };
        from_parts(parts.integer, parts.fraction, exponent)
    }

    /// The value times `10^scale`.
    #[must_use]
    pub fn digits(self) -> u128 {
        self.digits
    }

    /// Digits after the point, 0 to 18.
    #[must_use]
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// Whether the value is 0, whatever its scale.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// The value times 10^18, which orders decimals of all scales. Below 10^38, so it fits.
    fn comparable(self) -> u128 {
        self.digits * 10u128.pow(u32::from(SCALE_MAX - self.scale))
    }
}

/// Most digits that any number of has room in 64 bits.
const SHORT_DIGITS_MAX: usize = 19;

/// Reads in one pass what nearly every price and quantity is: plain notation and few digits.
fn short(text: &[u8]) -> Option<Decimal> {
    if text.len() > SHORT_DIGITS_MAX {
        return None;
    }
    let mut digits = 0u64;
    let mut point = None;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => digits = digits * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(index),
            _ => return None,
        }
    }
    let (integer, fraction) = match point {
        None => (text.len(), 0),
        Some(point) => (point, text.len() - point - 1),
    };
    if integer == 0 || (point.is_some() && fraction == 0) {
        return None;
    }
    // 17 at most, beside a digit and the point.
    Some(Decimal { digits: u128::from(digits), scale: fraction as u8 })
}

fn split(text: &[u8]) -> Result<Parts<'_>, DecimalError> {
    let digits_of = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let (integer, rest) = text.split_at(digits_of(text));
    if integer.is_empty() {
        return Err(DecimalError::NotADecimal);
    }
    let (fraction, rest) = match rest.split_first() {
        Some((b'.', rest)) => {
            let (fraction, rest) = rest.split_at(digits_of(rest));
            if fraction.is_empty() {
                return Err(DecimalError::NotADecimal);
            }
            (fraction, rest)
        }
        _ => (&[][..], rest),
    };
    match rest.split_first() {
        None => Ok(Parts { integer, fraction, exponent: None }),
        Some((b'e' | b'E', exponent)) => Ok(Parts { integer, fraction, exponent: Some(exponent) }),
        Some(_) => Err(DecimalError::NotADecimal),
    }
}

fn exponent(text: &[u8]) -> Result<i32, DecimalError> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(DecimalError::NotADecimal);
    }
    // Saturates just above the limit: an exponent of a thousand digits is as wrong as one of 61.
    let value = digits.iter().fold(0i32, |n, b| (n * 10 + i32::from(b - b'0')).min(EXPONENT_MAX + 1));
    Ok(if negative { -value } else { value })
}

fn from_parts(integer: &[u8], fraction: &[u8], exponent: i32) -> Result<Decimal, DecimalError> {
    let zeros = integer.iter().chain(fraction).take_while(|b| **b == b'0').count();
    let significant = integer.len() + fraction.len() - zeros;
    let decimals = i32::try_from(fraction.len()).map_err(|_| DecimalError::FractionDigits)?;
    let scale = decimals.saturating_sub(exponent);
    if scale > i32::from(SCALE_MAX) {
        return Err(DecimalError::FractionDigits);
    }
    // Zeros that a positive exponent appends once the fraction is used up.
    let appended = usize::try_from(-scale).unwrap_or(0);
    let scale = u8::try_from(scale).unwrap_or(0);
    if significant == 0 {
        return Ok(Decimal { digits: 0, scale });
    }
    if significant + appended > INTEGER_DIGITS_MAX + usize::from(scale) {
        return Err(DecimalError::IntegerDigits);
    }
    let digits = append(append(0, integer), fraction);
    Ok(Decimal { digits: digits * 10u128.pow(u32::try_from(appended).unwrap_or(0)), scale })
}

/// Appends decimal digits to a number. 64-bit arithmetic where it suffices: it is several times as fast.
fn append(mut number: u128, digits: &[u8]) -> u128 {
    for chunk in digits.chunks(19) {
        let low = chunk.iter().fold(0u64, |n, b| n * 10 + u64::from(b - b'0'));
        number = match number {
            0 => u128::from(low),
            n => n * 10u128.pow(chunk.len() as u32) + u128::from(low),
        };
    }
    number
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.scale == other.scale {
            self.digits.cmp(&other.digits)
        } else {
            self.comparable().cmp(&other.comparable())
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 20 digits, the point, 18 digits.
        let mut text = [b'0'; 39];
        let mut at = text.len();
        let mut put = |byte: u8| {
            at -= 1;
            text[at] = byte;
        };
        let mut written = 0u8;
        let mut step = |digit: u8, put: &mut dyn FnMut(u8)| {
            if written == self.scale && written > 0 {
                put(b'.');
            }
            put(b'0' + digit);
            written += 1;
        };
        let mut wide = self.digits;
        while wide > u128::from(u64::MAX) {
            step((wide % 10) as u8, &mut put);
            wide /= 10;
        }
        let mut narrow = wide as u64;
        while narrow > 0 {
            step((narrow % 10) as u8, &mut put);
            narrow /= 10;
        }
        while written <= self.scale {
            if written == self.scale && written > 0 {
                put(b'.');
            }
            put(b'0');
            written += 1;
        }
        f.write_str(std::str::from_utf8(&text[at..]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Result<String, DecimalError> {
        Decimal::parse_plain(text).map(|decimal| decimal.to_string())
    }

    fn exchange(text: &str) -> Result<String, DecimalError> {
        Decimal::parse_exchange(text).map(|decimal| decimal.to_string())
    }

    #[test]
    fn plain_notation_keeps_every_digit() {
        for text in [
            "0",
            "0.0000",
            "1",
            "1.50",
            "157123000",
            "0.00000050",
            "0.000000000000000001",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999.999999999999999999",
            "10000000000000000000.000000000000000001",
        ] {
            assert_eq!(plain(text).as_deref(), Ok(text));
            assert_eq!(exchange(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn exponents_become_plain_with_scale_decimals_less_exponent() {
        for (text, expected) in [
            ("1.16539E8", "116539000"),
            ("1.0E8", "100000000"),
            ("5.0E-7", "0.00000050"),
            ("7.9276E-4", "0.00079276"),
            ("1.4e-7", "0.00000014"),
            ("1e+3", "1000"),
            ("1.23456E2", "123.456"),
            ("1.50E0", "1.50"),
            ("0E5", "0"),
            ("0.0E-3", "0.0000"),
            ("1E19", "10000000000000000000"),
            ("123E-18", "0.000000000000000123"),
            ("0.00000000000000000001E20", "1"),
            ("100E-19", "0.0000000000000000100"),
        ] {
            let expected = if text == "100E-19" { Err(DecimalError::FractionDigits) } else { Ok(expected.to_owned()) };
            assert_eq!(exchange(text), expected, "{text}");
        }
    }

    #[test]
    fn both_ways_to_read_agree() {
        let same = |decimal: Decimal| (decimal.digits(), decimal.scale());
        let digits = "9208700456000000013";
        for length in 1..=digits.len() {
            for point in 0..=length {
                let mut text = digits[digits.len() - length..].to_owned();
                text.insert(point, '.');
                for text in [text.trim_end_matches('.'), text.as_str(), &format!("{text}."), &format!("{text}1.")] {
                    let long = split(text.as_bytes()).and_then(|parts| from_parts(parts.integer, parts.fraction, 0));
                    assert_eq!(Decimal::parse_plain(text).map(same), long.map(same), "{text}");
                }
            }
        }
    }

    #[test]
    fn leading_zeros_say_nothing() {
        assert_eq!(plain("007").as_deref(), Ok("7"));
        assert_eq!(plain(&format!("{}1.5", "0".repeat(1000))).as_deref(), Ok("1.5"));
    }

    #[test]
    fn anything_else_is_refused() {
        use DecimalError::{Exponent, FractionDigits, IntegerDigits, NotADecimal};
        for (text, error) in [
            ("", NotADecimal),
            (" 1", NotADecimal),
            ("1 ", NotADecimal),
            ("-1", NotADecimal),
            ("+1", NotADecimal),
            ("-0", NotADecimal),
            (".5", NotADecimal),
            ("5.", NotADecimal),
            ("1,5", NotADecimal),
            ("1.5.5", NotADecimal),
            ("0x10", NotADecimal),
            ("NaN", NotADecimal),
            ("Infinity", NotADecimal),
            ("null", NotADecimal),
            ("\u{0661}", NotADecimal),
            ("1E5", Exponent),
            ("100000000000000000000", IntegerDigits),
            ("0.0000000000000000001", FractionDigits),
            ("1.0000000000000000000", FractionDigits),
        ] {
            assert_eq!(plain(text), Err(error), "{text:?}");
        }
        for (text, error) in [
            ("1E", NotADecimal),
            ("1E+", NotADecimal),
            ("1E5x", NotADecimal),
            ("E5", NotADecimal),
            ("1E20", IntegerDigits),
            ("1e100000", IntegerDigits),
            ("1e99999999999999999999", IntegerDigits),
            ("1e-99999999999999999999", FractionDigits),
            ("1E-19", FractionDigits),
        ] {
            assert_eq!(exchange(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn order_is_by_value_across_scales() {
        let decimal = |text| Decimal::parse_plain(text).expect("a decimal");
        assert_eq!(decimal("1.5"), decimal("1.50"));
        assert!(decimal("1.49") < decimal("1.5"));
        assert!(decimal("99999999999999999999") > decimal("0.000000000000000001"));
        assert!(decimal("0.000").is_zero());
    }
}
