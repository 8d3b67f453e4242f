//! Durations and sizes as configuration files write them.

use std::fmt;
use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A whole number and a unit, in multiples of the smallest unit.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// In the largest unit that keeps it a whole number.
fn show(value: u64, units: &[(&str, u64)]) -> String {
    let exact = |(_, factor): &&(&str, u64)| value % factor == 0 && (value > 0 || *factor == 1);
    let (unit, factor) = units.iter().rev().find(exact).unwrap_or(&units[0]);
    format!("{}{unit}", value / factor)
}

pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// As a configuration file writes it: `200ms`, `3s`, `7d`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATION_UNITS)
}

pub(super) fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// A number of bytes. Displays as a configuration file writes it: `64KiB`, `10GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0, &SIZE_UNITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show() {
        for (text, ms) in [("200ms", 200), ("1s", 1000), ("90s", 90_000), ("1h", 3_600_000), ("7d", 604_800_000)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(60)), "1m");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(show_duration(Duration::ZERO), "0ms");
        for text in ["", "s", "1", "1 s", "-1s", "1.5s", "1S", "99999999999999999999s", "9999999999999999999d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_read_and_show() {
        for (text, bytes) in [("0B", 0), ("64KiB", 65_536), ("1MiB", 1 << 20), ("10GiB", 10 << 30)] {
            assert_eq!(parse_size(text), Some(bytes));
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for text in ["1", "1MB", "1mib", "MiB", "99999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
