//! Records made by the tests themselves, with coinflow's own encoder.

use std::time::{Duration, SystemTime};

use coinflow_common::orderbook::{Decimal, Exchange, Level, Market, OrderBook, SCHEMA, Timestamp};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use uuid::Uuid;

/// Writes books as producerd does, and waits for Kafka as long as it takes.
pub(crate) struct Writer {
    producer: BaseProducer,
    topic: String,
    run: Uuid,
    sequence: i64,
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// A book of five levels a side, received now.
pub(crate) fn book(run: Uuid, market: &str, sequence: i64) -> OrderBook {
    let decimal = |text: String| Decimal::parse_plain(&text).expect("a decimal");
    let level =
        |price: i64| Level { price: decimal(price.to_string()), quantity: decimal(format!("0.{sequence:04}1")) };
    OrderBook {
        exchange: Exchange::parse("bithumb").expect("a name"),
        market: Market::parse(market).expect("a market"),
        exchange_ts: None,
        requested_at: None,
        received_at: now(),
        run,
        sequence,
        asks: (0..5).map(|n| level(1000 + n)).collect(),
        bids: (0..5).map(|n| level(999 - n)).collect(),
    }
}

impl Writer {
    pub(crate) fn new(bootstrap: &str, topic: &str) -> Writer {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "2")
            .set("message.max.bytes", "16777216")
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .expect("a producer");
        Writer { producer, topic: topic.to_owned(), run: Uuid::now_v7(), sequence: 0 }
    }

    /// Writes the next books of ten markets in turn.
    pub(crate) fn write(&mut self, count: usize) {
        for _ in 0..count {
            self.sequence += 1;
            let market = format!("KRW-T{}", self.sequence % 10);
            let mut value = Vec::new();
            book(self.run, &market, (self.sequence + 9) / 10).encode(&mut value);
            self.raw(market.as_bytes(), &value);
        }
        self.producer.poll(Duration::ZERO);
    }

    /// The same with so many levels a side.
    pub(crate) fn write_deep(&mut self, count: usize, levels: u64) {
        let level = |price: u64, number: u64| {
            let decimal = |text: &str| Decimal::parse_plain(text).expect("a decimal");
            Level { price: decimal(&price.to_string()), quantity: decimal(&format!("0.{:08}", number * 7919 + 1)) }
        };
        for _ in 0..count {
            self.sequence += 1;
            let market = format!("KRW-T{}", self.sequence % 10);
            let mut book = book(self.run, &market, (self.sequence + 9) / 10);
            book.asks = (0..levels).map(|number| level(157_123_000 + number * 1000, number)).collect();
            book.bids = (0..levels).map(|number| level(157_122_000 - number * 1000, number)).collect();
            let mut value = Vec::new();
            book.encode(&mut value);
            self.raw(market.as_bytes(), &value);
        }
        self.producer.poll(Duration::ZERO);
    }

    /// Any record.
    pub(crate) fn raw(&mut self, key: &[u8], value: &[u8]) {
        let headers = OwnedHeaders::new().insert(Header { key: "schema", value: Some(SCHEMA) });
        let mut record = BaseRecord::to(&self.topic).key(key).payload(value).headers(headers);
        while let Err((error, back)) = self.producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "{error}");
            self.producer.poll(Duration::from_millis(50));
            record = back;
        }
    }

    /// Waits until Kafka has everything, as dropping does.
    pub(crate) fn finish(self) {}
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.producer.flush(Duration::from_secs(60)).expect("Kafka takes what was written");
    }
}
