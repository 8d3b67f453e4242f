//! End-to-end tests on real servers, in one program.

/// What a test has measured or met: shown when it fails, and by `--nocapture`.
macro_rules! show {
    ($($text:tt)+) => {{
        #[allow(clippy::print_stdout)]
        {
            println!($($text)+);
        }
    }};
}

mod books;
mod breaker;
mod cli;
mod commands;
mod commit;
mod database;
mod dead_letters;
mod exactly_once;
mod exchanges;
mod failover;
mod faults;
mod fenced;
mod holes;
mod hostile;
mod launchers;
mod main_path;
mod notify;
mod offsets;
mod overrun;
mod packages;
mod positions;
mod reader;
mod reload;
mod rig;
mod shutdown;
mod spool;
mod start;
mod tidy;
mod topic;
mod verify;
