//! The database's side of `verify`. It only reads, and no statement but the count of all rows takes long, so that no
//! transaction of it stands in the way of VACUUM or of the days that are dropped.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::{FromSql, ToSql, Type};
use postgres::{Client, Row as PgRow, Statement};

use super::Failure;
use super::compare::{Bounds, Looked, Window, is_stray, shown};
use super::report::{Difference, Kind};
use super::row::Row;
use super::scope::Part;
use crate::config::Postgres;
use crate::record::Partition;
use crate::store::{self, PgFault, Schema};

/// The database, and what is prepared on it.
pub(super) struct Table {
    client: Client,
    schema: Schema,
    rows: Statement,
    letters: Statement,
}

/// A value as the server sends it.
struct Bytes<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A time in PostgreSQL's microseconds, `infinity` among them.
struct Micros(i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::TIMESTAMPTZ
    }
}

impl Table {
    pub(super) fn open(settings: &Postgres) -> Result<Self, PgFault> {
        let schema = Schema::new(&settings.schema);
        let mut client = store::connect(settings, store::Bounds::READ)?;
        // Many statements of a moment: to compile each would take longer, and a plan is made for the times at hand.
        client.batch_execute(
            "SET default_transaction_read_only = on; SET jit = off; SET plan_cache_mode = force_custom_plan",
        )?;
        let table = schema.table("kafka_offset");
        let exists: bool = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])?.get(0);
        if !exists {
            return Err(PgFault::setup(format!("there is no table {table}: consumerd has not run on this database")));
        }
        // The only index is that of market and time. One look into it for each market finds the rows of a span of time,
        // and nothing is sorted; what is not to be found there is found by `count`.
        let rows = client.prepare(&format!(
            "SELECT o.kafka_offset, o.exchange, o.market, o.exchange_ts, o.requested_at, o.received_at, o.producer_run, \
                    o.producer_sequence, o.ask_price, o.ask_quantity, o.bid_price, o.bid_quantity \
               FROM {} m CROSS JOIN LATERAL ( \
                    SELECT * FROM {} b \
                     WHERE b.exchange = m.exchange AND b.market = m.market AND b.received_at BETWEEN $1 AND $2 \
                       AND b.kafka_topic = $3 AND b.kafka_partition = $4 AND b.kafka_generation = $5 \
                       AND b.kafka_offset >= $6 AND b.kafka_offset < $7 AND ($8::text IS NULL OR b.kafka_source = $8) \
                    OFFSET 0) o",
            schema.table("market"),
            schema.table("orderbook"),
        ))?;
        let letters = client.prepare(&format!(
            "SELECT kafka_offset, retried_at IS NOT NULL FROM {} \
              WHERE kafka_topic = $1 AND kafka_partition = $2 AND kafka_generation = $3 \
                AND kafka_offset >= $4 AND kafka_offset < $5 AND ($6::text IS NULL OR kafka_source = $6)",
            schema.table("dead_letter")
        ))?;
        Ok(Self { client, schema, rows, letters })
    }

    /// The positions of a topic.
    pub(super) fn parts(&mut self, cluster: &str, source: &str, topic: &str) -> Result<Vec<Part>, PgFault> {
        let positions = self.schema.table("kafka_offset");
        // A source may be renamed, so its name tells rows apart only where two clusters have the same topic.
        let query = format!(
            "SELECT p.kafka_partition, p.generation, p.next_offset, \
                    EXISTS (SELECT FROM {positions} o WHERE o.kafka_topic = p.kafka_topic \
                            AND o.kafka_partition = p.kafka_partition AND o.cluster_id <> p.cluster_id) \
               FROM {positions} p WHERE p.cluster_id = $1 AND p.kafka_topic = $2 ORDER BY p.kafka_partition"
        );
        let rows = self.client.query(&query, &[&cluster, &topic])?;
        let part = |row: &PgRow| Part {
            partition: Partition::new(topic, row.get(0)),
            generation: row.get(1),
            next: row.get(2),
            source: row.get::<_, bool>(3).then(|| source.to_owned()),
            start: 0,
            skipped: Vec::new(),
        };
        let mut parts: Vec<Part> = rows.iter().map(part).collect();
        let events = format!(
            "SELECT from_offset, to_offset FROM {} WHERE kafka_topic = $1 AND kafka_partition = $2 AND generation = $3 \
                AND ($4::text IS NULL OR kafka_source = $4) ORDER BY id",
            self.schema.table("offset_event")
        );
        for part in &mut parts {
            let number = part.partition.number;
            let events = self.client.query(&events, &[&topic, &number, &part.generation, &part.source])?;
            part.began(events.iter().map(|row| (row.get(0), row.get(1))));
        }
        Ok(parts)
    }

    /// The clusters in which the topic has positions.
    pub(super) fn clusters(&mut self, topic: &str) -> Result<Vec<String>, PgFault> {
        let query = format!(
            "SELECT DISTINCT cluster_id FROM {} WHERE kafka_topic = $1 ORDER BY 1",
            self.schema.table("kafka_offset")
        );
        Ok(self.client.query(&query, &[&topic])?.iter().map(|row| row.get(0)).collect())
    }

    /// Adds to a window what the table has of it: first the rows, then the dead letters, so that one which is stored
    /// after all in between is not taken for both.
    pub(super) fn fill(&mut self, part: &Part, window: &mut Window) -> Result<(), PgFault> {
        let Part { partition, generation, source, .. } = part;
        let (topic, number) = (&*partition.topic, &partition.number);
        let (from, to) = (window.from, window.to);
        for (begin, end) in window.spans() {
            let (begin, end) = (time(begin), time(end));
            let parameters: [&(dyn ToSql + Sync); 8] = [&begin, &end, &topic, number, generation, &from, &to, source];
            let mut rows = self.client.query_raw(&self.rows, parameters)?;
            while let Some(row) = rows.next()? {
                window.row(&read(&row)?);
            }
        }
        let parameters: [&(dyn ToSql + Sync); 6] = [&topic, number, generation, &from, &to, source];
        let mut letters = self.client.query_raw(&self.letters, parameters)?;
        while let Some(row) = letters.next()? {
            window.letter(row.get(0), row.get(1));
        }
        Ok(())
    }

    /// Rows of each partition from its start to its position: before the offset `low`, and from there on. One pass over
    /// the table, or over the days within the bounds.
    pub(super) fn count(&mut self, parts: &[(&Part, i64)], bounds: Bounds) -> Result<Vec<(u64, u64)>, PgFault> {
        let topics: Vec<&str> = parts.iter().map(|(part, _)| &*part.partition.topic).collect();
        let numbers: Vec<i32> = parts.iter().map(|(part, _)| part.partition.number).collect();
        let generations: Vec<i32> = parts.iter().map(|(part, _)| part.generation).collect();
        let sources: Vec<Option<&str>> = parts.iter().map(|(part, _)| part.source.as_deref()).collect();
        let starts: Vec<i64> = parts.iter().map(|(part, _)| part.start).collect();
        let nexts: Vec<i64> = parts.iter().map(|(part, _)| part.next).collect();
        let lows: Vec<i64> = parts.iter().map(|(_, low)| *low).collect();
        let query = format!(
            "SELECT p.n, count(*) FILTER (WHERE o.kafka_offset < p.low), count(*) FILTER (WHERE o.kafka_offset >= p.low) \
               FROM {} o JOIN unnest($1::text[], $2::int[], $3::int[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[]) \
                    WITH ORDINALITY AS p (topic, part, generation, source, start, next, low, n) \
                 ON o.kafka_topic = p.topic AND o.kafka_partition = p.part AND o.kafka_generation = p.generation \
                AND (p.source IS NULL OR o.kafka_source = p.source) AND o.kafka_offset >= p.start AND o.kafka_offset < p.next \
              WHERE o.received_at BETWEEN $8 AND $9 GROUP BY p.n",
            self.schema.table("orderbook")
        );
        let (begin, end) = span(bounds);
        let rows = self
            .client
            .query(&query, &[&topics, &numbers, &generations, &sources, &starts, &nexts, &lows, &begin, &end])?;
        let mut counts = vec![(0, 0); parts.len()];
        for row in rows {
            let count = |at| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
            let index = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
            if let Some(slot) = counts.get_mut(index) {
                *slot = (count(1), count(2));
            }
        }
        Ok(counts)
    }

    /// The rows of a partition that no window had in sight. One pass over the table, made only where the count says
    /// that there are such.
    pub(super) fn strays(
        &mut self,
        (part, low): (&Part, i64),
        bounds: Bounds,
        looked: &[Looked],
        mut found: impl FnMut(Difference) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Part { partition, generation, source, start, next, .. } = part;
        let query = format!(
            "SELECT b.kafka_offset, b.market, b.received_at, \
                    EXISTS (SELECT FROM {} m WHERE m.exchange = b.exchange AND m.market = b.market) \
               FROM {} b WHERE b.received_at BETWEEN $1 AND $2 AND b.kafka_topic = $3 AND b.kafka_partition = $4 \
                AND b.kafka_generation = $5 AND b.kafka_offset >= $6 AND b.kafka_offset < $7 \
                AND ($8::text IS NULL OR b.kafka_source = $8)",
            self.schema.table("market"),
            self.schema.table("orderbook"),
        );
        let ((begin, end), from) = (span(bounds), low.max(*start));
        let topic = &*partition.topic;
        let parameters: [&(dyn ToSql + Sync); 8] =
            [&begin, &end, &topic, &partition.number, generation, &from, next, source];
        let statement = self.client.prepare(&query).map_err(PgFault::from)?;
        let mut rows = self.client.query_raw(&statement, parameters).map_err(PgFault::from)?;
        while let Some(row) = rows.next().map_err(PgFault::from)? {
            let (offset, Micros(received_at), is_known) = (row.get(0), row.get(2), row.get::<_, bool>(3));
            if !is_known || is_stray(looked, offset, received_at) {
                let what = "a row whose time or market is not that of the record".to_owned();
                let market = shown(row.get::<_, &str>(1).as_bytes());
                found(Difference { kind: Kind::Extra, offset, market, what })?;
            }
        }
        Ok(())
    }
}

fn read(row: &PgRow) -> Result<Row<'_>, PgFault> {
    let bytes = |at: usize| row.try_get::<_, Bytes<'_>>(at).map(|Bytes(bytes)| bytes);
    let time = |at: usize| row.try_get::<_, Option<Micros>>(at).map(|time| time.map(|Micros(micros)| micros));
    Ok(Row {
        offset: row.try_get(0)?,
        exchange: bytes(1)?,
        market: bytes(2)?,
        exchange_ts: time(3)?,
        requested_at: time(4)?,
        received_at: time(5)?,
        run: bytes(6)?,
        sequence: row.try_get(7)?,
        lists: [bytes(8)?, bytes(9)?, bytes(10)?, bytes(11)?],
    })
}

/// Both ends included.
fn span(bounds: Bounds) -> (SystemTime, SystemTime) {
    /// 9999-12-29: the last day that coinflow knows.
    const END: i64 = 253_402_041_600_000_000;
    (time(bounds.from.unwrap_or(0)), time(bounds.to.map_or(END, |to| to - 1)))
}

fn time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
