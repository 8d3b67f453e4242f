//! The exchanges' own rate limits, per client address and group of calls. Bithumb has a token bucket and a block for those who
//! empty it, Upbit and Korbit have fixed windows, and Upbit blocks those who go on when they are refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use super::api::Limiter;

/// Addresses of the loopback net that tests may come from.
const CLIENTS_MAX: usize = 1_000;
const SECOND_US: u64 = 1_000_000;

/// Whether a request passes, and what is left for the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass {
        remaining: u64,
    },
    Refuse,
    /// Refused, as will be all others for this much longer.
    Block {
        seconds: u64,
    },
}

impl Verdict {
    pub(crate) fn remaining(self) -> u64 {
        match self {
            Verdict::Pass { remaining } => remaining,
            Verdict::Refuse | Verdict::Block { .. } => 0,
        }
    }
}

#[derive(Debug)]
struct Bucket {
    /// In millionths of a token, so that a microsecond's refill is exact.
    level: u64,
    filled_at_us: u64,
    blocked_until_us: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Buckets {
    buckets: HashMap<(IpAddr, &'static str), Bucket>,
}

impl Buckets {
    pub(crate) fn take(&mut self, limiter: &Limiter, client: IpAddr, category: &'static str, now_us: u64) -> Verdict {
        const TOKEN: u64 = 1_000_000;
        let full = u64::from(limiter.per_second) * TOKEN;
        if !limiter.enabled {
            return Verdict::Pass { remaining: u64::from(limiter.per_second) };
        }
        if self.buckets.len() >= CLIENTS_MAX {
            self.buckets.clear();
        }
        let fresh = Bucket { level: full, filled_at_us: now_us, blocked_until_us: 0 };
        let bucket = self.buckets.entry((client, category)).or_insert(fresh);
        if now_us < bucket.blocked_until_us {
            return Verdict::Refuse;
        }
        let elapsed_us = now_us.saturating_sub(bucket.filled_at_us);
        bucket.level = bucket.level.saturating_add(elapsed_us.saturating_mul(u64::from(limiter.per_second))).min(full);
        bucket.filled_at_us = now_us;
        if bucket.level < TOKEN {
            bucket.blocked_until_us = now_us + limiter.block_ms * 1_000;
            return Verdict::Refuse;
        }
        bucket.level -= TOKEN;
        Verdict::Pass { remaining: bucket.level / TOKEN }
    }
}

/// So many requests in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quota {
    /// In each second of the wall clock.
    PerSecond(u32),
    /// One, and no other for this long.
    OneIn { seconds: u64 },
}

impl Quota {
    fn limit(self) -> u64 {
        match self {
            Quota::PerSecond(limit) => limit.into(),
            Quota::OneIn { .. } => 1,
        }
    }

    pub(crate) fn per_minute(self) -> u64 {
        match self {
            Quota::PerSecond(limit) => u64::from(limit) * 60,
            Quota::OneIn { seconds } => 60 / seconds,
        }
    }

    /// The window that a request opens.
    fn span_us(self, now_us: u64) -> Range<u64> {
        let (began_us, seconds) = match self {
            Quota::PerSecond(_) => (now_us - now_us % SECOND_US, 1),
            Quota::OneIn { seconds } => (now_us, seconds),
        };
        began_us..began_us + seconds * SECOND_US
    }
}

/// How long those are blocked who go on within the second of a refusal: it doubles each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Penalty {
    pub(crate) first_s: u64,
    pub(crate) longest_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) enabled: bool,
    pub(crate) quota: Quota,
    pub(crate) penalty: Option<Penalty>,
}

#[derive(Debug)]
struct Window {
    span_us: Range<u64>,
    taken: u64,
    /// The second of the last refusal.
    refused_in: Option<u64>,
}

#[derive(Debug, Default)]
struct Block {
    until_us: u64,
    times: u32,
}

/// Fixed windows per client address and group, and blocks per client address.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    windows: HashMap<(IpAddr, &'static str), Window>,
    blocks: HashMap<IpAddr, Block>,
}

