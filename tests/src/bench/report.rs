//! One table, for people and as JSON.

use serde_json::{Value, json};

use super::stats::{Goal, Runs, Spread, Verdict};

/// A figure of one part.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// As it is asked for: `drain`, …
    pub(super) part: &'static str,
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    /// What runs beside it; empty where there is none.
    pub(super) beside: &'static str,
    pub(super) runs: Runs,
    pub(super) goal: Goal,
    /// An aside: what else was seen.
    pub(super) note: String,
}

/// Enough digits to compare, and no more.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn spread(values: &[f64]) -> String {
    if values.is_empty() {
        return "–".to_owned();
    }
    let Spread { median, least, most } = Spread::of(values);
    format!("{} ({}–{})", short(median), short(least), short(most))
}

impl Figure {
    fn goal_text(&self) -> String {
        match self.goal {
            Goal::RatioAtLeast(goal) => format!("≥ {goal} ×"),
            Goal::RatioAtMost(goal) => format!("≤ {goal} ×"),
            Goal::AboveByAtMost(goal) => format!("≤ +{goal} {}", self.unit),
            Goal::AtMost(goal) => format!("≤ {goal} {}", self.unit),
        }
    }

    fn verdict_text(&self) -> &'static str {
        match self.goal.verdict(&self.runs) {
            Verdict::Met => "met",
            Verdict::NotMet => "NOT met",
            Verdict::Spread => "no verdict: spread too wide",
        }
    }

    fn line(&self) -> String {
        let beside = if self.beside.is_empty() { "–" } else { self.beside };
        format!(
            "| {} | {}, {} | {} | {beside}: {} | {} | {} | {} | {} |\n",
            self.part,
            self.what,
            self.unit,
            spread(&self.runs.ours),
            spread(&self.runs.limit),
            spread(&self.goal.judged(&self.runs)),
            self.goal_text(),
            self.verdict_text(),
            self.note
        )
    }

    fn json(&self) -> Value {
        json!({
            "part": self.part, "what": self.what, "unit": self.unit, "beside": self.beside,
            "ours": self.runs.ours, "limit": self.runs.limit, "judged": self.goal.judged(&self.runs),
            "goal": self.goal_text(), "verdict": self.verdict_text(), "note": self.note,
        })
    }
}

/// Where and how it was measured.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    pub(super) date: String,
    pub(super) commit: String,
    pub(super) cores: usize,
    /// The machine's load average before the first run: what else it did.
    pub(super) load_before: String,
    pub(super) runs: usize,
    pub(super) is_quick: bool,
}

/// Medians with the least and the most in brackets.
pub(super) fn table(circumstances: &Circumstances, figures: &[Figure], failed: &[String]) -> String {
    let Circumstances { date, commit, cores, load_before, runs, is_quick } = circumstances;
    let quick = if *is_quick { " **Quick: shorter runs, fewer of them.**" } else { "" };
    let mut text = format!(
        "{date}, commit {commit}, {cores} cores, load before the first run {load_before}, {runs} runs of each after a warm-up.{quick}\n\n\
         Each cell: median (least–most). \"Judged\" is what the goal is about: run by run, the ratio to or the difference from what ran beside it.\n\n\
         | part | measures | coinflow | beside it | judged | goal | verdict | aside |\n|---|---|---|---|---|---|---|---|\n"
    );
    figures.iter().for_each(|figure| text += &figure.line());
    if !failed.is_empty() {
        text += &format!("\nWithout figures: {}\n", failed.join("; "));
    }
    text
}

pub(super) fn json(circumstances: &Circumstances, figures: &[Figure], failed: &[String]) -> Value {
    let Circumstances { date, commit, cores, load_before, runs, is_quick } = circumstances;
    json!({
        "date": date, "commit": commit, "cores": cores, "load_before": load_before, "runs": runs, "quick": is_quick,
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(), "failed": failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_cell() {
        let figure = Figure {
            part: "drain",
            what: "rows stored",
            unit: "books/s",
            beside: "COPY",
            runs: Runs { ours: vec![900.0, 950.0], limit: vec![1000.0, 1000.0] },
            goal: Goal::RatioAtLeast(0.8),
            note: "aside".to_owned(),
        };
        assert_eq!(
            figure.line(),
            "| drain | rows stored, books/s | 925 (900–950) | COPY: 1000 (1000–1000) | 0.93 (0.90–0.95) | ≥ 0.8 × | met | aside |\n"
        );
    }
}
