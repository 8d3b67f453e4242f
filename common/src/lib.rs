//! What coinflow's two daemons share. It knows no PostgreSQL and no HTTP, and Kafka only behind the feature `kafka`.

pub mod config;
pub mod daemon;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod logging;
#[cfg(any(test, feature = "mutate"))]
pub mod mutate;
pub mod orderbook;
