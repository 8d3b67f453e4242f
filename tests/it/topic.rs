//! The topic: how it is against how it is configured, and books that are too large for it.

use std::time::Duration;

use coinflow_tests::wait::wait_until;

use crate::rig::{LATER, Rig, SOON, TOPIC, lines_at};

#[test]
fn a_topic_that_is_not_as_configured_is_told_with_the_command_and_left_alone() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 1, 1, &[("retention.ms", "3600000")]).expect("a topic");
    rig.watch("100ms", &["BTC"]);
    rig.producerd.start().expect("producerd starts");
    let line = rig.producerd.wait_for_line("topic is not as configured", SOON).expect("told");
    let expected = "exchange=bithumb topic=coinflow.orderbook.bithumb retention=1h configured=7d \
                    retention_size=unlimited configured=10GiB";
    assert!(line.contains(" WARN ") && line.contains(expected), "{line}");
    assert!(line.ends_with("partitions=1 configured=3"), "{line}");
    rig.producerd.wait_for_line("kafka-topics.sh --bootstrap-server", SOON).expect("told");
    let lines = rig.producerd.stderr().all();
    let told: Vec<&str> = lines.iter().filter_map(|line| line.split_once("command=\"")).map(|(_, text)| text).collect();
    assert_eq!(told.len(), 2, "{lines:#?}");
    // It did nothing by itself; an operator runs what it says. Of Kafka's scripts, this rig has the class of the first one only.
    let mut words = told[0].trim_end_matches('"').split(' ');
    assert_eq!(words.next(), Some("kafka-configs.sh"));
    assert_eq!(words.next(), Some("--bootstrap-server"));
    assert_eq!(words.next(), Some(rig.kafka.bootstrap().as_str()));
    rig.kafka.tool("kafka.admin.ConfigCommand", &words.collect::<Vec<_>>()).expect("it works");
    assert!(told[1].ends_with(&format!("--alter --topic {TOPIC} --partitions 3\"")), "{}", told[1]);
    rig.client().add_partitions(TOPIC, 3).expect("more partitions");
    // After the next reconnect, all is well.
    rig.kafka.restart().expect("restarted");
    rig.producerd.wait_for_line("topic is as configured", LATER).unwrap_or_else(|e| panic!("{e}\n{}", rig.logs()));
    rig.stop_producerd();
}

#[test]
fn a_book_that_is_too_large_is_dropped_and_keeps_nobody() {
    let mut rig = Rig::new();
    rig.configure_producerd("levels = 5000\nkafka.topic.max_message_size = \"64KiB\"");
    let side = |first: u64, step: i64| -> Vec<(String, String)> {
        (0..3000).map(|n| (first.saturating_add_signed(n * step).to_string(), format!("0.{:018}", n + 1))).collect()
    };
    let (asks, bids) = (side(1_000_000_000, 1), side(999_999_999, -1));
    fn borrow(side: &[(String, String)]) -> Vec<(&str, &str)> {
        side.iter().map(|(price, quantity)| (price.as_str(), quantity.as_str())).collect()
    }
    rig.watch("100ms", &["BTC", "ETH"]);
    rig.start_daemons();
    rig.wait_rows(10, SOON);
    rig.control().set_book("KRW-BTC", &borrow(&asks), &borrow(&bids)).expect("a big book");
    let line = rig.producerd.wait_for_line("book refused by Kafka and dropped", SOON);
    let line = line.unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    assert!(line.contains(" ERROR ") && line.contains("market=KRW-BTC") && line.contains("too large"), "{line}");
    // The other market goes on, and this one when its book fits again.
    let count = |market: &str| {
        rig.number(&format!("SELECT count(*) FROM coinflow.orderbook WHERE market = '{market}'")).unwrap_or(0)
    };
    let before = count("KRW-ETH");
    wait_until(SOON, "the other's books", || (count("KRW-ETH") > before + 20).then_some(())).expect("books");
    rig.control().generate_book("KRW-BTC").expect("a small book");
    let before = count("KRW-BTC");
    wait_until(SOON, "its books", || (count("KRW-BTC") > before + 5).then_some(())).expect("books");
    std::thread::sleep(Duration::from_millis(300));
    let numbers = rig.stop_producerd();
    assert!(numbers["books_dropped"] > 0, "{numbers:?}");
    assert_eq!(numbers["books_accepted"], numbers["books_delivered"] + numbers["books_dropped"], "{numbers:?}");
    assert_eq!(lines_at(&rig.producerd, "ERROR").len(), 1, "once, not for each\n{}", rig.logs());
    let (_, missing, doubled, disorder) = rig.account_of_rows(0);
    assert_eq!((missing as u64, doubled, disorder), (numbers["books_dropped"], 0, 0));
}
