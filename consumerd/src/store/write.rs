//! One batch, one transaction: positions first, behind a compare-and-set, then the rows.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use coinflow_common::orderbook::{Exchange, Market};
use postgres::{ToStatement, Transaction};

use super::Store;
use super::bisect::{Refused, bisect};
use super::days::{self, Day};
use super::dead::{self, Letter};
use super::fault::{Class, PgFault};
use super::runs;
use super::tuple::{COLUMNS, HEADER, TRAILER};
use crate::breaker::{Cause, Judgement, LETTERS_MAX, Outcome, Run, Runs, judge};
use crate::record::{Book, Fate, Partition, Record, record_time};

/// COPY data is handed to the connection in pieces of this size.
const COPY_PIECE_BYTES: usize = 128 << 10;
/// After so many rows that were refused the breaker is asked whether to look for more.
const ASK_BREAKER: usize = LETTERS_MAX as usize;
/// Markets remembered as known to the table `market`. There are some thousands in the world.
const MARKETS_MAX: usize = 100_000;

/// A partition's step from one position to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) cluster: Arc<str>,
    pub(crate) partition: Partition,
    pub(crate) generation: i32,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// Kafka's time of the last record of the step, in milliseconds.
    pub(crate) last_record_ms: Option<i64>,
}

/// Why a batch was not stored.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The position of this step is not where it was: nothing was stored.
    Fence(usize),
    /// The breaker wants nothing of these partitions from these offsets on: nothing was stored.
    Cut(BTreeMap<Partition, i64>),
    /// Nothing was stored.
    Refused(PgFault),
    /// COMMIT was sent and not answered: all or nothing was stored.
    Unknown(PgFault),
}

impl From<PgFault> for Failure {
    fn from(fault: PgFault) -> Self {
        Self::Refused(fault)
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// What a batch came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) books: u64,
    pub(crate) dead_letters: u64,
    pub(crate) expired: u64,
    /// Topic, partition, offset and reason of the dead letters.
    pub(crate) refusals: Vec<(Partition, i64, String)>,
    /// See [`Judgement`].
    pub(crate) runs: BTreeMap<Partition, Option<Run>>,
}

impl Store {
    /// Stores the records and moves the positions, all or nothing.
    ///
    /// `steps` are in the order of their partitions: whoever locks more than one does it in this order.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn write(&mut self, steps: &[Step], records: &[&Record], runs: &Runs) -> Result<Written, Failure> {
        let books: Vec<(&Record, &Book)> = records
            .iter()
            .filter_map(|record| match &record.fate {
                Fate::Book(book) => Some((*record, book)),
                _ => None,
            })
            .collect();
        self.make_days(books.iter().map(|(_, book)| book.day))?;
        match self.attempt(steps, records, &books, runs, false) {
            Err(Failure::Refused(fault)) if fault.class() == Class::Row => {
                self.attempt(steps, records, &books, runs, true)
            }
            result => result,
        }
    }

    /// A batch that needs a day which was not made ahead makes it itself.
    fn make_days(&mut self, wanted: impl Iterator<Item = Day>) -> Result<(), PgFault> {
        let missing =
            |wanted: &BTreeSet<Day>, known: &BTreeSet<Day>| wanted.difference(known).copied().collect::<Vec<_>>();
        let wanted: BTreeSet<Day> = wanted.collect();
        if missing(&wanted, &self.days).is_empty() {
            return Ok(());
        }
        self.days = days::attached(&mut self.client, &self.schema)?;
        for day in missing(&wanted, &self.days) {
            days::make(&mut self.client, &self.schema, day)?;
            self.days.insert(day);
        }
        Ok(())
    }

    fn attempt(
        &mut self,
        steps: &[Step],
        records: &[&Record],
        books: &[(&Record, &Book)],
        runs: &Runs,
        with_savepoints: bool,
    ) -> Result<Written, Failure> {
        let mut transaction = self.client.transaction()?;
        for (index, step) in steps.iter().enumerate() {
            if !advance(&mut transaction, &self.statements.advance, &self.source, step)? {
                transaction.rollback()?;
                return Err(Failure::Fence(index));
            }
        }
        let new_markets = new_markets(&self.markets, books);
        if !new_markets.is_empty() {
            let (exchanges, markets): (Vec<&str>, Vec<&str>) =
                new_markets.iter().map(|(exchange, market)| (exchange.as_str(), market.as_str())).unzip();
            transaction.execute(&self.statements.markets, &[&exchanges, &markets])?;
        }
        let refused = match with_savepoints {
            false => copy(&mut transaction, &self.statements.copy, tuples(books)).map(|()| Vec::new())?,
            true => {
                let store = &mut |part: Range<usize>| {
                    let mut savepoint = transaction.transaction()?;
                    copy(&mut savepoint, &self.statements.copy, tuples(&books[part]))?;
                    Ok(savepoint.commit()?)
                };
                bisect(0..books.len(), store, |refused| is_cut(runs, records, books, refused))?
            }
        };
        let Judgement { cuts, changed } = judgement(runs, records, &refused);
        if !cuts.is_empty() {
            transaction.rollback()?;
            return Err(Failure::Cut(cuts));
        }
        for step in steps {
            if let Some(run) = changed.get(&step.partition) {
                runs::write(&mut transaction, &self.schema, step, run.as_ref())?;
            }
        }
        let letters = letters(steps, records, books, &refused);
        dead::insert(&mut transaction, &self.schema, &self.source, &letters)?;
        transaction.commit().map_err(|error| commit_failure(error.into()))?;

        if self.markets.len() + new_markets.len() > MARKETS_MAX {
            self.markets.clear();
        }
        self.markets.extend(new_markets.into_iter().map(|(exchange, market)| (exchange.clone(), market.clone())));
        let refusal =
            |letter: &Letter<'_>| (letter.record.partition.clone(), letter.record.offset, letter.reason.to_owned());
        Ok(Written {
            books: (books.len() - refused.len()) as u64,
            dead_letters: letters.len() as u64,
            expired: (records.len() + refused.len() - books.len() - letters.len()) as u64,
            refusals: letters.iter().map(refusal).collect(),
            runs: changed,
        })
    }
}

