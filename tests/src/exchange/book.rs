//! Books that move like real ones: a pure function of the seed, the market and the tick number.
//!
//! The mid price wanders (a sum of noises whose amplitude grows with the square root of their period, as a random walk's does),
//! most levels stay for several ticks, some change their size, some come and go. All arithmetic is in integers, so that every
//! machine makes the same book.

use super::number::Number;

/// Levels a side that the generator makes; the deepest REST book of all the exchanges.
pub(crate) const LEVELS: usize = 30;

/// What markets are paid in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quote {
    Krw,
    /// BTC, and anything that a test makes up.
    Btc,
    Usdt,
}

impl Quote {
    fn of_code(code: &str) -> Quote {
        match code.split_once('-') {
            Some(("KRW", _)) => Quote::Krw,
            Some(("USDT", _)) => Quote::Usdt,
            _ => Quote::Btc,
        }
    }

    /// Decimals of a price.
    fn price_scale(self) -> u32 {
        match self {
            Quote::Krw => 4,
            Quote::Btc | Quote::Usdt => 8,
        }
    }

    /// The step from one price to the next, and the result, in units of 10^-`price_scale`.
    fn step(self, price: i64) -> i64 {
        match self {
            Quote::Krw => krw_step(price),
            Quote::Btc => 1,
            // 0.01 from 10 USDT on, four digits below.
            Quote::Usdt => (10_i64.pow(price.max(1).ilog10()) / 1_000).clamp(1, 1_000_000),
        }
    }

    /// The value of the smallest orders, in units of 10^-`price_scale`: 50,000 KRW, 0.001 BTC, 50 USDT.
    fn least(self) -> i64 {
        match self {
            Quote::Krw => 50_000 * 10_000,
            Quote::Btc => 100_000,
            Quote::Usdt => 50 * 100_000_000,
        }
    }
}

fn krw_step(price: i64) -> i64 {
    match price / 10_000 {
        1_000_000.. => 1000 * 10_000,
        500_000.. => 500 * 10_000,
        100_000.. => 100 * 10_000,
        50_000.. => 50 * 10_000,
        10_000.. => 10 * 10_000,
        1_000.. => 10_000,
        100.. => 1_000,
        10.. => 100,
        1.. => 10,
        _ => 1,
    }
}

/// What stays the same in a market's life.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// `KRW-BTC`: quote, base.
    pub(crate) code: String,
    pub(crate) name: String,
    quote: Quote,
    /// Decimals of a quantity.
    pub(crate) quantity_scale: u32,
    /// The price step, in units of the quote's price scale.
    step: i64,
    /// The price around which the market moves, in steps.
    centre: i64,
    /// A thin market has fewer bids than `LEVELS`.
    thin: bool,
}

impl Profile {
    /// `price` is in units of the quote's price scale.
    pub(crate) fn new(code: &str, name: &str, price: i64, quantity_scale: u32) -> Profile {
        let quote = Quote::of_code(code);
        let step = quote.step(price);
        Profile {
            code: code.to_owned(),
            name: name.to_owned(),
            quote,
            quantity_scale,
            step,
            centre: (price / step).max(CENTRE_MIN),
            thin: false,
        }
    }

    /// A market that nobody described: everything comes from its code.
    pub(crate) fn of_code(code: &str, quantity_scale: u32) -> Profile {
        let chance = mix(fnv(code));
        let name = code.split_once('-').map_or(code, |(_, base)| base);
        // One digit, evenly over four magnitudes, and some more digits, in units of `unit`.
        let price = |unit: i64| {
            (1 + (chance >> 8) % 9) as i64 * 10_i64.pow((chance % 4) as u32) * unit
                + ((chance >> 16) % unit as u64) as i64
        };
        let price = match Quote::of_code(code) {
            // 1 to 9999 KRW
            Quote::Krw => price(10_000),
            Quote::Btc => 1000 + (chance % 1_000_000) as i64,
            // 0.01 to 91 USDT
            Quote::Usdt => price(1_000_000),
        };
        Profile::new(code, name, price, quantity_scale)
    }

    pub(crate) fn thin(self) -> Profile {
        Profile { thin: true, ..self }
    }

    /// The price around which the market moves.
    pub(crate) fn price(&self) -> Number {
        self.price_at(self.centre)
    }

    fn price_at(&self, steps: i64) -> Number {
        Number::Scaled { units: steps * self.step, scale: self.quote.price_scale() }
    }
}

/// A centre below this would let the book's lower end touch zero.
const CENTRE_MIN: i64 = 600;

/// One level: price and quantity.
pub(crate) type Level = (Number, Number);

/// Both sides, best level first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) asks: Vec<Level>,
    pub(crate) bids: Vec<Level>,
}

/// The book of a market at a tick.
pub(crate) fn book(seed: u64, profile: &Profile, tick: u64) -> Book {
    let key = mix(seed ^ fnv(&profile.code));
    let mid = mid(key, profile.centre, tick);
    let bids = if profile.thin { LEVELS / 3 + (mix(key ^ tick) % 8) as usize } else { LEVELS };
    Book { asks: side(key, profile, tick, mid + 1, 1, LEVELS), bids: side(key, profile, tick, mid, -1, bids) }
}

/// Amplitudes in steps of the noises with periods of 1, 2, 4, … ticks: twice the square root of the period.
const AMPLITUDES: [i64; 14] = [2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181];
const AMPLITUDES_SUM: i64 = 614;

