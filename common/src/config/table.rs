//! Reading a table key by key.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeTable;

use super::problem::Sink;
use super::units::{Bytes, show_duration};
use super::value::Value;

/// Less alike than this, a known key is no help to someone who mistyped one.
const SIMILARITY_MIN: f64 = 0.6;

/// A table of the file, or one that the file leaves out: then every read gives its default.
#[derive(Debug)]
pub struct Table<'d> {
    sink: &'d Sink<'d>,
    table: Option<&'d DeTable<'d>>,
    path: String,
    span: Option<Range<usize>>,
    /// The keys asked for so far.
    known: Vec<String>,
}

impl<'d> Table<'d> {
    pub(super) fn new(
        sink: &'d Sink<'d>,
        table: Option<&'d DeTable<'d>>,
        path: String,
        span: Option<Range<usize>>,
    ) -> Self {
        Self { sink, table, path, span, known: Vec::new() }
    }

    /// Whether the file has this table.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The value of a key, if the file has it.
    pub fn value(&mut self, key: &str) -> Option<Value<'d>> {
        self.known.push(key.to_owned());
        let value = self.table?.get(key)?;
        Some(Value::new(self.sink, value, self.full_key(key)))
    }

    fn full_key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a problem with the value of a key, or with the table where it has no such key.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        let span = self.table.and_then(|table| table.get(key)).map(|value| value.span()).or(self.span.clone());
        self.sink.problem(span, &self.full_key(key), message);
    }

    /// Notes a warning in the same way.
    pub fn warning(&self, key: &str, message: impl Into<String>) {
        let span = self.table.and_then(|table| table.get(key)).map(|value| value.span()).or(self.span.clone());
        self.sink.warning(span, &self.full_key(key), message);
    }

    pub fn string(&mut self, key: &str, default: &str) -> String {
        self.optional_string(key).unwrap_or_else(|| default.to_owned())
    }

    pub fn optional_string(&mut self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        let text = value.string()?;
        if text.is_empty() {
            value.problem("must not be empty");
            return None;
        }
        Some(text.to_owned())
    }

    pub fn boolean(&mut self, key: &str, default: bool) -> bool {
        self.value(key).and_then(|value| value.boolean()).unwrap_or(default)
    }

    pub fn integer(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let read = |value: Value<'d>| {
            let number = value.integer()?;
            let in_range = u64::try_from(number).ok().filter(|number| range.contains(number));
            if in_range.is_none() {
                value.problem(not_between(number, range.start(), range.end()));
            }
            in_range
        };
        self.value(key).and_then(read).unwrap_or(default)
    }

    pub fn duration(&mut self, key: &str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        self.optional_duration(key, range).unwrap_or(default)
    }

    pub fn optional_duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.value(key)?;
        let duration = value.duration()?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let [low, high] = [range.start(), range.end()].map(|bound| show_duration(*bound));
        value.problem(not_between(show_duration(duration), low, high));
        None
    }

    /// In bytes.
    pub fn size(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let read = |value: Value<'d>| {
            let size = value.size()?;
            if range.contains(&size) {
                return Some(size);
            }
            value.problem(not_between(Bytes(size), Bytes(*range.start()), Bytes(*range.end())));
            None
        };
        self.value(key).and_then(read).unwrap_or(default)
    }

    /// One of a few words, each standing for a value.
    pub fn choice<T: Copy>(&mut self, key: &str, default: T, words: &[(&str, T)]) -> T {
        let read = |value: Value<'d>| {
            let text = value.string()?;
            let choice = words.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
            if choice.is_none() {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                value.problem(format!("{text:?} is not one of {}", words.join(", ")));
            }
            choice
        };
        self.value(key).and_then(read).unwrap_or(default)
    }

    /// An array of strings, none of them empty.
    pub fn strings(&mut self, key: &str, default: &[&str]) -> Vec<String> {
        let Some(value) = self.value(key) else {
            return default.iter().map(|&text| text.to_owned()).collect();
        };
        let read = |item: Value<'d>| {
            let text = item.string()?;
            if text.is_empty() {
                item.problem("must not be empty");
            }
            Some(text.to_owned())
        };
        value.items().into_iter().filter_map(read).collect()
    }

    /// A table; `read` sees an absent one, too, so that defaults stand in one place.
    pub fn table<R>(&mut self, key: &str, read: impl FnOnce(&mut Table<'d>) -> R) -> R {
        let path = self.full_key(key);
        let (table, span) = match self.value(key) {
            Some(value) => {
                let table = self.table.and_then(|table| table.get(key));
                if !value.is_table() {
                    value.table(|_| ());
                }
                (table.and_then(|value| value.get_ref().as_table()), table.map(|value| value.span()))
            }
            None => (None, self.span.clone()),
        };
        let mut table = Table::new(self.sink, table, path, span);
        let result = read(&mut table);
        table.finish();
        result
    }

    /// Every key of this table, for tables whose keys are free names; none of them is unknown afterwards.
    pub fn entries(&mut self) -> Vec<(String, Value<'d>)> {
        let Some(table) = self.table else { return Vec::new() };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&'d toml::Spanned<_>, &'d toml::Spanned<_>)| {
            let name: &std::borrow::Cow<'d, str> = key.get_ref();
            (name.to_string(), Value::new(self.sink, value, self.full_key(name)))
        };
        let entries: Vec<_> = entries.into_iter().map(entry).collect();
        self.known.extend(entries.iter().map(|(name, _)| name.clone()));
        entries
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if self.known.iter().any(|known| known == name) {
                continue;
            }
            let message = match nearest(name, self.known.iter().map(String::as_str)) {
                Some(known) => format!("unknown key; did you mean {known}?"),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            self.sink.problem(Some(key.span()), &self.full_key(name), message);
        }
    }
}

fn not_between(value: impl Display, low: impl Display, high: impl Display) -> String {
    format!("{value} is not between {low} and {high}")
}

/// The known name most like a mistyped one, if any is like it at all.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let alike = |known: &'a str| (strsim::normalized_damerau_levenshtein(name, known), known);
    known
        .map(alike)
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}
