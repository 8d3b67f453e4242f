//! What repeated runs say.

/// One figure and its limit, run by run.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    pub(super) ours: Vec<f64>,
    /// In the same order; empty where the goal is a figure of its own.
    pub(super) limit: Vec<f64>,
}

/// What a run has to come to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// Ours divided by the limit.
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// Ours minus the limit, in the unit of both.
    AboveByAtMost(f64),
    AtMost(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    NotMet,
    /// The runs differ too much to tell.
    Spread,
}

/// Median, least and most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    /// `values` must not be empty.
    pub(super) fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Spread { median, least: sorted[0], most: sorted[sorted.len() - 1] }
    }
}

impl Goal {
    /// What is judged, run by run: a ratio, a difference, or the figure itself.
    pub(super) fn judged(self, runs: &Runs) -> Vec<f64> {
        let pairs = runs.ours.iter().zip(&runs.limit);
        match self {
            Goal::RatioAtLeast(_) | Goal::RatioAtMost(_) => pairs.map(|(ours, limit)| ours / limit).collect(),
            Goal::AboveByAtMost(_) => pairs.map(|(ours, limit)| ours - limit).collect(),
            Goal::AtMost(_) => runs.ours.clone(),
        }
    }

    fn is_met_by(self, value: f64) -> bool {
        match self {
            Goal::RatioAtLeast(goal) => value >= goal,
            Goal::RatioAtMost(goal) | Goal::AboveByAtMost(goal) | Goal::AtMost(goal) => value <= goal,
        }
    }

    /// By the median, unless more than one of five runs says the opposite.
    pub(super) fn verdict(self, runs: &Runs) -> Verdict {
        let judged = self.judged(runs);
        let met = judged.iter().filter(|value| self.is_met_by(**value)).count();
        let minority = met.min(judged.len() - met);
        match self.is_met_by(Spread::of(&judged).median) {
            _ if minority * 5 > judged.len() || judged.iter().any(|value| value.is_nan()) => Verdict::Spread,
            true => Verdict::Met,
            false => Verdict::NotMet,
        }
    }
}

/// The value below which `part` of a hundred are, of sorted ones.
pub(super) fn percentile(sorted: &[f64], part: usize) -> f64 {
    sorted.get((sorted.len() * part / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn each_goal_judges_run_by_run() {
        let runs = Runs { ours: vec![8.0, 9.0, 10.0], limit: vec![10.0, 10.0, 10.0] };
        assert_eq!(Goal::RatioAtLeast(0.8).verdict(&runs), Verdict::Met);
        assert_eq!(Goal::RatioAtLeast(1.1).verdict(&runs), Verdict::NotMet);
        assert_eq!(Goal::RatioAtMost(0.75).verdict(&runs), Verdict::NotMet);
        assert_eq!(Goal::AboveByAtMost(-1.0).judged(&runs), [-2.0, -1.0, 0.0]);
        assert_eq!(Goal::AtMost(10.0).verdict(&runs), Verdict::Met);
    }

    #[test]
    fn runs_on_both_sides_say_nothing() {
        let runs = Runs { ours: vec![5.0, 9.0, 12.0], limit: vec![10.0, 10.0, 10.0] };
        assert_eq!(Goal::RatioAtLeast(0.8).verdict(&runs), Verdict::Spread);
        assert_eq!(Goal::RatioAtLeast(0.4).verdict(&runs), Verdict::Met, "all of them are beyond it");
        let verdict = |ours: &[f64]| Goal::AtMost(3.0).verdict(&Runs { ours: ours.to_vec(), limit: Vec::new() });
        assert_eq!(verdict(&[1.0, 1.0, 1.0, 1.0, 9.0]), Verdict::Met, "one of five is an outlier");
        assert_eq!(verdict(&[2.0, 2.4, 2.8, 3.3, 3.4]), Verdict::Spread);
        assert_eq!(verdict(&[f64::NAN, 1.0, 1.0]), Verdict::Spread);
    }

    #[test]
    fn percentiles_are_members() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([percentile(&sorted, 50), percentile(&sorted, 99), percentile(&sorted, 100)], [51.0, 100.0, 100.0]);
        assert!(percentile(&[], 50).is_nan());
    }
}
