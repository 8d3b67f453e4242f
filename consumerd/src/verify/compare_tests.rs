use coinflow_common::orderbook::{Decimal, Level, Market};

use super::*;
use crate::record::Partition;
use crate::store::{Origin, encode};

const FROM: i64 = 10;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + second * 1_000_000).expect("a time")
}

fn book(sequence: i64) -> OrderBook {
    let value = format!(
        r#"{{"exchange":"bithumb","market":"KRW-BTC","exchange_ts":null,"requested_at":"2026-11-23T10:00:00.101532Z",
            "received_at":"{}","run":"0199d0a2-0000-7000-8000-000000000000","sequence":{sequence},
            "asks":[["1000","0.50"],["1001.5","20"]],"bids":[["999","99999999999999999999.999999999999999999"]]}}"#,
        at(sequence)
    );
    OrderBook::decode(value.as_bytes()).expect("a book")
}

/// The fields of the tuple that the daemon would store.
fn stored(book: &OrderBook) -> Vec<Option<Vec<u8>>> {
    let partition = Partition::new("t", 0);
    let tuple = encode(book, Origin { source: "main", partition: &partition, generation: 0, offset: 0 }, Vec::new());
    let (mut rest, mut fields) = (&tuple[2..], Vec::new());
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let (field, tail) = tail.split_at(length.unwrap_or(0));
        fields.push(length.map(|_| field.to_vec()));
        rest = tail;
    }
    fields
}

/// Gives the window the row that the daemon would have stored for this book.
fn give(window: &mut Window, offset: i64, book: &OrderBook) {
    let fields = stored(book);
    let bytes = |at: usize| fields[at].as_deref().expect("not null");
    let time = |at: usize| fields[at].as_deref().map(|bytes| i64::from_be_bytes(bytes.try_into().expect("8 bytes")));
    window.row(&Row {
        offset,
        exchange: bytes(0),
        market: bytes(1),
        exchange_ts: time(2),
        requested_at: time(3),
        received_at: time(4),
        run: bytes(5),
        sequence: time(6).expect("not null"),
        lists: [bytes(7), bytes(8), bytes(9), bytes(10)],
    });
}

/// Records at 10 to 14; that at 12 is no book.
fn window(bounds: Bounds) -> Window {
    let mut window = Window::new(FROM);
    for offset in FROM..15 {
        let book = if offset == 12 { Err("EOF".to_owned()) } else { Ok(book(offset)) };
        window.push(offset, book, Some(b"KRW-X"), Some(at(offset).as_millis()), bounds);
    }
    window
}

fn settled(window: Window, low: i64, kept_since: Option<Timestamp>) -> (Counts, Vec<String>) {
    let (mut counts, mut told) = (Counts::default(), Vec::new());
    window.settle(low, kept_since, &[(14, 15)], &mut counts, &mut told);
    let line = |difference: &Difference| {
        let line = difference.line(&Partition::new("t", 0));
        line.replace(" topic=t partition=0", "").replace("market=", "").trim_end().to_owned()
    };
    (counts, told.iter().map(line).collect())
}

#[test]
fn all_is_equal() {
    let mut window = window(Bounds::default());
    for offset in [14, 10, 11, 13] {
        give(&mut window, offset, &book(offset));
    }
    window.letter(12, false);
    let expected = Counts { books: 4, dead_lettered: 1, ..Counts::default() };
    assert_eq!((window.from, window.to, window.seen), (10, 15, 4));
    assert_eq!(settled(window, 0, None), (expected, vec![]));
}

#[test]
fn what_is_not_there_is_missing_unless_there_is_a_reason() {
    let (counts, told) = settled(window(Bounds::default()), 0, Some(at(11)));
    assert_eq!(counts, Counts { missing: 3, expired: 1, skipped: 1, ..Counts::default() });
    assert_eq!(
        told,
        [
            "missing offset=11 KRW-BTC: no row and no dead letter",
            "missing offset=12 KRW-X: no dead letter, though it is no book: EOF",
            "missing offset=13 KRW-BTC: no row and no dead letter",
        ]
    );
}

#[test]
fn what_is_there_twice_is_doubled() {
    let mut window = window(Bounds::default());
    for offset in [10, 10, 11, 13, 13, 13, 14] {
        give(&mut window, offset, &book(if offset == 13 { 12 } else { offset }));
    }
    for offset in [11, 12, 12, 14] {
        // A dead letter that was tried again and stored.
        window.letter(offset, offset == 14);
    }
    let (counts, told) = settled(window, 0, None);
    assert_eq!(counts, Counts { books: 1, doubled: 4, ..Counts::default() });
    assert_eq!(
        told[..3],
        [
            "doubled offset=10 KRW-BTC: 2 rows",
            "doubled offset=11 KRW-BTC: a row and a dead letter",
            "doubled offset=12 KRW-X: 2 dead letters",
        ]
    );
    assert!(told[3].starts_with("doubled offset=13 KRW-BTC: 3 rows; one of them differs, received_at: "), "{told:?}");
}

