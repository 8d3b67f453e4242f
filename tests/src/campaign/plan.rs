//! What will be done: a pure function of the seed and the number of faults.

use std::fmt;
use std::time::Duration;

/// Whom a fault strikes. Two faults that overlap never strike the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Producerd,
    Consumerd,
    Kafka,
    Postgres,
    Exchange,
}

macro_rules! kinds {
    ($($kind:ident $subject:ident $from:literal..$to:literal $name:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Kind { $($kind),* }

        impl Kind {
            pub(super) const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }

            pub(super) fn subject(self) -> Subject {
                match self { $(Kind::$kind => Subject::$subject),* }
            }

            /// How long it lasts, in milliseconds.
            fn hold(self) -> std::ops::Range<u64> {
                match self { $(Kind::$kind => $from..$to),* }
            }
        }
    };
}

// The written list. Those of no duration are over when they are done.
kinds! {
    ProducerdKill Producerd 0..1500 "producerd SIGKILL";
    ProducerdFreeze Producerd 500..4000 "producerd SIGSTOP";
    ProducerdRestart Producerd 0..1000 "producerd SIGTERM";
    ProducerdClock Producerd 2500..4000 "producerd's clock jumps";
    ReloadStorm Producerd 1000..2500 "reload storm";
    ConsumerdKill Consumerd 0..1500 "consumerd SIGKILL";
    ConsumerdFreeze Consumerd 500..3000 "consumerd SIGSTOP";
    ConsumerdZombie Consumerd 7000..8500 "consumerd SIGSTOP beyond its session";
    ConsumerdRestart Consumerd 0..1000 "consumerd SIGTERM";
    ConsumerdClock Consumerd 2500..4000 "consumerd's clock jumps";
    RebalanceStorm Consumerd 2500..5000 "rebalance storm";
    BrokerKill Kafka 500..3000 "broker SIGKILL";
    BrokerFreeze Kafka 1000..5000 "broker SIGSTOP";
    BrokerRestart Kafka 0..1000 "broker restart";
    BrokersRolling Kafka 0..1 "brokers restarted one by one";
    KafkaKill Kafka 1000..3000 "all brokers SIGKILL";
    KafkaCut Kafka 500..2500 "Kafka connections cut";
    KafkaDelay Kafka 1500..3500 "Kafka connections slow";
    KafkaFrozen Kafka 1000..4000 "Kafka connections frozen";
    KafkaRefused Kafka 2000..5000 "Kafka refuses connections";
    PostgresImmediate Postgres 0..1500 "PostgreSQL immediate stop";
    PostgresFast Postgres 0..1500 "PostgreSQL clean restart";
    PostgresKill Postgres 0..1500 "PostgreSQL SIGKILL";
    PostgresFreeze Postgres 1000..4000 "PostgreSQL SIGSTOP";
    PostgresCut Postgres 500..2500 "PostgreSQL connections cut";
    PostgresDelay Postgres 1500..3500 "PostgreSQL connections slow";
    PostgresFrozen Postgres 1000..4000 "PostgreSQL connections frozen";
    PostgresTerminate Postgres 500..2500 "PostgreSQL backends ended";
    PostgresReadOnly Postgres 1000..3000 "PostgreSQL read-only";
    PostgresFailover Postgres 500..1500 "failover to a synchronous standby";
    PostgresRestore Postgres 1000..3000 "failover to an older copy";
    ExchangeErrors Exchange 1000..3000 "exchange answers 502";
    ExchangeHangs Exchange 1000..4000 "exchange hangs";
    SpoolFull Kafka 2500..4500 "spool's disk full while Kafka is away";
}

impl Kind {
    /// How many of its sort there are to choose from; of the links, one more for all together.
    fn targets(self) -> u64 {
        match self {
            Kind::ConsumerdKill
            | Kind::ConsumerdFreeze
            | Kind::ConsumerdZombie
            | Kind::ConsumerdRestart
            | Kind::ConsumerdClock => 2,
            Kind::BrokerKill | Kind::BrokerFreeze | Kind::BrokerRestart => 3,
            Kind::KafkaCut | Kind::KafkaDelay | Kind::KafkaFrozen => 4,
            _ => 1,
        }
    }

