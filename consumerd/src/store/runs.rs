//! The table `dead_letter_run`: what the breaker knows, so that it outlives the process.

use postgres::{Client, GenericClient, Row, Transaction};

use super::{PgFault, Schema, Step, Store};
use crate::breaker::{Cause, Phase, Run};
use crate::record::Partition;

const COLUMNS: &str = "sqlstate, schema_major, letters, held_at IS NOT NULL, accepted_at IS NOT NULL";

fn run(row: &Row) -> Run {
    let cause = match row.get::<_, Option<i64>>(1) {
        Some(major) => Cause::Major(u32::try_from(major).unwrap_or(u32::MAX)),
        None => Cause::Sqlstate(row.get::<_, Option<String>>(0).unwrap_or_default()),
    };
    let phase = match (row.get(3), row.get(4)) {
        (_, true) => Phase::Accepted,
        (true, false) => Phase::Held,
        (false, false) => Phase::Counting,
    };
    Run { cause, letters: row.get(2), phase }
}

impl Store {
    /// The run of a partition in the present generation of its position.
    ///
    /// # Errors
    /// As any statement.
    pub(crate) fn run(
        &mut self,
        cluster: &str,
        partition: &Partition,
        generation: i32,
    ) -> Result<Option<Run>, PgFault> {
        find(&mut self.client, &self.schema, cluster, partition, generation)
    }
}

/// As [`Store::run`].
///
/// # Errors
/// As any statement.
pub(crate) fn find(
    client: &mut impl GenericClient,
    schema: &Schema,
    cluster: &str,
    Partition { topic, number }: &Partition,
    generation: i32,
) -> Result<Option<Run>, PgFault> {
    let table = schema.table("dead_letter_run");
    let query = format!(
        "SELECT {COLUMNS} FROM {table} \
          WHERE cluster_id = $1 AND kafka_topic = $2 AND kafka_partition = $3 AND kafka_generation = $4"
    );
    Ok(client.query_opt(&query, &[&cluster, &&**topic, number, &generation])?.as_ref().map(run))
}

/// Writes a run within the transaction of its batch; none: it has ended.
///
/// # Errors
/// As any statement.
pub(super) fn write(
    transaction: &mut Transaction<'_>,
    schema: &Schema,
    step: &Step,
    run: Option<&Run>,
) -> Result<(), PgFault> {
    let table = schema.table("dead_letter_run");
    let Partition { topic, number } = &step.partition;
    let Some(Run { cause, letters, phase }) = run else {
        let delete = format!("DELETE FROM {table} WHERE cluster_id = $1 AND kafka_topic = $2 AND kafka_partition = $3");
        transaction.execute(&delete, &[&&*step.cluster, &&**topic, number])?;
        return Ok(());
    };
    let (sqlstate, major) = match cause {
        Cause::Sqlstate(code) => (Some(code.as_str()), None),
        Cause::Major(major) => (None, Some(i64::from(*major))),
    };
    // A run that is accepted does not change any more, so accepted_at is only ever taken away here.
    transaction.execute(
        &format!(
            "INSERT INTO {table} AS r (cluster_id, kafka_topic, kafka_partition, kafka_generation, sqlstate, schema_major, \
                                       letters, held_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 THEN now() END) \
             ON CONFLICT (cluster_id, kafka_topic, kafka_partition) DO UPDATE \
                SET kafka_generation = excluded.kafka_generation, sqlstate = excluded.sqlstate, \
                    schema_major = excluded.schema_major, letters = excluded.letters, held_at = excluded.held_at, \
                    accepted_at = NULL, \
                    began_at = CASE WHEN excluded.letters > r.letters AND excluded.kafka_generation = r.kafka_generation \
                                     AND (excluded.sqlstate, excluded.schema_major) IS NOT DISTINCT FROM \
                                         (r.sqlstate, r.schema_major) \
                                    THEN r.began_at ELSE now() END"
        ),
        &[
            &&*step.cluster,
            &&**topic,
            number,
            &step.generation,
            &sqlstate,
            &major,
            letters,
            &(*phase == Phase::Held),
        ],
    )?;
    Ok(())
}

/// Lets the dead letters of a held partition pass; none if it is not held.
///
/// # Errors
/// As any statement.
pub(crate) fn accept(
    client: &mut Client,
    schema: &Schema,
    cluster: &str,
    Partition { topic, number }: &Partition,
) -> Result<Option<Run>, PgFault> {
    let (table, positions) = (schema.table("dead_letter_run"), schema.table("kafka_offset"));
    // A run of an earlier generation is that of records which nobody reads any more.
    let update = format!(
        "UPDATE {table} r SET accepted_at = now() FROM {positions} k \
          WHERE (k.cluster_id, k.kafka_topic, k.kafka_partition) = (r.cluster_id, r.kafka_topic, r.kafka_partition) \
            AND k.generation = r.kafka_generation AND r.cluster_id = $1 AND r.kafka_topic = $2 \
            AND r.kafka_partition = $3 AND r.held_at IS NOT NULL AND r.accepted_at IS NULL RETURNING {COLUMNS}"
    );
    Ok(client.query_opt(&update, &[&cluster, &&**topic, number])?.as_ref().map(run))
}
