//! `dead-letters retry`: another try, by the daemon's own decoder, each in a transaction of its own.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use coinflow_common::config::show_duration;
use coinflow_common::daemon::Exit;
use coinflow_common::orderbook::{OrderBook, Timestamp};
use postgres::Client;

use crate::columns::one_line;
use crate::command::{Outcome, database, print, told};
use crate::config::Config;
use crate::decode::judge;
use crate::record::{Book, Fate};
use crate::store::days::Day;
use crate::store::letters::{self, Letter, Stored};
use crate::store::{Origin, PgFault, Schema};

/// Ids that are looked for at once: there may be very many.
const IDS: i64 = 1000;

/// Which letters.
#[derive(Debug)]
pub(super) enum Which {
    All,
    These(Vec<i64>),
}

/// What became of one.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    Stored(Stored),
    /// By an earlier retry.
    Before(String),
    Unknown,
    Not(String),
}

pub(super) fn run(config: &Config, which: Which) -> Outcome {
    let client = database(&config.postgres)?;
    let schema = Schema::new(&config.postgres.schema);
    let mut retry = Retry { client, schema, retention: config.postgres.retention, days: BTreeSet::new() };
    let good = match which {
        Which::These(ids) => retry.each(&ids)?,
        Which::All => {
            let (mut good, mut last) = (true, 0);
            loop {
                let ids = letters::open_after(&mut retry.client, &retry.schema, last, IDS).map_err(told)?;
                let Some(newest) = ids.last() else { break good };
                last = *newest;
                good &= retry.each(&ids)?;
            }
        }
    };
    Ok(if good { Exit::Done } else { Exit::Failed })
}

struct Retry {
    client: Client,
    schema: Schema,
    retention: Option<Duration>,
    /// Those that are known to be there.
    days: BTreeSet<Day>,
}

impl Retry {
    /// A line for each; whether all are known to be stored.
    fn each(&mut self, ids: &[i64]) -> Result<bool, String> {
        let mut good = true;
        for id in ids {
            let became = match self.one(*id) {
                Ok(became) => became,
                // Nothing is known to be stored, and the next one would fare no better.
                Err(fault) if self.client.is_closed() => return Err(told(fault)),
                Err(fault) => Became::Not(fault.to_string()),
            };
            good &= became.is_stored();
            print(&format!("{id} {}\n", became.text()));
        }
        Ok(good)
    }

    fn one(&mut self, id: i64) -> Result<Became, PgFault> {
        let Some(letter) = letters::get(&mut self.client, &self.schema, id)? else { return Ok(Became::Unknown) };
        if let Some(at) = letter.retried_at {
            return Ok(Became::Before(at));
        }
        let now = Timestamp::from_system(SystemTime::now());
        let (book, received_at) = match rejudge(&letter, now, self.retention) {
            Ok(found) => found,
            Err(reason) => return Ok(Became::Not(reason)),
        };
        // Made before the transaction, for it takes a lock of its own.
        letters::make_day(&mut self.client, &self.schema, &mut self.days, book.day)?;
        let stored = letters::store(&mut self.client, &self.schema, &letter, &book, received_at)?;
        if stored == Stored::ByAnother {
            // It may have ended between the two looks.
            let letter = letters::get(&mut self.client, &self.schema, id)?;
            if let Some(at) = letter.and_then(|letter| letter.retried_at) {
                return Ok(Became::Before(at));
            }
        }
        Ok(Became::Stored(stored))
    }
}

/// The book of a letter with the time that decides about its day, or why it is none.
fn rejudge(letter: &Letter, now: Timestamp, retention: Option<Duration>) -> Result<(Book, Timestamp), String> {
    let Letter { source, partition, generation, offset, .. } = letter;
    let origin = Origin { source, partition, generation: *generation, offset: *offset };
    match judge(&letter.raw(), origin, now, retention, Vec::new) {
        Fate::Book(book) => {
            let again = OrderBook::decode(letter.payload.as_deref().unwrap_or_default());
            let again = again.map_err(|error| error.to_string())?;
            Ok((book, again.received_at))
        }
        Fate::Dead { reason, .. } => Err(reason),
        Fate::Expired => {
            let retention = retention.map(show_duration).unwrap_or_default();
            Err(format!("it is older than the retention of {retention}"))
        }
    }
}

impl Became {
    fn is_stored(&self) -> bool {
        match self {
            Self::Stored(Stored::Now | Stored::InGeneration(_)) | Self::Before(_) => true,
            // What the other one makes of it is not known.
            Self::Stored(Stored::ByAnother) | Self::Unknown | Self::Not(_) => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Stored(Stored::Now) => "stored".to_owned(),
            Self::Stored(Stored::InGeneration(generation)) => {
                format!("was stored meanwhile, in generation {generation}")
            }
            Self::Stored(Stored::ByAnother) => "not stored: left to another retry, which is at work on it".to_owned(),
            Self::Before(at) => format!("was stored at {at}"),
            Self::Unknown => "not stored: there is no such dead letter".to_owned(),
            Self::Not(reason) => format!("not stored: {}", one_line(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::show::tests::letter;

    fn judged(letter: &Letter) -> Result<String, String> {
        let now = Timestamp::parse("2026-11-23T10:00:00Z").expect("a time");
        let found = rejudge(letter, now, Some(Duration::from_secs(86_400)));
        found.map(|(book, received_at)| format!("{} {} {} {received_at}", book.exchange, book.market, book.day))
    }

    #[test]
    fn the_daemons_own_decoder_decides() {
        let payload = |time: &str| {
            let text = r#"{"exchange":"bithumb","market":"KRW-BTC","exchange_ts":null,"requested_at":null,"received_at":"TIME","run":"0199d0a2-0000-7000-8000-000000000000","sequence":1,"asks":[],"bids":[]}"#;
            Some(text.replace("TIME", time).into_bytes())
        };
        let none = || "[]".to_owned();
        let good = Letter { payload: payload("2026-11-23T09:00:00Z"), headers: none(), ..letter() };
        assert_eq!(judged(&good).as_deref(), Ok("bithumb KRW-BTC 20780 2026-11-23T09:00:00.000000Z"));
        let old = Letter { payload: payload("2026-11-20T09:00:00Z"), headers: none(), ..letter() };
        assert_eq!(judged(&old), Err("it is older than the retention of 1d".to_owned()));
        let other = Letter { headers: r#"[{"key":"schema","value":"coinflow.orderbook/2"}]"#.to_owned(), ..good };
        assert!(judged(&other).is_err_and(|reason| reason.contains("schema")), "headers count");
        assert!(judged(&Letter { headers: none(), ..letter() }).is_err_and(|reason| reason.contains("expected")));
        let empty = Letter { payload: None, ..letter() };
        assert_eq!(judged(&empty), Err("the record has no value".to_owned()));
    }

    #[test]
    fn only_what_is_known_to_be_stored_is_a_success() {
        let stored =
            [Became::Stored(Stored::Now), Became::Stored(Stored::InGeneration(1)), Became::Before(String::new())];
        assert!(stored.iter().all(Became::is_stored));
        let not = [Became::Stored(Stored::ByAnother), Became::Unknown, Became::Not(String::new())];
        assert!(!not.iter().any(Became::is_stored));
    }

    #[test]
    fn what_became_of_it_is_one_line() {
        assert_eq!(Became::Not("a\nb".to_owned()).text(), "not stored: a\\nb");
        assert_eq!(Became::Stored(Stored::InGeneration(2)).text(), "was stored meanwhile, in generation 2");
    }
}
