//! From an exchange's book to a record: tidied, numbered, encoded and handed to Kafka.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coinflow_common::orderbook::{Exchange, Level, Market, OrderBook, Side, Timestamp};
use uuid::Uuid;

use crate::exchange::Book;
use crate::publish::{Publisher, Record};

/// A market's book is published at least this often, be it unchanged or not.
const UNCHANGED_MAX: Duration = Duration::from_secs(60);
/// A book of 30 levels a side takes about 2 KiB.
const RECORD_BYTES: usize = 2560;

/// Makes records of one exchange's books.
#[derive(Debug)]
pub(crate) struct Books {
    exchange: Exchange,
    run: Uuid,
    levels_max: usize,
    skips_unchanged: bool,
    publisher: Publisher,
    /// Kept for the whole run: a market that is taken out and put in again goes on counting.
    markets: Mutex<HashMap<Market, Arc<Mutex<Tally>>>>,
    unchanged: AtomicU64,
    closed: AtomicBool,
}

/// When and where a book comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) requested_at: Timestamp,
    pub(crate) received_at: Timestamp,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process, so no half-made state is ever seen here.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has been accepted of one market. Pure.
#[derive(Debug, Default)]
struct Tally {
    sequence: i64,
    /// The last book published, kept only where unchanged ones are skipped.
    last: Option<(Timestamp, Vec<Level>, Vec<Level>)>,
}

impl Tally {
    /// Whether a book tells nothing new.
    fn is_unchanged(&self, book: &OrderBook) -> bool {
        self.last.as_ref().is_some_and(|(published_at, asks, bids)| {
            (*published_at..published_at.saturating_add(UNCHANGED_MAX)).contains(&book.received_at)
                && *asks == book.asks
                && *bids == book.bids
        })
    }

    fn remember(&mut self, book: &OrderBook) {
        self.last = Some((book.received_at, book.asks.clone(), book.bids.clone()));
    }
}

impl Books {
    pub(crate) fn new(
        exchange: Exchange,
        run: Uuid,
        levels_max: usize,
        skips_unchanged: bool,
        publisher: Publisher,
    ) -> Self {
        Self {
            exchange,
            run,
            levels_max,
            skips_unchanged,
            publisher,
            markets: Mutex::default(),
            unchanged: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Publishes a book. False once the exchange's books are closed.
    pub(crate) fn accept(&self, market: &Market, book: Book, received: Received) -> bool {
        let mut book = order_book(&self.exchange, market, book, received, self.run, self.levels_max);
        let tally = Arc::clone(lock(&self.markets).entry(market.clone()).or_default());
        // Held until the record is enqueued, so that the topic has a market's numbers in their order.
        let mut tally = lock(&tally);
        if self.closed.load(Ordering::Acquire) {
            return false;
        }
        if self.skips_unchanged {
            if tally.is_unchanged(&book) {
                self.unchanged.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            tally.remember(&book);
        }
        tally.sequence += 1;
        book.sequence = tally.sequence;
        let mut value = Vec::with_capacity(RECORD_BYTES);
        book.encode(&mut value);
        self.publisher.publish(Record { market: book.market, value, timestamp: book.received_at.as_millis() });
        true
    }

    /// No book is accepted any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Books that told nothing new and were not published.
    pub(crate) fn unchanged(&self) -> u64 {
        self.unchanged.load(Ordering::Relaxed)
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }
}

/// The book as the record contract wants it, with sequence number 1.
pub(crate) fn order_book(
    exchange: &Exchange,
    market: &Market,
    book: Book,
    received: Received,
    run: Uuid,
    levels_max: usize,
) -> OrderBook {
    let Book { exchange_ts, mut asks, mut bids } = book;
    Side::Asks.tidy(&mut asks, levels_max);
    Side::Bids.tidy(&mut bids, levels_max);
    OrderBook {
        exchange: exchange.clone(),
        market: market.clone(),
        exchange_ts,
        requested_at: Some(received.requested_at),
        received_at: received.received_at,
        run,
        sequence: 1,
        asks,
        bids,
    }
}

#[cfg(test)]
mod tests {
    use coinflow_common::orderbook::Decimal;

    use super::*;

    fn book(price: &str, second: i64) -> OrderBook {
        let decimal = |text| Decimal::parse_plain(text).unwrap();
        let level = |price| Level { price: decimal(price), quantity: decimal("1") };
        let at = Timestamp::from_micros(second * 1_000_000).unwrap();
        let book = Book { exchange_ts: None, asks: vec![level("0"), level("9"), level(price)], bids: vec![] };
        let received = Received { requested_at: at, received_at: at };
        order_book(
            &Exchange::parse("bithumb").unwrap(),
            &Market::parse("KRW-BTC").unwrap(),
            book,
            received,
            Uuid::nil(),
            1,
        )
    }

    #[test]
    fn a_book_is_tidied_and_cut() {
        let book = book("5", 0);
        assert_eq!(book.asks.len(), 1);
        assert_eq!(book.asks[0].price.to_string(), "5");
    }

    #[test]
    fn an_unchanged_book_is_published_once_a_minute() {
        let mut tally = Tally::default();
        assert!(!tally.is_unchanged(&book("5", 100)));
        tally.remember(&book("5", 100));
        assert!(tally.is_unchanged(&book("5", 101)));
        assert!(tally.is_unchanged(&book("5.0", 159)));
        assert!(!tally.is_unchanged(&book("6", 101)));
        assert!(!tally.is_unchanged(&book("5", 160)));
        // The clock was set back.
        assert!(!tally.is_unchanged(&book("5", 99)));
    }
}