/// A server that says why it did not commit has not committed; a connection that is gone says nothing.
fn commit_failure(fault: PgFault) -> Failure {
    match fault.code.as_deref() {
        None | Some("40003" | "08007" | "57P01" | "57P02" | "57P05") => Failure::Unknown(fault),
        Some(_) => Failure::Refused(fault),
    }
}

/// The compare-and-set; fails if a column has been given another type. False: somebody else has moved the position.
fn advance(
    transaction: &mut Transaction<'_>,
    statement: &postgres::Statement,
    source: &str,
    step: &Step,
) -> Result<bool, PgFault> {
    let at = step.last_record_ms.and_then(record_time).map(|at| at.to_string());
    let Partition { topic, number } = &step.partition;
    let row = transaction.query_one(
        statement,
        &[&&*step.cluster, &&**topic, number, &step.generation, &step.from, &step.to, &source, &at],
    )?;
    Ok(row.try_get("is_done")?)
}

/// Sorted: writers that make the same markets known at the same time must not wait for each other in a circle.
fn new_markets<'a>(
    known: &HashSet<(Exchange, Market)>,
    books: &[(&Record, &'a Book)],
) -> BTreeSet<(&'a Exchange, &'a Market)> {
    let mut new = BTreeSet::new();
    let mut last = None;
    for (_, book) in books {
        let market = (&book.exchange, &book.market);
        if last != Some(market) && !known.contains(&(book.exchange.clone(), book.market.clone())) {
            new.insert(market);
        }
        last = Some(market);
    }
    new
}

fn tuples<'a>(books: &[(&Record, &'a Book)]) -> impl ExactSizeIterator<Item = &'a [u8]> {
    books.iter().map(|(_, book)| book.tuple.as_slice())
}

/// Stores tuples.
///
/// # Errors
/// As any statement.
pub(super) fn copy<'a>(
    transaction: &mut Transaction<'_>,
    statement: &(impl ToStatement + ?Sized),
    tuples: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<(), PgFault> {
    if tuples.len() == 0 {
        return Ok(());
    }
    let mut writer = transaction.copy_in(statement)?;
    let mut piece = Vec::with_capacity(COPY_PIECE_BYTES + 8192);
    piece.extend(HEADER);
    for tuple in tuples {
        piece.extend(tuple);
        if piece.len() >= COPY_PIECE_BYTES {
            writer.write_all(&piece)?;
            piece.clear();
        }
    }
    piece.extend(TRAILER);
    writer.write_all(&piece)?;
    writer.finish()?;
    Ok(())
}

/// Whether the breaker wants this batch cut, by what is known so far. Asked in full each hundredth time, for the batch
/// may be large, and two tries for each row of it would take long.
fn is_cut(runs: &Runs, records: &[&Record], books: &[(&Record, &Book)], refused: &[Refused]) -> bool {
    let Some(last) = refused.last().filter(|_| refused.len() % ASK_BREAKER == 0) else { return false };
    let known = records.iter().position(|record| std::ptr::eq(*record, books[last.index].0));
    !judgement(runs, &records[..=known.unwrap_or(0)], refused).cuts.is_empty()
}

/// What the breaker says to the batch, in the order of its records.
fn judgement(runs: &Runs, records: &[&Record], refused: &[Refused]) -> Judgement {
    let is_dead = |record: &&Record| matches!(record.fate, Fate::Dead { .. });
    if runs.is_empty() && refused.is_empty() && !records.iter().any(is_dead) {
        return Judgement::default();
    }
    // They are in the order of the books, which is that of the records.
    let (mut refused, mut books) = (refused.iter().peekable(), 0..);
    let mut outcome = |record: &Record| match &record.fate {
        Fate::Dead { major: Some(major), .. } => Outcome::Dead(Cause::Major(*major)),
        Fate::Dead { major: None, .. } | Fate::Expired => Outcome::Passes,
        Fate::Book(_) => {
            let index = books.next();
            match refused.next_if(|refused| Some(refused.index) == index) {
                Some(refused) => Outcome::Dead(Cause::Sqlstate(refused.fault.code.clone().unwrap_or_default())),
                None => Outcome::Stored,
            }
        }
    };
    judge(runs, records.iter().map(|record| (&record.partition, record.offset, outcome(record))))
}

fn letters<'a>(
    steps: &[Step],
    records: &[&'a Record],
    books: &[(&'a Record, &Book)],
    refused: &'a [Refused],
) -> Vec<Letter<'a>> {
    let generation = |record: &Record| {
        steps.iter().find(|step| step.partition == record.partition).map_or(0, |step| step.generation)
    };
    let judged = records.iter().filter_map(|record| match &record.fate {
        Fate::Dead { reason, .. } => Some(Letter { record, generation: generation(record), sqlstate: None, reason }),
        _ => None,
    });
    let by_database = refused.iter().map(|refused| {
        let (record, _) = books[refused.index];
        let fault = &refused.fault;
        Letter { record, generation: generation(record), sqlstate: fault.code.as_deref(), reason: &fault.message }
    });
    judged.chain(by_database).collect()
}

/// The COPY statement.
pub(super) fn copy_statement(schema: &super::Schema) -> String {
    format!("COPY {} ({}) FROM STDIN (FORMAT binary)", schema.table("orderbook"), COLUMNS.join(", "))
}
