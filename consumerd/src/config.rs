//! consumerd.toml.

mod read;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use coinflow_common::config::{Loaded, Problems, load};
use coinflow_common::kafka::ClusterConfig;
use coinflow_common::logging::LogConfig;

/// The file, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) postgres: Postgres,
    /// In the order of the file; at least one.
    pub(crate) sources: Vec<Source>,
    pub(crate) batch: Batch,
    pub(crate) log: LogConfig,
}

/// The table `[postgres]`.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pub(crate) connection: postgres::Config,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) tls: Tls,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) schema: String,
    /// None: books are kept for ever.
    pub(crate) retention: Option<Duration>,
}

/// How TCP connections to PostgreSQL are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Encrypted, with the server's certificate and name verified.
    Verify,
    Off,
}

/// A table `[source.NAME]`: one Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) cluster: ClusterConfig,
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    pub(crate) start: Start,
    pub(crate) on_overrun: OnOverrun,
}

/// Where to begin on a topic of which the database has no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Earliest,
    Latest,
    /// At the group's commit; without one, at the earliest record.
    Group,
}

/// What to do when Kafka has deleted records that were not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnOverrun {
    /// Stop the partition, for an operator to decide.
    Stop,
    /// Go on at the oldest record there is.
    Continue,
}

/// The table `[batch]`: the most that one transaction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) max_books: usize,
    /// Of the records in memory, in bytes.
    pub(crate) max_size: usize,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// All its problems.
    pub(crate) fn load(path: &Path) -> Result<Loaded<Self>, Problems> {
        load(path, read::config)
    }
}
