//! The form of one log line.

use std::borrow::Cow;
use std::time::SystemTime;

use log::Level;

use crate::orderbook::Timestamp;

/// Longer lines are cut: syslog datagrams above the socket's limit are lost without a word.
const LINE_BYTES_MAX: usize = 8 << 10;

/// The syslog priority of a level (RFC 5424, table 2).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// One event is one line: line breaks become ` | `, and a long text is cut with a note of its length.
pub(super) fn flatten(text: &str) -> Cow<'_, str> {
    let text = text.trim_end();
    let flat = if text.contains(['\n', '\r', '\0']) {
        let lines: Vec<_> = text.split(['\n', '\r', '\0']).map(str::trim_end).filter(|line| !line.is_empty()).collect();
        Cow::Owned(lines.join(" | "))
    } else {
        Cow::Borrowed(text)
    };
    if flat.len() <= LINE_BYTES_MAX {
        return flat;
    }
    let mut end = LINE_BYTES_MAX;
    while !flat.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}…[{} bytes]", &flat[..end], flat.len()))
}

/// As a terminal shows it: `2026-11-23T10:00:00.123Z WARN  message`.
pub(super) fn stderr(at: SystemTime, level: Level, text: &str) -> String {
    let at = Timestamp::from_system(at).to_millis_text();
    format!("{at} {level:<5} {}\n", flatten(text))
}

/// As the journal reads it from a stream: `<4>message` (sd-daemon(3)).
pub(super) fn journal(level: Level, text: &str) -> String {
    format!("<{}>{}\n", priority(level), flatten(text))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_line_on_stderr() {
        let at = UNIX_EPOCH + Duration::from_micros(1_763_892_000_123_456);
        assert_eq!(stderr(at, Level::Warn, "text key=1\n"), "2025-11-23T10:00:00.123Z WARN  text key=1\n");
        assert_eq!(stderr(at, Level::Error, "text"), "2025-11-23T10:00:00.123Z ERROR text\n");
    }

    #[test]
    fn a_line_for_the_journal() {
        assert_eq!(journal(Level::Warn, "text\nkey=1\n"), "<4>text | key=1\n");
        assert_eq!(journal(Level::Trace, "text"), "<7>text\n");
    }

    #[test]
    fn one_event_is_one_line() {
        assert_eq!(flatten("a\nb\r\n\nc\0d\n"), "a | b | c | d");
    }

    #[test]
    fn a_long_line_is_cut_on_a_character() {
        let text = "가".repeat(4000);
        let flat = flatten(&text);
        assert!(flat.len() < LINE_BYTES_MAX + 32, "{}", flat.len());
        assert!(flat.ends_with("가…[12000 bytes]"), "{}", &flat[flat.len() - 40..]);
    }
}
