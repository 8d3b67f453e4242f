//! What is wrong with a file, and where.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// So many problems of a file are listed, and as many warnings: who reads them corrects the first ones first.
const LISTED_MAX: usize = 100;

/// One problem, or one warning. Displays as `file:line:column: key: message`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    file: PathBuf,
    /// Line and column, both from 1, the column in characters; none for the file as a whole.
    place: Option<(usize, usize)>,
    key: String,
    message: String,
    warning: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        if self.warning {
            write!(f, " warning:")?;
        }
        write!(f, " {}", self.message)
    }
}

/// Problems in file order. Displays as one line for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// A problem of a file as a whole.
    #[must_use]
    pub fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self(vec![Problem {
            file: path.to_owned(),
            place: None,
            key: String::new(),
            message: message.into(),
            warning: false,
        }])
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Adds those of another file.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects the problems of one file while it is being read.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    file: &'a Path,
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    /// A place, and how many characters of its line stand before it.
    counted: Cell<(usize, usize)>,
    noted: RefCell<Vec<(usize, Problem)>>,
    /// How many problems, and warnings, there are, listed or not.
    seen: [Cell<usize>; 2],
}

/// A quoted key of TOML may hold any character.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() {
            true => printable.extend(char.escape_default()),
            false => printable.push(char),
        }
    }
    printable
}

impl<'a> Sink<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self {
            file,
            text,
            lines: [0].into_iter().chain(newlines).collect(),
            counted: Cell::default(),
            noted: RefCell::default(),
            seen: Default::default(),
        }
    }

    pub(super) fn problem(&self, span: Option<Range<usize>>, key: &str, message: impl Into<String>) {
        self.note(span, key, message.into(), false);
    }

    pub(super) fn warning(&self, span: Option<Range<usize>>, key: &str, message: impl Into<String>) {
        self.note(span, key, message.into(), true);
    }

    fn note(&self, span: Option<Range<usize>>, key: &str, message: String, warning: bool) {
        let seen = &self.seen[usize::from(warning)];
        seen.set(seen.get() + 1);
        if seen.get() > LISTED_MAX {
            return;
        }
        let at = span.map(|span| span.start);
        let problem = Problem {
            file: self.file.to_owned(),
            place: at.map(|at| self.place(at)),
            key: printable(key),
            message: printable(&message),
            warning,
        };
        self.noted.borrow_mut().push((at.unwrap_or(0), problem));
    }

    /// Line and column of a byte offset.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).map_or(0, |before| self.lines[before]);
        // Mostly they come in order, and a line may be long.
        let (from, before) =
            Some(self.counted.get()).filter(|(at, _)| (start..=offset).contains(at)).unwrap_or((start, 0));
        let chars = before + self.text[from..offset].chars().count();
        self.counted.set((offset, chars));
        (line, chars + 1)
    }

    /// The problems and the warnings, each in file order.
    pub(super) fn finish(self) -> (Problems, Problems) {
        let mut noted = self.noted.into_inner();
        noted.sort_by_key(|(at, _)| *at);
        let (mut warnings, mut problems): (Vec<_>, Vec<_>) =
            noted.into_iter().map(|(_, problem)| problem).partition(|problem| problem.warning);
        for (listed, seen, warning) in [(&mut problems, &self.seen[0], false), (&mut warnings, &self.seen[1], true)] {
            let more = seen.get() - listed.len();
            if more > 0 {
                let message = format!("and {more} more like these");
                listed.push(Problem { file: self.file.to_owned(), place: None, key: String::new(), message, warning });
            }
        }
        (Problems(problems), Problems(warnings))
    }
}
