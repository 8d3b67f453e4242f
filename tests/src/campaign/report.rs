//! The table at the end.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::account::Account;
use super::plan::{Fault, Kind};

#[derive(Clone, Debug, Default)]
struct Line {
    times: u64,
    impossible: u64,
    unknown_lost: u64,
    unknown_doubled: u64,
    recoveries: Vec<(Duration, usize)>,
}

/// What has been done so far, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Report {
    lines: BTreeMap<Kind, Line>,
    rounds: u64,
    served: u64,
    records: u64,
    lost: u64,
    doubled: u64,
    /// When producerd was ended by the account itself.
    other: Line,
}

impl Report {
    /// The fault was done; how long recovery took from its end.
    pub(super) fn done(&mut self, fault: Fault, recovery: Duration) {
        let line = self.lines.entry(fault.kind).or_default();
        line.times += 1;
        line.recoveries.push((recovery, fault.number));
    }

    pub(super) fn impossible(&mut self, fault: Fault) {
        self.lines.entry(fault.kind).or_default().impossible += 1;
    }

    pub(super) fn add(&mut self, account: &Account) {
        self.rounds += 1;
        self.served += account.served;
        self.records += account.records;
        self.lost += account.lost;
        self.doubled += account.doubled;
        for (by, books) in &account.unknown_lost {
            self.line(*by).unknown_lost += books;
        }
        for (by, books) in &account.unknown_doubled {
            self.line(*by).unknown_doubled += books;
        }
    }

    fn line(&mut self, kind: Option<Kind>) -> &mut Line {
        match kind {
            Some(kind) => self.lines.entry(kind).or_default(),
            None => &mut self.other,
        }
    }

    /// A round in which something was lost or doubled ends the campaign, so that these are zeros or the last round's.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<41} {:>5} {:>5} {:>8} {:>14} {:>16}",
            "fault", "times", "lost", "doubled", "unknown lost", "unknown doubled"
        );
        text.insert_str(text.len() - 1, "  longest recovery");
        let mut sum = Line {
            unknown_lost: self.other.unknown_lost,
            unknown_doubled: self.other.unknown_doubled,
            ..Line::default()
        };
        for kind in Kind::ALL {
            let line = self.lines.get(kind).cloned().unwrap_or_default();
            let note = match line.recoveries.iter().max() {
                Some((longest, number)) => format!("{:>6.1} s (no. {number})", longest.as_secs_f64()),
                None if line.impossible > 0 => "not possible on this machine".to_owned(),
                None => String::new(),
            };
            let _ = writeln!(text, "{}  {note}", row(kind.name(), &line, "", ""));
            sum.times += line.times;
            sum.unknown_lost += line.unknown_lost;
            sum.unknown_doubled += line.unknown_doubled;
            sum.recoveries.extend(line.recoveries);
        }
        let longest = sum.recoveries.iter().max().map_or(0.0, |(longest, _)| longest.as_secs_f64());
        let (lost, doubled) = (self.lost.to_string(), self.doubled.to_string());
        let _ = writeln!(text, "{}  {longest:>6.1} s", row("all", &sum, &lost, &doubled));
        let _ = write!(
            text,
            "{} rounds: {} books served, {} records in the topic, each compared with its book and its row",
            self.rounds, self.served, self.records
        );
        text
    }
}

fn row(name: &str, line: &Line, lost: &str, doubled: &str) -> String {
    format!(
        "{name:<41} {:>5} {:>5} {:>8} {:>14} {:>16}",
        line.times, lost, doubled, line.unknown_lost, line.unknown_doubled
    )
}
