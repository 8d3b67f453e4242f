//! The books that the benchmarks are made of, with digits as Bithumb's have them, and a topic full of them.

use std::time::{Duration, SystemTime};

use coinflow_common::orderbook::{Decimal, Exchange, Level, Market, OrderBook, SCHEMA, Timestamp};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use uuid::Uuid;

use crate::servers::KafkaClient;

/// What a topic is filled with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) books: u64,
    /// A side.
    pub(super) levels: u64,
    pub(super) partitions: i32,
    pub(super) markets: u64,
}

/// A cheap generator, so that quantities do not repeat: a step of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn decimal(text: &str) -> Result<Decimal, String> {
    Decimal::parse_plain(text).map_err(|error| format!("{text}: {error}"))
}

/// A book whose numbers follow from `seed`.
pub(super) fn book(shape: &Shape, run: Uuid, seed: u64, received_at: Timestamp) -> Result<OrderBook, String> {
    let price = 150_000_000 + mixed(seed) % 10_000 * 1000;
    let side = |direction: i64| -> Result<Vec<Level>, String> {
        (0..shape.levels)
            .map(|level| {
                let price = price as i64 + direction * (level as i64 * 1000 + 500);
                let quantity = mixed(seed * 64 + level) % 1_000_000_000;
                Ok(Level {
                    price: decimal(&price.to_string())?,
                    quantity: decimal(&format!("{}.{:08}", quantity / 100_000_000, quantity % 100_000_000 + 1))?,
                })
            })
            .collect()
    };
    let market = Market::parse(&format!("KRW-T{:04}", seed % shape.markets)).map_err(|error| super::whole(&error))?;
    Ok(OrderBook {
        exchange: Exchange::parse("bithumb").map_err(|error| super::whole(&error))?,
        market,
        exchange_ts: Some(received_at),
        requested_at: Some(received_at),
        received_at,
        run,
        sequence: (seed / shape.markets) as i64 + 1,
        asks: side(1)?,
        bids: side(-1)?,
    })
}

/// Makes the topic and fills it, as producerd would, lz4 and all; the values of the first thousands, for whoever wants to
/// decode them.
pub(super) fn fill(client: &KafkaClient, bootstrap: &str, topic: &str, shape: &Shape) -> Result<Vec<Vec<u8>>, String> {
    const KEPT: usize = 20_000;
    client.create_topic(topic, shape.partitions, 1, &[])?;
    client.wait_topic(topic, usize::try_from(shape.partitions).unwrap_or(1), Duration::from_secs(30))?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .create()
        .map_err(|error| super::whole(&error))?;
    let run = Uuid::now_v7();
    let began = Timestamp::from_system(SystemTime::now());
    let mut kept = Vec::new();
    for seed in 0..shape.books {
        let book = book(shape, run, seed, began.saturating_add(Duration::from_micros(seed)))?;
        let mut value = Vec::new();
        book.encode(&mut value);
        let headers = OwnedHeaders::new().insert(Header { key: "schema", value: Some(SCHEMA) });
        let partition = (seed % shape.markets) as i32 % shape.partitions;
        let mut record =
            BaseRecord::to(topic).partition(partition).key(book.market.as_str()).payload(&value).headers(headers);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.to_string());
            }
            producer.poll(Duration::from_millis(20));
            record = back;
        }
        if seed % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
        if kept.len() < KEPT {
            kept.push(value);
        }
    }
    producer.flush(Duration::from_secs(120)).map_err(|error| super::whole(&error))?;
    Ok(kept)
}
