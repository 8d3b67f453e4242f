//! The table `[spool]`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use coinflow_common::config::{Bytes, Table};

const DIRECTORY: &str = "/var/lib/coinflow-producerd";
const MAX_SIZE: u64 = 1 << 30;
const MAX_SIZE_RANGE: RangeInclusive<u64> = 16 << 20..=1 << 50;

/// Where books wait while Kafka is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpoolConfig {
    /// Each exchange has a folder in it.
    pub(crate) directory: PathBuf,
    /// Of each exchange, in bytes.
    pub(crate) max_size: u64,
}

impl SpoolConfig {
    /// `path` is that of the file, beside which a relative directory lies.
    pub(super) fn read(table: &mut Table<'_>, path: &Path) -> Self {
        let directory = table.string("directory", DIRECTORY);
        Self {
            directory: path.parent().unwrap_or(Path::new("")).join(directory),
            max_size: table.size("max_size", MAX_SIZE, MAX_SIZE_RANGE),
        }
    }

    pub(super) fn settings(&self, settings: &mut Vec<(String, String)>) {
        settings.push(("spool.directory".to_owned(), self.directory.display().to_string()));
        settings.push(("spool.max_size".to_owned(), Bytes(self.max_size).to_string()));
    }
}
