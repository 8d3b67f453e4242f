//! The days of the table `orderbook`: partitions made ahead, and dropped when they are too old.
//!
//! A day is made by `CREATE TABLE (LIKE …)` and `ATTACH PARTITION`, and retired by `DETACH PARTITION … CONCURRENTLY` and
//! `DROP`: unlike `CREATE TABLE … PARTITION OF` and `DROP` of an attached one, these let readers and writers of the other
//! days go on.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use coinflow_common::orderbook::Timestamp;
use postgres::Client;

use super::fault::PgFault;
use super::schema::Schema;

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// How many days ahead of today are kept ready, and how many behind it.
const DAYS_AHEAD: i64 = 3;
const DAYS_BEHIND: i64 = 1;
/// The mark of a table that consumerd has taken out and will drop. One that an operator detached to keep has none.
const RETIRED: &str = "retired by consumerd";

/// A UTC day, counted from 1970-01-01.
pub(crate) type Day = i64;

/// The days to be kept ready at this time.
pub(crate) fn ready(now: Timestamp) -> RangeInclusive<Day> {
    now.day() - DAYS_BEHIND..=now.day() + DAYS_AHEAD
}

/// The table of a day.
fn table_name(day: Day) -> Option<String> {
    Some(format!("orderbook_{}", date(day)?.replace('-', "")))
}

/// The day of such a table; none for any other name.
fn day_of(table: &str) -> Option<Day> {
    let digits = table.strip_prefix("orderbook_").filter(|rest| rest.len() == 8)?;
    let text = format!("{}-{}-{}T00:00:00Z", digits.get(..4)?, digits.get(4..6)?, digits.get(6..)?);
    Timestamp::parse(&text).ok().map(Timestamp::day)
}

/// `2026-11-23`; none outside the years 0 to 9999.
fn date(day: Day) -> Option<String> {
    let midnight = Timestamp::from_micros(day.checked_mul(MICROS_PER_DAY)?).ok()?;
    midnight.to_string().get(..10).map(str::to_owned)
}

/// The attached days. One whose detaching has begun takes no rows and does not count.
///
/// # Errors
/// As any statement.
pub(crate) fn attached(client: &mut Client, schema: &Schema) -> Result<BTreeSet<Day>, PgFault> {
    let tables = children(client, schema)?;
    Ok(tables.iter().filter(|child| !child.detaching).filter_map(|child| day_of(&child.table)).collect())
}

struct Child {
    table: String,
    detaching: bool,
}

fn children(client: &mut Client, schema: &Schema) -> Result<Vec<Child>, PgFault> {
    let rows = client.query(
        "SELECT c.relname, i.inhdetachpending FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
          WHERE i.inhparent = to_regclass($1) ORDER BY c.relname",
        &[&schema.table("orderbook")],
    )?;
    Ok(rows.iter().map(|row| Child { table: row.get(0), detaching: row.get(1) }).collect())
}

/// Makes a day, unless it is there; a table of its name that is not attached is attached.
///
/// # Errors
/// As any statement; a lock that is not had in time.
pub(crate) fn make(client: &mut Client, schema: &Schema, day: Day) -> Result<bool, PgFault> {
    let (Some(name), Some(from), Some(to)) = (table_name(day), date(day), date(day + 1)) else {
        return Err(PgFault::setup(format!("day {day} has no date")));
    };
    let (parent, table) = (schema.table("orderbook"), schema.table(&name));
    let mut transaction = client.transaction()?;
    // Two consumerds that make the same day would be in each other's way.
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&schema.lock_key("days")])?;
    let attached = transaction.query_opt(
        "SELECT FROM pg_inherits WHERE inhparent = to_regclass($1) AND inhrelid = to_regclass($2)",
        &[&parent, &table],
    )?;
    if attached.is_some() {
        return Ok(false);
    }
    transaction.batch_execute(&format!(
        "SET LOCAL client_min_messages = warning;
         CREATE TABLE IF NOT EXISTS {table} (LIKE {parent} INCLUDING ALL);
         COMMENT ON TABLE {table} IS NULL;
         ALTER TABLE {parent} ATTACH PARTITION {table} FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
    ))?;
    transaction.commit()?;
    Ok(true)
}

/// Takes a day out and drops it, and finishes what an earlier try has left half done. Returns the dates dropped.
///
/// # Errors
/// As any statement; a lock that is not had in time, for instance behind a running pg_dump: it is tried again later.
pub(crate) fn retire_before(client: &mut Client, schema: &Schema, oldest: Day) -> Result<Vec<String>, PgFault> {
    let parent = schema.table("orderbook");
    for child in children(client, schema)? {
        let table = schema.table(&child.table);
        if child.detaching {
            client.batch_execute(&format!("ALTER TABLE {parent} DETACH PARTITION {table} FINALIZE"))?;
        } else if day_of(&child.table).is_some_and(|day| day < oldest) {
            client.batch_execute(&format!("COMMENT ON TABLE {table} IS '{RETIRED}'"))?;
            client.batch_execute(&format!("ALTER TABLE {parent} DETACH PARTITION {table} CONCURRENTLY"))?;
        }
    }
    let left = client.query(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
          WHERE n.nspname = $1 AND c.relkind = 'r' AND obj_description(c.oid, 'pg_class') = $2 \
            AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) ORDER BY c.relname",
        &[&schema.name(), &RETIRED],
    )?;
    let mut dropped = Vec::new();
    for table in left.iter().map(|row| row.get::<_, String>(0)) {
        if let Some(day) = day_of(&table).filter(|day| *day < oldest) {
            client.batch_execute(&format!("DROP TABLE {}", schema.table(&table)))?;
            dropped.extend(date(day));
        }
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_and_its_table_name_each_other() {
        for (day, name) in [(0, "orderbook_19700101"), (20_780, "orderbook_20261123"), (19_782, "orderbook_20240229")] {
            assert_eq!(table_name(day).as_deref(), Some(name));
            assert_eq!(day_of(name), Some(day));
        }
    }

    #[test]
    fn other_tables_are_no_days() {
        for name in ["orderbook", "orderbook_", "orderbook_2026112", "orderbook_202611231", "orderbook_20261332", "x"] {
            assert_eq!(day_of(name), None, "{name}");
        }
        assert_eq!(day_of("orderbook_2026é1"), None);
    }

    #[test]
    fn yesterday_to_three_days_ahead_are_ready() {
        let now = Timestamp::parse("1970-01-11T23:59:59Z").expect("a time");
        assert_eq!(ready(now), 9..=13);
    }
}
