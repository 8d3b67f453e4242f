//! The account at the end: what was polled, what is in Kafka, what is in PostgreSQL, and whether it agrees.

use std::collections::HashMap;

/// producerd's own numbers, from the line of its log that begins with `summary`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Polls {
    pub(super) due: u64,
    pub(super) done: u64,
    pub(super) skipped: u64,
    pub(super) failed: u64,
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
}

impl Polls {
    /// `None`: there is no such line, or a number is missing.
    pub(super) fn from_log(lines: &[String]) -> Option<Polls> {
        let line = lines.iter().rev().find(|line| message(line).starts_with("summary "))?;
        let pairs: HashMap<&str, u64> = message(line)
            .split_whitespace()
            .filter_map(|word| {
                let (key, value) = word.split_once('=')?;
                Some((key, value.parse().ok()?))
            })
            .collect();
        let number = |key| pairs.get(key).copied();
        Some(Polls {
            due: number("polls_due")?,
            done: number("polls_done")?,
            skipped: number("polls_skipped")?,
            failed: number("polls_failed")?,
            accepted: number("books_accepted")?,
            delivered: number("books_delivered")?,
            dropped: number("books_dropped")?,
        })
    }
}

/// A log line without its time and its level.
fn message(line: &str) -> &str {
    let after_time = line.split_once(' ').map_or("", |(_, rest)| rest);
    after_time.trim_start().split_once(' ').map_or("", |(_, rest)| rest.trim_start())
}

#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) polls: Option<Polls>,
    pub(super) records: u64,
    pub(super) rows: u64,
    pub(super) dead_letters: u64,
    pub(super) exits: [(&'static str, Option<i32>); 2],
    /// The market that the reload added, if there was time for the reload, and its books.
    pub(super) changed: Option<String>,
    pub(super) added: u64,
}

impl Account {
    pub(super) fn text(&self) -> String {
        let polls = self.polls.clone().unwrap_or_default();
        format!(
            "\npolls        {} due, {} done, {} skipped, {} failed\n\
             books        {} accepted, {} delivered, {} dropped\n\
             Kafka        {} records\n\
             PostgreSQL   {} rows, {} dead letters",
            polls.due,
            polls.done,
            polls.skipped,
            polls.failed,
            polls.accepted,
            polls.delivered,
            polls.dropped,
            self.records,
            self.rows,
            self.dead_letters
        )
    }

    /// What does not agree, one line each.
    pub(super) fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut must = |holds: bool, text: String| {
            if !holds {
                differences.push(text);
            }
        };
        for (name, code) in self.exits {
            let code = code.map_or("a signal".to_owned(), |code| code.to_string());
            must(code == "0", format!("{name} ended with {code}, not with 0"));
        }
        match &self.polls {
            None => must(false, "producerd's log has no summary".to_owned()),
            Some(polls) => {
                must(
                    polls.delivered == self.records,
                    format!("{} books delivered, but {} records in Kafka", polls.delivered, self.records),
                );
                must(
                    polls.accepted == polls.delivered + polls.dropped,
                    format!(
                        "{} books accepted, but {} delivered and {} dropped",
                        polls.accepted, polls.delivered, polls.dropped
                    ),
                );
                must(polls.dropped == 0, format!("{} books dropped", polls.dropped));
            }
        }
        must(self.records > 0, "no record in Kafka".to_owned());
        must(
            self.records == self.rows + self.dead_letters,
            format!("{} records in Kafka, but {} rows and {} dead letters", self.records, self.rows, self.dead_letters),
        );
        must(self.dead_letters == 0, format!("{} dead letters", self.dead_letters));
        if let Some(market) = &self.changed {
            must(self.added > 0, format!("no book of {market}, which the reload added"));
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = "2026-11-23T10:00:00.123Z INFO  summary polls_due=40 polls_done=38 polls_skipped=1 polls_failed=1 \
                           books_accepted=38 books_delivered=38 books_dropped=0 other=x";

    fn equal() -> Account {
        Account {
            polls: Polls::from_log(&[SUMMARY.to_owned()]),
            records: 38,
            rows: 38,
            dead_letters: 0,
            exits: [("producerd", Some(0)), ("consumerd", Some(0))],
            changed: Some("KRW-LINK".to_owned()),
            added: 3,
        }
    }

    #[test]
    fn the_summary_of_the_log() {
        let polls = Polls { due: 40, done: 38, skipped: 1, failed: 1, accepted: 38, delivered: 38, dropped: 0 };
        let log = ["2026-11-23T10:00:00.000Z INFO  started", SUMMARY, "2026-11-23T10:00:00.200Z INFO  stopped"];
        assert_eq!(Polls::from_log(&log.map(str::to_owned)), Some(polls));
        assert_eq!(Polls::from_log(&["2026-11-23T10:00:00.123Z INFO  summary polls_due=40".to_owned()]), None);
        assert_eq!(Polls::from_log(&["INFO no summary here".to_owned()]), None);
    }

    #[test]
    fn differences_are_named() {
        assert_eq!(equal().differences(), Vec::<String>::new());
        type Change = fn(&mut Account);
        let cases: [(&str, Change); 6] = [
            ("38 records in Kafka, but 37 rows and 0 dead letters", |account| account.rows = 37),
            ("1 dead letters", |account| (account.rows, account.dead_letters) = (37, 1)),
            ("producerd's log has no summary", |account| account.polls = None),
            ("consumerd ended with 1, not with 0", |account| account.exits[1].1 = Some(1)),
            ("producerd ended with a signal, not with 0", |account| account.exits[0].1 = None),
            ("no book of KRW-LINK, which the reload added", |account| account.added = 0),
        ];
        for (wanted, change) in cases {
            let mut account = equal();
            change(&mut account);
            assert_eq!(account.differences(), [wanted]);
        }
        let mut lost = equal();
        (lost.records, lost.rows) = (37, 37);
        assert_eq!(lost.differences(), ["38 books delivered, but 37 records in Kafka"]);
    }
}
