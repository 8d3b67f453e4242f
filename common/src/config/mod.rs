//! TOML files into checked types, with all problems at once, each at its place in the file.
//!
//! A daemon reads its file with one closure over [`Table`]. A read never fails: what is wrong is noted with line,
//! column and key, the default stands in, and [`load`] refuses the file as a whole at the end. A key that the
//! closure did not ask for is a problem too, with the nearest key that it did ask for.

mod problem;
mod table;
mod units;
mod value;

use std::io::Read as _;
use std::path::Path;

pub use problem::{Problem, Problems};
pub use table::{Table, nearest};
pub use units::{Bytes, show_duration};
pub use value::Value;

/// A configuration file is a few kilobytes; a larger one is something else.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// A file that has been read and found right.
#[derive(Debug)]
pub struct Loaded<T> {
    pub value: T,
    /// In file order; none of them is a reason to refuse the file.
    pub warnings: Problems,
}

/// Reads and checks a file.
///
/// # Errors
/// All problems of the file: unreadable, not TOML, unknown keys, and whatever `read` noted.
pub fn load<T>(path: &Path, read: impl FnOnce(&mut Table<'_>) -> T) -> Result<Loaded<T>, Problems> {
    let text = read_text(path).map_err(|message| Problems::of_file(path, message))?;
    parse(path, &text, read)
}

/// Checks a text as if it were the content of the file `path`.
///
/// # Errors
/// As [`load`].
pub fn parse<T>(path: &Path, text: &str, read: impl FnOnce(&mut Table<'_>) -> T) -> Result<Loaded<T>, Problems> {
    let sink = problem::Sink::new(path, text);
    let (document, errors) = toml::de::DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            sink.problem(error.span(), "", error.message().replace('\n', ", "));
        }
        return Err(sink.finish().0);
    }
    let mut root = Table::new(&sink, Some(document.get_ref()), String::new(), None);
    let value = read(&mut root);
    root.finish();
    let (problems, warnings) = sink.finish();
    if problems.is_empty() { Ok(Loaded { value, warnings }) } else { Err(problems) }
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    // Looked at first: to open a pipe would wait for somebody to write to it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("cannot be read: it is not a file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {}", Bytes(FILE_BYTES_MAX)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|b| **b == b'\n').count() + 1;
        format!("line {line} is not UTF-8 text")
    })
}

#[cfg(test)]
mod tests;
