//! The markets of the exchange and their state: what every exchange API serves its books from.

use std::collections::HashMap;

use super::api::{BookChange, BookOverride, Ghost, MarketChange};
use super::book::{self, Book, LEVELS, Level, Profile, mix};
use super::number::Number;
use super::{Venue, catalogue};

/// Room for what tests list.
const MARKETS_MAX: usize = 2_000;
/// Age of a quiet market's book when it is first read.
const QUIET_MS: u64 = 4 * 60_000;
/// Age of a stopped pair's book: 7.8 days, as measured.
const STOPPED_MS: u64 = 673_920_000;

#[derive(Clone, Debug)]
pub(crate) struct Market {
    pub(crate) profile: Profile,
    pub(crate) listed: bool,
    pub(crate) suspended: bool,
    quiet: bool,
    tick: u64,
    timestamp_ms: u64,
    /// The timestamp while the book stands still, from the first read on.
    still_ms: Option<u64>,
    ghost: Ghost,
    padding: usize,
    book: Option<BookOverride>,
}

impl Market {
    fn new(profile: Profile) -> Market {
        Market {
            profile,
            listed: true,
            suspended: false,
            quiet: false,
            tick: 0,
            timestamp_ms: 0,
            still_ms: None,
            ghost: Ghost::Off,
            padding: 0,
            book: None,
        }
    }

    /// (quote, base)
    pub(crate) fn pair(&self) -> (&str, &str) {
        self.profile.code.split_once('-').unwrap_or(("", &self.profile.code))
    }
}

/// What of a market stands still in one read: faults F-01 and F-02.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Frozen {
    #[default]
    Nothing,
    Timestamp,
    Everything,
}

/// A book as one read sees it, before an API spells it.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) market: String,
    pub(crate) timestamp_ms: u64,
    /// JSON that a test wants to see in place of the timestamp.
    pub(crate) timestamp_override: Option<String>,
    pub(crate) book: Book,
}

impl Snapshot {
    /// Levels of a side that one reply shows: a book that a test has made is sent whole, however deep it is.
    pub(crate) fn depth(&self) -> usize {
        let is_made = self.book.asks.first().is_some_and(|(price, _)| matches!(price, Number::Verbatim(_)));
        if is_made { usize::MAX } else { LEVELS }
    }
}

#[derive(Debug)]
pub(crate) struct Markets {
    venue: Venue,
    seed: u64,
    markets: Vec<Market>,
    index: HashMap<String, usize>,
}

impl Markets {
    pub(crate) fn new(venue: Venue, seed: u64) -> Markets {
        let mut markets: Vec<Market> = catalogue::profiles(venue).into_iter().map(Market::new).collect();
        let index: HashMap<String, usize> =
            markets.iter().enumerate().map(|(at, market)| (market.profile.code.clone(), at)).collect();
        for code in catalogue::suspended(venue) {
            markets[index[&code]].suspended = true;
        }
        Markets { venue, seed, markets, index }
    }

    /// As at start, but no book's timestamp ever comes again.
    pub(crate) fn reset(&mut self) {
        let fresh = Markets::new(self.venue, self.seed);
        let old = std::mem::replace(self, fresh);
        for market in old.markets {
            if let Some(&at) = self.index.get(&market.profile.code) {
                self.markets[at].timestamp_ms = market.timestamp_ms;
            }
        }
    }

    pub(crate) fn listed(&self) -> impl Iterator<Item = &Market> {
        self.markets.iter().filter(|market| market.listed)
    }

    pub(crate) fn is_listed(&self, code: &str) -> bool {
        self.index.get(code).is_some_and(|&at| self.markets[at].listed)
    }

    pub(crate) fn list(&mut self, code: &str) -> Result<(), String> {
        if !code.split_once('-').is_some_and(|(quote, base)| !quote.is_empty() && !base.is_empty()) || code.len() > 32 {
            return Err(format!("{code:?} is not a market code; write QUOTE-BASE"));
        }
        self.at(code)?.listed = true;
        Ok(())
    }

    pub(crate) fn delist(&mut self, code: &str) -> Result<(), String> {
        let at = *self.index.get(code).ok_or_else(|| format!("no market {code}"))?;
        self.markets[at].listed = false;
        Ok(())
    }

