//! Damaged replies: each gives books, or an error with words, and never more than a reply may have.

use coinflow_common::mutate::mutate;
use ureq::http::HeaderMap;

use super::*;

const SEEDS: &[&[u8]] = &[
    br#"[{"market":"KRW-BTC","timestamp":1708057740895,"total_ask_size":1.5,"orderbook_units":[{"ask_price":73303000,"bid_price":73302000.0,"ask_size":1.16539E8,"bid_size":"0.00790837"}]},{"market":"KRW-ETH","timestamp":1708057740895,"orderbook_units":[]}]"#,
    br#"{"success":true,"data":{"timestamp":1708057740895,"bids":[{"price":"73302000","qty":"0.00790837","amt":"579699.33"}],"asks":[{"price":"73303000","qty":"1.5"}]}}"#,
    br#"{"status":"0000","data":{"timestamp":"1708057740895","payment_currency":"KRW","order_currency":"BTC","bids":[{"quantity":"6.1189306","price":"504000"}],"asks":[{"quantity":"2.67575","price":"506000"}]}}"#,
    br#"{"error":{"name":404,"message":"Code not found"}}"#,
    br#"{"success":false,"error":{"code":400,"message":"INVALID_CURRENCY_PAIR"}}"#,
    br#"{"status":"5500","message":"Invalid Parameter"}"#,
    br#"[{"market":"KRW-BTC","korean_name":"x","english_name":"Bitcoin"},{"market":"BTC-ETH"}]"#,
    br#"{"success":true,"data":[{"symbol":"btc_krw","status":"launched"},{"symbol":"algo_krw","status":"stopped"}]}"#,
    br#"{"status":"0000","data":{"BTC":{"opening_price":"504000"},"ETH":{},"date":"1708057740895"}}"#,
    b"This IP has been blocked for 1 minute and 30 seconds.",
];

#[test]
fn every_api_takes_no_harm_from_a_damaged_reply() {
    let markets: Vec<Market> = ["KRW-BTC", "KRW-ETH"].iter().map(|code| Market::parse(code).unwrap()).collect();
    for api in APIS {
        let (mut taken, mut refused, mut at) = (0, 0, 0);
        mutate(&format!("{api:?}"), SEEDS, |body| {
            at += 1;
            let status = [200, 200, 200, 400, 404, 418, 429, 500][at % 8];
            let reply = Reply { status, headers: &HeaderMap::new(), body };
            match api.adapter.parse_books(&reply, &markets) {
                Ok(books) => {
                    assert_eq!(books.len(), markets.len());
                    taken += books.iter().filter(|book| book.is_ok()).count();
                    let levels = |book: &Book| book.asks.len() + book.bids.len();
                    assert!(books.iter().flatten().all(|book| levels(book) <= body.len()));
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(!text.is_empty() && text.len() < 1000 && !text.contains('\n'), "{text}");
                    refused += 1;
                }
            }
            for path in api.adapter.list_paths() {
                if let Ok(listed) = api.adapter.parse_list(path, &reply) {
                    assert!(!listed.is_empty() && listed.len() <= body.len());
                }
            }
        });
        assert!(taken > 0 && refused > 0, "{api:?}: {taken} books, {refused} refused");
    }
}
