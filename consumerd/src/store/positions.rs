//! The table `kafka_offset`: how far each partition is stored.

use std::sync::Arc;
use std::time::Duration;

use postgres::Transaction;

use super::{PgFault, Schema, Store};
use crate::record::Partition;

/// A writer sends a batch in milliseconds; one that has sent nothing for so long does not move any more.
const FROZEN: Duration = Duration::from_secs(5);

/// A row of `kafka_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) generation: i32,
    /// The first offset that is not yet stored.
    pub(crate) next: i64,
}

/// Why a position was set otherwise than by storing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventKind {
    Start,
    Overrun,
    Reset,
}

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Overrun => "overrun",
            Self::Reset => "reset",
        }
    }
}

/// A row of `offset_event`.
#[derive(Debug)]
pub(super) struct Event<'a> {
    pub(super) source: &'a str,
    pub(super) partition: &'a Partition,
    pub(super) generation: i32,
    pub(super) from: Option<i64>,
    pub(super) to: i64,
    pub(super) kind: EventKind,
    pub(super) reason: &'a str,
}

impl Event<'_> {
    /// Written in the transaction that sets the position.
    ///
    /// # Errors
    /// As any statement.
    pub(super) fn insert(&self, transaction: &mut Transaction<'_>, schema: &Schema) -> Result<(), PgFault> {
        let Self { source, partition: Partition { topic, number }, generation, from, to, kind, reason } = self;
        let statement = format!(
            "INSERT INTO {} (kafka_source, kafka_topic, kafka_partition, generation, from_offset, to_offset, kind, \
                             reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            schema.table("offset_event")
        );
        transaction.execute(&statement, &[source, &&**topic, number, generation, from, to, &kind.as_str(), reason])?;
        Ok(())
    }
}

impl Store {
    /// Reads a position. It waits for a transaction that is just moving it, be it that of the partition's last owner
    /// or one of our own whose end we have not heard of.
    ///
    /// # Errors
    /// As any statement.
    pub(crate) fn position(&mut self, cluster: &str, partition: &Partition) -> Result<Option<Position>, PgFault> {
        let row = self.client.query_opt(
            &format!(
                "SELECT generation, next_offset FROM {} \
                  WHERE cluster_id = $1 AND kafka_topic = $2 AND kafka_partition = $3 FOR UPDATE",
                self.schema.table("kafka_offset")
            ),
            &[&cluster, &&*partition.topic, &partition.number],
        )?;
        Ok(row.map(|row| Position { generation: row.get(0), next: row.get(1) }))
    }

    /// Kafka's time of the record before a position, in milliseconds since 1970; none if it is not known, or if the
    /// position has moved. It was not known to consumerd before schema version 4, and is not where an operator has set the
    /// position.
    ///
    /// # Errors
    /// As any statement.
    pub(crate) fn time_before(
        &mut self,
        cluster: &str,
        partition: &Partition,
        at: Position,
    ) -> Result<Option<i64>, PgFault> {
        let query = format!(
            "SELECT (extract(epoch FROM last_record_at) * 1000)::bigint FROM {} \
              WHERE cluster_id = $1 AND kafka_topic = $2 AND kafka_partition = $3 AND generation = $4 \
                AND next_offset = $5 AND last_record_offset = next_offset - 1 AND last_record_at IS NOT NULL",
            self.schema.table("kafka_offset")
        );
        let Partition { topic, number } = partition;
        let row = self.client.query_opt(&query, &[&cluster, &&**topic, number, &at.generation, &at.next])?;
        Ok(row.map(|row| row.get(0)))
    }

    /// The positions of all partitions of these topics, without waiting for anybody who moves them.
    ///
    /// # Errors
    /// As any statement.
    pub(crate) fn look_at(&mut self, topics: &[&str]) -> Result<Vec<(String, Partition, Position)>, PgFault> {
        let table = self.schema.table("kafka_offset");
        let query = format!(
            "SELECT cluster_id, kafka_topic, kafka_partition, generation, next_offset FROM {table} \
              WHERE kafka_topic = ANY($1)"
        );
        let position = |row: &postgres::Row| {
            let at = Position { generation: row.get(3), next: row.get(4) };
            (row.get(0), Partition::new(row.get(1), row.get(2)), at)
        };
        Ok(self.client.query(&query, &[&topics])?.iter().map(position).collect())
    }

