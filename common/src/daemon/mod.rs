//! The frame of a daemon: signals, systemd's notifications and watchdog, threads, the command line, the way out.

mod cli;
mod crew;
mod exit;
mod frame;
pub mod notify;
mod panic;
mod progress;
mod signals;

pub use cli::{Options, command};
pub use crew::Crew;
pub use exit::Exit;
pub use frame::{Event, Frame};
pub use panic::install_panic_hook;
pub use progress::{Beat, Progress, Stuck, Waiting};
pub use signals::{OnHup, Signal, Signals};
