//! Books on disk while Kafka is away.

mod frame;
mod loss;
mod position;
mod reader;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use self::loss::Loss;
pub(crate) use self::store::{Batch, Opened, Store};
