//! The table `dead_letter` as an operator's commands see it.

use std::collections::BTreeSet;

use coinflow_common::orderbook::Timestamp;
use postgres::{Client, Row};

use super::days::{self, Day};
use super::offsets::UTC;
use super::{PgFault, Schema, dead, shape, write};
use crate::record::{Book, Partition, Raw};

/// A row of `dead_letter`.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) id: i64,
    pub(crate) source: String,
    pub(crate) partition: Partition,
    pub(crate) generation: i32,
    pub(crate) offset: i64,
    pub(crate) record_at: Option<String>,
    pub(crate) key: Option<Vec<u8>>,
    /// JSON, as `dead::headers` writes it.
    pub(crate) headers: String,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) sqlstate: Option<String>,
    pub(crate) reason: String,
    pub(crate) first_seen_at: String,
    pub(crate) retried_at: Option<String>,
}

impl Letter {
    /// The record as it came, as far as storing it needs.
    pub(crate) fn raw(&self) -> Raw {
        let mut raw = Raw::new(None, self.key.as_deref(), self.payload.as_deref(), Vec::new());
        dead::push_headers(&mut raw, &self.headers);
        raw
    }
}

/// The columns of a [`Letter`]; a list of many leaves out what it does not show.
fn columns(with_bytes: bool) -> String {
    let bytes = if with_bytes { "key, headers::text, payload" } else { "NULL::bytea, '[]', NULL::bytea" };
    format!(
        "id, kafka_source, kafka_topic, kafka_partition, kafka_generation, kafka_offset, to_char(record_at, {UTC}), \
         {bytes}, sqlstate, reason, to_char(first_seen_at, {UTC}), to_char(retried_at, {UTC})"
    )
}

fn letter(row: &Row) -> Letter {
    Letter {
        id: row.get(0),
        source: row.get(1),
        partition: Partition::new(row.get(2), row.get(3)),
        generation: row.get(4),
        offset: row.get(5),
        record_at: row.get(6),
        key: row.get(7),
        headers: row.get(8),
        payload: row.get(9),
        sqlstate: row.get(10),
        reason: row.get(11),
        first_seen_at: row.get(12),
        retried_at: row.get(13),
    }
}

/// The newest letters, newest last, without their bytes; `with_retried`: those as well that are stored by now.
///
/// # Errors
/// As any statement.
pub(crate) fn list(
    client: &mut Client,
    schema: &Schema,
    with_retried: bool,
    limit: i64,
) -> Result<Vec<Letter>, PgFault> {
    let (columns, table) = (columns(false), schema.table("dead_letter"));
    let query =
        format!("SELECT {columns} FROM {table} WHERE $1 OR retried_at IS NULL ORDER BY dead_letter.id DESC LIMIT $2");
    let mut letters: Vec<Letter> = client.query(&query, &[&with_retried, &limit])?.iter().map(letter).collect();
    letters.reverse();
    Ok(letters)
}

/// Ids of letters that are not stored yet, behind this one.
///
/// # Errors
/// As any statement.
pub(crate) fn open_after(client: &mut Client, schema: &Schema, id: i64, limit: i64) -> Result<Vec<i64>, PgFault> {
    let table = schema.table("dead_letter");
    let query = format!("SELECT id FROM {table} WHERE retried_at IS NULL AND id > $1 ORDER BY id LIMIT $2");
    Ok(client.query(&query, &[&id, &limit])?.iter().map(|row| row.get(0)).collect())
}

/// A letter with all it has.
///
/// # Errors
/// As any statement.
pub(crate) fn get(client: &mut Client, schema: &Schema, id: i64) -> Result<Option<Letter>, PgFault> {
    let (columns, table) = (columns(true), schema.table("dead_letter"));
    let row = client.query_opt(&format!("SELECT {columns} FROM {table} WHERE id = $1"), &[&id])?;
    Ok(row.as_ref().map(letter))
}

/// What became of a letter whose book was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    Now,
    /// The record was read once more since, after a reset, and is in the table in this generation.
    InGeneration(i32),
    /// Somebody else has it locked, or has just stored it.
    ByAnother,
}

/// Makes the day of a book, unless it is known to be there.
///
/// # Errors
/// As any statement.
pub(crate) fn make_day(
    client: &mut Client,
    schema: &Schema,
    known: &mut BTreeSet<Day>,
    day: Day,
) -> Result<(), PgFault> {
    if !known.contains(&day) {
        days::make(client, schema, day)?;
        known.insert(day);
    }
    Ok(())
}

/// Stores the book of a letter, and marks the letter, both or neither.
///
/// # Errors
/// As any statement.
pub(crate) fn store(
    client: &mut Client,
    schema: &Schema,
    letter: &Letter,
    book: &Book,
    received_at: Timestamp,
) -> Result<Stored, PgFault> {
    let table = schema.table("dead_letter");
    let mut transaction = client.transaction()?;
    // Two retries at once: the second one leaves it to the first.
    let locked = transaction.query_opt(
        &format!("SELECT FROM {table} WHERE id = $1 AND retried_at IS NULL FOR UPDATE SKIP LOCKED"),
        &[&letter.id],
    )?;
    if locked.is_none() {
        return Ok(Stored::ByAnother);
    }
    let Partition { topic, number } = &letter.partition;
    let (exchange, market) = (book.exchange.as_str(), book.market.as_str());
    // The first three are those of the index. A row of an earlier generation is that of another letter, if it had one.
    let there = transaction.query_opt(
        &format!(
            "SELECT kafka_generation FROM {} WHERE exchange = $1 AND market = $2 AND received_at = $3::text::timestamptz \
                AND kafka_topic = $4 AND kafka_partition = $5 AND kafka_offset = $6 AND kafka_generation >= $7 \
                AND kafka_source = $8 LIMIT 1",
            schema.table("orderbook")
        ),
        &[
            &exchange,
            &market,
            &received_at.to_string(),
            &&**topic,
            number,
            &letter.offset,
            &letter.generation,
            &letter.source,
        ],
    )?;
    let stored = match there {
        Some(row) => Stored::InGeneration(row.get(0)),
        None => {
            transaction.execute(
                &format!(
                    "INSERT INTO {} (exchange, market) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                    schema.table("market")
                ),
                &[&exchange, &market],
            )?;
            shape::prepare(&mut transaction, schema, &shape::query(schema))?;
            let tuples = std::iter::once(book.tuple.as_slice());
            write::copy(&mut transaction, &write::copy_statement(schema), tuples)?;
            Stored::Now
        }
    };
    transaction.execute(&format!("UPDATE {table} SET retried_at = now() WHERE id = $1"), &[&letter.id])?;
    transaction.commit()?;
    Ok(stored)
}
