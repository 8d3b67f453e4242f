//! Rules of the repository itself.

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The packages that a package of the workspace is built with.
fn dependencies(package: &str, features: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--edges", "normal", "-p", package])
        .args(features)
        .current_dir(root())
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn common_knows_no_kafka_no_postgresql_and_no_http() {
    let tree = dependencies("coinflow-common", &["--no-default-features"]);
    for package in ["rdkafka", "postgres", "ureq"] {
        assert!(!tree.lines().any(|line| line.starts_with(package)), "{package}\n{tree}");
    }
    let producerd = dependencies("coinflow-producerd", &[]);
    assert!(!producerd.lines().any(|line| line.starts_with("postgres")), "{producerd}");
    let consumerd = dependencies("coinflow-consumerd", &[]);
    assert!(!consumerd.lines().any(|line| line.starts_with("ureq")), "{consumerd}");
}

#[test]
fn prices_never_pass_through_a_float() {
    for folder in ["common/src", "producerd/src", "consumerd/src"] {
        for file in files(&root().join(folder)) {
            let text = std::fs::read_to_string(&file).expect("source text");
            for line in text.lines().filter(|line| line.contains("f64") || line.contains("f32")) {
                let about_values =
                    ["price", "quantity", "level", "Decimal", "size:"].iter().any(|word| line.contains(word));
                assert!(!about_values, "{}: {line}", file.display());
            }
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
