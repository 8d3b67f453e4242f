//! Decimal numbers as an exchange spells them.

use serde::{Deserialize, Serialize};

/// How the exchange prints a number of a book. All three were seen in the wild or must be expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spelling {
    /// `157123000`, `0.0123`
    #[default]
    Plain,
    /// Every decimal that the scale has: `157123000.0000`, `0.0000`
    TrailingZeros,
    /// As Java prints a double: `1.57123E8`, `0.0123`, `5.0E-4`
    Exponent,
}

/// A number of a book: made by the generator, or any text that a test wants the exchange to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Scaled { units: i64, scale: u32 },
    Verbatim(String),
}

impl Number {
    pub(crate) const fn zero(scale: u32) -> Number {
        Number::Scaled { units: 0, scale }
    }

    pub(crate) fn spell(&self, spelling: Spelling) -> String {
        match self {
            Number::Verbatim(text) => text.clone(),
            Number::Scaled { units, scale } => spell(*units, *scale, spelling),
        }
    }

    /// The sum of numbers of one scale. Texts count nothing, which will do for totals: no client relies on those.
    pub(crate) fn sum<'a>(numbers: impl Iterator<Item = &'a Number>) -> Number {
        let (mut sum, mut sum_scale) = (0, 0);
        for number in numbers {
            if let Number::Scaled { units, scale } = number {
                sum += units;
                sum_scale = *scale;
            }
        }
        Number::Scaled { units: sum, scale: sum_scale }
    }
}

/// `units` × 10^-`scale`, at least 0, in the wanted spelling.
fn spell(units: i64, scale: u32, spelling: Spelling) -> String {
    match spelling {
        Spelling::Plain => {
            let text = fixed(units, scale);
            if scale == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
        }
        Spelling::TrailingZeros => fixed(units, scale),
        Spelling::Exponent => java_double(units, scale),
    }
}

fn fixed(units: i64, scale: u32) -> String {
    if scale == 0 {
        return units.to_string();
    }
    let one = 10_i64.pow(scale);
    format!("{}.{:0width$}", units / one, units % one, width = scale as usize)
}

/// Java's `Double.toString`: an exponent below 10^-3 and from 10^7 on, always a decimal point.
fn java_double(units: i64, scale: u32) -> String {
    if units == 0 {
        return "0.0".to_owned();
    }
    let digits = units.to_string();
    let exponent = digits.len() as i64 - 1 - i64::from(scale);
    if (-3..7).contains(&exponent) {
        let plain = spell(units, scale, Spelling::Plain);
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let (first, rest) = digits.split_at(1);
    let rest = rest.trim_end_matches('0');
    format!("{first}.{}E{exponent}", if rest.is_empty() { "0" } else { rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        // units, scale, plain, trailing zeros, exponent
        let cases = [
            (1_571_230_000_000, 4, "157123000", "157123000.0000", "1.57123E8"),
            (1_000_000_000_000, 4, "100000000", "100000000.0000", "1.0E8"),
            (123, 4, "0.0123", "0.0123", "0.0123"),
            (5, 4, "0.0005", "0.0005", "5.0E-4"),
            (0, 4, "0", "0.0000", "0.0"),
            (1687, 8, "0.00001687", "0.00001687", "1.687E-5"),
            (1_550_000, 4, "155", "155.0000", "155.0"),
            (56_220, 4, "5.622", "5.6220", "5.622"),
            (7, 0, "7", "7", "7.0"),
        ];
        for (units, scale, plain, zeros, exponent) in cases {
            assert_eq!(spell(units, scale, Spelling::Plain), plain);
            assert_eq!(spell(units, scale, Spelling::TrailingZeros), zeros);
            assert_eq!(spell(units, scale, Spelling::Exponent), exponent);
        }
    }
}
