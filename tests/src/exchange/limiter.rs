//! The exchange's own rate limit: a token bucket per client address and category, and a block for those who empty it.

use std::collections::HashMap;
use std::net::IpAddr;

use super::api::Limiter;

/// Addresses of the loopback net that tests may come from.
const BUCKETS_MAX: usize = 1_000;

#[derive(Debug)]
struct Bucket {
    /// In millionths of a token, so that a microsecond's refill is exact.
    level: u64,
    filled_at_us: u64,
    blocked_until_us: u64,
}

/// Whether a request passes, and what is left for the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass { remaining: u64 },
    Refuse,
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
        if self.buckets.len() >= BUCKETS_MAX {
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
}
