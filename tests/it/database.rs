//! PostgreSQL in trouble, under continuous writing: STATUS names the cause while it lasts, and when it is gone the same
//! process goes on with nothing lost and nothing doubled.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use coinflow_tests::servers::{PostgresOptions, StopMode};
use coinflow_tests::wait::wait_until;
use postgres::Client;

use crate::exactly_once::check;
use crate::overrun::{status, wait_status};
use crate::rig::{LATER, Rig};

pub(crate) fn sql(rig: &Rig, statements: &str) {
    let mut client = rig.postgres.connect_as("postgres", "coinflow").expect("a superuser's connection");
    client.batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}\n{}", rig.logs()));
}

/// Waits until rows flow again and STATUS has nothing to tell.
pub(crate) fn goes_on(rig: &Rig) {
    let rows = rig.rows();
    rig.wait_rows(rows + 1, LATER);
    let well = || (status(rig).starts_with("main: up") && !status(rig).contains("since")).then_some(());
    wait_until(LATER, "STATUS to be well", well)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", status(rig), rig.logs()));
}

/// Runs until it is well, lets something go wrong, waits until STATUS says all of this, and puts it right.
pub(crate) fn trouble(rig: &mut Rig, wrong: impl FnOnce(&mut Rig), says: &[&str], right: impl FnOnce(&mut Rig)) {
    goes_on(rig);
    let pid = rig.consumerd.pid().expect("a pid");
    wrong(rig);
    says.iter().for_each(|text| wait_status(rig, text));
    assert!(status(rig).starts_with("main: waiting"), "{}", status(rig));
    show!("{}", status(rig));
    right(rig);
    goes_on(rig);
    assert!(rig.consumerd.is_running() && rig.consumerd.pid() == Ok(pid), "no restart\n{}", rig.logs());
    assert_eq!(rig.dead_letters(), 0, "none of it is a row's fault");
    // So that Kafka's commits are looked at for a while.
    std::thread::sleep(Duration::from_secs(2));
}

#[test]
fn restarted() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        trouble(
            rig,
            |rig| rig.postgres.stop(StopMode::Fast).expect("stopped"),
            &["PostgreSQL down since"],
            |rig| rig.postgres.start_again().expect("started again"),
        );
    });
    rig.stop_consumerd();
}

#[test]
fn read_only() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        let set = |to| {
            move |rig: &mut Rig| {
                let mut client = rig.postgres.connect_as("postgres", "postgres").expect("a superuser's connection");
                client.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {to}")).expect("set");
                client.batch_execute("SELECT pg_reload_conf()").expect("reloaded");
            }
        };
        trouble(rig, set("on"), &["in a read-only transaction (SQLSTATE 25006)"], set("off"));
    });
    rig.stop_consumerd();
}

/// A small file system of its own; it goes with its last user.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(mib: u32) -> SmallDisk {
        let folder = tempfile::Builder::new().prefix("coinflow-disk-").tempdir_in("/tmp").expect("a folder").keep();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0777"), "coinflow-tests"]).arg(&folder);
        let mounted = mount.output().expect("mount runs");
        let why = String::from_utf8_lossy(&mounted.stderr);
        assert!(mounted.status.success(), "this test needs root and the right to mount a tmpfs: {why}");
        SmallDisk(folder)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if unmounted.is_ok_and(|status| status.success()) {
            _ = std::fs::remove_dir(&self.0);
        }
    }
}

#[test]
fn out_of_disk() {
    let disk = SmallDisk::new(64);
    let mut rig = Rig::new();
    // Everything that consumerd makes is on the small disk: its tables, and not the server's own log, which would end
    // the server.
    let path = disk.path().join("space");
    std::fs::create_dir(&path).expect("a folder");
    let chowned = Command::new("chown").arg("postgres").arg(&path).status().expect("chown runs");
    assert!(chowned.success(), "the server's user");
    sql(&rig, &format!("CREATE TABLESPACE small LOCATION '{}'", path.display()));
    sql(&rig, "GRANT CREATE ON TABLESPACE small TO coinflow; ALTER ROLE coinflow SET default_tablespace = small");
    let ballast = disk.path().join("ballast");
    check(&mut rig, |rig| {
        trouble(
            rig,
            |_| {
                let full = std::fs::write(&ballast, vec![1; 64 << 20]).expect_err("no room for so much");
                assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
            },
            &["PostgreSQL refuses since", "No space left on device (SQLSTATE 53100)"],
            |_| std::fs::remove_file(&ballast).expect("freed"),
        );
    });
    rig.stop_consumerd();
}

#[test]
fn out_of_connections() {
    let settings = [("max_connections", "12"), ("superuser_reserved_connections", "4")];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let mut rig = Rig::with(&Default::default(), &PostgresOptions { settings, ..PostgresOptions::default() });
    check(&mut rig, |rig| {
        let taken = std::cell::RefCell::new(Vec::<Client>::new());
        trouble(
            rig,
            |rig| {
                let mut superuser = rig.postgres.connect_as("postgres", "coinflow").expect("a reserved connection");
                // Until consumerd has none: what it loses is taken at once.
                let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'consumerd'";
                let gone = || {
                    let ended: i64 = superuser.query_one(end, &[]).expect("ended").get(0);
                    while let Ok(client) = rig.postgres.connect() {
                        taken.borrow_mut().push(client);
                    }
                    (ended == 0).then_some(())
                };
                wait_until(LATER, "all connections to be taken", gone).expect("taken");
                // It has one of those that are for all.
                taken.borrow_mut().push(superuser);
            },
            &["PostgreSQL refuses since", "(SQLSTATE 53300)"],
            |_| taken.borrow_mut().clear(),
        );
    });
    rig.stop_consumerd();
}