impl Windows {
    pub(crate) fn take(&mut self, rule: &Rule, client: IpAddr, group: &'static str, now_us: u64) -> Verdict {
        let limit = rule.quota.limit();
        if !rule.enabled {
            return Verdict::Pass { remaining: limit.saturating_sub(1) };
        }
        if let Some(seconds) = self.blocked_s(client, now_us) {
            return Verdict::Block { seconds };
        }
        if self.windows.len() >= CLIENTS_MAX {
            self.windows.clear();
            self.blocks.clear();
        }
        let fresh = || Window { span_us: rule.quota.span_us(now_us), taken: 0, refused_in: None };
        let window = self.windows.entry((client, group)).or_insert_with(fresh);
        if !window.span_us.contains(&now_us) {
            *window = fresh();
        }
        if window.taken < limit {
            window.taken += 1;
            return Verdict::Pass { remaining: limit - window.taken };
        }
        let second = now_us / SECOND_US;
        let goes_on = window.refused_in.replace(second) == Some(second);
        match rule.penalty {
            Some(penalty) if goes_on => Verdict::Block { seconds: self.block(penalty, client, now_us) },
            _ => Verdict::Refuse,
        }
    }

    /// The seconds that a client stays blocked, whatever it asks for.
    pub(crate) fn blocked_s(&self, client: IpAddr, now_us: u64) -> Option<u64> {
        let left_us = self.blocks.get(&client)?.until_us.saturating_sub(now_us);
        (left_us > 0).then(|| left_us.div_ceil(SECOND_US))
    }

