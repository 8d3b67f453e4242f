//! The table `kafka_offset`: how far each partition is stored.

use std::sync::Arc;
use std::time::Duration;

use super::{PgFault, Store};
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
pub(crate) enum EventKind {
    Start,
    Overrun,
}

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Overrun => "overrun",
        }
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
        let events = self.schema.table("offset_event");
        let mut transaction = self.client.transaction()?;
        // A first position that is lost again with a crashed server would be chosen anew, and differently.
        transaction.batch_execute("SET LOCAL synchronous_commit = on")?;
        for (Partition { topic, number }, offset) in starts {
            let made = transaction.execute(
                &format!(
                    "INSERT INTO {positions} (cluster_id, kafka_topic, kafka_partition, kafka_source, next_offset) \
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
                ),
                &[&&**cluster, &&**topic, number, &&*self.source, offset],
            )?;
            if made == 1 {
                transaction.execute(
                    &format!(
                        "INSERT INTO {events} (kafka_source, kafka_topic, kafka_partition, generation, to_offset, kind, \
                                               reason) VALUES ($1, $2, $3, 0, $4, $5, $6)"
                    ),
                    &[&&*self.source, &&**topic, number, offset, &EventKind::Start.as_str(), &reason],
                )?;
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
        let events = self.schema.table("offset_event");
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
            transaction.execute(
                &format!(
                    "INSERT INTO {events} (kafka_source, kafka_topic, kafka_partition, generation, from_offset, to_offset, \
                                           kind, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
                ),
                &[
                    &&*self.source, &&**topic, number, &at.generation, &at.next, &to, &EventKind::Overrun.as_str(), &reason,
                ],
            )?;
        }
        transaction.commit()?;
        Ok(moved == 1)
    }
}
