//! The schema: its name, and its versions.

use postgres::Client;

use super::fault::PgFault;

/// Each runs once, in order, in a transaction of its own. Within a major version of coinflow they only add, so that
/// an older consumerd runs on a newer schema.
const MIGRATIONS: [(i32, &str, &str); 4] = [
    (1, "order_books", include_str!("migrations/0001_order_books.sql")),
    (2, "dead_letter_runs", include_str!("migrations/0002_dead_letter_runs.sql")),
    (3, "latest_without_days_ahead", include_str!("migrations/0003_latest_without_days_ahead.sql")),
    (4, "last_record_offset", include_str!("migrations/0004_last_record_offset.sql")),
];

/// The name of the schema, ready to stand in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema {
    name: String,
    quoted: String,
}

impl Schema {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), quoted: quote(name) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A table of the schema, quoted.
    pub(crate) fn table(&self, table: &str) -> String {
        format!("{}.{}", self.quoted, quote(table))
    }

    /// A key for advisory locks: what it protects must have the same one in every consumerd, so it is FNV-1a and
    /// never changes.
    pub(super) fn lock_key(&self, purpose: &str) -> i64 {
        let text = ["coinflow", &self.name, purpose].join("/");
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        i64::from_ne_bytes(hash.to_ne_bytes())
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Brings the schema to this program's version; does nothing where it is there or further.
///
/// # Errors
/// As any statement; a database of another encoding.
pub(crate) fn migrate(client: &mut Client, schema: &Schema) -> Result<(), PgFault> {
    check_encoding(client)?;
    if version(client, schema)? >= newest() {
        return Ok(());
    }
    for (number, name, sql) in MIGRATIONS {
        let mut transaction = client.transaction()?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&schema.lock_key("migrate")])?;
        // Asked first: CREATE … IF NOT EXISTS wants the right to create even where nothing is to be created.
        let exists: bool = transaction.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&schema.quoted])?.get(0);
        if !exists {
            transaction.batch_execute(&format!("CREATE SCHEMA {}", schema.quoted))?;
        }
        transaction.batch_execute(&format!(
            "SET LOCAL search_path = {}; SET LOCAL client_min_messages = warning;
             CREATE TABLE IF NOT EXISTS migration (
                 version    integer     PRIMARY KEY,
                 name       text        NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now()
             )",
            schema.quoted
        ))?;
        let missing = transaction.query_opt("SELECT FROM migration WHERE version = $1", &[&number])?.is_none();
        if missing {
            transaction.batch_execute(sql)?;
            transaction.execute("INSERT INTO migration (version, name) VALUES ($1, $2)", &[&number, &name])?;
        }
        transaction.commit()?;
        if missing {
            log::info!("database schema migrated schema={} version={number} name={name}", schema.name);
        }
    }
    Ok(())
}

/// One that cannot hold every text would stop a source at the first record that quotes such a one.
fn check_encoding(client: &mut Client) -> Result<(), PgFault> {
    let encoding: String = client.query_one("SHOW server_encoding", &[])?.get(0);
    match encoding.as_str() {
        "UTF8" | "SQL_ASCII" => Ok(()),
        _ => Err(PgFault::setup(format!("the database has the encoding {encoding}, and has to be made with UTF8"))),
    }
}

fn newest() -> i32 {
    MIGRATIONS.iter().map(|(number, ..)| *number).max().unwrap_or(0)
}

/// 0 where there is no schema yet.
fn version(client: &mut Client, schema: &Schema) -> Result<i32, PgFault> {
    let table = schema.table("migration");
    let exists: bool = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])?.get(0);
    if !exists {
        return Ok(0);
    }
    Ok(client.query_one(&format!("SELECT coalesce(max(version), 0) FROM {table}"), &[])?.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(Schema::new("coinflow").table("orderbook"), r#""coinflow"."orderbook""#);
        assert_eq!(Schema::new(r#"my "own""#).table("market"), r#""my ""own"""."market""#);
    }

    #[test]
    fn lock_keys_differ_by_schema_and_purpose() {
        assert_eq!(Schema::new("coinflow").lock_key("migrate"), Schema::new("coinflow").lock_key("migrate"));
        assert_ne!(Schema::new("coinflow").lock_key("migrate"), Schema::new("coinflow").lock_key("days"));
        assert_ne!(Schema::new("coinflow").lock_key("migrate"), Schema::new("other").lock_key("migrate"));
    }

    #[test]
    fn migrations_are_numbered_from_one() {
        for (index, (number, ..)) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(*number), Ok(index + 1));
        }
    }
}
