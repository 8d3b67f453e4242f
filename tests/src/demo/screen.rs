//! The demo's output: lines, and a table that is drawn over itself on a terminal.

use std::io::{IsTerminal, Write};

#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    /// Lines of the table that the next one replaces.
    drawn: usize,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen { terminal: std::io::stdout().is_terminal(), drawn: 0 }
    }

    pub(super) fn redraws(&self) -> bool {
        self.terminal
    }

    /// A line below everything.
    pub(super) fn say(&mut self, text: &str) {
        self.keep();
        print(&format!("{text}\n"));
    }

    pub(super) fn draw(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.terminal && self.drawn > 0 {
            // Cursor up to the table's first line; clear from there on.
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        } else if !self.terminal {
            text.push('\n');
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        print(&text);
    }

    /// The table stays as it is.
    pub(super) fn keep(&mut self) {
        self.drawn = 0;
    }
}

fn print(text: &str) {
    // A reader that went away (`tests/demo | head`) is no reason to leave servers behind: the demo goes on to its end.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
