//! Everything may be down at start, and come up in any order.

use std::time::Duration;

use coinflow_tests::servers::StopMode;

use crate::rig::{LATER, Rig, SOON, lines_at};

#[derive(Clone, Copy, Debug)]
enum Server {
    Exchange,
    Kafka,
    Postgres,
}

fn everything_down_then(order: [Server; 3]) {
    let mut rig = Rig::new();
    rig.watch("200ms", &["BTC", "ETH"]);
    rig.exchange.stop().expect("down");
    rig.kafka.stop().expect("down");
    rig.postgres.stop(StopMode::Fast).expect("down");
    rig.start_daemons();
    for daemon in [&rig.producerd, &rig.consumerd] {
        daemon.wait_for_notify("READY=1", Duration::from_secs(5)).expect("ready with everything down");
    }
    // Long enough for several tries of everything.
    std::thread::sleep(Duration::from_secs(6));
    let states = [
        (&rig.producerd, &["kafka is not reachable", "poll failed", "exchange does not answer"][..]),
        (&rig.consumerd, &["kafka is not reachable", "database is not reachable"]),
    ];
    for (daemon, states) in states {
        let warnings = lines_at(daemon, "WARN");
        for state in states {
            let lines = warnings.iter().filter(|line| line.contains(state)).count();
            // Each of the two markets fails for itself, until the exchange as a whole is left alone.
            let most = if *state == "poll failed" { 2 } else { 1 };
            assert!(
                (1..=most).contains(&lines),
                "one line per change of state, not {lines} of {state:?}: {warnings:#?}"
            );
        }
        assert_eq!(lines_at(daemon, "ERROR"), [""; 0]);
    }
    for server in order {
        match server {
            Server::Exchange => rig.exchange.start_again().expect("up"),
            Server::Kafka => rig.kafka.start_all().expect("up"),
            Server::Postgres => rig.postgres.start_again().expect("up"),
        }
    }
    rig.wait_rows(20, LATER);
    let summary = rig.stop_producerd();
    assert_eq!(summary["books_accepted"], summary["books_delivered"], "{summary:?}");
    rig.settle();
    rig.stop_consumerd();
}

#[test]
fn exchange_kafka_postgresql() {
    everything_down_then([Server::Exchange, Server::Kafka, Server::Postgres]);
}

#[test]
fn postgresql_kafka_exchange() {
    everything_down_then([Server::Postgres, Server::Kafka, Server::Exchange]);
}

#[test]
fn kafka_postgresql_exchange() {
    everything_down_then([Server::Kafka, Server::Postgres, Server::Exchange]);
}

#[test]
fn two_consumerds_make_one_schema() {
    let mut rig = Rig::new();
    let mut second =
        coinflow_tests::servers::Daemon::new(coinflow_tests::servers::Program::Consumerd).expect("a folder");
    rig.configure_consumerd(&second, "");
    rig.watch("200ms", &["BTC", "ETH", "XRP", "SOL"]);
    rig.consumerd.start().expect("the first starts");
    second.start().expect("the second starts");
    rig.producerd.start().expect("producerd starts");
    rig.wait_rows(30, SOON);
    rig.stop_producerd();
    rig.settle();
    assert!(second.stop().expect("it ends").success());
    rig.stop_consumerd();
}
