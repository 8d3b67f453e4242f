//! What both Kafka clients share: settings, secrets, librdkafka's log, and one line per change of state.

mod addresses;
mod cluster;
mod headers;
mod settings;

pub use addresses::restore_addresses;
pub use cluster::{Cluster, State};
pub use headers::each_header;
pub use settings::{ClusterConfig, Overrides, Role, client_config, read_brokers};
