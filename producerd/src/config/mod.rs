//! producerd.toml and symbols.toml as checked types.

mod exchange;
mod kafka;
mod spool;
mod symbols;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use coinflow_common::config::{self, Loaded, Problems, Table};
use coinflow_common::logging::LogConfig;

pub(crate) use self::exchange::ExchangeConfig;
pub(crate) use self::kafka::{KafkaConfig, TopicConfig};
pub(crate) use self::spool::SpoolConfig;
pub(crate) use self::symbols::{Symbols, load as load_symbols};
use crate::exchange::exchanges;

/// Where the packages put it.
pub(crate) const DEFAULT_FILE: &str = "/etc/coinflow/producerd.toml";

const SYMBOLS_FILE: &str = "/etc/coinflow/symbols.toml";

/// producerd.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) symbols_file: PathBuf,
    pub(crate) kafka: KafkaConfig,
    pub(crate) spool: SpoolConfig,
    /// One for each exchange that this version knows.
    pub(crate) exchanges: Vec<ExchangeConfig>,
    pub(crate) log: LogConfig,
}

/// Both files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) config: Config,
    pub(crate) symbols: Symbols,
    pub(crate) warnings: Problems,
}

/// Reads and checks producerd.toml and the symbols file that it names.
///
/// # Errors
/// All problems of both files.
pub(crate) fn load(path: &Path) -> Result<Files, Problems> {
    // The symbols are checked even if producerd.toml has problems, by what of it could be understood.
    let mut understood = None;
    let config = config::load(path, |root| understood.insert(Config::read(root, path)).clone());
    let symbols = understood.as_ref().map(|config| load_symbols(&config.symbols_file, &config.exchanges));
    match (config, symbols) {
        (Ok(Loaded { value, mut warnings }), Some(Ok(symbols))) => {
            warnings.append(symbols.warnings);
            Ok(Files { config: value, symbols: symbols.value, warnings })
        }
        (config, symbols) => {
            let mut problems = config.err().unwrap_or_default();
            problems.append(symbols.and_then(Result::err).unwrap_or_default());
            Err(problems)
        }
    }
}

/// Reads and checks producerd.toml alone.
///
/// # Errors
/// All its problems.
pub(crate) fn load_daemon(path: &Path) -> Result<Config, Problems> {
    config::load(path, |root| Config::read(root, path)).map(|loaded| loaded.value)
}

impl Config {
    fn read(root: &mut Table<'_>, path: &Path) -> Self {
        let symbols_file = root.string("symbols_file", SYMBOLS_FILE);
        let kafka = root.table("kafka", |table| KafkaConfig::read(table, &KafkaConfig::default()));
        let spool = root.table("spool", |table| SpoolConfig::read(table, path));
        let exchanges = root.table("exchange", |table| {
            let read = |name| table.table(name, |table| ExchangeConfig::read(table, name, &kafka));
            exchanges().filter_map(read).collect()
        });
        Self {
            symbols_file: path.parent().unwrap_or(Path::new("")).join(symbols_file),
            kafka,
            spool,
            exchanges,
            log: LogConfig::read(root),
        }
    }

    /// The keys whose values differ in another configuration.
    pub(crate) fn differing_keys(&self, other: &Self) -> Vec<String> {
        let (mine, theirs) = (self.settings(), other.settings());
        let differing = mine.iter().zip(&theirs).filter(|(mine, theirs)| mine != theirs);
        let keys: Vec<String> = differing.map(|((key, _), _)| key.clone()).collect();
        // What an exchange takes over from [kafka] is named there.
        let is_inherited = |key: &&String| {
            let kafka = key.strip_prefix("exchange.").and_then(|key| key.split_once('.'));
            kafka.is_some_and(|(_, key)| keys.iter().any(|named| named == key))
        };
        keys.iter().filter(|key| !is_inherited(key)).cloned().collect()
    }

    /// Every key with its value in effect, in the order of the shipped file.
    fn settings(&self) -> Vec<(String, String)> {
        let mut settings = vec![("symbols_file".to_owned(), self.symbols_file.display().to_string())];
        self.kafka.settings("kafka", &mut settings);
        self.spool.settings(&mut settings);
        for exchange in &self.exchanges {
            exchange.settings(&mut settings);
        }
        settings.push(("log.level".to_owned(), format!("{:?}", self.log.level)));
        settings.push(("log.target".to_owned(), format!("{:?}", self.log.target)));
        settings
    }
}
