//! Books on disk while Kafka is away.

mod frame;
mod position;
mod reader;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use self::store::{Batch, Loss, Opened, Store};
