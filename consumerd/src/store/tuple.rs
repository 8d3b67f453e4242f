//! A row of the table `orderbook` in the binary form of COPY.

use coinflow_common::orderbook::{Level, OrderBook, Timestamp};

use super::numeric::{put_array, put_sized};
use crate::record::Partition;

/// The columns that a tuple fills, in its order. `stored_at` is left to its default.
pub(crate) const COLUMNS: [&str; 16] = [
    "exchange",
    "market",
    "exchange_ts",
    "requested_at",
    "received_at",
    "producer_run",
    "producer_sequence",
    "ask_price",
    "ask_quantity",
    "bid_price",
    "bid_quantity",
    "kafka_source",
    "kafka_topic",
    "kafka_partition",
    "kafka_generation",
    "kafka_offset",
];

/// What precedes the tuples: the signature, no flags, no header extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What follows them.
pub(super) const TRAILER: [u8; 2] = (-1i16).to_be_bytes();

/// 2000-01-01 in microseconds since 1970: PostgreSQL counts from there.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
/// A tuple of 30 levels a side with usual digits.
const TUPLE_BYTES: usize = 2816;

/// Where a row comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) source: &'a str,
    pub(crate) partition: &'a Partition,
    pub(crate) generation: i32,
    pub(crate) offset: i64,
}

/// The tuple of a book, in this buffer. What it held is forgotten.
pub(crate) fn encode(book: &OrderBook, origin: Origin<'_>, mut out: Vec<u8>) -> Vec<u8> {
    out.clear();
    out.reserve(TUPLE_BYTES);
    out.extend((COLUMNS.len() as i16).to_be_bytes());
    text(&mut out, book.exchange.as_str());
    text(&mut out, book.market.as_str());
    time(&mut out, book.exchange_ts);
    time(&mut out, book.requested_at);
    time(&mut out, Some(book.received_at));
    fixed(&mut out, book.run.as_bytes());
    fixed(&mut out, &book.sequence.to_be_bytes());
    for side in [&book.asks, &book.bids] {
        array(&mut out, side, |level| level.price);
        array(&mut out, side, |level| level.quantity);
    }
    text(&mut out, origin.source);
    text(&mut out, &origin.partition.topic);
    fixed(&mut out, &origin.partition.number.to_be_bytes());
    fixed(&mut out, &origin.generation.to_be_bytes());
    fixed(&mut out, &origin.offset.to_be_bytes());
    out
}

fn fixed(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as i32).to_be_bytes());
    out.extend(bytes);
}

fn text(out: &mut Vec<u8>, text: &str) {
    fixed(out, text.as_bytes());
}

fn time(out: &mut Vec<u8>, time: Option<Timestamp>) {
    match time {
        Some(time) => fixed(out, &(time.as_micros() - POSTGRES_EPOCH_MICROS).to_be_bytes()),
        None => out.extend((-1i32).to_be_bytes()),
    }
}

fn array(out: &mut Vec<u8>, side: &[Level], value: impl Fn(&Level) -> coinflow_common::orderbook::Decimal) {
    put_sized(out, |out| put_array(out, side.iter().map(value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_has_every_column_and_its_length() {
        let value = br#"{"exchange":"bithumb","market":"KRW-BTC","exchange_ts":null,
            "requested_at":"2000-01-01T00:00:00.000001Z","received_at":"1999-12-31T23:59:59.999999Z",
            "run":"0199d0a2-0000-7000-8000-000000000000","sequence":7,"asks":[["1.5","2"]],"bids":[]}"#;
        let book = OrderBook::decode(value).expect("a book");
        let partition = Partition::new("t", 3);
        let tuple =
            encode(&book, Origin { source: "main", partition: &partition, generation: 1, offset: 9 }, Vec::new());
        let mut rest = &tuple[2..];
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let (length, tail) = rest.split_at(4);
            let length = i32::from_be_bytes(length.try_into().expect("4 bytes"));
            let (field, tail) = tail.split_at(usize::try_from(length).unwrap_or(0));
            fields.push((length >= 0).then_some(field));
            rest = tail;
        }
        assert_eq!(fields.len(), COLUMNS.len());
        assert_eq!(fields[0], Some(&b"bithumb"[..]));
        assert_eq!(fields[2], None);
        assert_eq!(fields[3], Some(&1i64.to_be_bytes()[..]));
        assert_eq!(fields[4], Some(&(-1i64).to_be_bytes()[..]));
        assert_eq!(fields[9], Some(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 164][..]));
        assert_eq!(fields[15], Some(&9i64.to_be_bytes()[..]));
    }
}
