//! Records that can never be stored as books.

use coinflow_common::orderbook::Timestamp;
use postgres::Transaction;
use serde::Deserialize;
use serde_json::{Value, json};

use super::fault::PgFault;
use super::schema::Schema;
use crate::record::{Raw, Record};

/// A reason may quote the record; so much of it is enough.
const REASON_CHARS_MAX: usize = 500;

/// A record and why it is here.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    pub(crate) record: &'a Record,
    pub(crate) generation: i32,
    /// None if it is consumerd that refused it.
    pub(crate) sqlstate: Option<&'a str>,
    pub(crate) reason: &'a str,
}

/// Writes them within the transaction of their batch.
///
/// Nothing in a record can make this fail: bytes go into bytea, and text is cleaned of what PostgreSQL does not take.
///
/// # Errors
/// As any statement.
pub(super) fn insert(
    transaction: &mut Transaction<'_>,
    schema: &Schema,
    source: &str,
    letters: &[Letter<'_>],
) -> Result<(), PgFault> {
    if letters.is_empty() {
        return Ok(());
    }
    let topics: Vec<&str> = letters.iter().map(|letter| &*letter.record.partition.topic).collect();
    let partitions: Vec<i32> = letters.iter().map(|letter| letter.record.partition.number).collect();
    let generations: Vec<i32> = letters.iter().map(|letter| letter.generation).collect();
    let offsets: Vec<i64> = letters.iter().map(|letter| letter.record.offset).collect();
    let times: Vec<Option<f64>> = letters.iter().map(|letter| seconds(letter.record.raw.at_ms)).collect();
    let keys: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.record.raw.key()).collect();
    let headers: Vec<String> = letters.iter().map(|letter| headers(&letter.record.raw)).collect();
    let payloads: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.record.raw.payload()).collect();
    let states: Vec<Option<&str>> = letters.iter().map(|letter| letter.sqlstate).collect();
    let reasons: Vec<String> = letters.iter().map(|letter| clean(letter.reason)).collect();
    let table = schema.table("dead_letter");
    transaction.execute(
        &format!(
            "INSERT INTO {table} (kafka_source, kafka_topic, kafka_partition, kafka_generation, kafka_offset, \
                                  record_at, key, headers, payload, sqlstate, reason) \
             SELECT $1, topic, part, generation, record_offset, to_timestamp(at), key, headers::jsonb, payload, state, reason \
               FROM unnest($2::text[], $3::int[], $4::int[], $5::bigint[], $6::float8[], $7::bytea[], $8::text[], \
                           $9::bytea[], $10::text[], $11::text[]) \
                 AS l (topic, part, generation, record_offset, at, key, headers, payload, state, reason)"
        ),
        &[
            &source, &topics, &partitions, &generations, &offsets, &times, &keys, &headers, &payloads, &states, &reasons,
        ],
    )?;
    Ok(())
}

/// Since 1970; none outside the years that coinflow knows. Milliseconds of these years are exact in a double.
fn seconds(at_ms: Option<i64>) -> Option<f64> {
    let micros = at_ms?.checked_mul(1000)?;
    Timestamp::from_micros(micros).ok()?;
    Some(micros as f64 / 1e6)
}

/// As a JSON list, which keeps order and repetition. A value that is no text, or holds a NUL, which jsonb does not
/// take, is shown in base64.
fn headers(raw: &Raw) -> String {
    let shown = |(key, value): (&str, Option<&[u8]>)| {
        let key = clean(key);
        match value {
            None => json!({ "key": key, "value": Value::Null }),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.contains('\0') => json!({ "key": key, "value": text }),
                _ => json!({ "key": key, "base64": openssl::base64::encode_block(bytes) }),
            },
        }
    };
    Value::Array(raw.headers().map(shown).collect()).to_string()
}

/// Appends the headers that such a list was made of. One that consumerd did not write is as good as none.
pub(super) fn push_headers(raw: &mut Raw, json: &str) {
    #[derive(Deserialize)]
    struct Shown {
        key: String,
        value: Option<String>,
        base64: Option<String>,
    }
    let shown: Vec<Shown> = serde_json::from_str(json).unwrap_or_default();
    for Shown { key, value, base64 } in shown {
        let bytes = base64.and_then(|base64| openssl::base64::decode_block(&base64).ok());
        raw.push_header(&key, value.map(String::into_bytes).or(bytes).as_deref());
    }
}

/// Bounded, and without NUL, which PostgreSQL's text does not take.
fn clean(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_text_where_they_can_be() {
        let table: [(&str, Option<&[u8]>, &str); 5] = [
            ("schema", Some(b"coinflow.orderbook/1"), r#"[{"key":"schema","value":"coinflow.orderbook/1"}]"#),
            ("k", None, r#"[{"key":"k","value":null}]"#),
            ("k", Some(b""), r#"[{"key":"k","value":""}]"#),
            ("k", Some(b"a\0b"), r#"[{"base64":"YQBi","key":"k"}]"#),
            ("k", Some(b"\xff\xfe"), r#"[{"base64":"//4=","key":"k"}]"#),
        ];
        for (key, value, shown) in table {
            let mut raw = Raw::default();
            raw.push_header(key, value);
            assert_eq!(headers(&raw), shown);
            let mut read = Raw::default();
            push_headers(&mut read, shown);
            assert_eq!(read.headers().collect::<Vec<_>>(), [(key, value)]);
        }
        for none in ["[]", "{}"] {
            let mut raw = Raw::default();
            push_headers(&mut raw, none);
            assert_eq!(headers(&raw), "[]");
        }
    }

    #[test]
    fn times_outside_the_known_years_are_left_out() {
        assert_eq!(seconds(Some(1_500)), Some(1.5));
        assert_eq!(seconds(Some(-1)), Some(-0.001));
        assert_eq!(seconds(Some(i64::MAX)), None);
        assert_eq!(seconds(None), None);
    }

    #[test]
    fn reasons_are_bounded_and_without_nul() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert_eq!(clean(&"é".repeat(9000)).chars().count(), REASON_CHARS_MAX);
    }
}
