//! `dead-letters show`: everything about one.

use std::fmt::Write as _;

use coinflow_common::daemon::Exit;
use serde_json::Value;

use crate::columns::{NONE, one_line};
use crate::command::{Outcome, database, print, told};
use crate::config::Config;
use crate::store::Schema;
use crate::store::letters::{Letter, get};

/// So much of bytes that are no text is shown.
const DUMP_BYTES_MAX: usize = 1024;
const DUMP_BYTES_PER_LINE: usize = 16;

pub(super) fn run(config: &Config, id: i64) -> Outcome {
    let mut client = database(&config.postgres)?;
    let letter = get(&mut client, &Schema::new(&config.postgres.schema), id).map_err(told)?;
    let letter = letter.ok_or_else(|| format!("there is no dead letter {id}"))?;
    print(&describe(&letter));
    Ok(Exit::Done)
}

fn describe(letter: &Letter) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.to_owned());
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        _ = writeln!(text, "{name:<14}{}", one_line(value));
    };
    line("id", &letter.id.to_string());
    line("source", &letter.source);
    line("topic", &letter.partition.topic);
    line("partition", &letter.partition.number.to_string());
    line("generation", &letter.generation.to_string());
    line("offset", &letter.offset.to_string());
    line("record_at", &or_none(&letter.record_at));
    line("first_seen_at", &letter.first_seen_at);
    line("retried_at", &or_none(&letter.retried_at));
    line("sqlstate", &or_none(&letter.sqlstate));
    line("reason", &letter.reason);
    line("key", &key(letter.key.as_deref()));
    for header in serde_json::from_str::<Vec<Value>>(&letter.headers).unwrap_or_default() {
        line("header", &header_text(&header));
    }
    let payload = letter.payload.as_deref();
    line("payload", &payload.map_or_else(|| NONE.to_owned(), |payload| format!("{} bytes", payload.len())));
    if let Some(payload) = payload.filter(|payload| !payload.is_empty()) {
        text.push('\n');
        text.push_str(&content(payload));
    }
    text
}

/// `name=value`, as the log and librdkafka's tools write it.
fn header_text(header: &Value) -> String {
    let part = |name: &str| header.get(name).and_then(Value::as_str);
    let name = part("key").unwrap_or_default();
    match (part("value"), part("base64")) {
        (Some(value), _) => format!("{name}={value}"),
        (None, Some(base64)) => format!("{name}=base64:{base64}"),
        (None, None) => format!("{name} without a value"),
    }
}

/// As text, or in PostgreSQL's notation of bytes.
fn key(key: Option<&[u8]>) -> String {
    let Some(key) = key else { return NONE.to_owned() };
    match std::str::from_utf8(key) {
        Ok(text) if is_text(text) => text.to_owned(),
        _ => {
            let bytes: String = key.iter().take(DUMP_BYTES_MAX).map(|byte| format!("{byte:02x}")).collect();
            format!("\\x{bytes} ({} bytes)", key.len())
        }
    }
}

/// Nothing in it that a terminal would act on.
fn is_text(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t'))
}

fn content(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_text(text) => format!("{}\n", text.trim_end_matches('\n')),
        _ => dump(bytes),
    }
}

/// Offset, bytes and what they are in ASCII, as `hexdump -C` has it.
fn dump(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(DUMP_BYTES_MAX)];
    let mut text = String::new();
    for (number, line) in shown.chunks(DUMP_BYTES_PER_LINE).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let plain = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let ascii: String = line.iter().map(plain).collect();
        _ = writeln!(text, "{:08x}  {:<47}  |{ascii}|", number * DUMP_BYTES_PER_LINE, hex.join(" "));
    }
    if bytes.len() > shown.len() {
        _ = writeln!(text, "the first {} of {} bytes", shown.len(), bytes.len());
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::Partition;

    pub(crate) fn letter() -> Letter {
        Letter {
            id: 12,
            source: "main".to_owned(),
            partition: Partition::new("t", 3),
            generation: 1,
            offset: 17,
            record_at: None,
            key: Some(b"KRW-BTC".to_vec()),
            headers: r#"[{"key":"schema","value":"x/1"},{"key":"b","base64":"AA=="},{"key":"c","value":null}]"#
                .to_owned(),
            payload: Some(b"not JSON".to_vec()),
            sqlstate: None,
            reason: "expected value".to_owned(),
            first_seen_at: "2026-11-23T10:00:01.000Z".to_owned(),
            retried_at: None,
        }
    }

    #[test]
    fn everything_is_shown() {
        let expected = "id            12\nsource        main\ntopic         t\npartition     3\ngeneration    1\n\
                        offset        17\nrecord_at     -\nfirst_seen_at 2026-11-23T10:00:01.000Z\nretried_at    -\n\
                        sqlstate      -\nreason        expected value\nkey           KRW-BTC\n\
                        header        schema=x/1\nheader        b=base64:AA==\nheader        c without a value\n\
                        payload       8 bytes\n\nnot JSON\n";
        assert_eq!(describe(&letter()), expected);
        let empty = Letter { key: None, payload: None, headers: "[]".to_owned(), ..letter() };
        assert!(describe(&empty).ends_with("key           -\npayload       -\n"), "{}", describe(&empty));
    }

    #[test]
    fn bytes_that_are_no_text_are_dumped() {
        assert_eq!(key(Some(b"key \0 \xff")), "\\x6b6579200020ff (7 bytes)");
        assert_eq!(content("[\"é\"]\n".as_bytes()), "[\"é\"]\n");
        let shown = content(b"\0\x01schema registry");
        let expected = "00000000  00 01 73 63 68 65 6d 61 20 72 65 67 69 73 74 72  |..schema registr|\n\
                        00000010  79                                               |y|\n";
        assert_eq!(shown, expected);
        assert_eq!(content(b"\x1b[2J"), "00000000  1b 5b 32 4a                                      |.[2J|\n");
        let long = content(&[0xff; 5000]);
        assert_eq!(long.lines().count(), 65);
        assert!(long.ends_with("the first 1024 of 5000 bytes\n"), "{long}");
    }
}
