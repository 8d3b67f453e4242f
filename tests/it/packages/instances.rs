//! Two instances of each daemon on one host, as the shipped examples make them.

use std::time::Duration;

use coinflow_tests::servers::Release;
use coinflow_tests::wait::wait_until;

use super::{CONSUMER, PRODUCER, Working, beside_others, example_commands, on_each_release, symbols_file};
use crate::rig::{LATER, SOON, TOPIC};

on_each_release!(two_instances_do_not_disturb_each_other);

const SECOND_TOPIC: &str = "second.bithumb";

fn two_instances_do_not_disturb_each_other(release: Release) {
    let _turn = beside_others();
    let working = Working::new(release);
    working.watch("200ms", &["BTC", "ETH"]);
    working.wait_rows(20);
    // The second producerd has symbols and a topic of its own; the second consumerd a group and a schema.
    let (brokers, exchange) = (working.rig.kafka.bootstrap(), working.rig.exchange.base_url());
    let producerd = format!(
        "symbols_file = \"symbols.toml\"\n[kafka]\nbrokers = [\"{brokers}\"]\ntopic_prefix = \"second\"\n\
         librdkafka = {{ \"client.id\" = \"producerd-second\" }}\n\
         [spool]\ndirectory = \"/var/lib/coinflow-producerd-second\"\n[exchange.bithumb]\nbase_url = \"{exchange}\"\n"
    );
    let consumerd = format!(
        "[postgres]\nconnection = \"{}\"\ntls = \"off\"\nschema = \"second\"\n[source.main]\nbrokers = [\"{brokers}\"]\n\
         group = \"coinflow-consumerd-second\"\ntopics = [\"{TOPIC}\", \"{SECOND_TOPIC}\"]\n\
         librdkafka = {{ \"client.id\" = \"consumerd-second\" }}\n",
        working.rig.postgres.connection_tcp()
    );
    for (package, name, files) in [
        (
            PRODUCER,
            "producerd",
            &[("producerd.toml", &producerd), ("symbols.toml", &symbols_file("200ms", &["XRP"]))][..],
        ),
        (CONSUMER, "consumerd", &[("consumerd.toml", &consumerd)]),
    ] {
        // What the remarks have between the commands is what to write into the copied files.
        let commands = example_commands(package, &format!("systemd/{name}-second.conf"));
        let (before, start) = commands.rsplit_once('\n').expect("several commands");
        working.ok(before);
        for (file, text) in files {
            working.put(&format!("/etc/coinflow/second/{file}"), text);
        }
        working.ok(start);
    }
    let second = |table: &str, topic: &str| {
        working.rig.number(&format!("SELECT count(*) FROM {table}.orderbook WHERE kafka_topic = '{topic}'"))
    };
    let both = || (second("second", TOPIC)? > 0 && second("second", SECOND_TOPIC)? > 20).then_some(());
    wait_until(LATER, "rows of both topics in the second schema", both).unwrap_or_else(|error| {
        panic!(
            "{error}\n{}",
            working.ok("journalctl --no-pager -u coinflow-producerd-second -u coinflow-consumerd-second")
        )
    });
    // Each has a STATUS, a state folder, log lines and clients of its own.
    let status = |unit: &str| working.property(unit, "StatusText");
    assert!(status(PRODUCER).starts_with("2 symbols") && status("coinflow-producerd-second").starts_with("1 symbol,"));
    working.ok("test -d /var/lib/coinflow-producerd-second/bithumb");
    let complaints = working.journal("-u coinflow-producerd-second -p warning");
    assert!(!complaints.iter().any(|line| line.contains("spool")), "{complaints:?}");
    assert!(
        !working.journal("-u coinflow-producerd-second").is_empty()
            && !working.journal("-u coinflow-consumerd-second").is_empty()
    );
    let first = working.rig.client().group("coinflow-consumerd").expect("a group");
    assert_eq!((&*first.0, first.1.len()), ("Stable", 1), "{first:?}");
    assert_ne!(first.1, ["consumerd-second"]);
    let second_group = working.rig.client().group("coinflow-consumerd-second").expect("a group");
    assert_eq!(second_group, ("Stable".to_owned(), vec!["consumerd-second".to_owned()]));

    // What happens to the second is no affair of the first.
    let before = working.rig.rows();
    working.ok("systemctl reload coinflow-producerd-second");
    working.ok("systemctl stop coinflow-producerd-second coinflow-consumerd-second");
    std::thread::sleep(Duration::from_secs(1));
    wait_until(SOON, "rows of the first", || (working.rig.rows() >= before + 10).then_some(())).expect("rows");
    assert_eq!([PRODUCER, CONSUMER].map(|unit| working.property(unit, "NRestarts")), ["0", "0"]);
    working.ok("systemctl start coinflow-consumerd-second");
    working.ok(&format!("systemctl stop {PRODUCER}"));
    let records = working.rig.settle();
    let stored = || (second("second", TOPIC)? == records).then_some(());
    wait_until(LATER, "all of it in the second schema, too", stored).expect("stored");
    let own = "SELECT count(*) FROM coinflow.orderbook WHERE market = 'KRW-XRP'";
    assert_eq!(working.rig.number(own), Some(0), "the second's books are its own");
}
