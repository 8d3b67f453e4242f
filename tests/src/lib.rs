//! What coinflow's tests and its demo run on: the replayed exchange, and launchers for the real servers and the two daemons.

pub mod bench;
pub mod demo;
pub mod exchange;
pub mod servers;
pub mod wait;