    pub(crate) fn change(&mut self, change: MarketChange) -> Result<(), String> {
        let at = *self.index.get(&change.market).ok_or_else(|| format!("no market {}", change.market))?;
        let market = &mut self.markets[at];
        market.ghost = change.ghost.unwrap_or(market.ghost);
        market.padding = change.padding.unwrap_or(market.padding);
        market.suspended = change.suspended.unwrap_or(market.suspended);
        market.quiet = change.quiet.unwrap_or(market.quiet);
        if change.suspended.is_some() || change.quiet.is_some() {
            market.still_ms = None;
        }
        match change.book {
            None => {}
            Some(BookChange::Generated) => market.book = None,
            Some(BookChange::Override(book)) => market.book = Some(book),
        }
        Ok(())
    }

    fn at(&mut self, code: &str) -> Result<&mut Market, String> {
        let at = match self.index.get(code) {
            Some(&at) => at,
            None if self.markets.len() >= MARKETS_MAX => return Err(format!("more than {MARKETS_MAX} markets")),
            None => {
                let profile = Profile::of_code(code, catalogue::quantity_scale(self.venue));
                self.markets.push(Market::new(profile));
                self.index.insert(code.to_owned(), self.markets.len() - 1);
                self.markets.len() - 1
            }
        };
        Ok(&mut self.markets[at])
    }

    /// One read of a listed market at `now_ms`: its tick and its timestamp go on, unless it stands still or is frozen.
    pub(crate) fn read(&mut self, code: &str, now_ms: u64, frozen: Frozen) -> Option<Snapshot> {
        let seed = self.seed;
        let at = *self.index.get(code)?;
        let market = &mut self.markets[at];
        if !market.listed {
            return None;
        }
        // Elsewhere nothing in the book tells that its market is suspended.
        if market.suspended && self.venue == Venue::Korbit {
            let timestamp_ms = market.still_since(now_ms, STOPPED_MS);
            return Some(Snapshot { timestamp_ms, book: Book::default(), ..market.snapshot(seed) });
        }
        if market.quiet {
            let timestamp_ms = market.still_since(now_ms, QUIET_MS);
            return Some(Snapshot { timestamp_ms, ..market.snapshot(seed) });
        }
        if frozen != Frozen::Everything || market.tick == 0 {
            market.tick += 1;
        }
        if frozen == Frozen::Nothing || market.timestamp_ms == 0 {
            // The real one is 142 to 450 ms behind the clock.
            let age_ms = 142 + mix(seed ^ market.tick) % 309;
            market.timestamp_ms = (now_ms.saturating_sub(age_ms)).max(market.timestamp_ms + 1);
        }
        Some(market.snapshot(seed))
    }

    /// The same read of many markets, with one timestamp for all of them.
    pub(crate) fn read_together(&mut self, codes: &[(String, Frozen)], now_ms: u64) -> (u64, Vec<Snapshot>) {
        let mut snapshots: Vec<Snapshot> =
            codes.iter().filter_map(|(code, frozen)| self.read(code, now_ms, *frozen)).collect();
        let timestamp_ms = snapshots.iter().map(|snapshot| snapshot.timestamp_ms).max().unwrap_or(now_ms);
        for snapshot in &mut snapshots {
            snapshot.timestamp_ms = timestamp_ms;
            if let Some(&at) = self.index.get(&snapshot.market) {
                self.markets[at].timestamp_ms = timestamp_ms;
            }
        }
        (timestamp_ms, snapshots)
    }
}

impl Market {
    /// The timestamp of a book that stood still for `age_ms` already when it was first read.
    fn still_since(&mut self, now_ms: u64, age_ms: u64) -> u64 {
        *self.still_ms.get_or_insert(now_ms.saturating_sub(age_ms))
    }