    fn block(&mut self, penalty: Penalty, client: IpAddr, now_us: u64) -> u64 {
        let block = self.blocks.entry(client).or_default();
        let seconds = penalty.first_s.saturating_mul(1 << block.times.min(32)).min(penalty.longest_s);
        block.times += 1;
        block.until_us = now_us + seconds * SECOND_US;
        seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn request_151_is_refused_and_the_block_lifts_by_itself() {
        let limiter = Limiter::default();
        let mut buckets = Buckets::default();
        let mut take = |now_us| buckets.take(&limiter, CLIENT, "orderbook", now_us);
        for left in (0..150).rev() {
            assert_eq!(take(1_000), Verdict::Pass { remaining: left });
        }
        assert_eq!(take(1_000), Verdict::Refuse);
        assert_eq!(take(59_000_000), Verdict::Refuse, "still blocked, though the bucket would be full");
        assert_eq!(take(60_001_000), Verdict::Pass { remaining: 149 });
    }

    #[test]
    fn a_steady_149_per_second_passes_for_ever() {
        let limiter = Limiter::default();
        let mut buckets = Buckets::default();
        for request in 0..1_000_000_u64 {
            let verdict = buckets.take(&limiter, CLIENT, "orderbook", request * 1_000_000 / 149);
            assert_ne!(verdict, Verdict::Refuse, "request {request}");
        }
    }

    #[test]
    fn categories_and_addresses_have_their_own_bucket() {
        let limiter = Limiter { per_second: 1, ..Limiter::default() };
        let mut buckets = Buckets::default();
        assert_eq!(buckets.take(&limiter, CLIENT, "orderbook", 0), Verdict::Pass { remaining: 0 });
        assert_eq!(buckets.take(&limiter, CLIENT, "ticker", 0), Verdict::Pass { remaining: 0 });
        let other = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(buckets.take(&limiter, other, "orderbook", 0), Verdict::Pass { remaining: 0 });
        assert_eq!(buckets.take(&limiter, CLIENT, "orderbook", 0), Verdict::Refuse);
        let off = Limiter { enabled: false, ..limiter };
        assert_ne!(buckets.take(&off, CLIENT, "orderbook", 0), Verdict::Refuse);
    }

    const SECOND: Rule = Rule { enabled: true, quota: Quota::PerSecond(10), penalty: None };
    const PENALISED: Rule = Rule { penalty: Some(Penalty { first_s: 10, longest_s: 600 }), ..SECOND };
    /// The first microsecond of some second.
    const START: u64 = 1_790_133_480 * SECOND_US;

    /// Ten requests, which pass, and the eleventh, which does not.
    fn exhaust(windows: &mut Windows, rule: &Rule, now_us: u64) {
        for left in (0..10).rev() {
            assert_eq!(windows.take(rule, CLIENT, "orderbook", now_us), Verdict::Pass { remaining: left });
        }
        assert_eq!(windows.take(rule, CLIENT, "orderbook", now_us), Verdict::Refuse);
    }

    #[test]
    fn a_window_is_a_second_of_the_wall_clock() {
        let mut windows = Windows::default();
        exhaust(&mut windows, &SECOND, START + 900_000);
        assert_eq!(windows.take(&SECOND, CLIENT, "orderbook", START + 999_999), Verdict::Refuse, "no penalty");
        assert_eq!(windows.take(&SECOND, CLIENT, "market", START + 999_999).remaining(), 9, "another group");
        let other = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(windows.take(&SECOND, other, "orderbook", START + 999_999).remaining(), 9, "another address");
        exhaust(&mut windows, &SECOND, START + SECOND_US);
        let off = Rule { enabled: false, ..SECOND };
        assert_eq!(windows.take(&off, CLIENT, "orderbook", START + SECOND_US), Verdict::Pass { remaining: 9 });
    }

    #[test]
    fn a_smaller_limit_counts_at_once_and_its_first_refusal_is_no_block() {
        let mut windows = Windows::default();
        for _ in 0..8 {
            windows.take(&PENALISED, CLIENT, "orderbook", START);
        }
        let halved = Rule { quota: Quota::PerSecond(5), ..PENALISED };
        assert_eq!(windows.take(&halved, CLIENT, "orderbook", START), Verdict::Refuse);
    }

    #[test]
    fn one_refusal_costs_the_rest_of_the_second_alone() {
        let mut windows = Windows::default();
        exhaust(&mut windows, &PENALISED, START);
        exhaust(&mut windows, &PENALISED, START + SECOND_US);
        assert_eq!(windows.blocked_s(CLIENT, START + SECOND_US), None);
    }

    #[test]
    fn who_goes_on_is_blocked_for_a_time_that_doubles_up_to_the_longest() {
        let mut windows = Windows::default();
        let mut now_us = START;
        for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
            exhaust(&mut windows, &PENALISED, now_us);
            assert_eq!(windows.take(&PENALISED, CLIENT, "orderbook", now_us), Verdict::Block { seconds });
            let (almost_us, over_us) = (now_us + seconds * SECOND_US - 1, now_us + seconds * SECOND_US);
            assert_eq!(
                windows.take(&PENALISED, CLIENT, "market", now_us + 1),
                Verdict::Block { seconds },
                "all groups"
            );
            assert_eq!(windows.take(&PENALISED, CLIENT, "orderbook", almost_us), Verdict::Block { seconds: 1 });
            now_us = over_us;
        }
        assert_eq!(windows.take(&PENALISED, CLIENT, "orderbook", now_us).remaining(), 9);
    }

    #[test]
    fn one_in_ten_seconds_is_counted_from_that_one() {
        let mut windows = Windows::default();
        let rule = Rule { quota: Quota::OneIn { seconds: 10 }, ..PENALISED };
        let mut take = |now_us| windows.take(&rule, CLIENT, "origin", now_us);
        let first_us = START + 700_000;
        assert_eq!(take(first_us), Verdict::Pass { remaining: 0 });
        assert_eq!(take(first_us + SECOND_US), Verdict::Refuse);
        assert_eq!(take(first_us + 10 * SECOND_US - 1), Verdict::Refuse, "not the second of the other refusal");
        assert_eq!(take(first_us + 10 * SECOND_US), Verdict::Pass { remaining: 0 });
    }
}
