//! Waiting for something that a process of its own will bring about.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Tries until there is a value, at most for `timeout`; the error says what did not come.
pub fn wait_until<T>(timeout: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = attempt() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(format!("waited {:.1} s in vain for {what}", timeout.as_secs_f64()));
        }
        std::thread::sleep(POLL);
    }
}
