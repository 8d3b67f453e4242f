//! The markets that each exchange has at start.

use super::Venue;
use super::book::Profile;

/// Codes that tests rely on, with a price near the real one of late 2026: KRW with 4 decimals, BTC and USDT with 8.
const KRW: [(&str, &str, i64); 24] = [
    ("BTC", "Bitcoin", 1_571_230_000_000),
    ("ETH", "Ethereum", 47_150_000_000),
    ("XRP", "XRP", 31_200_000),
    ("SOL", "Solana", 2_013_000_000),
    ("DOGE", "Dogecoin", 2_341_000),
    ("ADA", "Cardano", 6_520_000),
    ("USDT", "Tether", 14_720_000),
    ("TRX", "TRON", 4_131_000),
    ("LINK", "Chainlink", 195_600_000),
    ("AVAX", "Avalanche", 213_400_000),
    ("SUI", "Sui", 24_310_000),
    ("XLM", "Stellar Lumens", 3_622_000),
    ("BCH", "Bitcoin Cash", 7_815_000_000),
    ("DOT", "Polkadot", 33_510_000),
    ("NEAR", "NEAR Protocol", 28_970_000),
    ("UNI", "Uniswap", 89_420_000),
    ("AAVE", "Aave", 2_684_000_000),
    ("ETC", "Ethereum Classic", 221_700_000),
    ("ATOM", "Cosmos", 38_240_000),
    ("PEPE", "Pepe", 87),
    ("SHIB", "Shiba Inu", 139),
    ("WLD", "Worldcoin", 10_450_000),
    ("SAND", "The Sandbox", 2_853_000),
    ("KLAY", "Klaytn", 1_726_000),
];
/// Markets with few orders: the bid side is short.
const KRW_THIN: [(&str, &str, i64); 2] = [("NFT", "APENFT", 6_100), ("BTT", "BitTorrent", 9_200)];
const BTC: [(&str, &str, i64); 6] = [
    ("ETH", "Ethereum", 3_001_000),
    ("XRP", "XRP", 1_985),
    ("SOL", "Solana", 128_120),
    ("ADA", "Cardano", 1_687),
    ("LINK", "Chainlink", 12_448),
    ("DOT", "Polkadot", 2_132),
];
const BTC_THIN: [(&str, &str, i64); 1] = [("LWP", "LWP", 1_240)];
const USDT: [(&str, &str, i64); 4] = [
    ("BTC", "Bitcoin", 10_674_000_000_000),
    ("ETH", "Ethereum", 320_300_000_000),
    ("XRP", "XRP", 211_900_000),
    ("SOL", "Solana", 13_675_000_000),
];

/// Generated markets, `KRW-G001`, …: with the named ones as many as the exchange has. (Bithumb: more than 250, so that one call
/// cannot name all.)
const BITHUMB_KRW: u32 = 230;
const UPBIT_KRW: u32 = 289 - 26;
const UPBIT_BTC: u32 = 328 - 7;
const UPBIT_USDT: u32 = 238 - 4;
const KORBIT_KRW: u32 = 193 - 25;
/// `KRW-S001`, …: stopped, as `KRW-KLAY` is.
const KORBIT_STOPPED: u32 = 34 - 1;

/// Decimals of a quantity.
pub(crate) fn quantity_scale(venue: Venue) -> u32 {
    match venue {
        Venue::Bithumb => 4,
        Venue::Upbit | Venue::Korbit => 8,
    }
}

/// All markets, in the order in which the exchange lists them.
pub(crate) fn profiles(venue: Venue) -> Vec<Profile> {
    let scale = quantity_scale(venue);
    let named = |quote: &'static str, rows: &'static [(&str, &str, i64)]| {
        rows.iter().map(move |&(base, name, price)| Profile::new(&format!("{quote}-{base}"), name, price, scale))
    };
    let thin = |quote, rows| named(quote, rows).map(Profile::thin);
    let generated = |prefix, count| codes(prefix, count).map(move |code| Profile::of_code(&code, scale));
    let krw = named("KRW", &KRW).chain(thin("KRW", &KRW_THIN));
    match venue {
        Venue::Bithumb => krw.chain(generated("KRW-G", BITHUMB_KRW)).chain(named("BTC", &BTC)).collect(),
        Venue::Upbit => {
            // Of the real ones, two of three are thin.
            let btc = generated("BTC-G", UPBIT_BTC).enumerate();
            let btc = btc.map(|(at, profile)| if at % 3 == 0 { profile } else { profile.thin() });
            krw.chain(generated("KRW-G", UPBIT_KRW))
                .chain(named("BTC", &BTC))
                .chain(thin("BTC", &BTC_THIN))
                .chain(btc)
                .chain(named("USDT", &USDT))
                .chain(generated("USDT-G", UPBIT_USDT))
                .collect()
        }
        Venue::Korbit => krw.chain(generated("KRW-G", KORBIT_KRW)).chain(generated("KRW-S", KORBIT_STOPPED)).collect(),
    }
}

/// The markets that are suspended from the start.
pub(crate) fn suspended(venue: Venue) -> Vec<String> {
    match venue {
        Venue::Bithumb | Venue::Upbit => Vec::new(),
        Venue::Korbit => std::iter::once("KRW-KLAY".to_owned()).chain(codes("KRW-S", KORBIT_STOPPED)).collect(),
    }
}

fn codes(prefix: &'static str, count: u32) -> impl Iterator<Item = String> {
    (1..=count).map(move |number| format!("{prefix}{number:03}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exchange_has_as_many_markets_as_the_real_one() {
        // venue, KRW, BTC and USDT markets, suspended ones
        let cases =
            [(Venue::Bithumb, [256, 6, 0], 0), (Venue::Upbit, [289, 328, 238], 0), (Venue::Korbit, [227, 0, 0], 34)];
        for (venue, wanted, stopped) in cases {
            let profiles = profiles(venue);
            let of = |quote: &str| profiles.iter().filter(|profile| profile.code.starts_with(quote)).count();
            assert_eq!([of("KRW-"), of("BTC-"), of("USDT-")], wanted, "{venue:?}");
            let suspended = suspended(venue);
            assert_eq!(suspended.len(), stopped, "{venue:?}");
            assert!(suspended.iter().all(|code| profiles.iter().any(|profile| profile.code == *code)), "{venue:?}");
        }
    }
}
