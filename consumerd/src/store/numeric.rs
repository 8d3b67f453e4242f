//! PostgreSQL's binary form of NUMERIC and of arrays of it.

use coinflow_common::orderbook::Decimal;

/// Type oid of numeric.
const NUMERIC_OID: i32 = 1700;
/// A digit of a NUMERIC holds four decimal ones.
const BASE: u64 = 10_000;
const DECIMALS_PER_DIGIT: usize = 4;
/// 20 decimals before the point and 18 after it.
const DIGITS_MAX: usize = 5 + 5;
/// A length, four words of header and the digits.
const SIZED_BYTES_MAX: usize = 4 + 8 + 2 * DIGITS_MAX;

/// Digits in base 10,000, best first, and the power of the base that the first one stands for.
struct Digits {
    digits: [u16; DIGITS_MAX],
    start: usize,
    end: usize,
    weight: i16,
}

impl Digits {
    /// Integer part and fraction are converted apart: both then fit, and the digits are aligned to the point.
    fn of(decimal: Decimal) -> Self {
        let scale = usize::from(decimal.scale());
        let (integer, fraction) = split(decimal.digits(), scale);
        let fraction_digits = scale.div_ceil(DECIMALS_PER_DIGIT);
        let padding = POWERS[fraction_digits * DECIMALS_PER_DIGIT - scale];
        let point = DIGITS_MAX - fraction_digits;
        let mut digits = [0; DIGITS_MAX];
        // At most 18 decimals and 2 zeros: below 10^20, which a u128 holds and a u64 does not.
        fill(&mut digits[point..], u128::from(fraction) * u128::from(padding));
        fill(&mut digits[..point], integer);
        let first = digits.iter().position(|digit| *digit != 0);
        let last = digits.iter().rposition(|digit| *digit != 0);
        match (first, last) {
            (Some(first), Some(last)) => {
                Self { digits, start: first, end: last + 1, weight: point as i16 - 1 - first as i16 }
            }
            _ => Self { digits, start: 0, end: 0, weight: 0 },
        }
    }
}

/// Powers of ten, up to that of the largest scale.
const POWERS: [u64; 19] = {
    let mut powers = [1; 19];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// Integer part and fraction, the latter times `10^scale`. 64-bit arithmetic where it suffices: it is several times
/// as fast.
fn split(digits: u128, scale: usize) -> (u128, u64) {
    let power = POWERS[scale];
    match u64::try_from(digits) {
        Ok(digits) => (u128::from(digits / power), digits % power),
        Err(_) => (digits / u128::from(power), (digits % u128::from(power)) as u64),
    }
}

/// Writes a number into the digits from the right.
fn fill(digits: &mut [u16], mut number: u128) {
    let mut places = digits.iter_mut().rev();
    while number > u128::from(u64::MAX) {
        let Some(place) = places.next() else { return };
        *place = (number % u128::from(BASE)) as u16;
        number /= u128::from(BASE);
    }
    let mut number = number as u64;
    for place in places {
        if number == 0 {
            return;
        }
        *place = (number % BASE) as u16;
        number /= BASE;
    }
}

/// Appends a NUMERIC after its length: the number of digits, the weight of the first, the sign, the display scale, the digits.
fn put_numeric(out: &mut Vec<u8>, decimal: Decimal) {
    let Digits { digits, start, end, weight } = Digits::of(decimal);
    let count = end - start;
    let length = 8 + 2 * count;
    // At once: there are some hundred of them in a book.
    let mut bytes = [0; SIZED_BYTES_MAX];
    bytes[..4].copy_from_slice(&(length as i32).to_be_bytes());
    let head = [count as u16, weight as u16, 0, u16::from(decimal.scale())];
    for (place, word) in bytes[4..].chunks_exact_mut(2).zip(head.iter().chain(&digits[start..end])) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&bytes[..4 + length]);
}

