//! The account after each round: the books served against the topic, and the topic against the table.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::books::{self, Key, Published};
use super::fault::stop_cleanly;
use super::ledger::{End, Ledger};
use super::plan::Kind;
use super::table::{self, Violations};
use super::world::{TOPIC, World};
use crate::exchange::api::ServedBook;
use crate::servers::{KafkaRecord, Signal};
use crate::wait::wait_until;

const DRAIN: Duration = Duration::from_secs(120);
const VERIFY: Duration = Duration::from_secs(1800);
/// Polls that are on their way have ended by then, unless the exchange is slow; and producerd has told what it learns from
/// librdkafka's statistics of each second.
const POLLS: Duration = Duration::from_millis(1500);

/// What a round came to. Unknown is what was in memory alone, or on its way, when producerd ended; by what ended it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) served: u64,
    pub(super) records: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) unknown_lost: BTreeMap<Option<Kind>, u64>,
    pub(super) unknown_doubled: BTreeMap<Option<Kind>, u64>,
    /// Lines that say what is wrong.
    pub(super) violations: Vec<String>,
}

/// How much `consumerd verify` reads after a round: each time it reads an hour of the topic at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    Nothing,
    /// From this round on.
    Round,
    Whole,
}

/// Lets everything arrive, and compares.
pub(super) fn settle(
    world: &mut World,
    ledger: &mut Ledger,
    offsets: &mut BTreeMap<i32, i64>,
    verify: Verify,
) -> Result<Account, String> {
    // A broker that has just been started is none that everybody can read from yet.
    world.wait_in_sync()?;
    drain(world, ledger)?;
    let control = world.exchange.control();
    let served = control.served(0)?;
    control.reset()?;
    let client = world.kafka.client();
    let ends: BTreeMap<i32, i64> = client.watermarks(TOPIC)?.into_iter().map(|(at, (_, end))| (at, end)).collect();
    let records = client.records_from(TOPIC, offsets)?;
    let stored = || positions(world).is_ok_and(|stored| stored == ends).then_some(());
    wait_until(DRAIN, "the topic to be stored", stored)
        .map_err(|error| format!("{error}: stored {:?} of {ends:?}", positions(world)))?;

    let mut account = Account { served: served.len() as u64, records: records.len() as u64, ..Account::default() };
    let published = read(&records, &mut account);
    let told = Told::read(ledger, &world.producerd.stderr().all());
    producer_side(&mut account, ledger, &told, &served, &published);
    let rows = table::rows(world, offsets, &mut account)?;
    table::compare(&mut account, rows, &published);
    if verify != Verify::Nothing {
        let oldest = published.iter().map(|(_, book)| book.received_at.as_str()).min();
        let mut arguments = vec!["verify"];
        if let (Verify::Round, Some(oldest)) = (verify, oldest) {
            arguments.extend(["--from", oldest]);
        }
        let verified = world.consumerds[0].run(&arguments, VERIFY)?;
        if verified.status.code() != Some(0) {
            let text = verified.stdout + &verified.stderr;
            account.violations.push(format!("consumerd verify: {}:\n{text}", verified.status));
        }
    }
    *offsets = ends;
    ledger.clear();
    Ok(account)
}

/// Ends producerd when all that it has is in Kafka.
fn drain(world: &mut World, ledger: &mut Ledger) -> Result<(), String> {
    world.watch(&[])?;
    world.producerd.signal(Signal::HUP)?;
    std::thread::sleep(POLLS);
    let deadline = Instant::now() + DRAIN;
    loop {
        let folder = world.producerd.folder().join("spool/bithumb");
        let is_empty = || {
            let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut names = files.map(|file| file.file_name().to_string_lossy().into_owned());
            (!names.any(|name| name.ends_with(".spool") || name.ends_with("head"))).then_some(())
        };
        wait_until(DRAIN, "the spool to be drained", is_empty)?;
        stop_cleanly(&mut world.producerd)?;
        ledger.stopped(&world.producerd, None)?;
        if is_empty().is_some() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("books stay in the spool at each end of producerd".to_owned());
        }
        ledger.started(&world.producerd);
        world.producerd.start()?;
        std::thread::sleep(POLLS);
    }
}

