//! What packaging/ and etc/ say against what the programs say; part of both daemons' unit tests.
//!
//! Completions, and the sections OPTIONS and COMMANDS of the man pages, are made from the command line's own
//! definitions: `COINFLOW_WRITE=1 cargo test` writes them anew. The man pages of the files are written by hand and
//! checked key by key.

#![allow(dead_code, reason = "each daemon uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails if the file differs, unless it is to be written.
fn check(path: &str, expected: &str) {
    if std::env::var_os("COINFLOW_WRITE").is_some() {
        std::fs::write(root().join(path), expected).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(read(path) == expected, "{path} is not up to date: run COINFLOW_WRITE=1 cargo test");
}

pub(crate) fn check_completions(command: &Command) {
    let name = command.get_name().to_owned();
    for (shell, path) in [
        (Shell::Bash, format!("packaging/completions/bash/{name}")),
        (Shell::Zsh, format!("packaging/completions/zsh/_{name}")),
        (Shell::Fish, format!("packaging/completions/fish/{name}.fish")),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), &name, &mut script);
        check(&path, &String::from_utf8(script).expect("UTF-8"));
    }
}

/// The man page of the program: its generated sections, and its version.
pub(crate) fn check_manual_of_command(command: &Command) {
    let name = command.get_name();
    let path = format!("packaging/man/{name}.8");
    let mut page = read(&path);
    check_version(&path, &page);
    page = with_section(&page, "OPTIONS", &options(command));
    let commands: String = command.get_subcommands().map(|sub| describe(name, sub)).collect();
    if !commands.is_empty() {
        page = with_section(&page, "COMMANDS", &commands);
    }
    check(&path, &page);
}

fn check_version(path: &str, page: &str) {
    let version = format!("\"coinflow {}\"", env!("CARGO_PKG_VERSION"));
    let title = page.lines().next().unwrap_or_default();
    assert!(title.starts_with(".TH ") && title.contains(&version), "{path}: {title} has no {version}");
}

