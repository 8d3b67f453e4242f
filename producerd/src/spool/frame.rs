//! How a record stands in a file of the spool. Pure.
//!
//! A file is a row of frames: 4 bytes of magic, the length of the body, a CRC-32 of length and body, and the body: number,
//! timestamp, length and characters of the market, value. All integers are little-endian. A frame that is damaged is left out
//! by looking for the next magic; how many records are missing, the numbers tell, for they rise by one.

use coinflow_common::orderbook::Market;

use crate::publish::Record;

const MAGIC: [u8; 4] = *b"CFb1";
const HEADER_BYTES: usize = 12;
/// Number, timestamp, and length of the market.
const BODY_BYTES_MIN: usize = 17;
/// Beyond the largest message that may be configured.
const BODY_BYTES_MAX: usize = 1 << 30;

/// A record with its place in the order of all of its spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) record: Record,
}

/// Appends a record.
pub(super) fn encode(number: u64, record: &Record, out: &mut Vec<u8>) {
    let market = record.market.as_str().as_bytes();
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    // A market code has at most some dozens of characters, and a value is bounded by what Kafka takes.
    let length = u32::try_from(BODY_BYTES_MIN + market.len() + record.value.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&record.timestamp.to_le_bytes());
    out.push(u8::try_from(market.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(market);
    out.extend_from_slice(&record.value);
    let crc = checksum(length, &out[start + HEADER_BYTES..]);
    out[start + 8..start + HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// And takes so many bytes.
    Record(Numbered, usize),
    /// The beginning of a frame, which takes at least so many bytes.
    Short(usize),
    Damaged,
}

pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let start = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(start) {
        return Parsed::Damaged;
    }
    let Some(length) = u32_at(bytes, 4) else { return Parsed::Short(HEADER_BYTES) };
    let size = length as usize;
    if !(BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&size) {
        return Parsed::Damaged;
    }
    let (Some(crc), Some(body)) = (u32_at(bytes, 8), bytes.get(HEADER_BYTES..HEADER_BYTES + size)) else {
        return Parsed::Short(HEADER_BYTES + size);
    };
    if crc != checksum(length, body) {
        return Parsed::Damaged;
    }
    match read_body(body) {
        Some(numbered) => Parsed::Record(numbered, HEADER_BYTES + size),
        None => Parsed::Damaged,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn read_body(body: &[u8]) -> Option<Numbered> {
    let number = u64::from_le_bytes(*body.first_chunk()?);
    let timestamp = i64::from_le_bytes(*body.get(8..)?.first_chunk()?);
    let length = usize::from(*body.get(16)?);
    let market = std::str::from_utf8(body.get(BODY_BYTES_MIN..BODY_BYTES_MIN + length)?).ok()?;
    let value = body.get(BODY_BYTES_MIN + length..)?.to_vec();
    Some(Numbered { number, record: Record { market: Market::parse(market).ok()?, value, timestamp } })
}

/// Where behind the first byte a frame may begin: there, or where nothing can be told yet, or the end.
pub(super) fn next_start(bytes: &[u8]) -> usize {
    let starts = |at: &usize| {
        let rest = &bytes[*at..];
        MAGIC.starts_with(&rest[..rest.len().min(MAGIC.len())])
    };
    (1..bytes.len()).find(starts).unwrap_or(bytes.len())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::spool) fn record(text: &str) -> Record {
        Record {
            market: Market::parse("KRW-BTC").unwrap(),
            value: text.as_bytes().to_vec(),
            timestamp: 1_700_000_000_000,
        }
    }

    fn encoded(number: u64, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(number, &record(text), &mut bytes);
        bytes
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut bytes = encoded(7, "{\"asks\":[]}");
        let size = bytes.len();
        bytes.extend(encoded(8, ""));
        assert_eq!(parse(&bytes), Parsed::Record(Numbered { number: 7, record: record("{\"asks\":[]}") }, size));
        assert_eq!(
            parse(&bytes[size..]),
            Parsed::Record(Numbered { number: 8, record: record("") }, bytes.len() - size)
        );
        assert_eq!(next_start(&bytes), size);
    }

    #[test]
    fn every_cut_is_short_and_every_flipped_bit_is_seen() {
        let bytes = encoded(7, "value");
        for end in 0..bytes.len() {
            let needed = if end < HEADER_BYTES - 4 { HEADER_BYTES } else { bytes.len() };
            assert_eq!(parse(&bytes[..end]), Parsed::Short(needed), "{end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(&bad), Parsed::Record(..)), "bit {bit}");
        }
    }
}
