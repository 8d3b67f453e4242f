//! Points in time, in UTC.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time: microseconds since 1970-01-01 00:00:00 UTC, within the years 0 to 9999
/// (less the last two days of these).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 time in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampError;

impl fmt::Display for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time of the form 2026-11-23T10:00:00.123456Z")
    }
}

impl std::error::Error for TimestampError {}

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// 0000-01-01T00:00:00Z.
const MICROS_MIN: i64 = -719_528 * MICROS_PER_DAY;
/// 9999-12-29T23:59:59.999999Z, the last whole day that jiff can show.
const MICROS_MAX: i64 = 2_932_895 * MICROS_PER_DAY - 1;

impl Timestamp {
    /// From microseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`TimestampError`] outside the range.
    pub fn from_micros(micros: i64) -> Result<Self, TimestampError> {
        if (MICROS_MIN..=MICROS_MAX).contains(&micros) { Ok(Self(micros)) } else { Err(TimestampError) }
    }

    /// From a system clock reading; times before 1970 or beyond the range are moved to these bounds.
    #[must_use]
    pub fn from_system(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(i64::try_from(since.as_micros()).unwrap_or(MICROS_MAX).min(MICROS_MAX))
    }

    /// Reads RFC 3339 in UTC (`Z`), with no, 3, 6 or up to 9 decimals; digits beyond the microsecond are cut.
    ///
    /// # Errors
    /// [`TimestampError`]
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        // jiff accepts much more than RFC 3339, so the form is checked here: a digit for each 0 of the pattern.
        const FORM: &[u8] = b"0000-00-00T00:00:00";
        let bytes = text.as_bytes();
        let (head, tail) = bytes.split_at_checked(FORM.len()).ok_or(TimestampError)?;
        let fits = |(b, form): (&u8, &u8)| if *form == b'0' { b.is_ascii_digit() } else { b == form };
        let fraction = match tail {
            [b'Z'] => &[][..],
            [b'.', fraction @ .., b'Z'] if (1..=9).contains(&fraction.len()) => fraction,
            _ => return Err(TimestampError),
        };
        if !head.iter().zip(FORM).all(fits) || !fraction.iter().all(u8::is_ascii_digit) {
            return Err(TimestampError);
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| TimestampError)?;
        // jiff rounds towards zero, which differs from cutting only before 1970.
        Self::from_micros(time.as_nanosecond().div_euclid(1000).try_into().map_err(|_| TimestampError)?)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, cut.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Days since 1970-01-01 in UTC.
    #[must_use]
    pub fn day(self) -> i64 {
        self.0.div_euclid(MICROS_PER_DAY)
    }

    /// Later by so much; the bounds of the type hold.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros).min(MICROS_MAX))
    }

    /// Earlier by so much; the bounds of the type hold.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros).max(MICROS_MIN))
    }

    /// Displays with 3 decimals where that is exact, else with 6.
    #[must_use]
    pub fn short(self) -> impl fmt::Display {
        Short(self)
    }

    /// With three decimals, cut: `2026-11-23T10:00:00.123Z`.
    #[must_use]
    pub fn to_millis_text(self) -> String {
        Self(self.as_millis() * 1000).short().to_string()
    }

    /// The time of day in UTC, for a line that is read on the same day: `10:00:03`.
    #[must_use]
    pub fn to_clock_text(self) -> String {
        let seconds = self.as_micros().rem_euclid(MICROS_PER_DAY) / 1_000_000;
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    fn write(self, f: &mut fmt::Formatter<'_>, decimals: usize) -> fmt::Result {
        let time = jiff::Timestamp::from_microsecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{time:.decimals$}")
    }
}

/// With six decimals: `2026-11-23T10:00:00.101532Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 6)
    }
}

struct Short(Timestamp);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = if self.0.0 % 1000 == 0 { 3 } else { 6 };
        self.0.write(f, decimals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows() {
        for (text, long, short) in [
            ("2026-11-23T10:00:00.101532Z", "2026-11-23T10:00:00.101532Z", "2026-11-23T10:00:00.101532Z"),
            ("2026-11-23T10:00:00.123Z", "2026-11-23T10:00:00.123000Z", "2026-11-23T10:00:00.123Z"),
            ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00.000000Z", "2026-11-23T10:00:00.000Z"),
            ("2026-11-23T10:00:00.123456789Z", "2026-11-23T10:00:00.123456Z", "2026-11-23T10:00:00.123456Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ] {
            let time = Timestamp::parse(text).expect(text);
            assert_eq!((time.to_string(), time.short().to_string()), (long.to_owned(), short.to_owned()));
        }
        for text in [
            "",
            "2026-11-23",
            "2026-11-23 10:00:00Z",
            "2026-11-23T10:00:00",
            "2026-11-23T10:00:00+09:00",
            "2026-11-23T10:00:00.Z",
            "2026-11-23T10:00:00.1234567890Z",
            "2026-02-30T10:00:00Z",
            "2026-11-23T24:00:00Z",
            "20261123T100000Z",
            "2026-11-23T10:00:00Zx",
            "+002026-11-23T10:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), Err(TimestampError), "{text:?}");
        }
    }

    #[test]
    fn bounds() {
        assert_eq!(
            Timestamp::from_micros(MICROS_MIN).map(|t| t.to_string()).as_deref(),
            Ok("0000-01-01T00:00:00.000000Z")
        );
        assert_eq!(
            Timestamp::from_micros(MICROS_MAX).map(|t| t.to_string()).as_deref(),
            Ok("9999-12-29T23:59:59.999999Z")
        );
        assert_eq!(Timestamp::from_micros(MICROS_MAX + 1), Err(TimestampError));
        assert_eq!(Timestamp::from_micros(i64::MIN), Err(TimestampError));
    }

    #[test]
    fn days_and_clock() {
        let time = Timestamp::parse("1970-01-02T00:00:03Z").expect("a time");
        assert_eq!((time.day(), time.to_clock_text()), (1, "00:00:03".to_owned()));
        assert_eq!(time.saturating_sub(Duration::from_secs(4)).day(), 0);
        assert_eq!(time.saturating_sub(Duration::from_secs(90_004)).day(), -1);
    }
}
