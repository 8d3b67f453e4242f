//! One value at its place in the file.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::problem::Sink;
use super::table::Table;
use super::units;

/// A value, its key path and its place. Reading it as something that it is not notes a problem.
#[derive(Debug, Clone)]
pub struct Value<'d> {
    sink: &'d Sink<'d>,
    value: &'d Spanned<DeValue<'d>>,
    key: String,
}

impl<'d> Value<'d> {
    pub(super) fn new(sink: &'d Sink<'d>, value: &'d Spanned<DeValue<'d>>, key: String) -> Self {
        Self { sink, value, key }
    }

    /// Its full key path, such as `upbit.symbols[2]`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The line it stands on, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.sink.place(self.span().start).0
    }

    fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Notes that something is wrong with this value.
    pub fn problem(&self, message: impl Into<String>) {
        self.sink.problem(Some(self.span()), &self.key, message);
    }

    /// Notes something that the operator should know, but that is no reason to refuse the file.
    pub fn warning(&self, message: impl Into<String>) {
        self.sink.warning(Some(self.span()), &self.key, message);
    }

    fn expected(&self, what: &str) {
        let value = self.value.get_ref();
        self.problem(format!("expected {what}, found {}", with_article(value.type_str())));
    }

    /// The text, if it is a string; no problem is noted if it is not.
    #[must_use]
    pub fn as_str(&self) -> Option<&'d str> {
        self.value.get_ref().as_str()
    }

    /// Whether it is a table.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Whether it is an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.value.get_ref().is_array()
    }

    /// A string.
    pub fn string(&self) -> Option<&'d str> {
        self.as_str().or_else(|| {
            self.expected("a string");
            None
        })
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        self.value.get_ref().as_bool().or_else(|| {
            self.expected("true or false");
            None
        })
    }

    /// A whole number.
    pub fn integer(&self) -> Option<i64> {
        let Some(number) = self.value.get_ref().as_integer() else {
            self.expected("a whole number");
            return None;
        };
        i64::from_str_radix(number.as_str(), number.radix()).ok().or_else(|| {
            self.problem(format!("{} is too large", number.as_str()));
            None
        })
    }

    /// A whole number with ms, s, m, h or d.
    pub fn duration(&self) -> Option<Duration> {
        let Some(text) = self.as_str() else {
            self.expected("a duration such as \"500ms\" or \"10s\"");
            return None;
        };
        units::parse_duration(text).or_else(|| {
            self.problem(format!("{text:?} is not a duration; write a whole number with ms, s, m, h or d"));
            None
        })
    }

    /// A whole number with B, KiB, MiB, GiB or TiB.
    pub fn size(&self) -> Option<u64> {
        let Some(text) = self.as_str() else {
            self.expected("a size such as \"64KiB\" or \"10GiB\"");
            return None;
        };
        units::parse_size(text).or_else(|| {
            self.problem(format!("{text:?} is not a size; write a whole number with B, KiB, MiB, GiB or TiB"));
            None
        })
    }

    /// The items of an array.
    pub fn items(&self) -> Vec<Value<'d>> {
        let Some(array) = self.value.get_ref().as_array() else {
            self.expected("an array");
            return Vec::new();
        };
        let item = |(index, value)| Value::new(self.sink, value, format!("{}[{index}]", self.key));
        array.iter().enumerate().map(item).collect()
    }

    /// A table; keys that `read` does not ask for are problems.
    pub fn table<R>(&self, read: impl FnOnce(&mut Table<'d>) -> R) -> Option<R> {
        let Some(table) = self.value.get_ref().as_table() else {
            self.expected("a table");
            return None;
        };
        let mut table = Table::new(self.sink, Some(table), self.key.clone(), Some(self.span()));
        let result = read(&mut table);
        table.finish();
        Some(result)
    }

    /// A number, boolean or string as the text it stands for; for settings that are passed on as text.
    pub fn scalar_text(&self) -> Option<String> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text.clone().into_owned()),
            DeValue::Boolean(value) => Some(value.to_string()),
            DeValue::Integer(_) => self.integer().map(|number| number.to_string()),
            DeValue::Float(number) => Some(number.as_str().to_owned()),
            _ => {
                self.expected("a string, a number, true or false");
                None
            }
        }
    }
}

fn with_article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {type_name}")
}
