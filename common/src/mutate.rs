//! Hostile input for tests: good input, damaged at random, the same for the same seed.

use std::time::Duration;

/// Inputs of one test, unless `COINFLOW_MUTATIONS` gives another number.
const INPUTS: u64 = 3000;
/// No input is larger.
const BYTES_MAX: usize = 64 << 10;
/// What any of them may take of a thread's time; more of it where nothing is optimised.
pub const TIME_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 10 });
/// So much of an input is shown.
const SHOWN_BYTES_MAX: usize = 400;
/// What tends to hurt.
const PIECES: [&[u8]; 20] = [
    b"\"",
    b"null",
    b"NaN",
    b"-1",
    b"1e100000",
    b"1e-100000",
    b"0.00000000000000000000000000000000000001",
    b"99999999999999999999999999999999999999999999",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    b"\\u0000",
    b"\\ud800",
    b"\0",
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xf0\x9f\x98\x80",
    b"1970-01-01T00:00:00Z",
    b"2300-01-01T00:00:00Z",
    b",",
    b"\n[[a]]\n",
];

/// Damages `seeds` in many ways, and calls `check` with each result.
///
/// # Panics
/// When a call panics, or takes a thread longer than it may; the message has the input.
pub fn mutate(name: &str, seeds: &[&[u8]], check: impl FnMut(&[u8])) {
    mutate_within(TIME_MAX, name, seeds, check);
}

/// As [`mutate`], where a call may take so long.
///
/// # Panics
/// As [`mutate`].
pub fn mutate_within(time_max: Duration, name: &str, seeds: &[&[u8]], mut check: impl FnMut(&[u8])) {
    let count = std::env::var("COINFLOW_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(INPUTS);
    // Any odd number will do; another name, another row of inputs.
    let mut random = Random(name.bytes().fold(0x9e37_79b9_7f4a_7c15, |sum, byte| sum.rotate_left(9) ^ u64::from(byte)));
    for number in 0..count {
        let mut input = random.pick(seeds).to_vec();
        for _ in 0..=random.below(4) {
            random.damage(&mut input, seeds);
        }
        input.truncate(BYTES_MAX);
        let took = shortest(|| check(&input));
        let shown = String::from_utf8_lossy(&input[..input.len().min(SHOWN_BYTES_MAX)]);
        assert!(took <= time_max, "{name}: input {number} of {} bytes took {took:?}: {shown}", input.len());
    }
}

/// A call's time on this thread's clock. A long one may have been the machine's doing, and is tried again.
fn shortest(mut call: impl FnMut()) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        let began = thread_time();
        call();
        shortest = shortest.min(thread_time().saturating_sub(began));
        if shortest <= TIME_MAX {
            break;
        }
    }
    shortest
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// xorshift64*, for it needs no more than to be the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is above 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn pick<'a>(&mut self, of: &[&'a [u8]]) -> &'a [u8] {
        of[self.below(of.len())]
    }

    /// A part of some length, more often a short one.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = if self.below(4) == 0 { length - start } else { (length - start).min(16) };
        start..start + self.below(most + 1)
    }

    fn damage(&mut self, input: &mut Vec<u8>, seeds: &[&[u8]]) {
        let range = self.range(input.len());
        match self.below(8) {
            0 => input.truncate(range.start),
            1 => drop(input.drain(range)),
            2 => {
                // Many times the same.
                let part = input[range.clone()].repeat(1 + self.below(200));
                input.splice(range, part);
            }
            3 => {
                let other = self.pick(seeds);
                let part = self.range(other.len());
                input.splice(range, other[part].iter().copied());
            }
            4 | 5 => {
                let piece = self.pick(&PIECES).repeat(if self.below(8) == 0 { 300 } else { 1 });
                input.splice(range, piece);
            }
            6 => {
                if let Some(byte) = input.get_mut(range.start) {
                    *byte ^= 1 << self.below(8);
                }
            }
            _ => {
                let digits = vec![b'0' + self.below(10) as u8; 1 + self.below(60)];
                input.splice(range, digits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orderbook::OrderBook;

    const RECORD: &str = r#"{"exchange":"bithumb","market":"KRW-BTC","exchange_ts":"2026-11-23T10:00:00.123Z","requested_at":"2026-11-23T10:00:00.101532Z","received_at":"2026-11-23T10:00:00.140877Z","run":"0199d0a2-0000-7000-8000-000000000000","sequence":1234,"asks":[["157123000","0.0123"],["157124000","1.50"]],"bids":[["157122000","0.5"],["0.00000050","539000000"]]}"#;
    const EMPTY: &str = r#"{"exchange":"upbit","market":"BTC-ETH","exchange_ts":null,"requested_at":null,"received_at":"2026-11-23T10:00:00Z","run":"0199d0a2-0000-7000-8000-000000000000","sequence":1,"asks":[],"bids":[]}"#;

    /// What is taken comes back as it was: nothing is made of it that the contract does not have.
    #[test]
    fn the_decoder_takes_no_harm() {
        let (mut taken, mut refused) = (0, 0);
        mutate("decoder", &[RECORD.as_bytes(), EMPTY.as_bytes()], |input| match OrderBook::decode(input) {
            Ok(book) => {
                let mut value = Vec::new();
                book.encode(&mut value);
                assert_eq!(OrderBook::decode(&value).expect("its own record"), book);
                taken += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        });
        assert!(taken > 10 && refused > 10, "{taken} taken, {refused} refused");
    }

    #[test]
    fn the_same_name_gives_the_same_inputs() {
        let inputs = |name: &str| {
            let mut all = Vec::new();
            mutate(name, &[b"abc"], |input| all.push(input.to_vec()));
            all
        };
        assert_eq!(inputs("a"), inputs("a"));
        assert_ne!(inputs("a"), inputs("b"));
    }
}
