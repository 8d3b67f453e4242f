//! What coinflow's tests its demo and its campaign of faults run on: the replayed exchange, and launchers for the real servers and the two daemons.

pub mod campaign;
pub mod demo;
pub mod exchange;
pub mod servers;
pub mod wait;