    fn snapshot(&self, seed: u64) -> Snapshot {
        let mut book = book::book(seed, &self.profile, self.tick);
        let mut timestamp_override = None;
        if let Some(wanted) = &self.book {
            let side = |levels: &[(String, String)]| -> Vec<Level> {
                levels
                    .iter()
                    .map(|(price, quantity)| (Number::Verbatim(price.clone()), Number::Verbatim(quantity.clone())))
                    .collect()
            };
            book = Book { asks: side(&wanted.asks), bids: side(&wanted.bids) };
            timestamp_override.clone_from(&wanted.timestamp);
        }
        let ghost_at = match self.ghost {
            Ghost::Off => None,
            Ghost::Best => Some(0),
            Ghost::Deep => Some(2),
        };
        if let Some(level) = ghost_at.and_then(|at| book.asks.get_mut(at)) {
            level.1 = Number::zero(self.profile.quantity_scale);
        }
        book.bids.truncate(book.bids.len().saturating_sub(self.padding));
        Snapshot { market: self.profile.code.clone(), timestamp_ms: self.timestamp_ms, timestamp_override, book }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_790_133_480_123;

    fn timestamp(markets: &mut Markets, now_ms: u64, frozen: Frozen) -> u64 {
        markets.read("KRW-BTC", now_ms, frozen).expect("KRW-BTC is listed").timestamp_ms
    }

    #[test]
    fn timestamps_rise_even_when_the_clock_does_not() {
        let mut markets = Markets::new(Venue::Bithumb, 1);
        let mut last = 0;
        for now_ms in [NOW_MS, NOW_MS, NOW_MS - 5_000, NOW_MS + 1] {
            let next = timestamp(&mut markets, now_ms, Frozen::Nothing);
            assert!(next > last);
            last = next;
        }
        assert_eq!(timestamp(&mut markets, NOW_MS + 5_000, Frozen::Timestamp), last);
        markets.reset();
        assert!(timestamp(&mut markets, NOW_MS, Frozen::Nothing) > last);
    }

    #[test]
    fn frozen_parts_stand_still() {
        let mut markets = Markets::new(Venue::Bithumb, 1);
        let first = markets.read("KRW-BTC", NOW_MS, Frozen::Nothing).expect("listed");
        let same = markets.read("KRW-BTC", NOW_MS + 1000, Frozen::Everything).expect("listed");
        assert_eq!((first.timestamp_ms, &first.book), (same.timestamp_ms, &same.book));
        let moved = markets.read("KRW-BTC", NOW_MS + 2000, Frozen::Timestamp).expect("listed");
        assert_eq!(first.timestamp_ms, moved.timestamp_ms);
        assert_ne!(first.book, moved.book);
    }

    #[test]
    fn a_quiet_market_stands_still_until_it_is_not_quiet_any_more() {
        let mut markets = Markets::new(Venue::Upbit, 1);
        let quiet =
            |quiet| MarketChange { market: "KRW-BTC".to_owned(), quiet: Some(quiet), ..MarketChange::default() };
        let last = timestamp(&mut markets, NOW_MS, Frozen::Nothing);
        markets.change(quiet(true)).expect("it is there");
        let first = markets.read("KRW-BTC", NOW_MS, Frozen::Nothing).expect("listed");
        let again = markets.read("KRW-BTC", NOW_MS + 60_000, Frozen::Nothing).expect("listed");
        assert_eq!((first.timestamp_ms, &first.book), (NOW_MS - QUIET_MS, &again.book));
        assert_eq!(again.timestamp_ms, first.timestamp_ms);
        markets.change(quiet(false)).expect("it is there");
        assert!(timestamp(&mut markets, NOW_MS, Frozen::Nothing) > last);
    }

    #[test]
    fn suspension_empties_the_book_at_korbit_alone() {
        for (venue, empty) in [(Venue::Bithumb, false), (Venue::Upbit, false), (Venue::Korbit, true)] {
            let mut markets = Markets::new(venue, 1);
            let suspended =
                |suspended| MarketChange { market: "KRW-BTC".to_owned(), suspended, ..MarketChange::default() };
            markets.change(suspended(Some(true))).expect("it is there");
            let snapshot = markets.read("KRW-BTC", NOW_MS, Frozen::Nothing).expect("listed");
            assert_eq!(snapshot.book == Book::default(), empty, "{venue:?}");
            assert_eq!(snapshot.timestamp_ms == NOW_MS - STOPPED_MS, empty, "{venue:?}");
            markets.change(suspended(Some(false))).expect("it is there");
            let snapshot = markets.read("KRW-BTC", NOW_MS, Frozen::Nothing).expect("listed");
            assert_eq!((snapshot.book.asks.len(), snapshot.book.bids.len()), (LEVELS, LEVELS), "{venue:?}");
        }
    }

    #[test]
    fn markets_come_and_go() {
        let mut markets = Markets::new(Venue::Bithumb, 1);
        assert!(markets.listed().filter(|market| market.pair().0 == "KRW").count() >= 250);
        assert!(markets.read("KRW-NEW", NOW_MS, Frozen::Nothing).is_none());
        markets.list("KRW-NEW").expect("a good code");
        assert!(markets.read("KRW-NEW", NOW_MS, Frozen::Nothing).is_some());
        markets.delist("KRW-NEW").expect("it is there");
        assert!(markets.read("KRW-NEW", NOW_MS, Frozen::Nothing).is_none());
        assert!(markets.list("KRWNEW").is_err());
        assert!(markets.delist("KRW-NOPE").is_err());
    }
}
