//! Where a position is to be set to, and whether it may be.

use crate::store::Position;
use crate::store::offsets::{Reach, Stored};

/// As the command line has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Earliest,
    Latest,
    Offset(i64),
}

impl Target {
    /// For the command line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match text.parse() {
                Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
                _ => Err("write earliest, latest, or an offset".to_owned()),
            },
        }
    }

    /// The offset, in a log that reaches from `low` to `high`.
    pub(super) fn aim(self, low: i64, high: i64) -> Result<i64, String> {
        match self {
            Self::Earliest => Ok(low),
            Self::Latest => Ok(high),
            Self::Offset(offset) if (low..=high).contains(&offset) => Ok(offset),
            Self::Offset(offset) => Err(format!("offset {offset} is outside of what Kafka holds, {low} to {high}")),
        }
    }
}

/// For the command line: an event without a reason helps nobody later.
pub(super) fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why: it is kept in offset_event".to_owned()),
        reason => Ok(reason.to_owned()),
    }
}

/// Whether nothing at the target or behind it can have been stored, so that nobody has to look. A position that was removed
/// by hand has left no trace of how far it was.
pub(super) fn is_beyond(to: i64, Reach { end, starts }: Reach) -> bool {
    to >= end && starts == 1
}

/// The target as it is after rows have been counted: Kafka's log may have moved meanwhile. `counted_from` is where that began.
pub(super) fn aim_again(target: Target, counted_from: i64, (low, high): (i64, i64)) -> Result<i64, String> {
    match target.aim(low, high)? {
        to if to < counted_from => {
            Err("refused: the topic was made anew, or cut, meanwhile; look at it again".to_owned())
        }
        to => Ok(to),
    }
}

/// Records that would be stored a second time.
pub(super) fn check_stored(stored: Stored, to: i64) -> Result<(), String> {
    let Stored { rows, dead_letters } = stored;
    if (rows, dead_letters) == (0, 0) {
        return Ok(());
    }
    Err(format!(
        "refused: {rows} rows and {dead_letters} dead letters of offset {to} and behind are stored already; \
         --force stores what Kafka holds there in a new generation beside them"
    ))
}

/// Whether the position is still the one that `before` was, for which stored records have been counted. `now` is locked.
pub(super) fn check_moved(before: Position, now: Position, to: i64, is_forced: bool) -> Result<(), String> {
    if now.generation != before.generation {
        return Err("refused: somebody else has just reset it; look at it again".to_owned());
    }
    // Only records between the two positions can have been stored since.
    let since = now.next - before.next.max(to);
    if since > 0 && !is_forced {
        return Err(format!(
            "refused: the daemon has just stored up to {since} records of offset {to} and behind; --force stores them \
             again in a new generation"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let aimed = |text: &str| Target::parse(text).and_then(|target| target.aim(5, 9));
        for (text, offset) in [("earliest", 5), ("latest", 9), ("5", 5), ("7", 7), ("9", 9)] {
            assert_eq!(aimed(text), Ok(offset), "{text}");
        }
        for text in ["4", "10"] {
            assert_eq!(aimed(text), Err(format!("offset {text} is outside of what Kafka holds, 5 to 9")));
        }
        for text in ["", "-1", "Latest", "1.5", "99999999999999999999"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_no_position_has_reached_is_not_looked_for() {
        for (to, end, starts, expected) in [
            (10, 10, 1, true),
            (11, 10, 1, true),
            (9, 10, 1, false),
            (0, 0, 0, false),
            (10, 10, 0, false),
            (10, 10, 2, false),
        ] {
            assert_eq!(is_beyond(to, Reach { end, starts }), expected, "{to} {end} {starts}");
        }
    }

    #[test]
    fn the_log_may_move_while_rows_are_counted() {
        assert_eq!(aim_again(Target::Earliest, 5, (7, 20)), Ok(7));
        assert_eq!(aim_again(Target::Latest, 18, (5, 20)), Ok(20));
        assert_eq!(aim_again(Target::Offset(6), 6, (5, 20)), Ok(6));
        assert!(aim_again(Target::Offset(6), 6, (7, 20)).is_err_and(|reason| reason.contains("7 to 20")));
        for (target, counted_from) in [(Target::Earliest, 5), (Target::Latest, 18)] {
            assert!(aim_again(target, counted_from, (0, 3)).is_err_and(|reason| reason.contains("anew")));
        }
    }

    #[test]
    fn a_reason_says_something() {
        assert_eq!(reason(" made anew "), Ok("made anew".to_owned()));
        assert!(reason("").is_err() && reason(" \t").is_err());
    }

    #[test]
    fn what_is_stored_is_counted_in_the_refusal() {
        assert_eq!(check_stored(Stored { rows: 0, dead_letters: 0 }, 5), Ok(()));
        let refusal = check_stored(Stored { rows: 12, dead_letters: 1 }, 5).expect_err("a refusal");
        assert!(refusal.contains("12 rows and 1 dead letters of offset 5"), "{refusal}");
    }

    #[test]
    fn a_position_that_moves_while_rows_are_counted_counts() {
        let at = |generation, next| Position { generation, next };
        let table = [
            (at(0, 10), at(0, 10), 3, false, true),
            // What the daemon stored meanwhile lies before the target.
            (at(0, 10), at(0, 12), 12, false, true),
            (at(0, 10), at(0, 12), 11, false, false),
            (at(0, 10), at(0, 12), 3, false, false),
            (at(0, 10), at(0, 12), 3, true, true),
            (at(0, 10), at(1, 10), 12, true, false),
        ];
        for (before, now, to, is_forced, good) in table {
            assert_eq!(check_moved(before, now, to, is_forced).is_ok(), good, "{before:?} {now:?} {to} {is_forced}");
        }
        assert!(check_moved(at(0, 10), at(0, 15), 11, false).expect_err("a refusal").contains("up to 4 records"));
    }
}
