//! The table `kafka_offset` as an operator's commands see it.

use postgres::{Client, GenericClient, Transaction};

use super::positions::{Event, EventKind};
use super::{PgFault, Position, Schema};
use crate::record::Partition;

/// A time in a query's result, as text.
pub(super) const UTC: &str = "'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'";

/// A row of `kafka_offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) cluster_id: String,
    pub(crate) source: String,
    pub(crate) partition: Partition,
    pub(crate) at: Position,
    pub(crate) last_record_at: Option<String>,
}

/// All positions, by source, topic and partition.
///
/// # Errors
/// As any statement.
pub(crate) fn list(client: &mut Client, schema: &Schema) -> Result<Vec<Known>, PgFault> {
    let table = schema.table("kafka_offset");
    let query = format!(
        "SELECT cluster_id, kafka_source, kafka_topic, kafka_partition, generation, next_offset, \
                to_char(last_record_at, {UTC}) \
           FROM {table} ORDER BY kafka_source, kafka_topic, kafka_partition, cluster_id"
    );
    let rows = client.query(&query, &[])?;
    let known = |row: &postgres::Row| Known {
        cluster_id: row.get(0),
        source: row.get(1),
        partition: Partition::new(row.get(2), row.get(3)),
        at: Position { generation: row.get(4), next: row.get(5) },
        last_record_at: row.get(6),
    };
    Ok(rows.iter().map(known).collect())
}

/// Records of a partition that the database has, from an offset on, in any generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) rows: i64,
    pub(crate) dead_letters: i64,
}

/// A position to be set.
#[derive(Debug)]
pub(crate) struct Reset<'a> {
    pub(crate) cluster_id: &'a str,
    pub(crate) source: &'a str,
    pub(crate) partition: &'a Partition,
    /// As it is locked.
    pub(crate) from: Position,
    pub(crate) to: i64,
    pub(crate) reason: &'a str,
}

impl Reset<'_> {
    pub(crate) fn generation(&self) -> i32 {
        self.from.generation.saturating_add(1)
    }
}

/// A position, which may move the next moment.
///
/// # Errors
/// As any statement.
pub(crate) fn position(
    client: &mut impl GenericClient,
    schema: &Schema,
    cluster_id: &str,
    partition: &Partition,
) -> Result<Option<Position>, PgFault> {
    select(client, schema, cluster_id, partition, "")
}

/// A position that stays until the transaction ends.
///
/// # Errors
/// As any statement; the lock is not had in time.
pub(crate) fn lock(
    transaction: &mut Transaction<'_>,
    schema: &Schema,
    cluster_id: &str,
    partition: &Partition,
) -> Result<Option<Position>, PgFault> {
    select(transaction, schema, cluster_id, partition, "FOR UPDATE")
}

fn select(
    client: &mut impl GenericClient,
    schema: &Schema,
    cluster_id: &str,
    Partition { topic, number }: &Partition,
    lock: &str,
) -> Result<Option<Position>, PgFault> {
    let table = schema.table("kafka_offset");
    let query = format!(
        "SELECT generation, next_offset FROM {table} \
          WHERE cluster_id = $1 AND kafka_topic = $2 AND kafka_partition = $3 {lock}"
    );
    let row = client.query_opt(&query, &[&cluster_id, &&**topic, number])?;
    Ok(row.map(|row| Position { generation: row.get(0), next: row.get(1) }))
}

/// Counts them by looking at every row: the table is not indexed by what only this question needs.
///
/// # Errors
/// As any statement.
pub(crate) fn stored_from(
    client: &mut Client,
    schema: &Schema,
    Partition { topic, number }: &Partition,
    from: i64,
) -> Result<Stored, PgFault> {
    let mut count = |table: &str| -> Result<i64, PgFault> {
        let table = schema.table(table);
        let query = format!(
            "SELECT count(*) FROM {table} WHERE kafka_topic = $1 AND kafka_partition = $2 AND kafka_offset >= $3"
        );
        Ok(client.query_one(&query, &[&&**topic, number, &from])?.get(0))
    };
    Ok(Stored { rows: count("orderbook")?, dead_letters: count("dead_letter")? })
}

/// How far a partition may ever have been stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The furthest of all positions that it has, or had when one was set: nothing at or behind it has been stored.
    pub(crate) end: i64,
    /// How often it began without a position: for each cluster, and after somebody has removed one.
    pub(crate) starts: i64,
}

/// From `offset_event` and `kafka_offset`, of all clusters that have a topic of this name.
///
/// # Errors
/// As any statement.
pub(crate) fn reach(
    client: &mut Client,
    schema: &Schema,
    Partition { topic, number }: &Partition,
) -> Result<Reach, PgFault> {
    // Between two events a position only rises, and it stands behind all that is stored.
    let query = format!(
        "SELECT coalesce(greatest((SELECT max(next_offset) FROM {} WHERE kafka_topic = $1 AND kafka_partition = $2), \
                                  max(from_offset)), 0), \
                count(*) FILTER (WHERE from_offset IS NULL) \
           FROM {} WHERE kafka_topic = $1 AND kafka_partition = $2",
        schema.table("kafka_offset"),
        schema.table("offset_event")
    );
    let row = client.query_one(&query, &[&&**topic, number])?;
    Ok(Reach { end: row.get(0), starts: row.get(1) })
}

/// Sets a position that is locked, and keeps a record of it.
///
/// # Errors
/// As any statement.
pub(crate) fn reset(transaction: &mut Transaction<'_>, schema: &Schema, reset: &Reset<'_>) -> Result<(), PgFault> {
    let Partition { topic, number } = reset.partition;
    let generation = reset.generation();
    // The daemon would go on from the old position if the new one were lost with a crashed server.
    transaction.batch_execute("SET LOCAL synchronous_commit = on")?;
    transaction.execute(
        &format!(
            "UPDATE {} SET generation = $4, next_offset = $5, updated_at = now() \
              WHERE cluster_id = $1 AND kafka_topic = $2 AND kafka_partition = $3",
            schema.table("kafka_offset")
        ),
        &[&reset.cluster_id, &&**topic, number, &generation, &reset.to],
    )?;
    let event = Event {
        source: reset.source,
        partition: reset.partition,
        generation,
        from: Some(reset.from.next),
        to: reset.to,
        kind: EventKind::Reset,
        reason: reset.reason,
    };
    event.insert(transaction, schema)
}
