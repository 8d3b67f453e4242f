//! The packages as files: what lintian says, their size, the same bytes again, and what they ship as documents.

use std::path::Path;
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

use super::{CONSUMER, PRODUCER, alone, beside_others, deb, repository};

const BYTES_MAX: u64 = 3 << 20;

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

#[test]
fn lintian_has_nothing_to_say() {
    let _turn = beside_others();
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--suppress-tags", "initial-upload-closes-no-bugs", "--fail-on", "error,warning"]);
    let said = output(lintian.arg(deb(PRODUCER)).arg(deb(CONSUMER)));
    assert!(!said.lines().any(|line| line.starts_with("E:") || line.starts_with("W:")), "{said}");
}

#[test]
fn they_are_small_and_hold_what_an_operator_looks_for() {
    let _turn = beside_others();
    for (package, program, pages, examples) in [
        (
            PRODUCER,
            "producerd",
            &["man8/producerd.8", "man5/producerd.toml.5", "man5/symbols.toml.5"][..],
            &["akhq/application.yml", "kafka/kafka.service", "kafka/server.properties"][..],
        ),
        (CONSUMER, "consumerd", &["man8/consumerd.8", "man5/consumerd.toml.5"], &["postgresql/role-and-database.sql"]),
    ] {
        let bytes = std::fs::metadata(deb(package)).expect("a package").len();
        show!("{package}: {bytes} bytes");
        assert!(bytes <= BYTES_MAX, "{package}: {bytes} bytes");
        let contents = output(Command::new("dpkg-deb").arg("--contents").arg(deb(package)));
        let mut files = vec![
            format!("/usr/bin/{program}"),
            format!("/usr/lib/systemd/system/{package}.service"),
            format!("/usr/lib/sysusers.d/{package}.conf"),
            format!("/usr/share/bash-completion/completions/{program}"),
            format!("/usr/share/zsh/vendor-completions/_{program}"),
            format!("/usr/share/fish/vendor_completions.d/{program}.fish"),
            format!("/usr/share/doc/{package}/copyright"),
            format!("/usr/share/doc/{package}/changelog.Debian.gz"),
            format!("/usr/share/doc/{package}/examples/systemd/{program}-credentials.conf"),
            format!("/usr/share/doc/{package}/examples/systemd/{program}-second.conf"),
        ];
        files.extend(pages.iter().map(|page| format!("/usr/share/man/{page}.gz")));
        files.extend(examples.iter().map(|file| format!("/usr/share/doc/{package}/examples/{file}")));
        for file in files {
            assert!(contents.lines().any(|line| line.ends_with(&format!(".{file}"))), "{package} has no {file}");
        }
        let suggests = output(Command::new("dpkg-deb").arg("--field").arg(deb(package)).arg("Suggests"));
        assert!(suggests.contains("coinflow-"), "{suggests}");
    }
}

/// The tree elsewhere, with a target folder of its own: neither paths nor the clock get into the packages.
#[test]
fn the_same_input_gives_the_same_bytes() {
    // It takes every core.
    let _turn = alone();
    let folder = tempfile::Builder::new().prefix("again-").tempdir_in(repository().join("target")).expect("a folder");
    let tree = folder.path().join("another/place");
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let list = output(Command::new("git").args(list).current_dir(repository()));
    for name in list.split('\0').filter(|name| !name.is_empty()) {
        let name = Path::new(name);
        // One that is deleted and not yet committed is still listed.
        if repository().join(name).is_file() {
            let to = tree.join(name);
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            std::fs::copy(repository().join(name), to).expect("a copy");
        }
    }
    let epoch = output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(repository()));
    output(Command::new(tree.join("packaging/build")).env("SOURCE_DATE_EPOCH", epoch.trim()));
    for package in [PRODUCER, CONSUMER] {
        let first = deb(package);
        let again = tree.join("target/debian").join(first.file_name().expect("a name"));
        let read = |path: &Path| std::fs::read(path).expect("a package");
        assert!(read(&first) == read(&again), "{package} differs: diffoscope {} {}", first.display(), again.display());
    }
}

fn text<'a>(yaml: &'a Yaml, path: &[&str]) -> &'a str {
    let value = path.iter().fold(yaml, |yaml, key| &yaml[*key]);
    value.as_str().unwrap_or_else(|| panic!("no {path:?}"))
}

#[test]
fn the_example_for_akhq_fits_the_defaults() {
    let path = repository().join("packaging/examples/akhq/application.yml");
    let yaml = YamlLoader::load_from_str(&std::fs::read_to_string(path).expect("the example")).expect("YAML");
    let yaml = &yaml[0];
    // Without security every visitor may do everything.
    assert_eq!(yaml["micronaut"]["security"]["enabled"].as_bool(), Some(true));
    let reader = text(yaml, &["akhq", "security", "default-group"]);
    let role = &yaml["akhq"]["security"]["groups"][reader][0];
    let rights = yaml["akhq"]["security"]["roles"][text(role, &["role"])].as_vec().expect("rights");
    let actions: Vec<&str> =
        rights.iter().flat_map(|right| right["actions"].as_vec().expect("actions")).filter_map(Yaml::as_str).collect();
    assert!(actions.iter().all(|action| ["READ", "READ_CONFIG"].contains(action)), "{actions:?}");
    let cluster = role["clusters"][0].as_str().expect("a cluster");
    // A regular expression for whole names, of topics and groups alike.
    let pattern = role["patterns"][0].as_str().and_then(|pattern| pattern.strip_suffix(".*")).expect("a pattern");

    let etc = |file: &str| std::fs::read_to_string(repository().join("etc").join(file)).expect("a shipped file");
    let server = text(yaml, &["akhq", "connections", cluster, "properties", "bootstrap.servers"]);
    for file in ["producerd.toml", "consumerd.toml"] {
        assert!(etc(file).contains(&format!("#brokers = [\"{server}\"]")), "{file}");
    }
    let consumerd = etc("consumerd.toml");
    let names = consumerd.lines().filter(|line| line.starts_with("#group = ") || line.starts_with("#topics = "));
    let names: Vec<&str> = names.flat_map(|line| line.split('"').skip(1).step_by(2)).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with(pattern)), "{names:?}");
}