/// The mid price in steps; it stays within a quarter of the centre.
fn mid(key: u64, centre: i64, tick: u64) -> i64 {
    // In thousandths of a step.
    let offset: i64 = AMPLITUDES
        .iter()
        .enumerate()
        .map(|(octave, amplitude)| {
            let period = 1_u64 << octave;
            let (slot, within) = (tick / period, (tick % period) as i64);
            let noise = |slot: u64| (mix(key ^ mix(((octave as u64) << 56) | slot)) % 2001) as i64 - 1000;
            let (from, to) = (noise(slot), noise(slot + 1));
            amplitude * (from + (to - from) * within / period as i64)
        })
        .sum();
    let room = (centre / 4).min(AMPLITUDES_SUM);
    centre + offset * room / AMPLITUDES_SUM / 1000
}

/// One side, walking away from the best price. A step carries a level for a while, and then perhaps not.
fn side(key: u64, profile: &Profile, tick: u64, best: i64, direction: i64, levels: usize) -> Vec<Level> {
    // Two of three steps are taken, so that this is never reached but for a bug.
    const STEPS_MAX: i64 = 10 * LEVELS as i64;
    let mut side = Vec::with_capacity(levels);
    for distance in 0..STEPS_MAX {
        let price = best + direction * distance;
        if side.len() == levels || price <= 0 {
            break;
        }
        let place = mix(key ^ mix(price as u64 ^ ((direction as u64) << 40)));
        let presence = mix(place ^ ((tick + place % 64) / 64));
        if presence % 3 == 0 {
            continue;
        }
        // A level keeps its size for 1 to 16 ticks.
        let life = 1 + place % 16;
        let chance = mix(presence ^ (((tick + place % life) / life) << 8));
        side.push((
            profile.price_at(price),
            Number::Scaled { units: quantity(chance, profile, price), scale: profile.quantity_scale },
        ));
    }
    side
}

/// A quantity in units of 10^-`quantity_scale`, worth up to a thousand times the quote's least value, small ones being more
/// frequent.
fn quantity(chance: u64, profile: &Profile, price_steps: i64) -> i64 {
    let value = profile.quote.least() * 10_i64.pow((chance % 3) as u32) * (100 + (chance >> 8) % 900) as i64 / 100;
    // Eight decimals of it need more than 64 bits.
    let units = i128::from(value) * 10_i128.pow(profile.quantity_scale) / i128::from(price_steps * profile.step);
    i64::try_from(units).unwrap_or(i64::MAX).max(1)
}

/// splitmix64's finaliser: every input bit changes half of the output bits.
pub(crate) fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// FNV-1a.
pub(crate) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::super::Venue;
    use super::super::catalogue;
    use super::*;

    fn profiles() -> Vec<Profile> {
        catalogue::profiles(Venue::Bithumb)
    }

    fn units(number: &Number) -> i64 {
        match number {
            Number::Scaled { units, .. } => *units,
            Number::Verbatim(text) => panic!("the generator made the text {text}"),
        }
    }

    #[test]
    fn every_book_is_sorted_uncrossed_and_deep_enough() {
        let venues = [Venue::Bithumb, Venue::Upbit, Venue::Korbit];
        for profile in venues.into_iter().flat_map(catalogue::profiles) {
            for tick in [0, 1, 2, 1000, 16_383, 16_384, 1_000_000_007] {
                let book = book(7, &profile, tick);
                assert_eq!(book.asks.len(), LEVELS, "{} asks at {tick}", profile.code);
                let bids = if profile.thin { 10..18 } else { LEVELS..LEVELS + 1 };
                assert!(bids.contains(&book.bids.len()), "{} has {} bids at {tick}", profile.code, book.bids.len());
                let asks: Vec<i64> = book.asks.iter().map(|level| units(&level.0)).collect();
                let bids: Vec<i64> = book.bids.iter().map(|level| units(&level.0)).collect();
                assert!(
                    asks.is_sorted()
                        && bids.iter().rev().is_sorted()
                        && bids[0] < asks[0]
                        && bids.iter().all(|&bid| bid > 0)
                );
                assert!(book.asks.iter().chain(&book.bids).all(|level| units(&level.1) > 0));
            }
        }
    }

    #[test]
    fn a_book_depends_on_seed_market_and_tick_alone() {
        let all = profiles();
        assert_eq!(book(7, &all[0], 42), book(7, &all[0], 42));
        assert_ne!(book(7, &all[0], 42), book(8, &all[0], 42));
        assert_ne!(book(7, &all[0], 42), book(7, &all[0], 43));
        assert_ne!(book(7, &all[0], 42), book(7, &all[1], 42));
    }

    #[test]
    fn the_mid_price_wanders_and_most_levels_stay() {
        let profile = &profiles()[0];
        let best: Vec<i64> = (0..2000).map(|tick| units(&book(7, profile, tick).asks[0].0)).collect();
        let moves: Vec<i64> = best.windows(2).map(|pair| (pair[1] - pair[0]).abs() / profile.step).collect();
        assert!(moves.iter().all(|&steps| steps < 60), "a jump: {:?}", moves.iter().max());
        let (low, high) = (best.iter().min().expect("2000 of them"), best.iter().max().expect("2000 of them"));
        assert!((high - low) / profile.step > 30, "moved only from {low} to {high}");

        let (now, next) = (book(7, profile, 100), book(7, profile, 101));
        let same = now.asks.iter().filter(|level| next.asks.contains(level)).count();
        assert!((10..LEVELS).contains(&same), "{same} of {LEVELS} levels stayed");
    }
}
