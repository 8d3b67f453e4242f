//! What a panic does.

use std::panic::PanicHookInfo;

use log::Level;

use crate::logging;

/// Makes a panic in any thread one error line on stderr and the end of the process.
///
/// A daemon that has lost one of its threads must not look alive; systemd starts it again. The line does not go
/// through the log's queue, for its writer may be what panicked.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        logging::say(Level::Error, &describe(info));
        std::process::abort();
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let place = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    format!("panic thread={} at={place} message={message:?}", thread.name().unwrap_or("unnamed"))
}
