//! The topic against the table.

use std::collections::BTreeMap;

use super::account::{Account, Place};
use super::books::Published;
use super::world::World;

/// Of each sort of violation so many are printed.
pub(super) const SHOWN: usize = 5;

/// Run, market and sequence number of each row, where its record stands.
pub(super) type Rows = BTreeMap<Place, Vec<(String, String, i64)>>;

/// The rows from these offsets on. A dead letter is a violation: no record deserves one.
pub(super) fn rows(world: &World, offsets: &BTreeMap<i32, i64>, account: &mut Account) -> Result<Rows, String> {
    let fail = |error: postgres::Error| format!("the table: {error}");
    let mut client = world.connect()?;
    let dead: i64 = client.query_one("SELECT count(*) FROM coinflow.dead_letter", &[]).map_err(fail)?.get(0);
    if dead > 0 {
        account.violations.push(format!("dead letters: {dead}"));
    }
    let first = (0..).map_while(|at| offsets.get(&at)).min().copied().unwrap_or(0);
    let query = "SELECT kafka_partition, kafka_offset, producer_run::text, market, producer_sequence \
                 FROM coinflow.orderbook WHERE kafka_offset >= $1";
    let mut rows = Rows::new();
    for row in client.query(query, &[&first]).map_err(fail)? {
        let place: Place = (row.get(0), row.get(1));
        if place.1 >= offsets.get(&place.0).copied().unwrap_or(0) {
            rows.entry(place).or_default().push((row.get(2), row.get(3), row.get(4)));
        }
    }
    Ok(rows)
}

/// Each record has one row, and each row a record.
pub(super) fn compare(account: &mut Account, mut rows: Rows, published: &[(Place, Published)]) {
    let mut violations = Violations::default();
    for (place, book) in published {
        match rows.remove(place).as_deref() {
            None | Some([]) => {
                account.lost += 1;
                violations.add("in the topic and not in the table", format!("{place:?} {}", book.market));
            }
            Some([(run, market, sequence)]) => {
                if (run, market, *sequence) != (&book.run, &book.market, book.sequence) {
                    violations.add("the row is another book", format!("{place:?}"));
                }
            }
            Some(more) => {
                account.doubled += more.len() as u64 - 1;
                violations.add("more than once in the table", format!("{place:?} {}", book.market));
            }
        }
    }
    for place in rows.keys() {
        violations.add("in the table and not in the topic", format!("{place:?}"));
    }
    account.violations.extend(violations.lines());
}

/// What is wrong, by its sort.
#[derive(Debug, Default)]
pub(super) struct Violations(BTreeMap<&'static str, Vec<String>>);

impl Violations {
    pub(super) fn add(&mut self, what: &'static str, example: String) {
        self.0.entry(what).or_default().push(example);
    }

    pub(super) fn lines(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|(what, examples)| {
            let shown = examples[..examples.len().min(SHOWN)].join("; ");
            format!("{what}: {} ({shown})", examples.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(change: impl FnOnce(&mut Rows)) -> Account {
        let json = |sequence| {
            format!(
                r#"{{"market":"KRW-BTC","exchange_ts":"","received_at":"","run":"r","sequence":{sequence},"asks":[],"bids":[]}}"#
            )
        };
        let published: Vec<(Place, Published)> =
            (1..=3).map(|n| ((0, n), Published::read(json(n).as_bytes()).expect("a book"))).collect();
        let mut rows: Rows = (1..=3).map(|n| ((0, n), vec![("r".to_owned(), "KRW-BTC".to_owned(), n)])).collect();
        change(&mut rows);
        let mut account = Account::default();
        compare(&mut account, rows, &published);
        account
    }

    #[test]
    fn each_violation_is_seen() {
        assert_eq!(compared(|_| ()), Account::default());
        let lost = compared(|rows| _ = rows.remove(&(0, 2)));
        assert_eq!(
            (lost.lost, lost.violations),
            (1, vec!["in the topic and not in the table: 1 ((0, 2) KRW-BTC)".to_owned()])
        );
        let doubled = compared(|rows| {
            let row = rows[&(0, 2)][0].clone();
            rows.entry((0, 2)).or_default().push(row);
        });
        assert_eq!((doubled.doubled, doubled.violations.len()), (1, 1));
        let other = compared(|rows| rows.entry((0, 2)).or_default()[0].2 = 9);
        assert_eq!(other.violations, ["the row is another book: 1 ((0, 2))"]);
        let extra = compared(|rows| _ = rows.insert((0, 9), Vec::new()));
        assert_eq!(extra.violations, ["in the table and not in the topic: 1 ((0, 9))"]);
    }
}
