//! Which faults strike a request.

use super::api::{Fault, FaultRule, Target};
use super::market::Frozen;

/// Rules at one time; a test that needs more has lost its way.
const RULES_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<FaultRule>,
}

/// What strikes one request.
#[derive(Debug, Default)]
pub(crate) struct Struck {
    /// Each rule that struck: the markets it is about (`None`: all) and the fault.
    hits: Vec<(Option<String>, Fault)>,
}

impl Faults {
    pub(crate) fn add(&mut self, rule: FaultRule) -> Result<(), String> {
        if self.rules.len() >= RULES_MAX {
            return Err(format!("more than {RULES_MAX} faults"));
        }
        self.rules.push(rule);
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn rules(&self) -> &[FaultRule] {
        &self.rules
    }

    /// A request for the books of these markets.
    pub(crate) fn strike_books(&mut self, markets: &[String]) -> Struck {
        self.strike(|target| match target {
            Target::Books => true,
            Target::Market(market) => markets.contains(market),
            Target::List => false,
        })
    }

    pub(crate) fn strike_list(&mut self) -> Struck {
        self.strike(|target| *target == Target::List)
    }

    fn strike(&mut self, meant: impl Fn(&Target) -> bool) -> Struck {
        let mut hits = Vec::new();
        for rule in self.rules.iter_mut().filter(|rule| meant(&rule.target)) {
            if let Some(times) = &mut rule.times {
                if *times == 0 {
                    continue;
                }
                *times -= 1;
            }
            let market = match &rule.target {
                Target::Market(market) => Some(market.clone()),
                Target::Books | Target::List => None,
            };
            hits.push((market, rule.fault.clone()));
        }
        self.rules.retain(|rule| rule.times != Some(0));
        Struck { hits }
    }
}

impl Struck {
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.hits.iter().map(|(_, fault)| fault.name()).collect()
    }

    fn on<'a>(&'a self, market: &'a str) -> impl Iterator<Item = &'a Fault> {
        self.hits
            .iter()
            .filter(move |(whom, _)| whom.as_deref().is_none_or(|whom| whom == market))
            .map(|(_, fault)| fault)
    }

    pub(crate) fn delists(&self, market: &str) -> bool {
        self.on(market).any(|fault| *fault == Fault::Delisted)
    }

    pub(crate) fn frozen(&self, market: &str) -> Frozen {
        self.on(market).fold(Frozen::Nothing, |frozen, fault| match fault {
            Fault::SameBody => Frozen::Everything,
            Fault::StuckTimestamp if frozen == Frozen::Nothing => Frozen::Timestamp,
            _ => frozen,
        })
    }

    pub(crate) fn delay_ms(&self) -> u64 {
        self.hits.iter().map(|(_, fault)| if let Fault::Delay { ms } = fault { *ms } else { 0 }).sum()
    }

    /// The first fault that concerns the reply as a whole.
    pub(crate) fn of_reply(&self) -> Option<&Fault> {
        self.hits.iter().map(|(_, fault)| fault).find(|fault| {
            !matches!(fault, Fault::StuckTimestamp | Fault::SameBody | Fault::Delisted | Fault::Delay { .. })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(target: Target, fault: Fault, times: Option<u64>) -> FaultRule {
        FaultRule { target, fault, times }
    }

    #[test]
    fn a_fault_strikes_whom_it_means_as_often_as_told() {
        let mut faults = Faults::default();
        let (btc, eth) = ("KRW-BTC".to_owned(), "KRW-ETH".to_owned());
        faults.add(rule(Target::Market(btc.clone()), Fault::SameBody, Some(2))).expect("room");
        faults.add(rule(Target::Books, Fault::Delay { ms: 5 }, None)).expect("room");
        faults.add(rule(Target::List, Fault::EmptyBody, None)).expect("room");

        let struck = faults.strike_books(std::slice::from_ref(&eth));
        assert_eq!((struck.names(), struck.delay_ms()), (vec!["delay"], 5));
        let struck = faults.strike_books(&[btc.clone(), eth.clone()]);
        assert_eq!(struck.names(), ["F-02", "delay"]);
        assert_eq!((struck.frozen(&btc), struck.frozen(&eth)), (Frozen::Everything, Frozen::Nothing));
        assert_eq!(struck.of_reply(), None);
        assert_eq!(faults.strike_books(std::slice::from_ref(&btc)).names(), ["F-02", "delay"]);
        assert_eq!(faults.strike_books(&[btc]).names(), ["delay"], "twice, and no more");
        assert_eq!(faults.strike_list().of_reply(), Some(&Fault::EmptyBody));
        faults.clear();
        assert!(faults.strike_books(&[eth]).names().is_empty());
    }
}