#[test]
fn a_role_without_rights() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        for (right, object, says) in [
            ("INSERT", "TABLE coinflow.orderbook", "permission denied for table orderbook (SQLSTATE 42501)"),
            ("UPDATE", "TABLE coinflow.kafka_offset", "permission denied for table kafka_offset (SQLSTATE 42501)"),
            ("USAGE", "SCHEMA coinflow", "permission denied for schema coinflow (SQLSTATE 42501)"),
        ] {
            // An owner can lose the right like anybody else.
            trouble(
                rig,
                |rig| sql(rig, &format!("REVOKE {right} ON {object} FROM coinflow")),
                &["PostgreSQL refuses since", says],
                |rig| sql(rig, &format!("GRANT {right} ON {object} TO coinflow")),
            );
        }
    });
    rig.stop_consumerd();
}

#[test]
fn a_table_altered_under_us() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        goes_on(rig);
        // A view keeps a column from being dropped or changed.
        sql(rig, "DROP VIEW coinflow.latest, coinflow.asks, coinflow.bids");
        for (change, says, back) in [
            ("RENAME COLUMN bid_price TO bids", "(SQLSTATE 42703)", "RENAME COLUMN bids TO bid_price"),
            // It has to name a value for the rows there are; for those to come there is none.
            (
                "ADD COLUMN note int NOT NULL DEFAULT 0; ALTER TABLE coinflow.orderbook ALTER COLUMN note DROP DEFAULT",
                "null value in column \"note\"",
                "DROP COLUMN note",
            ),
            ("DROP COLUMN requested_at", "(SQLSTATE 42703)", "ADD COLUMN requested_at timestamptz"),
            (
                "ALTER COLUMN kafka_offset TYPE numeric",
                "column kafka_offset of \"coinflow\".\"orderbook\" was altered: it is of type numeric, not int8",
                "ALTER COLUMN kafka_offset TYPE bigint",
            ),
            (
                "ALTER COLUMN ask_price TYPE text[]",
                "was altered: it is of type _text, not _numeric",
                "ALTER COLUMN ask_price TYPE numeric[] USING ask_price::numeric[]",
            ),
            ("RENAME TO books", "(SQLSTATE 42P01)", ""),
        ] {
            trouble(
                rig,
                |rig| sql(rig, &format!("ALTER TABLE coinflow.orderbook {change}")),
                &[says],
                |rig| match back {
                    "" => sql(rig, "ALTER TABLE coinflow.books RENAME TO orderbook"),
                    back => sql(rig, &format!("ALTER TABLE coinflow.orderbook {back}")),
                },
            );
        }
        // What stands in no row's way is none of our business.
        sql(rig, "ALTER TABLE coinflow.orderbook ADD COLUMN note text, ALTER COLUMN kafka_source TYPE varchar");
        goes_on(rig);
    });
    rig.stop_consumerd();
}

/// Takes the partition of today away, with its rows; they come back at the end.
#[test]
fn a_missing_day_partition() {
    let mut rig = Rig::new();
    check(&mut rig, |rig| {
        goes_on(rig);
        let mut client = rig.postgres.connect().expect("a connection");
        let today = "SELECT 'orderbook_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')";
        let today: String = client.query_one(today, &[]).expect("a name").get(0);
        let take_away = |to: &str| {
            format!(
                "BEGIN; ALTER TABLE coinflow.orderbook DETACH PARTITION coinflow.{today}; \
                 ALTER TABLE coinflow.{today} RENAME TO {to}; COMMIT"
            )
        };
        // It is made anew with the next record.
        sql(rig, &take_away("kept_1"));
        goes_on(rig);
        assert!(rig.number(&format!("SELECT count(*) FROM coinflow.{today}")) > Some(0), "a new partition of today");
        // Where that is not allowed, it is told.
        trouble(
            rig,
            |rig| sql(rig, &format!("REVOKE CREATE ON SCHEMA coinflow FROM coinflow; {}", take_away("kept_2"))),
            &["PostgreSQL refuses since", "permission denied for schema coinflow (SQLSTATE 42501)"],
            |rig| sql(rig, "GRANT CREATE ON SCHEMA coinflow TO coinflow"),
        );
        for kept in ["kept_1", "kept_2"] {
            sql(rig, &format!("INSERT INTO coinflow.orderbook SELECT * FROM coinflow.{kept}"));
        }
    });
    rig.stop_consumerd();
}

#[test]
fn a_database_of_another_encoding_is_refused_before_anything_is_stored() {
    let mut rig = Rig::new();
    let mut superuser = rig.postgres.connect_as("postgres", "postgres").expect("a connection");
    let make = "CREATE DATABASE latin OWNER coinflow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    superuser.batch_execute(make).expect("a database");
    let connection = rig.postgres.connection().replace("dbname=coinflow", "dbname=latin");
    let text = format!(
        "[postgres]\nconnection = \"{connection}\"\n[source.main]\nbrokers = [\"{}\"]\n",
        rig.kafka.bootstrap()
    );
    rig.consumerd.write("consumerd.toml", &text).expect("consumerd.toml");
    rig.consumerd.start().expect("consumerd starts");
    wait_status(&rig, "PostgreSQL refuses since");
    assert!(status(&rig).contains("the database has the encoding LATIN1"), "{}", status(&rig));
    let mut latin = rig.postgres.connect_as("coinflow", "latin").expect("a connection");
    let made = latin.query_one("SELECT to_regnamespace('coinflow') IS NOT NULL", &[]).expect("an answer");
    assert!(!made.get::<_, bool>(0), "nothing was made in it");
    rig.stop_consumerd();
}
