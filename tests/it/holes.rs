//! From the table alone one can tell which books were lost: exactly the missing sequence numbers.

use coinflow_tests::wait::wait_until;

use crate::rig::{LATER, Rig, SOON, lines_at};

#[test]
fn the_missing_sequence_numbers_are_the_dropped_books() {
    let mut rig = Rig::new();
    // Big books fill the spool within seconds.
    rig.configure_producerd("levels = 3000");
    let side = |first: u64, step: i64| -> Vec<(String, String)> {
        (0..3000)
            .map(|n| (first.saturating_add_signed(n * step).to_string(), "0.123456789012345678".to_owned()))
            .collect()
    };
    let (asks, bids) = (side(1_000_000_000, 1), side(999_999_999, -1));
    fn borrow(side: &[(String, String)]) -> Vec<(&str, &str)> {
        side.iter().map(|(price, quantity)| (price.as_str(), quantity.as_str())).collect()
    }
    for market in ["KRW-BTC", "KRW-ETH"] {
        rig.control().set_book(market, &borrow(&asks), &borrow(&bids)).expect("a big book");
    }
    rig.watch("100ms", &["BTC", "ETH"]);
    rig.start_daemons();
    rig.wait_rows(10, SOON);
    rig.kafka.stop().expect("down");
    let line = rig.producerd.wait_for_line("dropped", LATER).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    assert!(line.contains("bithumb"), "{line}");
    std::thread::sleep(std::time::Duration::from_secs(2));
    rig.kafka.start_all().expect("up");
    let rows = rig.rows();
    // What waited, and then fresh books.
    rig.wait_rows(rows + 20, LATER);
    let idle = || {
        let status = rig.producerd.notify().all().iter().rev().find_map(|m| m.value("STATUS").map(str::to_owned));
        status.filter(|status| status.contains("Kafka up") && !status.contains("in the spool"))
    };
    wait_until(LATER, "producerd to find Kafka", idle).unwrap_or_else(|error| panic!("{error}\n{}", rig.logs()));
    let summary = rig.stop_producerd();
    rig.settle();
    assert!(summary["books_dropped"] > 0, "{summary:?}");
    assert_eq!(summary["books_accepted"], summary["books_delivered"] + summary["books_dropped"], "{summary:?}");
    let missing = "SELECT (sum(last - stored))::bigint FROM (SELECT max(producer_sequence) AS last, count(*) AS stored \
                   FROM coinflow.orderbook GROUP BY market, producer_run) AS runs";
    assert_eq!(rig.number(missing), Some(summary["books_dropped"] as i64), "{summary:?}");
    let doubled = "SELECT count(*) - count(DISTINCT (market, producer_run, producer_sequence)) FROM coinflow.orderbook";
    assert_eq!(rig.number(doubled), Some(0));
    // In order per market, although some waited.
    let disorder = "SELECT count(*) FROM (SELECT producer_sequence - lag(producer_sequence) \
                    OVER (PARTITION BY market, producer_run ORDER BY kafka_partition, kafka_offset) AS step \
                    FROM coinflow.orderbook) AS s WHERE step <= 0";
    assert_eq!(rig.number(disorder), Some(0));
    let told = lines_at(&rig.producerd, "ERROR").iter().filter(|line| line.contains("dropped")).count();
    assert!((1..=3).contains(&told), "at once, and when it is over\n{}", rig.logs());
    assert!(line.contains("market=KRW-") && line.contains(".."), "{line}");
}