/// Appends a `numeric[]` of one dimension that starts at 1; an empty one is `{}`.
pub(super) fn put_array(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = Decimal>) {
    let dimensions = i32::from(values.len() > 0);
    for word in [dimensions, 0, NUMERIC_OID] {
        out.extend(word.to_be_bytes());
    }
    if values.len() > 0 {
        out.extend((values.len() as i32).to_be_bytes());
        out.extend(1i32.to_be_bytes());
    }
    for value in values {
        put_numeric(out, value);
    }
}

/// Appends what `put` appends, after its length in bytes.
pub(super) fn put_sized(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let length_at = out.len();
    out.extend([0; 4]);
    put(out);
    let length = (out.len() - length_at - 4) as i32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields as PostgreSQL 15 itself sends them (`SELECT numeric_send(…)`).
    fn sent(text: &str) -> (i16, i16, Vec<u16>) {
        let decimal = Decimal::parse_plain(text).expect("a decimal");
        let mut bytes = Vec::new();
        put_numeric(&mut bytes, decimal);
        let (length, bytes) = bytes.split_at(4);
        assert_eq!(length, (bytes.len() as i32).to_be_bytes(), "{text}");
        let words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        assert_eq!(usize::from(words[0]), words.len() - 4, "{text}");
        assert_eq!(words[2], 0, "{text}: sign");
        (words[1] as i16, words[3] as i16, words[4..].to_vec())
    }

    #[test]
    fn digits_are_aligned_to_the_point() {
        let table: [(&str, i16, i16, &[u16]); 14] = [
            ("0", 0, 0, &[]),
            ("0.00", 0, 2, &[]),
            ("1", 0, 0, &[1]),
            ("10000", 1, 0, &[1]),
            ("12345", 1, 0, &[1, 2345]),
            ("1.5", 0, 1, &[1, 5000]),
            ("1.50", 0, 2, &[1, 5000]),
            ("0.0123", -1, 4, &[123]),
            ("0.00000050", -2, 8, &[50]),
            ("0.000000000000000001", -5, 18, &[100]),
            ("157123000", 2, 0, &[1, 5712, 3000]),
            ("100000000.00010000", 2, 8, &[1, 0, 0, 1]),
            ("99999999999999999999", 4, 0, &[9999; 5]),
            (
                "99999999999999999999.999999999999999999",
                4,
                18,
                &[9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9900],
            ),
        ];
        for (text, weight, scale, digits) in table {
            assert_eq!(sent(text), (weight, scale, digits.to_vec()), "{text}");
        }
    }

    /// Reads the digits back as text, the way PostgreSQL shows them.
    fn shown((weight, scale, digits): (i16, i16, Vec<u16>)) -> String {
        let at = |power: i16| usize::try_from(weight - power).ok().and_then(|i| digits.get(i)).copied().unwrap_or(0);
        let integer: String = (0..=weight.max(0)).rev().map(|power| format!("{:04}", at(power))).collect();
        let fraction: String = (1..=5).map(|power| format!("{:04}", at(-power))).collect();
        let integer = integer.trim_start_matches('0');
        let integer = if integer.is_empty() { "0" } else { integer };
        match scale {
            0 => integer.to_owned(),
            _ => format!("{integer}.{}", &fraction[..scale as usize]),
        }
    }

    #[test]
    fn every_shape_reads_back_as_its_text() {
        let digits = "12305600789012345678";
        for integer_digits in 1..=20 {
            for scale in 0..=18 {
                let integer = &digits[..integer_digits];
                let fraction = &digits[20 - scale..];
                let text = if scale == 0 { integer.to_owned() } else { format!("{integer}.{fraction}") };
                assert_eq!(shown(sent(&text)), text);
            }
        }
    }

    #[test]
    fn an_empty_array_has_no_dimension() {
        let mut bytes = Vec::new();
        put_array(&mut bytes, [].into_iter());
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 164]);
    }
}