fn positions(world: &World) -> Result<BTreeMap<i32, i64>, String> {
    let query = "SELECT kafka_partition, next_offset FROM coinflow.kafka_offset WHERE kafka_topic = $1";
    let rows = world.connect()?.query(query, &[&TOPIC]).map_err(|error| format!("positions: {error}"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Partition and offset.
pub(super) type Place = (i32, i64);

fn read(records: &[KafkaRecord], account: &mut Account) -> Vec<(Place, Published)> {
    let mut published = Vec::new();
    for record in records {
        match Published::read(record.value.as_deref().unwrap_or_default()) {
            Ok(book) => published.push(((record.partition, record.offset), book)),
            Err(error) => account.violations.push(format!("{}/{}: {error}", record.partition, record.offset)),
        }
    }
    published
}

/// Books of the exchange against records.
fn producer_side(
    account: &mut Account,
    ledger: &Ledger,
    told: &Told,
    served: &[ServedBook],
    published: &[(Place, Published)],
) {
    let mut violations = Violations::default();
    // Each published book is one that was served, digit by digit.
    let books: HashMap<Key, u64> = served.iter().map(books::served).collect();
    // Under which number of which run each is.
    let mut seen: BTreeMap<Key, (String, i64)> = BTreeMap::new();
    // Where each number of a market stands, of each run.
    let mut numbers: Vec<BTreeMap<&str, BTreeMap<i64, Vec<Place>>>> = vec![BTreeMap::new(); ledger.runs.len()];
    for (place, book) in published {
        match book.key() {
            Some((key, fingerprint)) if books.get(&key) == Some(&fingerprint) => {
                let number = (book.run.clone(), book.sequence);
                if seen.entry(key).or_insert_with(|| number.clone()) != &number {
                    violations.add("published under two numbers", format!("{place:?} {} {number:?}", book.market));
                }
            }
            other => violations.add("published and never served", format!("{place:?} {} {other:?}", book.market)),
        }
        let Some(run) = book.run_began_ms().and_then(|began| ledger.run_of(began)) else {
            violations.add("of no run of this round", format!("{place:?} {} run {}", book.market, book.run));
            continue;
        };
        let market = numbers[run].entry(&book.market).or_default();
        let places = market.entry(book.sequence).or_default();
        places.push(*place);
        let is_first = places.len() == 1;
        if is_first && market.last_key_value().is_some_and(|(last, _)| *last > book.sequence) {
            violations.add("out of order", format!("{place:?} {} sequence {}", book.market, book.sequence));
        }
    }
    let received = |place: Place| {
        let book = published.iter().find(|(at, _)| *at == place);
        book.map_or("", |(_, book)| book.received_at.as_str())
    };
    let mut twice = Vec::new();
    let mut doubled = vec![0; ledger.runs.len()];
    let (mut lost_by_number, mut lost_by_book) = (0, 0);
    for (index, (run, numbers)) in ledger.runs.iter().zip(&numbers).enumerate() {
        let distinct: u64 = numbers.values().map(|market| market.len() as u64).sum();
        let last: u64 = numbers.values().filter_map(|market| market.keys().next_back()).map(|last| *last as u64).sum();
        let mut again = 0;
        for (market, numbers) in numbers {
            for (sequence, places) in numbers.iter().filter(|(_, places)| places.len() > 1) {
                again += places.len() as u64 - 1;
                twice.push(format!("{market} sequence {sequence} at {places:?}, received {}", received(places[0])));
            }
        }
        if again > 0 {
            *account.unknown_doubled.entry(run.by).or_default() += again;
            doubled[index] = again;
        }
        // One that was stopped loses nothing, whatever it says of it.
        let accepted = match &run.end {
            End::Stopped(_) => run.number("books_accepted"),
            End::Running | End::Killed { .. } => last,
        };
        lost_by_number += accepted.saturating_sub(distinct);
        if distinct != accepted {
            violations.add("accepted books and published ones differ", format!("{accepted}, {distinct}: {run:?}"));
        }
    }
    let untold = told.untold(&doubled);
    if untold > 0 {
        account.doubled += untold;
        let twice = twice[..twice.len().min(table::SHOWN)].join("; ");
        violations.add("doubled", format!("{doubled:?}, and producerd told of {told:?} that may be: {twice}"));
    }
    for book in served.iter().filter(|book| !seen.contains_key(&(book.market.clone(), book.timestamp_ms as i64))) {
        if let Some(run) = ledger.unknown_at(book.arrived_us) {
            *account.unknown_lost.entry(ledger.runs[run].by).or_default() += 1;
        } else if !ledger.is_uneasy(book.arrived_us) {
            lost_by_book += 1;
            violations.add("served and never published", format!("{} at {} ms", book.market, book.timestamp_ms));
        }
    }
    // Most often the same ones.
    account.lost += lost_by_number.max(lost_by_book);
    account.violations.extend(violations.lines());
}

/// Of how many books producerd has said that Kafka may have them already, in each of its lives.
#[derive(Debug, Default)]
struct Told {
    /// Of that life itself.
    own: Vec<u64>,
    /// Of those before it, whose books it found in the spool.
    earlier: Vec<u64>,
}

impl Told {
    fn read(ledger: &Ledger, lines: &[String]) -> Told {
        let mut told = Told::default();
        for (index, run) in ledger.runs.iter().enumerate() {
            let end = ledger.runs.get(index + 1).map_or(lines.len(), |next| next.log_from).min(lines.len());
            let (mut own, mut earlier) = (0, 0);
            for line in lines.get(run.log_from..end).unwrap_or_default() {
                let number = line.split_once("maybe_delivered=").and_then(|(_, rest)| rest.trim().parse::<u64>().ok());
                let sum = if line.contains("earlier run") { &mut earlier } else { &mut own };
                *sum += number.unwrap_or(0);
            }
            told.own.push(own);
            told.earlier.push(earlier);
        }
        told
    }

    /// How many of these, by life, it has not told of.
    fn untold(&self, doubled: &[u64]) -> u64 {
        let (mut excess, mut told, mut untold) = (0, 0, 0);
        for (index, doubled) in doubled.iter().enumerate().rev() {
            excess += doubled.saturating_sub(self.own.get(index).copied().unwrap_or(0));
            untold = untold.max(excess.saturating_sub(told));
            told += self.earlier.get(index).copied().unwrap_or(0);
        }
        untold
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::ledger::Run;
    use super::*;

    /// 2026-11-23T10:00:00Z
    const BEGAN_MS: u64 = 1_795_428_000_000;

    /// The book of this number was served, and published, so many seconds after the run began.
    fn book(number: u64) -> (ServedBook, Published) {
        let second = number % 60;
        let served = ServedBook {
            sequence: number,
            request: number,
            arrived_us: (BEGAN_MS + second * 1000) * 1000,
            market: "KRW-BTC".to_owned(),
            timestamp_ms: BEGAN_MS + second * 1000,
            timestamp: String::new(),
            asks: vec![("1.1E1".to_owned(), "2.50".to_owned())],
            bids: Vec::new(),
        };
        let run = format!("{:08x}-{:04x}-7000-8000-000000000000", BEGAN_MS >> 16, BEGAN_MS & 0xffff);
        let json = format!(
            r#"{{"market":"KRW-BTC","exchange_ts":"2026-11-23T10:00:{second:02}.000Z","received_at":"","run":"{run}",
                 "sequence":{number},"asks":[["11","2.5"]],"bids":[]}}"#
        );
        (served, Published::read(json.as_bytes()).expect("a book"))
    }

    /// Ten books of one run were served, and these published.
    fn account(end: End, told: u64, numbers: &[u64]) -> Account {
        let told = Told { own: vec![told], earlier: vec![0] };
        let mut ledger = Ledger::default();
        ledger.runs.push(Run { from_us: BEGAN_MS * 1000, log_from: 0, end, by: None });
        let served: Vec<ServedBook> = (1..=10).map(|number| book(number).0).collect();
        let published: Vec<(Place, Published)> =
            numbers.iter().zip(0..).map(|(number, offset)| ((0, offset), book(*number).1)).collect();
        let mut account = Account::default();
        producer_side(&mut account, &ledger, &told, &served, &published);
        account
    }

    fn stopped() -> End {
        End::Stopped(HashMap::from([("books_accepted".to_owned(), 10)]))
    }

    fn killed() -> End {
        End::Killed { at_us: (BEGAN_MS + 10_000) * 1000 }
    }

    #[test]
    fn nothing_is_wrong() {
        assert_eq!(account(stopped(), 0, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), Account::default());
        // The last moments of a run that was killed, and what it told of.
        let account = account(killed(), 2, &[1, 2, 3, 4, 5, 6, 7, 6, 7, 8]);
        assert_eq!((account.lost, account.doubled, account.violations), (0, 0, vec![]));
        assert_eq!((account.unknown_lost[&None], account.unknown_doubled[&None]), (2, 2));
    }

    #[test]
    fn each_violation_is_seen() {
        /// The end, what was told, what was published; lost, doubled, and the violation.
        type Case = (End, u64, &'static [u64], u64, u64, &'static str);
        let cases: [Case; 6] = [
            (stopped(), 0, &[1, 2, 3, 4, 5, 6, 7, 8, 9], 1, 0, "accepted books and published ones differ"),
            (killed(), 0, &[1, 2, 4, 5, 6, 7, 8, 9, 10], 1, 0, "accepted books and published ones differ"),
            (killed(), 0, &[1, 2, 3, 4, 5], 1, 0, "served and never published"),
            (stopped(), 0, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10], 0, 1, "doubled"),
            (stopped(), 0, &[1, 2, 3, 4, 5, 6, 7, 8, 10, 9], 0, 0, "out of order"),
            (stopped(), 0, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 0, 0, "published and never served"),
        ];
        for (end, told, numbers, lost, doubled, what) in cases {
            let account = account(end, told, numbers);
            assert!((account.lost, account.doubled) == (lost, doubled), "{account:?}");
            assert!(account.violations.iter().any(|line| line.starts_with(what)), "{what}: {account:?}");
        }
    }

    #[test]
    fn each_telling_is_for_the_lives_that_it_is_about() {
        let told = Told { own: vec![0, 2, 0], earlier: vec![0, 3, 1] };
        for (doubled, untold) in
            [([3, 2, 0], 0), ([4, 2, 0], 0), ([5, 2, 0], 1), ([0, 4, 0], 1), ([0, 0, 1], 1), ([0, 0, 0], 0)]
        {
            assert_eq!(told.untold(&doubled), untold, "{doubled:?}");
        }
    }

    #[test]
    fn lines_belong_to_the_life_that_wrote_them() {
        let run = |log_from| Run { from_us: 0, log_from, end: End::Running, by: None };
        let mut ledger = Ledger::default();
        ledger.runs.extend([run(1), run(3)]);
        let lines = [
            "of an earlier run wait in the spool maybe_delivered=9",
            "kafka's guard began anew maybe_delivered=4",
            "nothing",
            "books of an earlier run wait in the spool maybe_delivered=7",
        ];
        let told = Told::read(&ledger, &lines.map(str::to_owned));
        assert_eq!((told.own, told.earlier), (vec![4, 0], vec![0, 7]));
    }
}
