//! The Debian packages, installed in booted machines. `packaging/build` makes them first.

mod credentials;
mod failures;
mod faults;
mod files;
mod install;
mod instances;
mod journal;
mod names;
mod readme;
mod reload;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use coinflow_tests::servers::{Machine, MachineOptions, Release};
use coinflow_tests::wait::wait_until;

use crate::rig::{LATER, Rig, SOON};

pub(crate) const PRODUCER: &str = "coinflow-producerd";
pub(crate) const CONSUMER: &str = "coinflow-consumerd";

/// Makes a test of each function for each release: `bookworm::NAME` and `trixie::NAME`.
macro_rules! on_each_release {
    ($($test:ident),+ $(,)?) => {
        mod bookworm {
            $(#[test] fn $test() { crate::packages::on(coinflow_tests::servers::Release::Bookworm, super::$test); })+
        }
        mod trixie {
            $(#[test] fn $test() { crate::packages::on(coinflow_tests::servers::Release::Trixie, super::$test); })+
        }
    };
}
pub(crate) use on_each_release;

/// Packages run on the release that they were built on, and on later ones.
pub(crate) fn on(release: Release, test: fn(Release)) {
    let depends = Command::new("dpkg-deb").arg("--field").arg(deb(CONSUMER)).arg("Depends").output().expect("dpkg-deb");
    if release == Release::Bookworm && String::from_utf8_lossy(&depends.stdout).contains("t64") {
        // Past the test harness, which would keep it to itself.
        let note = b"Debian 12 is NOT tested: these packages were built on a later release\n";
        let _ = std::io::stderr().write_all(note);
        return;
    }
    test(release);
}

pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The package as `packaging/build` has made it.
pub(crate) fn deb(package: &str) -> PathBuf {
    let path = repository().join(format!("target/debian/{package}_{}-1_amd64.deb", env!("CARGO_PKG_VERSION")));
    assert!(path.is_file(), "{} is missing; build it: packaging/build", path.display());
    path
}

/// Holds up nobody, and is held up by [`alone`].
static TURNS: RwLock<()> = RwLock::new(());

/// Measures time: while the guard lives, no other of these tests runs.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    TURNS.write().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    TURNS.read().unwrap_or_else(PoisonError::into_inner)
}

/// A machine with both packages installed, as they come.
pub(crate) fn installed(release: Release) -> Machine {
    let machine = Machine::boot(release, &MachineOptions::default()).expect("a machine");
    install(&machine);
    machine
}

pub(crate) fn install(machine: &Machine) {
    for package in [PRODUCER, CONSUMER] {
        machine.put_file(&deb(package), &format!("/root/{package}.deb"), 0o644).expect("a package");
    }
    machine.ok("apt-get -qq install --yes /root/coinflow-*.deb").expect("installed");
}

/// A machine with both packages at work: Kafka, PostgreSQL and the exchange are on the host.
pub(crate) struct Working {
    pub(crate) machine: Machine,
    /// Its own daemons do not run.
    pub(crate) rig: Rig,
}

impl Working {
    pub(crate) fn new(release: Release) -> Working {
        Working::with(release, Rig::new())
    }

    pub(crate) fn with(release: Release, rig: Rig) -> Working {
        let working = Working { machine: installed(release), rig };
        working.configure("", "");
        working.ok(&format!("systemctl restart {PRODUCER} {CONSUMER}"));
        working
    }

    /// Writes both files; further lines of the tables `[exchange.bithumb]` and `[source.main]`, and tables behind them.
    pub(crate) fn configure(&self, bithumb: &str, source: &str) {
        let (brokers, exchange) = (self.rig.kafka.bootstrap(), self.rig.exchange.base_url());
        let producerd =
            format!("[kafka]\nbrokers = [\"{brokers}\"]\n[exchange.bithumb]\nbase_url = \"{exchange}\"\n{bithumb}\n");
        let connection = self.rig.postgres.connection_tcp();
        let consumerd = format!(
            "[postgres]\nconnection = \"{connection}\"\ntls = \"off\"\n[source.main]\nbrokers = [\"{brokers}\"]\n{source}\n"
        );
        self.put("/etc/coinflow/producerd.toml", &producerd);
        self.put("/etc/coinflow/consumerd.toml", &consumerd);
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        self.machine.put(path, text.as_bytes(), 0o644).expect("a file");
    }

    /// Writes symbols.toml and reloads.
    pub(crate) fn watch(&self, interval: &str, symbols: &[&str]) {
        self.put("/etc/coinflow/symbols.toml", &symbols_file(interval, symbols));
        self.ok("systemctl reload producerd");
    }

    pub(crate) fn ok(&self, script: &str) -> String {
        self.machine.ok(script).unwrap_or_else(|error| panic!("{error}\n{}", self.logs()))
    }

    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        self.machine.property(unit, property).expect("a property")
    }

    pub(crate) fn journal(&self, arguments: &str) -> Vec<String> {
        self.machine.journal(arguments).expect("the journal")
    }

    pub(crate) fn wait_journal(&self, arguments: &str, text: &str) -> String {
        let line = || self.journal(arguments).into_iter().find(|line| line.contains(text));
        wait_until(LATER, &format!("{text:?} in the journal"), line).unwrap_or_else(|error| {
            panic!("{error}\n{}", self.logs());
        })
    }

    pub(crate) fn wait_property(&self, unit: &str, property: &str, is_right: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let waited = wait_until(LATER, &format!("{property} of {unit}"), || {
            last = self.property(unit, property);
            is_right(&last).then(|| last.clone())
        });
        waited.unwrap_or_else(|error| panic!("{error}; it is {last:?}\n{}", self.logs()))
    }

    /// Waits until the unit is up again with another main process than this one.
    pub(crate) fn wait_restarted(&self, unit: &str, before: u32) -> u32 {
        let another = |pid: &str| pid != "0" && pid != before.to_string();
        let pid = self.wait_property(unit, "MainPID", another);
        self.wait_property(unit, "ActiveState", |state| state == "active");
        pid.parse().expect("a pid")
    }

    pub(crate) fn wait_rows(&self, more: i64) {
        let enough = self.rig.rows() + more;
        let waited = wait_until(SOON, &format!("{enough} rows"), || (self.rig.rows() >= enough).then_some(()));
        waited.unwrap_or_else(|error| panic!("{error}; there are {}\n{}", self.rig.rows(), self.logs()));
    }

    /// The last lines of both journals, for a failed assertion.
    pub(crate) fn logs(&self) -> String {
        let tail = |unit: &str| {
            let shown = self.machine.run(&format!("journalctl --no-pager -n 40 -u {unit}"));
            shown.map_or_else(|error| error, |finished| finished.stdout)
        };
        format!("--- {PRODUCER}\n{}--- {CONSUMER}\n{}", tail(PRODUCER), tail(CONSUMER))
    }
}

/// The commands in the remarks of a shipped example: lines that are indented behind their `#`, before the first that is
/// no remark. They are run in the folder of the example.
pub(crate) fn example_commands(package: &str, file: &str) -> String {
    let path = repository().join("packaging/examples").join(file);
    let text = std::fs::read_to_string(&path).expect("an example");
    let remarks = text.lines().map_while(|line| line.strip_prefix('#'));
    let commands: Vec<&str> =
        remarks.filter_map(|line| line.strip_prefix("   ")).filter(|line| !line.starts_with(' ')).collect();
    assert!(!commands.is_empty(), "{file} has no commands");
    let folder = Path::new(file).parent().and_then(Path::to_str).unwrap_or_default();
    format!("set -e; cd /usr/share/doc/{package}/examples/{folder}\n{}", commands.join("\n"))
}

pub(crate) fn symbols_file(interval: &str, symbols: &[&str]) -> String {
    let symbols: Vec<_> = symbols.iter().map(|symbol| format!("{symbol:?}")).collect();
    format!("interval = \"{interval}\"\n[bithumb]\nsymbols = [{}]\n", symbols.join(", "))
}