/// The body of an OPTIONS section.
fn options(command: &Command) -> String {
    let mut section = Vec::new();
    Man::new(command.clone()).render_options_section(&mut section).expect("written to memory");
    let section = String::from_utf8(section).expect("UTF-8");
    // What stands before the title is for the whole page.
    section.split_once(".SH OPTIONS\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// A command and those below it: how it is written, what it does, its options.
fn describe(parent: &str, command: &Command) -> String {
    let name = format!("{parent} {}", command.get_name());
    if command.has_subcommands() {
        return command.get_subcommands().map(|sub| describe(&name, sub)).collect();
    }
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().override_usage(None::<&str>).bin_name(&name).render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").replace('-', "\\-");
    let about = about.replace('-', "\\-");
    let help = ".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nPrint help";
    let options = options(command);
    let options = options.split(help).next().unwrap_or_default().trim_end();
    let options = if options.is_empty() { String::new() } else { format!("{options}\n") };
    format!(".SS \"{usage}\"\n{about}\n{options}")
}

/// The page with another body of one section.
fn with_section(page: &str, title: &str, body: &str) -> String {
    let heading = format!(".SH {title}\n");
    let (before, rest) = page.split_once(&heading).unwrap_or_else(|| panic!("no section {title}"));
    let after = rest.find("\n.SH ").map_or("", |at| &rest[at + 1..]);
    format!("{before}{heading}{}\n{after}", body.trim_end())
}

/// A key of a man page of a file.
#[derive(Debug)]
pub(crate) struct Entry {
    /// `integer`, `duration`, …
    pub(crate) kind: String,
    /// As the file would have it, if the page names one.
    pub(crate) default: Option<String>,
    pub(crate) text: String,
}

/// The keys of the page, with the names of their tables.
pub(crate) fn manual(path: &str) -> BTreeMap<String, Entry> {
    let page = read(path);
    check_version(path, &page);
    let (mut entries, mut table) = (BTreeMap::new(), String::new());
    let mut lines = page.lines().skip_while(|line| *line != ".SH KEYS").skip(1).peekable();
    while let Some(line) = lines.next().filter(|line| !line.starts_with(".SH ")) {
        if let Some(name) = line.strip_prefix(".SS [").and_then(|name| name.strip_suffix(']')) {
            table = format!("{name}.");
        }
        let Some(key) = line.strip_prefix(".BR ") else { continue };
        let (key, rest) = key.split_once(" \" = \\fI").unwrap_or_else(|| panic!("{path}: {line}"));
        let (kind, rest) = rest.split_once("\\fR").unwrap_or_else(|| panic!("{path}: {line}"));
        let default = rest.strip_prefix(" (default ").and_then(|rest| rest.strip_suffix(")\""));
        let mut text = String::new();
        while let Some(line) = lines.next_if(|line| *line != ".TP" && !line.starts_with(".S")) {
            text.push_str(line);
            text.push('\n');
        }
        let entry = Entry { kind: kind.to_owned(), default: default.map(plain), text: plain(&text) };
        assert!(entries.insert(format!("{table}{key}"), entry).is_none(), "{path}: {table}{key} stands twice");
    }
    entries
}

/// Without the marks of the page.
fn plain(text: &str) -> String {
    text.replace("\\(dq", "\"").replace("\\-", "-")
}

/// The shipped file with every key uncommented: a key, or a table, starts right behind its `#`.
pub(crate) fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The keys of a shipped file with the names of their tables, and the text of their values.
pub(crate) fn keys(text: &str) -> Vec<(String, String)> {
    let (mut keys, mut table) = (Vec::new(), String::new());
    for line in uncommented(text).lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((key, value)) = line.split_once(" = ") {
            keys.push((format!("{table}{key}"), value.to_owned()));
        }
    }
    keys
}

/// How a man page of a file is checked.
pub(crate) struct Manual<'a> {
    pub(crate) page: &'a str,
    pub(crate) file: &'a str,
    /// Tables of the file that have a page's section together with others, as they are named there.
    pub(crate) tables: &'a [(&'a str, &'a str)],
    /// Keys whose value in the file is an example, for they have no default.
    pub(crate) examples: &'a [&'a str],
}

impl Manual<'_> {
    /// Each key of the shipped file stands in the page with that value as its default, and the other way round; each
    /// range of a number is the one that the program keeps to. `problems` is what it says of a text.
    pub(crate) fn check(&self, problems: impl Fn(&str) -> String) {
        let Self { page, file, tables, examples } = self;
        let manual = manual(page);
        let mut seen = BTreeSet::new();
        for (key, value) in keys(&read(file)) {
            let (table, name) = key.rsplit_once('.').unwrap_or(("", &key));
            let section = tables.iter().find(|(ours, _)| *ours == table).map_or(table, |(_, theirs)| theirs);
            let of_page = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            let entry = manual.get(&of_page).unwrap_or_else(|| panic!("{page} has no {of_page}"));
            // Where tables share a section, its defaults are those of the first.
            if seen.insert(of_page) {
                let expected = (!examples.contains(&key.as_str())).then_some(value);
                assert_eq!(entry.default, expected, "{page}: default of {key}");
            }
            let heading = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
            for impossible in match entry.kind.as_str() {
                "integer" => ["-1", "999999999999"],
                "duration" => ["\"0ms\"", "\"99999d\""],
                "size" => ["\"0B\"", "\"9999TiB\""],
                _ => continue,
            } {
                let problem = problems(&format!("{heading}{name} = {impossible}\n"));
                let range = problem.split_once(" is not between ").map(|(_, range)| range.replace(" and ", " to "));
                let range = range.unwrap_or_else(|| panic!("{key} = {impossible}: {problem:?}"));
                assert!(entry.text.contains(&range), "{page}: {key}: {:?} has no {range:?}", entry.text);
            }
        }
        let unknown: Vec<_> = manual.keys().filter(|key| !seen.contains(*key)).collect();
        assert!(unknown.is_empty(), "{page} has keys that {file} has not: {unknown:?}");
    }
}