    /// Books that wait in memory alone would not outlive another fault.
    fn overlaps(self) -> bool {
        !matches!(self, Kind::SpoolFull | Kind::BrokersRolling)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) number: usize,
    pub(super) kind: Kind,
    /// Which consumerd or broker, from 0.
    pub(super) target: usize,
    pub(super) hold: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.name())?;
        if self.kind.targets() > 1 {
            if self.target == 3 { write!(f, ", all") } else { write!(f, ", number {}", self.target + 1) }?;
        }
        if self.hold.is_zero() { Ok(()) } else { write!(f, ", {:.1} s", self.hold.as_secs_f64()) }
    }
}

/// One fault, or two that overlap: the second begins `after` the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stroke {
    pub(super) pause: Duration,
    pub(super) first: Fault,
    pub(super) second: Option<(Duration, Fault)>,
}

impl Stroke {
    pub(super) fn faults(&self) -> impl Iterator<Item = Fault> {
        [Some(self.first), self.second.map(|(_, fault)| fault)].into_iter().flatten()
    }
}

/// What happens between two accounts.
pub(super) type Round = Vec<Stroke>;

/// Faults of a round.
const ROUND: usize = 8;

/// SplitMix64 of G. Steele, D. Lea and C. Flood, 2014: the same numbers everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }
}

/// Every kind comes once before one comes again, so that each has its turn in a short campaign.
pub(super) fn plan(seed: u64, faults: usize) -> Vec<Round> {
    let mut chance = Chance(seed);
    let mut bag: Vec<Kind> = Vec::new();
    let mut draw = |chance: &mut Chance, number: usize, fits: &dyn Fn(Kind) -> bool| {
        if bag.is_empty() {
            bag.extend(Kind::ALL);
        }
        let fitting: Vec<usize> = (0..bag.len()).filter(|&at| fits(bag[at])).collect();
        let at = *fitting.get(chance.below(fitting.len().max(1) as u64) as usize)?;
        let kind = bag.swap_remove(at);
        let target = chance.below(kind.targets()) as usize;
        Some(Fault { number, kind, target, hold: chance.ms(kind.hold()) })
    };
    let (mut rounds, mut round, mut number, mut in_round) = (Vec::new(), Vec::new(), 1, 0);
    while number <= faults {
        let pause = chance.ms(50..400);
        let first = draw(&mut chance, number, &|_| true).expect("a full bag has one");
        let mut second = None;
        if first.kind.overlaps() && number < faults && chance.below(3) != 0 {
            let fits = |kind: Kind| kind.overlaps() && kind.subject() != first.kind.subject();
            let after = chance.ms(0..1 + first.hold.as_millis() as u64);
            second = draw(&mut chance, number + 1, &fits).map(|fault| (after, fault));
        }
        let stroke = Stroke { pause, first, second };
        number += stroke.faults().count();
        in_round += stroke.faults().count();
        round.push(stroke);
        if in_round >= ROUND {
            rounds.push(std::mem::take(&mut round));
            in_round = 0;
        }
    }
    rounds.extend((!round.is_empty()).then_some(round));
    rounds
}

/// One line for each fault.
pub(super) fn text(rounds: &[Round]) -> String {
    let mut lines = Vec::new();
    for (round, strokes) in rounds.iter().enumerate() {
        for stroke in strokes {
            let fault = stroke.first;
            lines.push(format!("{:>4}  round {:<3} {fault}", fault.number, round + 1));
            if let Some((after, fault)) = stroke.second {
                let line = format!("{:>4}  round {:<3} {fault}", fault.number, round + 1);
                lines.push(format!("{line}; {:.1} s after the beginning of {}", after.as_secs_f64(), fault.number - 1));
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        assert_eq!(plan(7, 200), plan(7, 200));
        assert_ne!(plan(7, 200), plan(8, 200));
        assert_eq!(Chance(0).next(), 0xe220_a839_7b1d_cdaf, "the published first number");
        for faults in [1, 2, 30, 31, 1000] {
            let numbers: Vec<usize> =
                plan(1, faults).iter().flatten().flat_map(Stroke::faults).map(|f| f.number).collect();
            assert_eq!(numbers, (1..=faults).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_kind_has_its_turn() {
        for seed in 0..50 {
            let rounds = plan(seed, Kind::ALL.len());
            let mut kinds: Vec<Kind> =
                rounds.iter().flatten().flat_map(Stroke::faults).map(|fault| fault.kind).collect();
            kinds.sort_unstable();
            assert_eq!(kinds, Kind::ALL);
            for (_, second, first) in rounds.iter().flatten().filter_map(|s| s.second.map(|(a, f)| (a, f, s.first))) {
                assert_ne!(first.kind.subject(), second.kind.subject());
            }
        }
    }
}
