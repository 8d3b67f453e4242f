//! From the exchange's reply to the row: nothing lost, nothing doubled, not a digit changed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use coinflow_tests::exchange::api::{LevelText, Pause, ServedBook};
use coinflow_tests::wait::wait_until;
use serde_json::{Value, json};

use crate::rig::{GROUP, Rig, SOON, TOPIC};

type Sides = [Vec<LevelText>; 2];

/// The texts as PostgreSQL itself reads and writes them as numeric: an opinion that shares no code with coinflow.
fn as_numeric(rig: &Rig, texts: &[String]) -> Vec<String> {
    let mut client = rig.postgres.connect().expect("a connection");
    let query = "SELECT array_agg(t::numeric::text ORDER BY n) FROM unnest($1::text[]) WITH ORDINALITY AS u (t, n)";
    client.query_one(query, &[&texts]).expect("numbers").get(0)
}

/// What the rows should hold for the books served: no level of price or quantity 0, best first.
fn expected(rig: &Rig, served: &[ServedBook]) -> HashMap<(String, i64), Sides> {
    let sides = |book: &ServedBook| [book.asks.clone(), book.bids.clone()];
    let texts: Vec<String> =
        served.iter().flat_map(sides).flatten().flat_map(|(price, quantity)| [price, quantity]).collect();
    let mut numbers = as_numeric(rig, &texts).into_iter();
    let is_zero = |text: &str| text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let mut side = |levels: &[LevelText]| -> Vec<LevelText> {
        let pair = |_: &LevelText| (numbers.next().expect("a price"), numbers.next().expect("a quantity"));
        let levels: Vec<LevelText> = levels.iter().map(pair).collect();
        levels.into_iter().filter(|(price, quantity)| !is_zero(price) && !is_zero(quantity)).collect()
    };
    let entry = |book: &ServedBook| {
        let (asks, bids) = (side(&book.asks), side(&book.bids));
        ((book.market.clone(), book.timestamp_ms as i64), [asks, bids])
    };
    served.iter().map(entry).collect()
}

fn stored(rig: &Rig) -> HashMap<(String, i64), Sides> {
    let mut client = rig.postgres.connect().expect("a connection");
    let query = "SELECT market, (extract(epoch FROM exchange_ts) * 1000)::bigint, \
                        ask_price::text[], ask_quantity::text[], bid_price::text[], bid_quantity::text[] \
                   FROM coinflow.orderbook";
    let rows = client.query(query, &[]).expect("rows");
    let zip = |prices: Vec<String>, quantities: Vec<String>| prices.into_iter().zip(quantities).collect();
    rows.iter()
        .map(|row| ((row.get(0), row.get(1)), [zip(row.get(2), row.get(3)), zip(row.get(4), row.get(5))]))
        .collect()
}

/// Runs the path for some seconds and compares the three ends.
fn run(rig: &mut Rig, symbols: &[&str]) {
    rig.watch("200ms", symbols);
    rig.start_daemons();
    rig.wait_rows(20 * symbols.len() as i64, SOON);
    // From here on no request gets through, so that none is cut off by the stop.
    rig.control().pause(Pause::Reset).expect("paused");
    let summary = rig.stop_producerd();
    let records = rig.settle();
    let served = rig.control().served(0).expect("books");
    assert_eq!(summary["books_accepted"], served.len() as u64, "{summary:?}");
    assert_eq!((summary["books_delivered"], summary["books_dropped"]), (records as u64, 0), "{summary:?}");
    assert_eq!(
        summary["polls_due"],
        summary["polls_done"] + summary["polls_skipped"] + summary["polls_failed"],
        "{summary:?}"
    );
    assert_eq!(rig.dead_letters(), 0);
    let (expected, stored) = (expected(rig, &served), stored(rig));
    assert_eq!(expected.len(), served.len(), "market and time name a book");
    assert_eq!(stored.len(), expected.len());
    for (key, sides) in &expected {
        assert_eq!(stored.get(key), Some(sides), "{key:?}");
    }
    let gaps = "SELECT count(*) FROM (SELECT producer_sequence - lag(producer_sequence, 1, 0::bigint) \
                OVER (PARTITION BY market, producer_run ORDER BY producer_sequence) AS step FROM coinflow.orderbook) AS s \
                WHERE step <> 1";
    assert_eq!(rig.number(gaps), Some(0), "sequence numbers have no gap");
}

const STRANGE: [&[(&str, &str)]; 2] = [
    &[
        ("1.16539E8", "5.0E-7"),
        ("1.5e8", "1.50"),
        ("150000001", "0"),
        ("150000002.000000000000000001", "0.123456789012345678"),
        ("0", "0"),
        ("99999999999999999999.999999999999999999", "1E19"),
    ],
    &[("1.0E8", "0.0000"), ("99999999", "1"), ("1", "0.00077720"), ("1.4E-7", "7.9276E-4"), ("0", "0")],
];

