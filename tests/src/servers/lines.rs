//! The lines that a process writes into a file, while it writes them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait::wait_until;

#[derive(Clone, Debug)]
pub struct Lines {
    path: PathBuf,
}

impl Lines {
    pub fn new(path: &Path) -> Lines {
        Lines { path: path.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every complete line so far.
    pub fn all(&self) -> Vec<String> {
        let text = std::fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        if complete.is_empty() { Vec::new() } else { complete.split('\n').map(str::to_owned).collect() }
    }

    /// How many there are so far: where to look on from.
    pub fn mark(&self) -> usize {
        self.all().len()
    }

    /// The first line from `mark` on that contains `text`.
    pub fn wait_for_after(&self, mark: usize, text: &str, timeout: Duration) -> Result<String, String> {
        let what = format!("a line with {text:?} in {}", self.path.display());
        wait_until(timeout, &what, || self.all().into_iter().skip(mark).find(|line| line.contains(text))).map_err(
            |error| {
                let all = self.all();
                let tail: Vec<&str> = all[all.len().saturating_sub(20)..].iter().map(String::as_str).collect();
                format!("{error}; its last lines:\n{}", tail.join("\n"))
            },
        )
    }

    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<String, String> {
        self.wait_for_after(0, text, timeout)
    }
}
