//! The state that all connections share, and the way from a request to its answer.

use std::time::Duration;

use super::api::{Fault, Gzip, LevelText, Pause, Summary, Switches};
use super::fault::{Faults, Struck};
use super::http::Request;
use super::journal::{self, Journal};
use super::limiter::{Buckets, Windows};
use super::market::{Markets, Snapshot};
use super::reply::{Delivery, Reply};
use super::{Venue, api, bithumb_legacy, bithumb_v2, korbit, upbit};

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) venue: Venue,
    pub(crate) markets: Markets,
    pub(crate) switches: Switches,
    pub(crate) faults: Faults,
    pub(crate) buckets: Buckets,
    pub(crate) windows: Windows,
    pub(crate) pause: Option<Pause>,
    pub(crate) requests: Journal,
    pub(crate) served: Journal,
    pub(crate) summary: Summary,
}

/// A book in a reply, as its texts.
#[derive(Clone, Debug)]
pub(crate) struct SentBook {
    pub(crate) market: String,
    pub(crate) timestamp_ms: u64,
    pub(crate) timestamp: String,
    pub(crate) asks: Vec<LevelText>,
    pub(crate) bids: Vec<LevelText>,
}

/// What an exchange API makes of a request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    /// The markets asked for, in the house's spelling.
    pub(crate) markets: Vec<String>,
    pub(crate) books: Vec<SentBook>,
    pub(crate) faults: Vec<&'static str>,
    pub(crate) delay: Duration,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer { reply, ..Answer::default() }
    }
}

impl Answer {
    /// Lets the faults that concern the reply as a whole have their way with it.
    pub(crate) fn struck(mut self, struck: &Struck) -> Answer {
        self.faults = struck.names();
        self.delay = Duration::from_millis(struck.delay_ms());
        let Some(fault) = struck.of_reply() else { return self };
        match fault {
            Fault::Gateway { status } => self.reply = Reply::html(*status),
            Fault::TruncatedJson => self.reply.body.truncate(self.reply.body.len() / 2),
            Fault::Trickle { bytes, every_ms } => {
                self.reply.delivery = Delivery::Trickle { bytes: *bytes, every: Duration::from_millis(*every_ms) };
                // Whole, if the client has the patience.
                return self;
            }
            Fault::Reset => self.reply.delivery = Delivery::Reset,
            Fault::Huge { bytes } => self.reply.delivery = Delivery::Huge(*bytes),
            Fault::EmptyBody => self.reply.body.clear(),
            Fault::Reply { status, content_type, headers, body } => {
                self.reply = Reply::new(*status, content_type, body.as_str());
                self.reply.more_headers.clone_from(headers);
            }
            Fault::StuckTimestamp | Fault::SameBody | Fault::Delisted | Fault::Delay { .. } => {}
        }
        self.books.clear();
        self
    }
}

impl World {
    pub(crate) fn new(venue: Venue, seed: u64) -> World {
        World {
            venue,
            markets: Markets::new(venue, seed),
            switches: Switches::default(),
            faults: Faults::default(),
            buckets: Buckets::default(),
            windows: Windows::default(),
            pause: None,
            requests: Journal::new(journal::ENTRIES_MAX, journal::BYTES_MAX),
            served: Journal::new(journal::ENTRIES_MAX, journal::BYTES_MAX),
            summary: Summary::default(),
        }
    }

    pub(crate) fn reset(&mut self) {
        self.markets.reset();
        self.switches = Switches::default();
        self.faults.clear();
        self.buckets = Buckets::default();
        self.windows = Windows::default();
        self.pause = None;
        self.requests.clear();
        self.served.clear();
        self.summary = Summary {
            connections: self.summary.connections,
            connections_open: self.summary.connections_open,
            ..Summary::default()
        };
    }

    /// The answer to a request for the exchange itself; the clock is read by the caller.
    pub(crate) fn answer(&mut self, request: &Request, now_us: u64) -> Answer {
        match self.venue {
            Venue::Bithumb => match request.path().strip_prefix("/public/") {
                Some(route) => bithumb_legacy::answer(self, request, route, now_us),
                None => bithumb_v2::answer(self, request, now_us),
            },
            Venue::Upbit => upbit::answer(self, request, now_us),
            Venue::Korbit => korbit::answer(self, request, now_us),
        }
    }

    /// One read of a market, as far as the faults let it happen.
    pub(crate) fn read(&mut self, market: &str, struck: &Struck, now_us: u64) -> Option<Snapshot> {
        if struck.delists(market) {
            return None;
        }
        self.markets.read(market, now_us / 1_000, struck.frozen(market))
    }

    /// The same of several markets; nothing, if one of them is unknown.
    pub(crate) fn read_all(&mut self, markets: &[String], struck: &Struck, now_us: u64) -> Option<Vec<Snapshot>> {
        let known = |market: &String| self.markets.is_listed(market) && !struck.delists(market);
        if !markets.iter().all(known) {
            return None;
        }
        markets.iter().map(|market| self.read(market, struck, now_us)).collect()
    }

    /// Logs a request whose answer is decided, and returns its sequence number.
    pub(crate) fn note_request(&mut self, request: &Request, answer: &Answer) -> u64 {
        self.summary.requests += 1;
        let known = |market: &String| if self.markets.is_listed(market) { market.clone() } else { "?".to_owned() };
        let mut names: Vec<String> = answer.markets.iter().map(known).collect();
        if names.is_empty() {
            names.push("-".to_owned());
        }
        for name in names {
            *self.summary.statuses.entry(name).or_default().entry(answer.reply.status).or_default() += 1;
        }
        for fault in &answer.faults {
            *self.summary.faults.entry((*fault).to_owned()).or_default() += 1;
        }
        self.requests.push(|sequence| api::RequestSeen {
            sequence,
            arrived_us: request.arrived_us,
            connection: request.connection,
            method: request.method.clone(),
            path: request.target.clone(),
            markets: answer.markets.clone(),
            status: answer.reply.status,
            faults: answer.faults.iter().map(|&fault| fault.to_owned()).collect(),
            user_agent: request.user_agent.clone(),
            origin: request.origin.clone(),
            accept_encoding: request.accept_encoding.clone(),
            gzip: answer.reply.gzip,
        })
    }

    /// Logs the books of a reply, and returns their sequence numbers.
    pub(crate) fn note_books(&mut self, request: &Request, sequence: u64, books: Vec<SentBook>) -> Vec<u64> {
        self.summary.books += books.len() as u64;
        let push = |book: SentBook| {
            self.served.push(|own| api::ServedBook {
                sequence: own,
                request: sequence,
                arrived_us: request.arrived_us,
                market: book.market,
                timestamp_ms: book.timestamp_ms,
                timestamp: book.timestamp,
                asks: book.asks,
                bids: book.bids,
            })
        };
        books.into_iter().map(push).collect()
    }

    /// Takes books back that the client did not take.
    pub(crate) fn retract_books(&mut self, sequences: &[u64]) {
        self.summary.books -= sequences.len() as u64;
        for &sequence in sequences {
            self.served.retract(sequence);
        }
    }

    pub(crate) fn compresses(&self, request: &Request) -> bool {
        self.switches.gzip == Gzip::WhenAccepted && request.accepts_gzip()
    }
}

/// What both Bithumb APIs say to a path that they do not have.
pub(crate) fn no_route() -> Reply {
    Reply::json(404, r#"{"name":"not_found","message":"No Route matched with those values"}"#)
}
