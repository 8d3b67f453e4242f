//! The table `kafka_offset` as an operator's commands see it.

use postgres::Client;

use super::{PgFault, Position, Schema};
use crate::record::Partition;

/// A time in a query's result, as text.
const UTC: &str = "'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'";

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