#[test]
fn every_book_served_is_one_record_and_one_row_to_the_last_digit() {
    let mut rig = Rig::new();
    let control = rig.control();
    control.set_book("KRW-XRP", STRANGE[0], STRANGE[1]).expect("a book");
    control.set_book("KRW-SOL", &[], &[]).expect("an empty book");
    control.set_switches(&json!({"bithumb_v2": {"numbers": "trailing_zeros"}})).expect("switched");
    run(&mut rig, &["BTC", "KRW-ETH", "XRP", "SOL", "KRW-NFT", "BTC-ETH"]);

    // Bithumb's own connection kept alive, compressed, by a client that says who it is.
    let requests = rig.control().requests(0).expect("requests");
    let books: Vec<_> = requests.iter().filter(|request| request.path.starts_with("/v1/orderbook")).collect();
    assert!(books.iter().all(|request| request.user_agent.as_deref().is_some_and(|a| a.starts_with("coinflow"))));
    let of_30_levels = books.iter().filter(|request| request.status == 200 && request.markets == ["KRW-BTC"]);
    assert!(of_30_levels.clone().count() > 0 && of_30_levels.clone().all(|request| request.gzip));
    let connections: BTreeMap<_, usize> = books.iter().fold(BTreeMap::new(), |mut count, request| {
        *count.entry(request.connection).or_default() += 1;
        count
    });
    let ok = books.iter().filter(|request| request.status == 200).count();
    let kept = connections.values().filter(|requests| **requests > 1).sum::<usize>();
    assert!(kept * 2 > ok, "connections are kept: {connections:?}");

    records_are_as_the_contract_says(&rig);
    views_show_the_levels(&rig);
    rig.stop_consumerd();
}

fn records_are_as_the_contract_says(rig: &Rig) {
    let records = rig.client().records(TOPIC).expect("records");
    for record in &records {
        let value = record.value.as_deref().expect("a value");
        let book: Value = serde_json::from_slice(value).expect("JSON");
        assert_eq!(serde_json::to_vec(&book).map(|text| text.len()).ok(), Some(value.len()), "compact");
        let text = std::str::from_utf8(value).expect("UTF-8");
        let keys =
            ["exchange", "market", "exchange_ts", "requested_at", "received_at", "run", "sequence", "asks", "bids"];
        let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).expect("the key")).collect();
        assert!(places.is_sorted(), "{text}");
        assert_eq!(record.key.as_deref(), book["market"].as_str().map(str::as_bytes));
        let header = |name: &str| {
            let (_, value) = record.headers.iter().find(|(key, _)| key == name).expect("the header");
            String::from_utf8(value.clone().expect("a value")).expect("UTF-8")
        };
        assert_eq!((header("schema"), header("exchange")), ("coinflow.orderbook/1".to_owned(), "bithumb".to_owned()));
        assert!(header("producer").starts_with("producerd/"), "{}", header("producer"));
        assert_eq!(text.as_bytes().first(), Some(&b'{'));
        assert!(book["requested_at"].as_str() <= book["received_at"].as_str());
    }
    let configs = rig.client().topic_configs(TOPIC).expect("configs");
    let config = |name: &str| configs[name].clone().unwrap_or_default();
    assert_eq!(config("retention.ms"), (7 * 86_400_000u64).to_string());
    assert_eq!(config("retention.bytes"), (10u64 << 30).to_string());
    assert_eq!(config("max.message.bytes"), (1u64 << 20).to_string());
    assert_eq!(rig.client().partitions(TOPIC).expect("partitions").len(), 3);
    // What AKHQ shows as lag: committed for each partition, also an empty one.
    let ends: BTreeMap<i32, i64> = rig
        .client()
        .watermarks(TOPIC)
        .expect("watermarks")
        .into_iter()
        .map(|(partition, (_, end))| (partition, end))
        .collect();
    let committed = || rig.client().committed(GROUP, TOPIC).ok().filter(|committed| *committed == ends);
    wait_until(Duration::from_secs(10), "commits of every partition", committed).expect("idle: committed = end");
}

fn views_show_the_levels(rig: &Rig) {
    let mut client = rig.postgres.connect().expect("a connection");
    let wrong = "SELECT count(*) FROM coinflow.orderbook o WHERE cardinality(ask_price) <> \
                 (SELECT count(*) FROM coinflow.asks a WHERE (a.kafka_partition, a.kafka_offset) = (o.kafka_partition, o.kafka_offset))";
    assert_eq!(client.query_one(wrong, &[]).expect("asks").get::<_, i64>(0), 0);
    let best = client
        .query(
            "SELECT l.market, l.best_ask_price = a.price AND l.best_ask_quantity = a.quantity, l.spread, l.age > '0' \
               FROM coinflow.latest l JOIN coinflow.asks a \
                 ON (a.kafka_partition, a.kafka_offset, a.level) = (l.kafka_partition, l.kafka_offset, 1) ORDER BY 1",
            &[],
        )
        .expect("latest");
    let markets: Vec<String> = best.iter().map(|row| row.get(0)).collect();
    assert_eq!(markets, ["BTC-ETH", "KRW-BTC", "KRW-ETH", "KRW-NFT", "KRW-XRP"], "KRW-SOL has no ask");
    assert!(best.iter().all(|row| row.get::<_, bool>(1) && row.get::<_, bool>(3)));
    let empty =
        "SELECT count(*) FROM coinflow.latest WHERE market = 'KRW-SOL' AND ask_price = '{}' AND best_ask_price IS NULL";
    assert_eq!(rig.number(empty), Some(1), "an empty side is an empty array");
}

#[test]
fn the_older_api_gives_the_same() {
    let mut rig = Rig::new();
    rig.configure_producerd("api = \"legacy\"");
    rig.control().set_book("KRW-XRP", STRANGE[0], STRANGE[1]).expect("a book");
    run(&mut rig, &["BTC", "KRW-ETH", "XRP", "KRW-NFT", "BTC-ETH"]);
}

#[test]
fn many_markets_in_one_request_give_the_same() {
    let mut rig = Rig::new();
    rig.configure_producerd("markets_per_request = 100");
    rig.control().set_switches(&json!({"bithumb_v2": {"object_order": "shuffled"}})).expect("switched");
    run(&mut rig, &["BTC", "KRW-ETH", "XRP", "SOL", "KRW-NFT", "BTC-ETH"]);
    let requests = rig.control().requests(0).expect("requests");
    assert!(requests.iter().filter(|request| request.status == 200).all(|request| request.markets.len() == 6));
}
