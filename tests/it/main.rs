//! End-to-end tests on real servers, in one program.

mod books;
mod cli;
mod dead_letters;
mod exactly_once;
mod faults;
mod holes;
mod launchers;
mod main_path;
mod notify;
mod overrun;
mod packages;
mod reload;
mod rig;
mod shutdown;
mod start;
mod tidy;
