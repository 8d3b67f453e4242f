//! A socket that plays systemd's part in the notification protocol (sd_notify(3)).

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wait::wait_until;

/// At a watchdog message a second, hours.
const MESSAGES_MAX: usize = 100_000;
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// How often the thread looks whether it shall end.
const TURN: Duration = Duration::from_millis(50);

/// One datagram: its assignments as they came (`READY=1`, `STATUS=…`).
#[derive(Clone, Debug)]
pub struct NotifyMessage {
    pub at: Instant,
    pub lines: Vec<String>,
}

impl NotifyMessage {
    pub fn value(&self, key: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Collects what a daemon reports; the thread ends with it.
#[derive(Debug)]
pub struct Notify {
    path: PathBuf,
    messages: Arc<Mutex<VecDeque<NotifyMessage>>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Notify {
    pub fn bind(path: &Path) -> Result<Notify, String> {
        let fail = |error: std::io::Error| format!("{}: {error}", path.display());
        let socket = UnixDatagram::bind(path).map_err(fail)?;
        socket.set_read_timeout(Some(TURN)).map_err(fail)?;
        let (messages, done) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let (own_messages, own_done) = (Arc::clone(&messages), Arc::clone(&done));
        let collect = move || collect(&socket, &own_messages, &own_done);
        let thread = std::thread::Builder::new().name("notify".to_owned()).spawn(collect).map_err(fail)?;
        Ok(Notify { path: path.to_owned(), messages, done, thread: Some(thread) })
    }

    /// What goes into NOTIFY_SOCKET.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every message so far.
    pub fn all(&self) -> Vec<NotifyMessage> {
        lock(&self.messages).iter().cloned().collect()
    }

    pub fn mark(&self) -> usize {
        lock(&self.messages).len()
    }

    /// The first message from `mark` on with a line that begins with `prefix`, and the mark after it.
    pub fn wait_for_after(
        &self,
        mark: usize,
        prefix: &str,
        timeout: Duration,
    ) -> Result<(NotifyMessage, usize), String> {
        let found = || {
            let messages = lock(&self.messages);
            let mut later = messages.iter().enumerate().skip(mark);
            let (at, message) = later.find(|(_, message)| message.lines.iter().any(|line| line.starts_with(prefix)))?;
            Some((message.clone(), at + 1))
        };
        wait_until(timeout, &format!("the notification {prefix}"), found)
    }

    pub fn wait_for(&self, prefix: &str, timeout: Duration) -> Result<NotifyMessage, String> {
        self.wait_for_after(0, prefix, timeout).map(|(message, _)| message)
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn collect(socket: &UnixDatagram, messages: &Mutex<VecDeque<NotifyMessage>>, done: &AtomicBool) {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    while !done.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let text = String::from_utf8_lossy(&buffer[..length]);
        let message = NotifyMessage { at: Instant::now(), lines: text.lines().map(str::to_owned).collect() };
        let mut messages = lock(messages);
        if messages.len() < MESSAGES_MAX {
            messages.push_back(message);
        }
    }
}

fn lock(messages: &Mutex<VecDeque<NotifyMessage>>) -> MutexGuard<'_, VecDeque<NotifyMessage>> {
    messages.lock().unwrap_or_else(PoisonError::into_inner)
}