#[test]
fn every_value_counts_to_the_last_digit() {
    type Change = fn(&mut OrderBook);
    let decimal = |text| Decimal::parse_plain(text).expect("a decimal");
    let changes: [(Change, &str); 9] = [
        (
            |book| book.market = Market::parse("KRW-ETH").expect("a market"),
            "market: KRW-BTC in the topic, KRW-ETH in the table",
        ),
        (
            |book| book.exchange_ts = Some(at(0)),
            "exchange_ts: null in the topic, 2023-11-14T22:13:20.000000Z in the table",
        ),
        (|book| book.requested_at = None, "requested_at: 2026-11-23T10:00:00.101532Z in the topic, null in the table"),
        (|book| book.sequence += 1, "producer_sequence: 10 in the topic, 11 in the table"),
        (
            |book| book.asks[0].quantity = book.bids[0].price,
            "asks level 1 quantity: 0.50 in the topic, 999 in the table",
        ),
        (
            |book| book.asks[1].price = book.asks[0].quantity,
            "asks level 2 price: 1001.5 in the topic, 0.50 in the table",
        ),
        (
            |book| book.bids[0].quantity = book.bids[0].price,
            "bids level 1 quantity: 99999999999999999999.999999999999999999 in the topic, 999 in the table",
        ),
        (
            |book| book.bids.clear(),
            "bids price: 1 levels in the topic, 0 levels in the table; bids quantity: 1 levels in the topic, 0 levels in the table",
        ),
        (
            |book| {
                let Level { price, quantity } = book.asks[0];
                book.asks[0] = Level { price: quantity, quantity: price };
            },
            "asks level 1 price: 1000 in the topic, 0.50 in the table; asks level 1 quantity: 0.50 in the topic, 1000 in the table",
        ),
    ];
    for (change, expected) in changes {
        let mut window = window(Bounds::default());
        let mut changed = book(10);
        change(&mut changed);
        give(&mut window, 10, &changed);
        let (counts, told) = settled(window, 0, Some(at(14)));
        assert_eq!((counts.differs, counts.books), (1, 0));
        assert_eq!(told[0], format!("differs offset=10 KRW-BTC: {expected}"));
    }
    // The same value with another scale.
    let mut window = window(Bounds::default());
    let mut changed = book(10);
    changed.asks[0].quantity = decimal("0.5");
    assert_eq!(changed, book(10));
    give(&mut window, 10, &changed);
    let (_, told) = settled(window, 0, Some(at(14)));
    assert_eq!(told[0], "differs offset=10 KRW-BTC: asks level 1 quantity: 0.50 in the topic, 0.5 in the table");
}

#[test]
fn a_row_that_is_no_records_is_extra_or_gone() {
    let mut window = window(Bounds { from: None, to: Some(0) });
    window.to = 30;
    give(&mut window, 20, &book(20));
    give(&mut window, 25, &book(25));
    assert!(window.has_others());
    let (counts, told) = settled(window, 21, None);
    assert_eq!(counts, Counts { extra: 1, gone: 1, ..Counts::default() });
    assert_eq!(told, ["extra offset=25 KRW-BTC: the topic has no such record"]);
}

#[test]
fn only_records_within_the_bounds_count() {
    let bounds = Bounds { from: Some(at(11).as_micros()), to: Some(at(13).as_micros()) };
    let mut window = window(bounds);
    assert_eq!(window.spans(), [(at(11).as_micros(), at(11).as_micros())]);
    give(&mut window, 11, &book(11));
    // A row that was moved into the bounds.
    give(&mut window, 13, &book(11));
    window.letter(12, false);
    let (counts, told) = settled(window, 0, None);
    assert_eq!(counts, Counts { books: 1, differs: 1, dead_lettered: 1, ..Counts::default() });
    assert!(told[0].starts_with("differs offset=13 KRW-BTC: received_at: "), "{told:?}");
}

#[test]
fn times_far_apart_are_looked_for_apart() {
    let of = |seconds: &[i64]| {
        let mut window = Window::new(0);
        for (offset, second) in (0..).zip(seconds) {
            window.push(offset, Ok(book(*second)), None, None, Bounds::default());
        }
        let second = |micros: i64| (micros - at(0).as_micros()) / 1_000_000;
        window.spans().into_iter().map(|(from, to)| (second(from), second(to))).collect::<Vec<_>>()
    };
    assert_eq!(of(&[]), []);
    assert_eq!(of(&[5000, 3, 1, 600, 5001]), [(1, 600), (5000, 5001)]);
    let many: Vec<i64> = (0..100).map(|n| n * 1000 + 1).collect();
    assert_eq!(of(&many), [(1, 99_001)]);
}

#[test]
fn rows_out_of_sight_are_strays() {
    let mut first = Window::new(10);
    first.push(12, Ok(book(12)), None, None, Bounds::default());
    let mut second = Window::new(13);
    second.push(13, Ok(book(13)), None, None, Bounds::default());
    second.push(20, Ok(book(20)), None, None, Bounds::default());
    let looked = [Looked::of(&first), Looked::of(&second)];
    let stray = |offset, second| is_stray(&looked, offset, at(second).as_micros() - 946_684_800_000_000);
    assert!(!stray(12, 12) && !stray(10, 12) && !stray(13, 13) && !stray(15, 17) && !stray(20, 20));
    assert!(stray(12, 13) && stray(13, 12) && stray(9, 12) && stray(21, 20) && stray(20, 21));
}

#[test]
fn windows_are_bounded() {
    let mut window = Window::new(0);
    for offset in 0..RECORDS_MAX as i64 {
        assert!(!window.is_full());
        window.push(offset, Ok(book(1)), None, None, Bounds::default());
    }
    assert!(window.is_full());
}

#[test]
fn odd_keys_are_shown_on_one_line() {
    assert_eq!(shown(b"KRW-BTC"), "KRW-BTC");
    assert_eq!(shown(b""), "-");
    assert_eq!(shown(b"a b\n\xff"), "a\u{fffd}b\u{fffd}\u{fffd}");
}
