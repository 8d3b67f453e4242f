//! Whatever stands in the topic, each record becomes a row or a dead letter, and the daemon goes on.

use coinflow_common::mutate::mutate;
use coinflow_common::orderbook::OrderBook;
use uuid::Uuid;

use crate::books::{Writer, book};
use crate::rig::{Rig, TOPIC};

const GIANT_BYTES: usize = 10 << 20;
/// A giant is held once or twice on its way, and no more than a few at once.
const RSS_MAX_KIB: u64 = 300 << 10;

fn encoded(book: &OrderBook) -> Vec<u8> {
    let mut value = Vec::new();
    book.encode(&mut value);
    value
}

fn peak_rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn damaged_records_are_rows_or_dead_letters() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 2, 1, &[("max.message.bytes", "16777216")]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    let run = Uuid::now_v7();
    let (first, second) = (encoded(&book(run, "KRW-BTC", 1)), encoded(&book(run, "BTC-ETH", 99)));
    let mut inputs = 0;
    mutate("consumerd", &[&first, &second], |input| {
        writer.raw(&input[..input.len().min(20)], input);
        inputs += 1;
    });
    let text = String::from_utf8(first.clone()).expect("JSON");
    let level = "[\"1000\",\"0.1\"],";
    let giants = [
        vec![b'['; GIANT_BYTES],
        vec![b' '; GIANT_BYTES],
        vec![0xff; GIANT_BYTES],
        text.replacen("KRW-BTC", &"A".repeat(GIANT_BYTES), 1).into_bytes(),
        text.replacen("[\"1000\"", &format!("{}[\"1000\"", level.repeat(GIANT_BYTES / level.len())), 1).into_bytes(),
        text.replacen("\"1000\"", &format!("\"{}\"", "9".repeat(GIANT_BYTES)), 1).into_bytes(),
    ];
    for giant in &giants {
        writer.raw(b"giant", giant);
        writer.raw(b"KRW-BTC", &first);
    }
    writer.finish();
    rig.consumerd.start().expect("consumerd starts");
    let pid = rig.consumerd.pid().expect("it runs");
    let records = rig.settle();
    assert_eq!(records as usize, inputs + 2 * giants.len());
    let (rows, dead) = (rig.rows(), rig.dead_letters());
    assert!(rows > giants.len() as i64 && dead > giants.len() as i64, "{rows} rows, {dead} dead letters");
    assert_eq!(rig.consumerd.pid(), Ok(pid), "the same process");
    let peak = peak_rss_kib(pid);
    assert!(peak <= RSS_MAX_KIB, "{peak} KiB");
    rig.stop_consumerd();
    show!("{inputs} damaged records and {} giants: {rows} rows, {dead} dead letters, {peak} KiB at most", giants.len());
}
