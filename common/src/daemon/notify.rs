//! Messages to systemd (sd_notify(3)). Without `$NOTIFY_SOCKET` they do nothing.

use sd_notify::NotifyState;

/// Start-up or reload is over.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// A reload begins. systemd 253 and later want the time in the same datagram.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => log::debug!("no monotonic clock err={error}"),
    }
}

/// The line that `systemctl status` shows.
pub fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

/// Sign of life.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// The daemon is on its way out.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("systemd was not notified err={error}");
    }
}
