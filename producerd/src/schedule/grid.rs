//! The fixed grid that polls stand on.

use std::time::{Duration, Instant};

/// Long intervals are spread over this much only: a symbol just added is polled soon, whatever its interval.
const SPREAD_MAX: Duration = Duration::from_secs(10);
/// A poll may start half an interval late, but no more than this. Skipping it would leave a gap of two intervals, while
/// starting it leaves one of one and a half at most.
const LATE_MAX: Duration = Duration::from_secs(5);
/// 2^32 divided by the golden ratio.
const GOLDEN: u32 = 2_654_435_769;

/// The points in time of one group: `start + phase + k * interval`, without drift.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub(super) interval: Duration,
    /// The next point that has not been dealt with.
    pub(super) next: Instant,
}

impl Grid {
    /// The grid of slot `slot` among the groups of this interval, from `now` on. `start` is the same for all grids.
    pub(super) fn new(start: Instant, interval: Duration, slot: u32, now: Instant) -> Self {
        let cell = interval.min(SPREAD_MAX);
        let mut grid = Self { interval: cell, next: start + cell_part(cell, phase(interval, slot)) };
        if grid.next < now {
            grid.skip_before(now);
        }
        grid.interval = interval;
        grid
    }

    /// How late a poll of this grid may start, unless all that keeps it is how many may start.
    pub(super) fn tolerance(&self) -> Duration {
        (self.interval / 2).min(LATE_MAX)
    }

    /// Moves on by one point.
    pub(super) fn advance(&mut self) {
        self.next += self.interval;
    }

    /// Moves to the first point that is missed later than now, where each is missed so long after it; how many that left
    /// out.
    pub(super) fn skip_missed(&mut self, now: Instant, tolerance: Duration) -> u64 {
        // The instant just behind: a point is missed at its deadline, not after it.
        match now.checked_sub(tolerance) {
            Some(missed_until) if missed_until >= self.next => self.skip_before(missed_until + Duration::from_nanos(1)),
            _ => 0,
        }
    }

    /// Moves to the first point at or after `bound`.
    fn skip_before(&mut self, bound: Instant) -> u64 {
        let behind = bound.saturating_duration_since(self.next).as_nanos();
        let interval = self.interval.as_nanos();
        let points = u64::try_from(behind.div_ceil(interval)).unwrap_or(u64::MAX);
        let nanos = u64::try_from(u128::from(points) * interval).unwrap_or(u64::MAX);
        self.next += Duration::from_nanos(nanos);
        points
    }
}

/// Where in its interval a slot stands, in 2^-32.
///
/// The van der Corput sequence spreads the first n slots evenly for every n, so a slot never has to move for
/// another; a shift by interval keeps the first slots of different intervals apart.
fn phase(interval: Duration, slot: u32) -> u32 {
    let millis = interval.as_millis() as u32;
    slot.reverse_bits().wrapping_add(millis.wrapping_mul(GOLDEN))
}

fn cell_part(cell: Duration, phase: u32) -> Duration {
    let nanos = (cell.as_nanos() * u128::from(phase)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn slots_are_spread_for_every_number_of_them() {
        let start = Instant::now();
        for slots in [2, 3, 5, 16, 17, 50, 100] {
            let mut phases: Vec<Duration> =
                (0..slots).map(|slot| Grid::new(start, SECOND, slot, start).next - start).collect();
            phases.sort();
            let around = phases[0] + SECOND - phases[phases.len() - 1];
            let widest = phases.windows(2).map(|pair| pair[1] - pair[0]).chain([around]).max().unwrap();
            assert!(widest <= SECOND * 2 / slots, "{slots} slots: {widest:?}");
        }
    }

    #[test]
    fn a_grid_taken_up_later_is_the_same_grid() {
        let start = Instant::now();
        let first = Grid::new(start, SECOND, 3, start);
        for ms in [1, 999, 1000, 86_400_123] {
            let later = Grid::new(start, SECOND, 3, start + Duration::from_millis(ms));
            assert_eq!((later.next - first.next).as_nanos() % SECOND.as_nanos(), 0);
            assert!(later.next >= start + Duration::from_millis(ms));
            assert!(later.next < start + Duration::from_millis(ms) + SECOND);
        }
    }

    #[test]
    fn a_long_interval_starts_within_ten_seconds() {
        let start = Instant::now();
        let hour = Duration::from_secs(3600);
        for slot in 0..20 {
            let now = start + Duration::from_secs(500);
            let mut grid = Grid::new(start, hour, slot, now);
            let first = grid.next;
            assert!(first >= now && first <= now + SPREAD_MAX);
            grid.advance();
            assert_eq!(grid.next - first, hour);
        }
    }

    #[test]
    fn missed_points_are_counted() {
        let start = Instant::now();
        let mut grid = Grid { interval: SECOND, next: start };
        let at = |ms| start + Duration::from_millis(ms);
        let half = grid.tolerance();
        assert_eq!(grid.skip_missed(at(499), half), 0);
        assert_eq!(grid.skip_missed(at(500), half), 1);
        assert_eq!(grid.next, at(1000));
        assert_eq!(grid.skip_missed(at(4_499), half), 3);
        assert_eq!(grid.next, at(4000));
        assert_eq!(grid.skip_missed(at(3_600_000), half), 3596);
        assert_eq!(grid.next, at(3_600_000));
    }
}
