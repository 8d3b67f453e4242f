//! PostgreSQL: the schema, the positions, the rows.

mod bisect;
mod connect;
pub(crate) mod days;
mod dead;
mod fault;
mod identity;
pub(crate) mod letters;
mod numeric;
pub(crate) mod offsets;
mod positions;
pub(crate) mod runs;
mod schema;
mod shape;
mod tuple;
mod write;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use coinflow_common::orderbook::{Exchange, Market};
use postgres::{Client, Statement};

pub(crate) use connect::{Bounds, connect};
pub(crate) use fault::{Class, PgFault};
pub(crate) use identity::Identity;
pub(crate) use positions::Position;
pub(crate) use schema::{Schema, migrate};
pub(crate) use tuple::{Origin, encode};
pub(crate) use write::{Failure, Step, Written};

use crate::config::Postgres;

/// A connection of one source's writer, with what is prepared and known on it.
pub(crate) struct Store {
    client: Client,
    schema: Schema,
    source: Arc<str>,
    /// What this database is called in the commits to Kafka.
    pub(crate) identity: Identity,
    statements: Statements,
    /// The days that take rows, as far as known.
    days: BTreeSet<days::Day>,
    /// The markets that the table `market` is known to hold.
    markets: HashSet<(Exchange, Market)>,
}

struct Statements {
    /// The compare-and-set of a position, and a look at the columns of the rows.
    advance: Statement,
    markets: Statement,
    copy: Statement,
}

impl Store {
    /// Connects, brings the schema up to date, prepares.
    ///
    /// # Errors
    /// The way, the server's refusal, or a missing right.
    pub(crate) fn open(settings: &Postgres, source: &Arc<str>) -> Result<Self, PgFault> {
        let schema = Schema::new(&settings.schema);
        let mut client = connect(settings, Bounds::WRITE)?;
        migrate(&mut client, &schema)?;
        let identity = Identity::of(&mut client, &schema)?;
        let statements = Statements {
            // In one, for each statement is a way there and back.
            advance: shape::prepare(
                &mut client,
                &schema,
                &format!(
                    "WITH step AS ( \
                        UPDATE {} SET next_offset = $6, kafka_source = $7, updated_at = now(), \
                                      last_record_at = coalesce($8::text::timestamptz, last_record_at), \
                                      last_record_offset = CASE WHEN $8 IS NULL THEN last_record_offset ELSE $6::bigint - 1 END \
                         WHERE cluster_id = $1 AND kafka_topic = $2 AND kafka_partition = $3 \
                           AND generation = $4 AND next_offset = $5 \
                        RETURNING 1) \
                     SELECT step.count = 1 AS is_done, shape.* \
                       FROM (SELECT count(*) FROM step) AS step LEFT JOIN ({}) AS shape ON true",
                    schema.table("kafka_offset"),
                    shape::query(&schema)
                ),
            )?,
            markets: client.prepare(&format!(
                "INSERT INTO {} (exchange, market) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING",
                schema.table("market")
            ))?,
            copy: client.prepare(&write::copy_statement(&schema))?,
        };
        let source = Arc::clone(source);
        Ok(Self { client, schema, source, identity, statements, days: BTreeSet::new(), markets: HashSet::new() })
    }

    /// Whether the server still answers; for a connection that has been idle.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn probe(&mut self, timeout: Duration) -> Result<(), PgFault> {
        self.client.is_valid(timeout).map_err(|error| PgFault::connecting(&error))
    }

    /// After a row found no partition: what is known about days is out of date.
    pub(crate) fn forget_days(&mut self) {
        self.days.clear();
    }

    /// The tables may be others than those that were seen: what is known of their rows is out of date.
    pub(crate) fn forget(&mut self) {
        self.days.clear();
        self.markets.clear();
    }
}
