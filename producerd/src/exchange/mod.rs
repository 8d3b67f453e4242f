//! What differs between exchanges: one file for each API, all of it pure, and one line in `apis!`.

mod error;
mod json;
#[cfg(test)]
mod mutation;
mod rate;
mod sides;
mod symbol;
mod units;

use std::fmt;

use coinflow_common::orderbook::{Level, Market, Timestamp};
use ureq::http::HeaderMap;

pub(crate) use error::ExchangeError;
pub(crate) use rate::RateHint;
pub(crate) use symbol::{Symbol, parse_symbol};

/// Takes up each API by its module's name. (`cargo fmt` does not see modules that a macro declares; `tests/run` does.)
macro_rules! apis {
    ($($(#[$attribute:meta])* $module:ident,)+) => {
        $($(#[$attribute])* mod $module;)+

        /// Every API that this version polls, the default of an exchange first.
        pub(crate) const APIS: &[&Api] = &[$($(#[$attribute])* &$module::API,)+];
    };
}

apis! {
    bithumb,
    bithumb_legacy,
    upbit,
    korbit,
    #[cfg(feature = "example")] example,
}

/// One API of one exchange: what the configuration has to know of it, and how to speak it.
pub(crate) struct Api {
    pub(crate) exchange: &'static str,
    /// The word for it in `api = "…"`.
    pub(crate) name: &'static str,
    pub(crate) base_url: &'static str,
    /// Other addresses of the same API.
    pub(crate) other_hosts: &'static [&'static str],
    /// The exchange's own limit in requests per second and address, which holds at these addresses.
    pub(crate) requests_per_second_limit: u32,
    pub(crate) requests_per_second: u32,
    pub(crate) markets_per_request: usize,
    pub(crate) markets_per_request_max: usize,
    /// How long the list of market codes in one request may get, in characters, one for each separator among them.
    pub(crate) codes_chars_max: usize,
    /// Most levels of a side that it ever sends.
    pub(crate) levels: usize,
    pub(crate) adapter: &'static dyn Adapter,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.exchange, self.name)
    }
}

impl PartialEq for Api {
    fn eq(&self, other: &Self) -> bool {
        (self.exchange, self.name) == (other.exchange, other.name)
    }
}

impl Eq for Api {}

/// The exchanges, each once.
pub(crate) fn exchanges() -> impl Iterator<Item = &'static str> {
    let mut seen: Vec<&str> = APIS.iter().map(|api| api.exchange).collect();
    seen.dedup();
    seen.into_iter()
}

/// The APIs of one exchange, its default first.
pub(crate) fn apis_of(exchange: &str) -> impl Iterator<Item = &'static Api> + use<'_> {
    APIS.iter().copied().filter(move |api| api.exchange == exchange)
}

/// How to speak one API: markets to requests, replies to books. Pure functions.
///
/// A path starts with `/` and is appended to the base URL, query and all.
pub(crate) trait Adapter: Sync {
    /// The request for the books of these markets.
    fn book_path(&self, markets: &[Market]) -> String;

    /// The books in a reply, one result for each of `markets` and in their order.
    ///
    /// # Errors
    /// What concerns the reply as a whole; then no book of it counts.
    fn parse_books(&self, reply: &Reply<'_>, markets: &[Market]) -> Result<Vec<BookResult>, ExchangeError>;

    /// What the headers of a reply to a request for books say of the exchange's limit.
    fn rate_hint(&self, headers: &HeaderMap) -> RateHint;

    /// The requests whose replies together list every market.
    fn list_paths(&self) -> &'static [&'static str];

    /// The markets that the reply to the list request `path` names.
    ///
    /// # Errors
    /// What is wrong with the reply.
    fn parse_list(&self, path: &str, reply: &Reply<'_>) -> Result<Vec<Market>, ExchangeError>;
}

/// An HTTP reply whose whole body has arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// A book as the exchange sent it: unsorted, with padding and ghosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) exchange_ts: Option<Timestamp>,
    pub(crate) asks: Vec<Level>,
    pub(crate) bids: Vec<Level>,
}

pub(crate) type BookResult = Result<Book, ExchangeError>;

/// The one book of a reply that has no more, for markets of which there is only one.
fn one_book(book: BookResult, markets: &[Market]) -> Vec<BookResult> {
    let mut book = Some(book);
    markets.iter().map(|_| book.take().unwrap_or(Err(ExchangeError::NotInReply))).collect()
}

/// The markets of these codes. One that is no code of ours cannot be watched, and spoils no list. A list without any market
/// is not what it should be: nobody is to believe that all have been delisted.
fn market_list(codes: impl Iterator<Item = String>) -> Result<Vec<Market>, ExchangeError> {
    let (mut markets, mut first_bad) = (Vec::new(), None);
    for code in codes {
        match Market::parse(&code) {
            Ok(market) => markets.push(market),
            Err(error) => _ = first_bad.get_or_insert_with(|| format!("market {:?} is {error}", error::quote(&code))),
        }
    }
    match first_bad {
        Some(bad) if markets.is_empty() => Err(ExchangeError::BadReply(bad)),
        None if markets.is_empty() => Err(ExchangeError::BadReply("the list names no market".to_owned())),
        _ => Ok(markets),
    }
}
