//! The faults that the README names: each is provoked, and STATUS or the journal says what the README says it says.

use coinflow_tests::exchange::api::{Fault, FaultRule, Target};
use coinflow_tests::servers::{Release, StopMode, free_port};
use coinflow_tests::wait::wait_until;

use super::{CONSUMER, PRODUCER, Working, beside_others, on_each_release, repository, symbols_file};
use crate::rig::{LATER, TOPIC};

on_each_release!(the_likely_faults_are_told_as_the_readme_says);

/// Whether a text contains a pattern, in which `…` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    pattern.split('…').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// What the README quotes has to be seen: in STATUS of the unit, or as a line of its journal.
fn see(working: &Working, unit: &str, pattern: &str) {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("the README");
    assert!(readme.contains(&format!("`{pattern}`")), "the README does not have `{pattern}`");
    let mut status = String::new();
    let seen = || {
        status = working.property(unit, "StatusText");
        let is_told = matches(pattern, &status)
            || working.journal(&format!("-u {unit} -p warning")).iter().any(|line| matches(pattern, line));
        is_told.then_some(())
    };
    wait_until(LATER, &format!("{pattern:?} of {unit}"), seen).unwrap_or_else(|error| {
        panic!("{error}; STATUS is {status:?}\n{}", working.logs());
    });
    show!("{pattern}\n    {status}");
}

fn the_likely_faults_are_told_as_the_readme_says(release: Release) {
    let _turn = beside_others();
    let mut working = Working::new(release);
    let restart =
        |working: &Working, unit: &str| _ = working.machine.run(&format!("systemctl restart {unit}")).expect("it ends");
    see(&working, PRODUCER, "watches nothing: add symbols to /etc/coinflow/symbols.toml");

    // The exchange: one market, its rate, and all of it.
    working.watch("200ms", &["BTC", "NOPE"]);
    working.wait_rows(10);
    see(&working, PRODUCER, "unknown to bithumb: KRW-NOPE");
    let all = |fault| FaultRule { target: Target::Books, fault, times: None };
    working.rig.control().add_fault(&all(Fault::Gateway { status: 502 })).expect("a fault");
    see(&working, PRODUCER, "bithumb does not answer since …: HTTP status 502");
    working.rig.control().clear_faults().expect("no faults");
    working.wait_rows(10);
    let refusal = Fault::reply(429, "text/plain", "");
    working.rig.control().add_fault(&all(refusal)).expect("a fault");
    see(&working, PRODUCER, "bithumb refuses requests since …");
    working.rig.control().clear_faults().expect("no faults");

    // The files.
    working.put("/etc/coinflow/symbols.toml", &symbols_file("200ms", &["BTC", "KRW_ETH"]));
    assert!(!working.machine.run("systemctl reload producerd").expect("it ends").status.success());
    see(&working, PRODUCER, "/etc/coinflow/symbols.toml:3:19: …");
    working.put("/etc/coinflow/symbols.toml", &symbols_file("200ms", &["BTC"]));
    working.put("/etc/coinflow/consumerd.toml", "[source.main]\nbroker = [\"localhost:9092\"]\n");
    restart(&working, CONSUMER);
    see(&working, CONSUMER, "/etc/coinflow/consumerd.toml:…: source.main.broker: unknown key; did you mean brokers?");
    assert_eq!(working.property(CONSUMER, "ExecMainStatus"), "78");
    working.configure("", "");
    // The pause after the refusal is over for a new process.
    restart(&working, PRODUCER);
    restart(&working, CONSUMER);
    working.wait_rows(10);

    // PostgreSQL.
    let mut admin = working.rig.postgres.connect_as("postgres", "postgres").expect("a connection");
    admin.batch_execute("ALTER ROLE coinflow RENAME TO another").expect("renamed");
    restart(&working, CONSUMER);
    see(&working, CONSUMER, "PostgreSQL refuses since …: role \"coinflow\" does not exist (SQLSTATE 28000)");
    admin.batch_execute("ALTER ROLE another RENAME TO coinflow").expect("renamed");
    drop(admin);
    working.wait_rows(10);
    working.rig.postgres.stop(StopMode::Fast).expect("stopped");
    see(&working, CONSUMER, "PostgreSQL down since …: error connecting to server: Connection refused (os error 111)");
    working.rig.postgres.start_again().expect("started");
    working.wait_rows(10);

    // Kafka.
    working.rig.kafka.stop().expect("stopped");
    see(&working, PRODUCER, "Kafka down since …: Connect to ipv4#… failed: Connection refused");
    working.rig.kafka.start_all().expect("started");
    working.wait_rows(10);
    let brokers = working.rig.kafka.bootstrap();
    working.ok(&format!(
        "sed -i 's/{brokers}/kafka1.invalid:{}/' /etc/coinflow/producerd.toml",
        free_port().expect("a port")
    ));
    restart(&working, PRODUCER);
    see(&working, PRODUCER, "Kafka down since …: Failed to resolve 'kafka1…");
    working.configure(
        "[exchange.bithumb.kafka]\ntopic_prefix = \"other\"\n[exchange.bithumb.kafka.topic]\nreplication_factor = 3",
        "",
    );
    restart(&working, PRODUCER);
    see(&working, PRODUCER, "topic cannot be made, tried again …replication factor…");
    working.configure("", "");
    restart(&working, PRODUCER);
    working.wait_rows(10);

    // Records that cannot be stored, and records that are gone.
    working.rig.client().produce(TOPIC, Some(0), Some(b"KRW-BTC"), Some(b"no JSON"), &[]).expect("a record");
    see(&working, CONSUMER, "1 dead letters");
    working.ok(&format!("systemctl stop {PRODUCER}"));
    working.rig.settle();
    working.ok(&format!("systemctl stop {CONSUMER}"));
    working.ok(&format!("systemctl start {PRODUCER}"));
    let client = working.rig.client();
    let ends = client.watermarks(TOPIC).expect("watermarks");
    let grown = || {
        let now = client.watermarks(TOPIC).ok()?;
        now.iter()
            .find(|(partition, (_, end))| ends[*partition].1 + 5 < *end)
            .map(|(partition, (_, end))| (*partition, *end))
    };
    let (partition, end) = wait_until(LATER, "records", grown).expect("records");
    client.delete_before(TOPIC, partition, end).expect("deleted");
    working.ok(&format!("systemctl start {CONSUMER}"));
    see(&working, CONSUMER, "STOPPED coinflow.orderbook.bithumb/…: next offset … is deleted already; Kafka holds …");
}
