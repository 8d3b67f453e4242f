//! Whether the columns of `orderbook` have the types that consumerd's bytes are for.
//!
//! COPY in its binary form tells nobody a column's type, and bytes for one type may pass for another: a bigint read as
//! numeric is most often 0. So no row is sent to a column that somebody has given another type.

use postgres::types::{Kind, Type};
use postgres::{Column, GenericClient, Statement};

use super::tuple::COLUMNS;
use super::{PgFault, Schema};

/// A query that is executed before a COPY, in its transaction, for its columns. It fails when a type has been changed since it
/// was prepared, and its lock keeps the table as it is until the transaction ends.
pub(super) fn query(schema: &Schema) -> String {
    // ONLY: the partitions, which cannot differ, are neither looked at nor locked.
    format!("SELECT {} FROM ONLY {} LIMIT 0", COLUMNS.join(", "), schema.table("orderbook"))
}

/// Prepares a statement with the columns of [`query`] among its own.
///
/// # Errors
/// As any statement; a column of another type.
pub(super) fn prepare(client: &mut impl GenericClient, schema: &Schema, statement: &str) -> Result<Statement, PgFault> {
    let statement = client.prepare(statement)?;
    let is_wrong = |column: &&Column| {
        COLUMNS.contains(&column.name()) && !fits(column.name(), column.type_(), column.type_modifier())
    };
    match statement.columns().iter().find(is_wrong) {
        None => Ok(statement),
        Some(column) => Err(PgFault::setup(format!(
            "column {} of {} was altered: it is of type {}{}, not {}",
            column.name(),
            schema.table("orderbook"),
            column.type_(),
            if column.type_modifier() == -1 { "" } else { " of limited size" },
            wanted(column.name())
        ))),
    }
}

fn wanted(column: &str) -> Type {
    match column {
        "exchange_ts" | "requested_at" | "received_at" => Type::TIMESTAMPTZ,
        "producer_run" => Type::UUID,
        "producer_sequence" | "kafka_offset" => Type::INT8,
        "ask_price" | "ask_quantity" | "bid_price" | "bid_quantity" => Type::NUMERIC_ARRAY,
        "kafka_partition" | "kafka_generation" => Type::INT4,
        _ => Type::TEXT,
    }
}

/// Texts are alike, and too long ones are refused. A modifier of any other type, such as that of `numeric(20,2)`, would have
/// PostgreSQL round without a word; a domain does not tell whether it has one.
fn fits(column: &str, found: &Type, modifier: i32) -> bool {
    match found.kind() {
        Kind::Domain(base) => wanted(column) == Type::TEXT && fits(column, base, modifier),
        _ if wanted(column) == Type::TEXT => matches!(*found, Type::TEXT | Type::VARCHAR),
        _ => *found == wanted(column) && modifier == -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_with_the_same_bytes_fit() {
        assert!(fits("kafka_offset", &Type::INT8, -1) && fits("market", &Type::TEXT, -1));
        assert!(fits("market", &Type::VARCHAR, 24) && fits("ask_price", &Type::NUMERIC_ARRAY, -1));
        assert!(!fits("ask_price", &Type::NUMERIC_ARRAY, 1_310_726), "numeric(20,2)[] rounds");
        for (column, found) in [("kafka_offset", Type::NUMERIC), ("producer_run", Type::BYTEA), ("market", Type::INT8)]
        {
            assert!(!fits(column, &found, -1), "{column} {found}");
        }
    }
}
