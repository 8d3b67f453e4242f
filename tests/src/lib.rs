//! What coinflow's tests, its demo, its campaign of faults and its benchmarks run on: the replayed exchange, and launchers for the real servers and the two daemons.

pub mod bench;
pub mod campaign;
pub mod demo;
pub mod exchange;
pub mod servers;
pub mod wait;
