//! What runs beside coinflow: the least that the same work can take.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use postgres::Client;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Deserialize;

use super::cpu;

/// Rows in the binary form of COPY, one after another.
#[derive(Debug, Default)]
pub(super) struct Tuples {
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
}

/// The signature, no flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
const PIECE_BYTES: usize = 128 << 10;
/// All but `stored_at`, which is left to its default.
const COLUMNS: &str = "exchange, market, exchange_ts, requested_at, received_at, producer_run, producer_sequence, \
                       ask_price, ask_quantity, bid_price, bid_quantity, kafka_source, kafka_topic, kafka_partition, \
                       kafka_generation, kafka_offset";

/// How long a COPY took, and the client's part of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    pub(super) rows_per_second: f64,
    pub(super) cpu_per_row: f64,
}

impl Tuples {
    /// The rows that are in the table.
    pub(super) fn of_table(client: &mut Client) -> Result<Tuples, String> {
        let statement = format!("COPY (SELECT {COLUMNS} FROM coinflow.orderbook) TO STDOUT (FORMAT binary)");
        let mut bytes = Vec::new();
        let mut reader = client.copy_out(&statement).map_err(|error| super::whole(&error))?;
        reader.read_to_end(&mut bytes).map_err(|error| super::whole(&error))?;
        let mut ends = Vec::new();
        let mut at = HEADER.len();
        while let Some(end) = tuple_end(&bytes, at) {
            ends.push(end);
            at = end;
        }
        bytes.truncate(at);
        Ok(Tuples { bytes, ends })
    }

