//! A broker that its controller has given up, and that counts itself out for a moment when it comes back.

use std::time::Duration;

use coinflow_tests::servers::{KafkaOptions, KafkaProxy, free_port};
use coinflow_tests::wait::wait_until;

use crate::rig::{LATER, Rig};

/// It answers that there are topics and no brokers. librdkafka 2.12 then throws away every address that it has.
#[test]
fn the_only_broker_is_found_again_after_it_has_named_none() {
    let (listens, advertised) = (free_port().expect("a port"), free_port().expect("a port"));
    let proxy = KafkaProxy::start(advertised, listens).expect("a proxy");
    let options = KafkaOptions { proxied: vec![(listens, advertised)], ..KafkaOptions::default() };
    let mut rig = Rig::with(&options, &Default::default());
    let brokers = format!("brokers = [\"127.0.0.1:{advertised}\"]");
    // They ask for metadata each second.
    let often = "librdkafka = { \"topic.metadata.refresh.interval.ms\" = 1000 }";
    rig.configure_producerd(&format!("kafka.{brokers}\nkafka.{often}"));
    let connection = rig.postgres.connection();
    let consumerd = format!("[postgres]\nconnection = \"{connection}\"\n[source.main]\n{brokers}\n{often}\n");
    rig.consumerd.write("consumerd.toml", &consumerd).expect("consumerd.toml");
    rig.watch("200ms", &["BTC", "ETH", "XRP"]);
    rig.start_daemons();
    rig.wait_rows(20, LATER);

    // librdkafka may find its way back by itself, and most often does not.
    for _ in 0..6 {
        let before = rig.rows();
        let changed = proxy.changed();
        proxy.names_none(true);
        let both = || (proxy.changed() >= changed + 2).then_some(());
        wait_until(LATER, "both daemons to hear of no broker", both).unwrap_or_else(|error| panic!("{error}"));
        std::thread::sleep(Duration::from_millis(1500));
        proxy.names_none(false);
        rig.wait_rows(before + 40, LATER);
    }
    let summary = rig.stop_producerd();
    assert_eq!((summary["books_dropped"], summary["books_in_flight"]), (0, 0), "{summary:?}\n{}", rig.logs());
    let accepted = i64::try_from(summary["books_accepted"]).expect("a few");
    assert_eq!((rig.settle(), rig.dead_letters()), (accepted, 0), "{}", rig.logs());
    rig.stop_consumerd();
}
