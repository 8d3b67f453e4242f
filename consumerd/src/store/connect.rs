//! A connection as consumerd wants it: bounded in every wait, encrypted on TCP, in UTC.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod};
use postgres::config::{Host, SslMode};
use postgres::{Client, Config, NoTls};
use postgres_openssl::MakeTlsConnector;

use super::fault::PgFault;
use crate::config::{Postgres, Tls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead host is noticed after at most this long, where TCP would try for a quarter of an hour.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// How often the server looks.
const CLIENT_CHECK: &str = "5s";

/// systemd's name for the password that the unit may load.
const CREDENTIAL: &str = "postgres-password";

/// What a connection is for: how long its statements and its waits for locks may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) statement: Duration,
    pub(crate) lock: Duration,
    /// Whether the server looks now and then if a statement still has its client: one that takes long would otherwise
    /// go on for a command that has been stopped.
    ends_with_client: bool,
}

impl Bounds {
    /// A writer's transaction may wait for a moment for another owner's.
    pub(crate) const WRITE: Self =
        Self { statement: Duration::from_secs(30), lock: Duration::from_secs(10), ends_with_client: false };
    /// Making and dropping days must not stand in anybody's way: a lock that is queued for blocks those behind it.
    pub(crate) const DAYS: Self =
        Self { statement: Duration::from_secs(120), lock: Duration::from_secs(2), ends_with_client: false };
    /// An operator's command may have to look through the whole table, and can be stopped by hand.
    pub(crate) const COMMAND: Self =
        Self { statement: Duration::from_secs(3600), lock: Duration::from_secs(10), ends_with_client: true };
    /// To read a big table takes as long as it takes; 0 is no limit.
    pub(crate) const READ: Self =
        Self { statement: Duration::ZERO, lock: Duration::from_secs(10), ends_with_client: true };
}

/// Connects.
///
/// # Errors
/// The way, the server's refusal, or a password or CA file that cannot be read.
pub(crate) fn connect(settings: &Postgres, bounds: Bounds) -> Result<Client, PgFault> {
    let mut config = settings.connection.clone();
    fill_in(&mut config);
    if config.get_password().is_none() {
        if let Some(password) = password(settings.password_file.as_deref())? {
            config.password(password);
        }
    }
    let on_tcp = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
    let connected = if settings.tls == Tls::Verify && (on_tcp || !config.get_hostaddrs().is_empty()) {
        config.ssl_mode(SslMode::Require);
        config.connect(verifying(settings.ca_file.as_deref())?)
    } else {
        config.ssl_mode(SslMode::Disable);
        config.connect(NoTls)
    };
    let mut client = connected.map_err(|error| PgFault::connecting(&error))?;
    let Bounds { statement, lock, ends_with_client } = bounds;
    client.batch_execute(&format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = 10000; \
         SET default_transaction_isolation = 'read committed'; SET timezone = 'UTC'",
        statement.as_millis(),
        lock.as_millis(),
    ))?;
    if ends_with_client {
        // Where the server does not have it, or cannot do it, things go as they did without.
        let checked = client.batch_execute(&format!("SET client_connection_check_interval = '{CLIENT_CHECK}'"));
        if let Err(error) = checked {
            log::debug!("PostgreSQL does not look for clients that are gone err={error}");
        }
    }
    Ok(client)
}

/// What the operator's connection string leaves open.
fn fill_in(config: &mut Config) {
    let untouched = Config::new();
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if config.get_keepalives_idle() == untouched.get_keepalives_idle() {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_application_name().is_none() {
        config.application_name("consumerd");
    }
}

/// Read at each connecting, so that a new password needs no restart.
fn password(file: Option<&Path>) -> Result<Option<Vec<u8>>, PgFault> {
    if let Some(password) = std::env::var_os("PGPASSWORD").filter(|password| !password.is_empty()) {
        return Ok(Some(password.into_encoded_bytes()));
    }
    let credential = || {
        let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
        path.exists().then_some(path)
    };
    let Some(path) = file.map(Path::to_owned).or_else(credential) else { return Ok(None) };
    let mut password = std::fs::read(&path)
        .map_err(|error| PgFault::setup(format!("the password file {} cannot be read: {error}", path.display())))?;
    // An editor ends the line; a password does not contain its end.
    while password.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        password.pop();
    }
    Ok(Some(password))
}

fn verifying(ca_file: Option<&Path>) -> Result<MakeTlsConnector, PgFault> {
    let unusable = |error: openssl::error::ErrorStack| PgFault::setup(format!("TLS cannot be set up: {error}"));
    // Verifies certificate and host name, and trusts the system's store, unless told otherwise.
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(unusable)?;
    if let Some(path) = ca_file {
        builder
            .set_ca_file(path)
            .map_err(|error| PgFault::setup(format!("the CA file {} cannot be used: {error}", path.display())))?;
    }
    Ok(MakeTlsConnector::new(builder.build()))
}
