//! Names to addresses, for one exchange.
//!
//! ureq resolves the host for every request, and in a new thread when there is a deadline. Here one thread looks
//! names up, its answers are kept for a while, and the last good ones serve on while they are renewed or DNS fails.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::ResolvedSocketAddrs;
use ureq::unversioned::transport::NextTimeout;

/// How long addresses count as fresh. They serve on while they are looked up again.
const FRESH: Duration = Duration::from_secs(30);
/// How long a failed look-up counts as an answer, so that each poll does not repeat it.
const FAILURE_FRESH: Duration = Duration::from_secs(2);
/// ureq takes so many.
const ADDRESSES_MAX: usize = 16;

/// The resolver that ureq asks.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    cache: Arc<Shared>,
    lookups: Sender<Host>,
}

/// The look-ups that the resolver's thread is to make.
#[derive(Debug)]
pub(crate) struct Lookups {
    cache: Arc<Shared>,
    wanted: Receiver<Host>,
}

type Host = (String, u16);

#[derive(Debug, Default)]
struct Shared {
    cache: Mutex<Cache>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Cache> {
        // A panic ends the process, so no half-made state is ever seen here.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of each host. Pure.
#[derive(Debug, Default)]
struct Cache {
    hosts: HashMap<Host, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The last good ones.
    addresses: Vec<SocketAddr>,
    /// Until when the last answer, good or bad, is not asked for again.
    fresh_until: Option<Instant>,
    is_under_way: bool,
    /// Why the last look-up failed, if it did.
    failure: String,
}

/// What to do about a host.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Known(Vec<SocketAddr>),
    /// A look-up is under way.
    Wait,
    /// For this reason.
    Failed(String),
}

impl Cache {
    /// The answer for now, and whether a look-up has to be started.
    fn ask(&mut self, host: &Host, now: Instant) -> (Answer, bool) {
        let entry = self.hosts.entry(host.clone()).or_default();
        let is_fresh = entry.fresh_until.is_some_and(|until| now < until);
        let starts = !is_fresh && !entry.is_under_way;
        entry.is_under_way |= starts;
        let answer = match entry.addresses.is_empty() {
            false => Answer::Known(entry.addresses.clone()),
            true if is_fresh => Answer::Failed(entry.failure.clone()),
            true => Answer::Wait,
        };
        (answer, starts)
    }

    /// Notes the result of a look-up.
    fn answered(&mut self, host: &Host, result: Result<Vec<SocketAddr>, String>, now: Instant) {
        let entry = self.hosts.entry(host.clone()).or_default();
        entry.is_under_way = false;
        match result {
            Ok(addresses) => {
                entry.fresh_until = Some(now + FRESH);
                entry.addresses = addresses;
            }
            Err(failure) => {
                entry.fresh_until = Some(now + FAILURE_FRESH);
                entry.failure = failure;
            }
        }
    }
}

impl Resolver {
    /// A resolver, and the work of its thread.
    pub(crate) fn new() -> (Self, Lookups) {
        let cache = Arc::new(Shared::default());
        // One host per exchange, and one look-up of it under way at most.
        let (lookups, wanted) = bounded(4);
        (Self { cache: Arc::clone(&cache), lookups }, Lookups { cache, wanted })
    }

    fn addresses(&self, host: Host, timeout: Duration) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = host.0.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, host.1)]);
        }
        let deadline = Instant::now().checked_add(timeout);
        let mut cache = self.cache.lock();
        loop {
            let now = Instant::now();
            let (answer, starts) = cache.ask(&host, now);
            if starts && self.lookups.try_send(host.clone()).is_err() {
                cache.answered(&host, Err("no look-up could be started".to_owned()), now);
            }
            match answer {
                Answer::Known(addresses) => return Ok(addresses),
                Answer::Failed(failure) => return Err(failure),
                Answer::Wait => {}
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(now));
            if left.is_zero() {
                return Err("no answer in time".to_owned());
            }
            cache = match self.cache.changed.wait_timeout(cache, left.min(FRESH)) {
                Ok((cache, _)) => cache,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl ureq::unversioned::resolver::Resolver for Resolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let addresses = self
            .addresses((host.to_owned(), port), *timeout.after)
            .map_err(|failure| ureq::Error::Io(std::io::Error::other(format!("no address of {host}: {failure}"))))?;
        let mut resolved = self.empty();
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            resolved.push(address);
        }
        Ok(resolved)
    }
}

impl Lookups {
    /// The resolver thread: until the last [`Resolver`] is gone.
    pub(crate) fn run(self) {
        for host in self.wanted {
            // getaddrinfo has no deadline of its own; only this thread waits for it.
            let found = match (host.0.as_str(), host.1).to_socket_addrs() {
                Ok(addresses) => Ok(addresses.take(ADDRESSES_MAX).collect()),
                Err(error) => Err(error.to_string()),
            };
            let found = found.and_then(|addresses: Vec<_>| match addresses.is_empty() {
                true => Err("the name has none".to_owned()),
                false => Ok(addresses),
            });
            self.cache.lock().answered(&host, found, Instant::now());
            self.cache.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        ("api.bithumb.com".to_owned(), 443)
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    #[test]
    fn answers_are_kept_and_renewed_while_they_serve_on() {
        let mut cache = Cache::default();
        let start = Instant::now();
        assert_eq!(cache.ask(&host(), start), (Answer::Wait, true));
        assert_eq!(cache.ask(&host(), start), (Answer::Wait, false));
        cache.answered(&host(), Ok(vec![address(1)]), start);
        let known = || Answer::Known(vec![address(1)]);
        assert_eq!(cache.ask(&host(), start + FRESH / 2), (known(), false));
        let later = start + FRESH;
        assert_eq!(cache.ask(&host(), later), (known(), true));
        assert_eq!(cache.ask(&host(), later), (known(), false));
        // DNS fails: the last good answer serves on, and is asked for again after a pause.
        cache.answered(&host(), Err("down".to_owned()), later);
        assert_eq!(cache.ask(&host(), later), (known(), false));
        assert_eq!(cache.ask(&host(), later + FAILURE_FRESH), (known(), true));
        cache.answered(&host(), Ok(vec![address(2)]), later + FAILURE_FRESH);
        assert_eq!(cache.ask(&host(), later + FAILURE_FRESH), (Answer::Known(vec![address(2)]), false));
    }

    #[test]
    fn a_host_that_was_never_found_fails_at_once_for_a_while() {
        let mut cache = Cache::default();
        let start = Instant::now();
        cache.ask(&host(), start);
        cache.answered(&host(), Err("down".to_owned()), start);
        assert_eq!(cache.ask(&host(), start), (Answer::Failed("down".to_owned()), false));
        assert_eq!(cache.ask(&host(), start + FAILURE_FRESH), (Answer::Wait, true));
    }

    #[test]
    fn address_literals_need_no_look_up() {
        let (resolver, _lookups) = Resolver::new();
        for (host, address) in [("127.0.0.1", "127.0.0.1:80"), ("[::1]", "[::1]:80")] {
            let expected = Ok(vec![address.parse().unwrap()]);
            assert_eq!(resolver.addresses((host.to_owned(), 80), Duration::ZERO), expected);
        }
    }
}
