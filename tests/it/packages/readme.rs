//! The operator's way of the README, command by command, on a machine of its own.

use std::path::Path;

use coinflow_tests::servers::{Machine, MachineOptions, Release, kafka_jars, program};
use coinflow_tests::wait::wait_until;

use super::{CONSUMER, PRODUCER, beside_others, deb, on_each_release, repository};
use crate::rig::LATER;

on_each_release!(every_command_does_what_it_says);

const KAFKA_JARS: &str = "/opt/kafka/libs";
const EXCHANGE: &str = "/usr/local/bin/exchange";
const EXCHANGES: [(&str, u16); 2] = [("bithumb", 7001), ("upbit", 7002)];

/// The blocks of commands that are for the operator's host, in their order.
fn blocks() -> Vec<String> {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("the README");
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while lines.any(|line| line == "```sh operator") {
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(block.join("\n"));
    }
    blocks
}

/// Apache Kafka comes as an archive that has these scripts; here they start the same classes from Maven's jars.
fn unpack_kafka(machine: &Machine) {
    for (name, class) in [("kafka-storage.sh", "kafka.tools.StorageTool"), ("kafka-server-start.sh", "kafka.Kafka")] {
        let script = format!("#!/bin/sh\nexec java $KAFKA_HEAP_OPTS -cp '{KAFKA_JARS}/*' {class} \"$@\"\n");
        machine.put(&format!("/opt/kafka/bin/{name}"), script.as_bytes(), 0o755).expect("a script");
    }
}

fn every_command_does_what_it_says(release: Release) {
    let _turn = beside_others();
    let jars = kafka_jars().expect("Kafka's jars");
    let options =
        MachineOptions { has_servers: true, has_own_network: true, binds: vec![(jars, KAFKA_JARS.to_owned())] };
    let machine = Machine::boot(release, &options).expect("a machine");
    unpack_kafka(&machine);
    for package in [PRODUCER, CONSUMER] {
        let file = deb(package);
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        machine.put_file(&file, &format!("/root/{name}"), 0o644).expect("a package");
    }
    // The exchanges of this machine, for there is no way to the real ones.
    machine.put_file(Path::new(&program("exchange").expect("built")), EXCHANGE, 0o755).expect("the exchange");
    let unit = format!("[Service]\nExecStart={EXCHANGE} --venue %i --port $PORT\nEnvironmentFile=/etc/exchange/%i\n");
    machine.put("/etc/systemd/system/exchange@.service", unit.as_bytes(), 0o644).expect("a unit");
    for (venue, port) in EXCHANGES {
        machine.put(&format!("/etc/exchange/{venue}"), format!("PORT={port}\n").as_bytes(), 0o644).expect("a port");
    }

    let blocks = blocks();
    assert!(blocks.len() >= 7, "{blocks:#?}");
    let mut said = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        // What is installed already needs no network.
        let script = format!("set -e; cd /root\nalias apt='apt-get -qq --yes'\n{block}");
        let finished =
            machine.run(&script.replace("apt install default-jre-headless", "java -version")).expect("it ends");
        assert!(finished.status.success(), "block {index}: {finished:?}\n{block}");
        show!("{}", finished.stdout);
        said.push(finished.stdout);
        match index {
            0 => {
                let file = "/etc/coinflow/producerd.toml";
                for (venue, port) in EXCHANGES {
                    machine.ok(&format!("systemctl start exchange@{venue}")).expect("the exchange runs");
                    let table = format!("\n[exchange.{venue}]\nbase_url = \"http://127.0.0.1:{port}\"\n");
                    machine
                        .ok(&format!("sed -i '/^\\[exchange.{venue}\\]/d' {file}; printf '{table}' >>{file}"))
                        .expect("an edit");
                }
                machine.ok(&format!("producerd --check; systemctl restart {PRODUCER}")).expect("restarted");
            }
            2 => {
                let up = || machine.property("kafka", "ActiveState").is_ok_and(|state| state == "active").then_some(());
                wait_until(LATER, "Kafka to run", up).expect("running");
            }
            3 => {
                let rows = || {
                    let count =
                        machine.ok("sudo -u coinflow psql -At -c 'SELECT count(*) FROM coinflow.orderbook'").ok()?;
                    (count.trim().parse::<u64>().ok()? > 20).then_some(())
                };
                wait_until(LATER, "rows", rows).unwrap_or_else(|error| {
                    panic!("{error}\n{}", machine.ok("journalctl --no-pager -n 100").expect("the journal"))
                });
            }
            _ => {}
        }
    }
    let [install, _, _, symbols, rows, holes, journal, _akhq] = &said[..] else { panic!("{} blocks", said.len()) };
    assert_eq!(install.matches("Status: \"").count(), 2, "{install}");
    assert!(symbols.contains("{\"exchange\":\"bithumb\",\"market\":\"KRW-BTC\""), "{symbols}");
    assert!(symbols.matches("{\"exchange\":\"upbit\",\"market\":\"KRW-").count() > 20, "{symbols}");
    assert!(!symbols.contains("\"market\":\"KRW-USDT\""), "{symbols}");
    for market in ["KRW-BTC", "KRW-ETH", "KRW-XRP"] {
        assert!(rows.contains(market), "{rows}");
        let is_of_market = |line: &&str| line.contains("bithumb") && line.contains(market);
        let missing = holes.lines().find(is_of_market).expect("a line");
        assert!(missing.ends_with(" 0"), "{missing}");
    }
    assert!(rows.contains("(30 rows)") && rows.contains("\n     1 |"), "{rows}");
    assert!(journal.contains("kafka is not reachable"), "{journal}");
    assert_eq!(journal.matches("role \\\"coinflow\\\" does not exist").count(), 1, "{journal}");
    // At the next boot all of it comes up by itself.
    for unit in ["kafka", PRODUCER, CONSUMER] {
        assert_eq!(machine.property(unit, "UnitFileState").expect("a state"), "enabled", "{unit}");
    }
}
