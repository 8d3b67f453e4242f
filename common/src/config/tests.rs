use std::path::Path;
use std::time::Duration;

use super::*;

#[derive(Debug, PartialEq)]
struct Example {
    name: String,
    interval: Duration,
    workers: u64,
    size: u64,
    on: bool,
    api: u8,
    list: Vec<String>,
    inner: u64,
}

fn example(root: &mut Table<'_>) -> Example {
    Example {
        name: root.string("name", "default"),
        interval: root.duration(
            "interval",
            Duration::from_secs(1),
            Duration::from_millis(100)..=Duration::from_secs(3600),
        ),
        workers: root.integer("workers", 16, 1..=64),
        size: root.size("size", 1 << 20, 1024..=1 << 30),
        on: root.boolean("on", false),
        api: root.choice("api", 2, &[("v1", 1), ("v2", 2)]),
        list: root.strings("list", &["a"]),
        inner: root.table("inner", |inner| inner.integer("number", 7, 0..=9)),
    }
}

fn read(text: &str) -> Result<Example, String> {
    parse(Path::new("f.toml"), text, example).map(|loaded| loaded.value).map_err(|problems| problems.to_string())
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let example = read("").expect("a good file");
    assert_eq!((example.name.as_str(), example.workers, example.inner), ("default", 16, 7));
    assert_eq!(example.list, ["a"]);
}

#[test]
fn values_are_read() {
    let text = "name = \"x\"\ninterval = \"200ms\"\nworkers = 0x10\nsize = \"64KiB\"\non = true\napi = \"v1\"\nlist = []\n[inner]\nnumber = 9";
    let expected = Example {
        name: "x".to_owned(),
        interval: Duration::from_millis(200),
        workers: 16,
        size: 65_536,
        on: true,
        api: 1,
        list: Vec::new(),
        inner: 9,
    };
    assert_eq!(read(text), Ok(expected));
}

#[test]
fn every_problem_is_one_line_at_its_place() {
    for (text, lines) in [
        ("nam = 1", "f.toml:1:1: nam: unknown key; did you mean name?"),
        ("zzz = 1", "f.toml:1:1: zzz: unknown key; known here: name, interval, workers, size, on, api, list, inner"),
        ("[iner]", "f.toml:1:2: iner: unknown key; did you mean inner?"),
        ("[inner]\nnumbr = 1", "f.toml:2:1: inner.numbr: unknown key; did you mean number?"),
        ("name = 5", "f.toml:1:8: name: expected a string, found an integer"),
        ("name = \"\"", "f.toml:1:8: name: must not be empty"),
        ("interval = 5", "f.toml:1:12: interval: expected a duration such as \"500ms\" or \"10s\", found an integer"),
        (
            "interval = \"5\"",
            "f.toml:1:12: interval: \"5\" is not a duration; write a whole number with ms, s, m, h or d",
        ),
        ("interval = \"50ms\"", "f.toml:1:12: interval: 50ms is not between 100ms and 1h"),
        ("workers = 65", "f.toml:1:11: workers: 65 is not between 1 and 64"),
        ("workers = -1", "f.toml:1:11: workers: -1 is not between 1 and 64"),
        ("workers = 1.5", "f.toml:1:11: workers: expected a whole number, found a float"),
        ("workers = 99999999999999999999", "f.toml:1:11: workers: 99999999999999999999 is too large"),
        ("size = \"1B\"", "f.toml:1:8: size: 1B is not between 1KiB and 1GiB"),
        (
            "size = \"1MB\"",
            "f.toml:1:8: size: \"1MB\" is not a size; write a whole number with B, KiB, MiB, GiB or TiB",
        ),
        ("on = 1", "f.toml:1:6: on: expected true or false, found an integer"),
        ("api = \"v3\"", "f.toml:1:7: api: \"v3\" is not one of \"v1\", \"v2\""),
        ("list = \"a\"", "f.toml:1:8: list: expected an array, found a string"),
        ("list = [\"가\", 1]", "f.toml:1:14: list[1]: expected a string, found an integer"),
        ("inner = 1", "f.toml:1:9: inner: expected a table, found an integer"),
        (
            "workers = 0\n\n[inner]\n  number = 10\n",
            "f.toml:1:11: workers: 0 is not between 1 and 64\nf.toml:4:12: inner.number: 10 is not between 0 and 9",
        ),
    ] {
        assert_eq!(read(text), Err(lines.to_owned()), "{text}");
    }
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_place() {
    for (text, start) in [
        ("name = ", "f.toml:1:"),
        ("a = 1\na = 2", "f.toml:2:1:"),
        ("[inner\nnumber = 1", "f.toml:1:"),
        ("name = \"x\n", "f.toml:1:"),
    ] {
        let lines = read(text).expect_err(text);
        assert!(lines.lines().all(|line| line.starts_with("f.toml:")) && lines.starts_with(start), "{lines}");
    }
}

#[test]
fn a_problem_is_one_line_whatever_the_key() {
    let lines = read("name = \"x\"\n\"a\\n\\u0000b\" = 1").expect_err("an unknown key");
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.starts_with(r"f.toml:2:1: a\n\u{0}b: unknown key"), "{lines}");
}

#[test]
fn the_first_hundred_problems_are_listed() {
    for more in [0, 1, 900] {
        let unknown: String = (0..100 + more).map(|number| format!("k{number} = 1\n")).collect();
        let lines = read(&format!("name = \"x\"\n{unknown}")).expect_err("unknown keys");
        let last = lines.lines().last().unwrap_or_default();
        let told = if more > 0 {
            format!("f.toml: and {more} more like these")
        } else {
            "f.toml:101:1: k99: unknown key".to_owned()
        };
        assert!(last.starts_with(&told), "{last}");
        assert_eq!(lines.lines().count(), 100 + more.min(1));
    }
}

#[test]
fn warnings_are_no_reason_to_refuse() {
    let loaded = parse(Path::new("f.toml"), "name = \"x\"", |root| {
        root.warning("name", "is a strange name");
        root.value("name").is_some()
    })
    .expect("a good file");
    assert!(loaded.value);
    assert_eq!(loaded.warnings.to_string(), "f.toml:1:8: name: warning: is a strange name");
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("missing.toml");
    let problems = load(&path, example).expect_err("no such file").to_string();
    assert_eq!(problems, format!("{}: cannot be read: No such file or directory (os error 2)", path.display()));
    let problems = load(folder.path(), example).expect_err("a folder").to_string();
    assert!(problems.contains("cannot be read"), "{problems}");
    std::fs::write(&path, b"name = \"x\"\n\xff").expect("a file");
    let problems = load(&path, example).expect_err("not UTF-8").to_string();
    assert_eq!(problems, format!("{}: line 2 is not UTF-8 text", path.display()));
}