    /// Ends the sessions of writers that hold positions and have stopped in the middle of a transaction, such as those
    /// of a process that is frozen or of a host that is gone. Returns their process ids.
    ///
    /// PostgreSQL itself waits for ever for the rest of a COPY: no time-out of a statement ends that wait. What a
    /// session that is ended had not committed is not stored, and the compare-and-set tells its owner.
    ///
    /// # Errors
    /// As any statement.
    pub(crate) fn end_frozen_writers(&mut self) -> Result<Vec<i32>, PgFault> {
        let rows = self.client.query(
            "SELECT a.pid FROM pg_stat_activity a \
              WHERE a.datname = current_database() AND a.usename = current_user AND a.pid <> pg_backend_pid() \
                AND a.wait_event = 'ClientRead' AND a.state IN ('active', 'idle in transaction') \
                AND a.state_change < now() - $2::float8 * interval '1 second' \
                AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.mode = 'RowExclusiveLock' \
                                                     AND l.relation = to_regclass($1))",
            &[&self.schema.table("kafka_offset"), &FROZEN.as_secs_f64()],
        )?;
        let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        // Apart from the search: PostgreSQL evaluates conditions in an order of its own.
        for pid in &pids {
            self.client.execute("SELECT pg_terminate_backend($1)", &[pid])?;
        }
        Ok(pids)
    }

    /// Whether any partition of a topic has a position.
    ///
    /// # Errors
    /// As any statement.
    pub(crate) fn knows_topic(&mut self, cluster: &str, topic: &str) -> Result<bool, PgFault> {
        let table = self.schema.table("kafka_offset");
        let query = format!("SELECT FROM {table} WHERE cluster_id = $1 AND kafka_topic = $2 LIMIT 1");
        Ok(self.client.query_opt(&query, &[&cluster, &topic])?.is_some())
    }

    /// Makes first positions; where another consumerd was faster, its ones stand.
    ///
    /// # Errors
    /// As any statement.
    pub(crate) fn start(
        &mut self,
        cluster: &Arc<str>,
        starts: &[(Partition, i64)],
        reason: &str,
    ) -> Result<(), PgFault> {
        let positions = self.schema.table("kafka_offset");
        let mut transaction = self.client.transaction()?;
        // A first position that is lost again with a crashed server would be chosen anew, and differently.
        transaction.batch_execute("SET LOCAL synchronous_commit = on")?;
        for (partition, offset) in starts {
            let Partition { topic, number } = partition;
            let made = transaction.query_opt(
                &format!(
                    // Rows of another cluster's topic of this name must not be taken for this one's. Where the key is not
                    // there yet, a restore is under way, and this fails until it is over.
                    "INSERT INTO {positions} \
                     (cluster_id, kafka_topic, kafka_partition, kafka_source, next_offset, generation) \
                     SELECT $1::text, $2::text, $3::int, $4::text, $5::bigint, coalesce(max(generation) + 1, 0) FROM {positions} \
                     WHERE kafka_topic = $2 AND kafka_partition = $3 \
                     ON CONFLICT (cluster_id, kafka_topic, kafka_partition) DO NOTHING RETURNING generation"
                ),
                &[&&**cluster, &&**topic, number, &&*self.source, offset],
            )?;
            if let Some(made) = made {
                let event = Event {
                    source: &self.source,
                    partition,
                    generation: made.get(0),
                    from: None,
                    to: *offset,
                    kind: EventKind::Start,
                    reason,
                };
                event.insert(&mut transaction, &self.schema)?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Moves a position past records that Kafka has deleted. False: somebody else has moved it.
    ///
    /// # Errors
    /// As any statement.
    pub(crate) fn skip(
        &mut self,
        cluster: &str,
        partition: &Partition,
        at: Position,
        to: i64,
        reason: &str,
    ) -> Result<bool, PgFault> {
        let positions = self.schema.table("kafka_offset");
        let Partition { topic, number } = partition;
        let mut transaction = self.client.transaction()?;
        let moved = transaction.execute(
            &format!(
                "UPDATE {positions} SET next_offset = $6, updated_at = now() WHERE cluster_id = $1 AND kafka_topic = $2 \
                    AND kafka_partition = $3 AND generation = $4 AND next_offset = $5"
            ),
            &[&cluster, &&**topic, number, &at.generation, &at.next, &to],
        )?;
        if moved == 1 {
            let event = Event {
                source: &self.source,
                partition,
                generation: at.generation,
                from: Some(at.next),
                to,
                kind: EventKind::Overrun,
                reason,
            };
            event.insert(&mut transaction, &self.schema)?;
        }
        transaction.commit()?;
        Ok(moved == 1)
    }
}
