//! HTTP requests to one exchange: kept connections, one deadline for a whole request, a bound for the body.

mod resolver;

use std::error::Error as _;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use coinflow_common::orderbook::Timestamp;
use ureq::Agent;
use ureq::http::HeaderMap;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::DefaultConnector;

pub(crate) use self::resolver::Resolver;
use crate::exchange::{ExchangeError, Reply};

/// The largest legal reply, 500 books of Upbit, takes about 1.4 MB.
const BODY_BYTES_MAX: u64 = 8 << 20;
/// The exchanges close connections that idle for about a minute; ours goes first.
const IDLE_MAX: Duration = Duration::from_secs(50);
/// For each direction of a connection; a quarter of what ureq takes, which is cleared and moved about. A request, of which the
/// markets' codes are the most, has to fit.
const BUFFER_BYTES: usize = 32 << 10;

/// The client of one exchange. Clones share its connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    base_url: String,
    timeout: Duration,
}

/// A reply and when it was asked for and complete, by our clock.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) requested_at: Timestamp,
    pub(crate) received_at: Timestamp,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Fetched {
    pub(crate) fn reply(&self) -> Reply<'_> {
        Reply { status: self.status, headers: &self.headers, body: &self.body }
    }
}

impl Client {
    /// `connections` is how many requests at most are in flight at once.
    pub(crate) fn new(base_url: &str, timeout: Duration, connections: usize, resolver: Resolver) -> Self {
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(timeout))
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .max_idle_age(IDLE_MAX)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .user_agent(concat!("coinflow-producerd/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::new(), resolver);
        Self { agent, base_url: base_url.to_owned(), timeout }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Fetched, ExchangeError> {
        let requested_at = Timestamp::from_system(SystemTime::now());
        let response = self.agent.get(format!("{}{path}", self.base_url)).call().map_err(|e| self.error(e))?;
        let (parts, mut body) = response.into_parts();
        let body = body.with_config().limit(BODY_BYTES_MAX).read_to_vec().map_err(|e| self.error(e))?;
        let received_at = Timestamp::from_system(SystemTime::now());
        Ok(Fetched { requested_at, received_at, status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// Interrupts what is in flight; no request succeeds any more.
    pub(crate) fn shutdown(&self) {
        self.agent.clone().shutdown();
    }

    fn error(&self, error: ureq::Error) -> ExchangeError {
        match error {
            ureq::Error::Timeout(_) => ExchangeError::Timeout(self.timeout),
            ureq::Error::BodyExceedsLimit(_) => ExchangeError::TooLarge(BODY_BYTES_MAX),
            // What breaks beneath the unpacking is the connection.
            ureq::Error::Decompress(_, error)
                if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput) =>
            {
                ExchangeError::Transport(error.to_string())
            }
            ureq::Error::Decompress(_, error) => ExchangeError::BadReply(format!("cannot be unpacked: {error}")),
            ureq::Error::Io(error) => ExchangeError::Transport(error.to_string()),
            error => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                ExchangeError::Transport(format!("{error}{cause}"))
            }
        }
    }
}