    fn get(&self, index: usize) -> &[u8] {
        let begin = if index == 0 { HEADER.len() } else { self.ends[index - 1] };
        &self.bytes[begin..self.ends[index]]
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Stores all of them, so many in a transaction; measured as coinflow is: from the first commit to the last.
    pub(super) fn copy(&self, client: &mut Client, rows_per_commit: usize) -> Result<Copied, String> {
        let statement = format!("COPY coinflow.orderbook ({COLUMNS}) FROM STDIN (FORMAT binary)");
        let cpu_before = cpu::of_thread();
        let mut first: Option<(Instant, usize)> = None;
        let mut index = 0;
        while index < self.len() {
            let end = self.len().min(index + rows_per_commit);
            let mut transaction = client.transaction().map_err(|error| super::whole(&error))?;
            let mut writer = transaction.copy_in(&statement).map_err(|error| super::whole(&error))?;
            let mut piece = Vec::with_capacity(PIECE_BYTES + 8192);
            piece.extend(HEADER);
            for row in index..end {
                piece.extend(self.get(row));
                if piece.len() >= PIECE_BYTES {
                    writer.write_all(&piece).map_err(|error| super::whole(&error))?;
                    piece.clear();
                }
            }
            piece.extend(TRAILER);
            writer.write_all(&piece).map_err(|error| super::whole(&error))?;
            writer.finish().map_err(|error| super::whole(&error))?;
            transaction.commit().map_err(|error| super::whole(&error))?;
            first.get_or_insert((Instant::now(), end));
            index = end;
        }
        let (began, stored) = first.ok_or("no rows to copy")?;
        Ok(Copied {
            rows_per_second: (self.len() - stored) as f64 / began.elapsed().as_secs_f64(),
            cpu_per_row: (cpu::of_thread() - cpu_before).as_secs_f64() / self.len() as f64,
        })
    }
}

/// The end of the row that begins at `at`; none behind the last one.
fn tuple_end(bytes: &[u8], at: usize) -> Option<usize> {
    let number = |at: usize, length: usize| -> Option<i64> {
        let field = bytes.get(at..at + length)?;
        Some(if length == 2 {
            i64::from(i16::from_be_bytes(field.try_into().ok()?))
        } else {
            i64::from(i32::from_be_bytes(field.try_into().ok()?))
        })
    };
    let fields = number(at, 2).filter(|fields| *fields > 0)?;
    let mut at = at + 2;
    for _ in 0..fields {
        let length = number(at, 4)?;
        at += 4 + usize::try_from(length).unwrap_or(0);
    }
    Some(at)
}

/// CPU seconds per record of kcat reading the topic to its end.
pub(super) fn kcat(bootstrap: &str, topic: &str, records: u64) -> Result<f64, String> {
    let before = cpu::of_children();
    let status = Command::new("kcat")
        .args(["-b", bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("kcat: {error}"))?;
    if !status.success() {
        return Err(format!("kcat: {status}"));
    }
    Ok((cpu::of_children() - before).as_secs_f64() / records as f64)
}

/// The value of a record, borrowed.
#[derive(Deserialize)]
#[expect(dead_code, reason = "what is decoded is the work; nobody reads it")]
struct Borrowed<'a> {
    exchange: &'a str,
    market: &'a str,
    exchange_ts: Option<&'a str>,
    requested_at: Option<&'a str>,
    received_at: &'a str,
    run: &'a str,
    sequence: i64,
    #[serde(borrow)]
    asks: Vec<(&'a str, &'a str)>,
    bids: Vec<(&'a str, &'a str)>,
}

/// CPU seconds per value of a bare serde_json decode to borrowed text.
pub(super) fn decode(values: &[Vec<u8>]) -> Result<f64, String> {
    let before = cpu::of_thread();
    for value in values {
        let book: Borrowed<'_> = serde_json::from_slice(value).map_err(|error| super::whole(&error))?;
        std::hint::black_box(book);
    }
    Ok((cpu::of_thread() - before).as_secs_f64() / values.len() as f64)
}

/// How late a bare thread wakes up that sleeps to deadlines `step` apart, in ms, sorted.
pub(super) fn sleeper(step: Duration, number: u32) -> Vec<f64> {
    let began = Instant::now();
    let mut late: Vec<f64> = (1..=number)
        .map(|index| {
            let deadline = began + step * index;
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
            deadline.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    late.sort_by(f64::total_cmp);
    late
}

/// CPU seconds per request of a loop that asks and reads, and parses nothing; one request each `step`.
pub(super) fn requests(url: &str, step: Duration, number: u32) -> Result<f64, String> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
    let agent = ureq::Agent::from(config);
    let get = || -> Result<Vec<u8>, String> {
        let mut reply = agent.get(url).call().map_err(|error| format!("{url}: {error}"))?;
        reply.body_mut().read_to_vec().map_err(|error| format!("{url}: {error}"))
    };
    for _ in 0..100 {
        get()?;
    }
    let (before, began) = (cpu::of_thread(), Instant::now());
    for index in 0..number {
        std::thread::sleep((began + step * index).saturating_duration_since(Instant::now()));
        std::hint::black_box(get()?);
    }
    Ok((cpu::of_thread() - before).as_secs_f64() / f64::from(number))
}

/// CPU seconds of this process, librdkafka's threads among them, per record of a producer that sends one record each `step`,
/// as safely as producerd does, and keeps no account of them. It needs a process that does nothing else.
pub(super) fn sends(bootstrap: &str, topic: &str, values: &[Vec<u8>], step: Duration) -> Result<f64, String> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("compression.type", "lz4")
        .create()
        .map_err(|error| super::whole(&error))?;
    let send = |index: usize, value: &[u8]| {
        let key = format!("KRW-T{:03}", index % 200);
        let record = BaseRecord::to(topic).key(&key).payload(value);
        producer.send(record).map_err(|(error, _)| format!("{topic}: {error}"))
    };
    let flush = || producer.flush(Duration::from_secs(30)).map_err(|error| format!("{topic}: {error}"));
    for (index, value) in values.iter().take(100).enumerate() {
        send(index, value)?;
    }
    flush()?;
    let me = std::process::id();
    let (before, began) = (cpu::of_process(me)?, Instant::now());
    for (index, value) in values.iter().enumerate() {
        std::thread::sleep((began + step * index as u32).saturating_duration_since(Instant::now()));
        send(index, value)?;
        producer.poll(Duration::ZERO);
    }
    flush()?;
    Ok((cpu::of_process(me)? - before).as_secs_f64() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_where_their_fields_do() {
        let mut bytes = vec![0, 2];
        bytes.extend(3i32.to_be_bytes());
        bytes.extend(b"abc");
        bytes.extend((-1i32).to_be_bytes());
        let end = bytes.len();
        bytes.extend(TRAILER);
        assert_eq!(tuple_end(&bytes, 0), Some(end));
        assert_eq!(tuple_end(&bytes, end), None);
    }
}
