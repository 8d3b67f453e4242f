//! Launchers for real servers: each is an owned struct that ends its processes when dropped, and only those.
//!
//! They are bounded in time everywhere, take free ports and keep them over restarts, and live in folders of their own.

mod daemon;
mod exchange;
mod kafka;
mod kafka_client;
mod kafka_jars;
mod kafka_proxy;
mod kept;
mod lines;
mod machine;
mod notify;
mod port;
mod postgres;
mod postgres_proxy;
mod process;

pub use daemon::{Daemon, Finished, Program, program};
pub use exchange::ExchangeProcess;
pub use kafka::{Jvm, Kafka, KafkaOptions};
pub use kafka_client::{KafkaClient, KafkaRecord};
pub use kafka_jars::kafka_jars;
pub use kafka_proxy::KafkaProxy;
pub use lines::Lines;
pub use machine::{Machine, MachineOptions, Release};
pub use notify::{Notify, NotifyMessage};
pub use port::free_port;
pub use postgres::{Postgres, PostgresOptions, StopMode};
pub use postgres_proxy::{Cut, PostgresProxy};
pub use process::Process;
pub use rustix::process::Signal;
