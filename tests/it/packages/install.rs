//! From `apt install` on a minimal Debian to purge, and back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use coinflow_tests::servers::{Machine, MachineOptions, Release};
use coinflow_tests::wait::wait_until;

use super::{CONSUMER, PRODUCER, Working, beside_others, deb, install, on_each_release};
use crate::rig::SOON;

on_each_release!(
    a_fresh_machine_runs_both_daemons_without_any_server,
    upgrade_downgrade_remove_purge,
    an_upgrade_under_load_loses_and_doubles_nothing,
);

const UNITS: [&str; 2] = [PRODUCER, CONSUMER];

fn status(machine: &Machine, unit: &str) -> String {
    machine.property(unit, "StatusText").expect("STATUS")
}

fn a_fresh_machine_runs_both_daemons_without_any_server(release: Release) {
    let _turn = beside_others();
    // Without a network: apt finds all that the packages depend on, and nothing is ever reached.
    let options = MachineOptions { has_own_network: true, ..MachineOptions::default() };
    let machine = Machine::boot(release, &options).expect("a machine");
    install(&machine);
    let systemd = machine.ok("systemctl --version").expect("a version");
    assert!(systemd.starts_with(&format!("systemd {}", release.systemd())), "{systemd}");
    for unit in UNITS {
        let states = machine.ok(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}")).expect("states");
        assert_eq!(states, "enabled\nactive\n", "{unit}");
    }
    // The short names are the same units.
    for (alias, unit) in [("producerd", PRODUCER), ("consumerd", CONSUMER)] {
        assert_eq!(machine.property(alias, "Id").expect("a name"), format!("{unit}.service"));
    }
    // What each waits for is told, and nothing fails or flaps.
    let says = |unit: &str, words: &[&str]| {
        let said = || words.iter().all(|word| status(&machine, unit).contains(word)).then_some(());
        wait_until(SOON, &format!("{words:?} in STATUS of {unit}"), said)
            .unwrap_or_else(|error| panic!("{error}: {}", status(&machine, unit)));
    };
    says(PRODUCER, &["watches nothing: add symbols to /etc/coinflow/symbols.toml"]);
    says(CONSUMER, &["Kafka down since", "PostgreSQL down since"]);
    std::thread::sleep(Duration::from_secs(8));
    for unit in UNITS {
        assert_eq!(machine.property(unit, "NRestarts").expect("a number"), "0");
        assert_eq!(machine.journal(&format!("-u {unit} -p err")).expect("lines"), [""; 0], "{unit}");
    }
    assert_eq!(machine.ok("systemctl --failed --quiet --no-legend").expect("units"), "");

    // Hardened, and as systemd wants it.
    for unit in UNITS {
        let path = format!("/usr/lib/systemd/system/{unit}.service");
        machine.ok(&format!("systemd-analyze verify --man=no {path}")).expect("a good unit");
        let security =
            machine.ok(&format!("systemd-analyze security --offline=true --threshold=12 {path}")).expect("at most 1.2");
        show!("{}", security.lines().last().unwrap_or_default());
    }
    let user = machine.ok("getent passwd coinflow").expect("the user");
    assert!(user.ends_with(":/usr/sbin/nologin\n"), "{user}");
    for file in ["producerd.toml", "symbols.toml", "consumerd.toml"] {
        let mode = machine.ok(&format!("stat -c '%a %U:%G' /etc/coinflow/{file}")).expect("a file");
        assert_eq!(mode, "644 root:root\n", "{file}");
    }

    // Only the C library and what Depends names; what these need in turn is their own affair.
    for (package, program) in [(PRODUCER, "producerd"), (CONSUMER, "consumerd")] {
        let depends = machine.ok(&format!("dpkg-query -W -f='${{Depends}}' {package}")).expect("Depends");
        // Its postinst calls systemd-sysusers.
        assert!(depends.split(", ").any(|depend| depend == "systemd"), "{depends}");
        for library in needed(package, program) {
            let owner = machine
                .ok(&format!("dpkg -S '*/{library}' | sed -n '/^diversion/!s/:.*//p' | sort -u"))
                .expect("an owner");
            // Debian 13 has given the package another name, and lets it stand for the old one.
            let owner = owner.trim().trim_end_matches("t64");
            let name = |depend: &str| depend.split(' ').next().unwrap_or_default().trim_end_matches("t64").to_owned();
            let is_named = depends.split(", ").any(|depend| name(depend) == owner);
            assert!(is_named || ["libc6", "libgcc-s1"].contains(&owner), "{library} is of {owner}; Depends: {depends}");
        }
        machine.ok(&format!("/usr/bin/{program} --version")).expect("it runs");
    }
}

/// The libraries that a program is linked with.
fn needed(package: &str, program: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(deb(package)).arg(folder.path()).status().expect("dpkg-deb");
    assert!(unpacked.success());
    let output = Command::new("objdump").arg("-p").arg(folder.path().join("usr/bin").join(program)).output();
    let text = String::from_utf8(output.expect("objdump").stdout).expect("UTF-8");
    let needed: Vec<String> =
        text.lines().filter_map(|line| Some(line.trim().strip_prefix("NEEDED")?.trim().to_owned())).collect();
    assert!(needed.iter().any(|library| library.starts_with("libc.so")), "{text}");
    needed
}

/// The package under another version, with one more line at the end of a conffile.
fn repacked(package: &str, version: &str, conffile: &str, line: &str, folder: &Path) -> PathBuf {
    let (tree, built) = (folder.join("tree"), folder.join(format!("{package}_{version}_amd64.deb")));
    let run = |arguments: &[&str]| {
        let output = Command::new("dpkg-deb").args(arguments).output().expect("dpkg-deb");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let _ = std::fs::remove_dir_all(&tree);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    run(&["--raw-extract", &text(&deb(package)), &text(&tree)]);
    let control = tree.join("DEBIAN/control");
    let fields = std::fs::read_to_string(&control).expect("control");
    let field =
        |line: &str| if line.starts_with("Version: ") { format!("Version: {version}") } else { line.to_owned() };
    let fields: String = fields.lines().map(|line| field(line) + "\n").collect();
    std::fs::write(&control, fields).expect("control");
    let conffile = tree.join(conffile);
    let shipped = std::fs::read_to_string(&conffile).expect("a conffile");
    std::fs::write(&conffile, format!("{shipped}{line}\n")).expect("a conffile");
    run(&["--root-owner-group", "--build", &text(&tree), &text(&built)]);
    built
}

fn upgrade_downgrade_remove_purge(release: Release) {
    let _turn = beside_others();
    let machine = Machine::boot(release, &MachineOptions::default()).expect("a machine");
    let folder = tempfile::tempdir().expect("a folder");
    let put = |deb: &Path, name: &str| machine.put_file(deb, &format!("/root/{name}"), 0o644).expect("a package");
    // An older build, whose files had other defaults.
    put(&repacked(PRODUCER, "0.0.9-1", "etc/coinflow/symbols.toml", "# an older remark", folder.path()), "old-p.deb");
    put(&repacked(CONSUMER, "0.0.9-1", "etc/coinflow/consumerd.toml", "# an older remark", folder.path()), "old-c.deb");
    put(&deb(PRODUCER), "new-p.deb");
    put(&deb(CONSUMER), "new-c.deb");
    let apt = "apt-get -qq --allow-downgrades -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold";
    let ok = |script: &str| machine.ok(script).unwrap_or_else(|error| panic!("{error}"));
    ok(&format!("{apt} install --yes /root/old-p.deb /root/old-c.deb"));
    ok("echo '# edited by the operator' >>/etc/coinflow/symbols.toml");
    ok("echo '[log]' >>/etc/coinflow/consumerd.toml; echo 'level = \"debug\"' >>/etc/coinflow/consumerd.toml");
    ok(&format!("systemctl restart {CONSUMER}"));
    let edited = ok("cat /etc/coinflow/symbols.toml /etc/coinflow/consumerd.toml");
    let starts = |unit: &str| {
        let lines = machine.journal(&format!("-u {unit}")).expect("lines");
        lines.iter().filter(|line| line.contains(" starts ")).count()
    };
    let pids = || UNITS.map(|unit| machine.main_pid(unit).expect("a pid"));
    let wait_active = || {
        for unit in UNITS {
            let active = || (machine.property(unit, "ActiveState").ok()? == "active").then_some(());
            wait_until(SOON, &format!("{unit} to be active"), active).expect("active");
        }
    };
    wait_active();
    for (files, version) in [("new", env!("CARGO_PKG_VERSION")), ("old", "0.0.9"), ("new", env!("CARGO_PKG_VERSION"))] {
        let (before, starts_before) = (pids(), UNITS.map(starts));
        ok(&format!("{apt} install --yes /root/{files}-p.deb /root/{files}-c.deb"));
        wait_active();
        for unit in UNITS {
            let installed = ok(&format!("dpkg-query -W -f='${{Version}}' {unit}"));
            assert_eq!(installed, format!("{version}-1"));
        }
        let after = pids();
        for (index, unit) in UNITS.into_iter().enumerate() {
            assert_ne!(after[index], before[index], "{unit} runs the new program");
            assert_eq!(starts(unit), starts_before[index] + 1, "{unit} is restarted once");
            assert_eq!(machine.property(unit, "NRestarts").expect("a number"), "0");
        }
        assert_eq!(ok("cat /etc/coinflow/symbols.toml /etc/coinflow/consumerd.toml"), edited, "the edits stay");
    }
    // A unit that the operator has turned off stays off.
    ok(&format!("systemctl disable --now {PRODUCER}"));
    ok(&format!("{apt} install --yes /root/old-p.deb"));
    assert_eq!(machine.run(&format!("systemctl is-enabled {PRODUCER}")).expect("a state").stdout, "disabled\n");

    ok(&format!("{apt} remove --yes {PRODUCER} {CONSUMER}"));
    for unit in UNITS {
        assert_eq!(machine.property(unit, "ActiveState").expect("a state"), "inactive");
    }
    assert_eq!(ok("cat /etc/coinflow/symbols.toml /etc/coinflow/consumerd.toml"), edited, "remove keeps the files");
    assert_eq!(ok("ls -d /var/lib/coinflow-producerd"), "/var/lib/coinflow-producerd\n", "and the spool");
    ok(&format!("{apt} purge --yes {PRODUCER} {CONSUMER}"));
    let left =
        ok("ls -d /etc/coinflow /var/lib/coinflow-producerd /usr/bin/producerd /usr/bin/consumerd 2>/dev/null; true");
    assert_eq!(left, "");
    ok("getent passwd coinflow");
    let units = ok(
        "find /etc/systemd /usr/lib/systemd /var/lib/systemd -name '*coinflow*' -o -name 'producerd*' -o -name 'consumerd*'",
    );
    assert_eq!(units, "", "no link and no state is left");

    ok(&format!("{apt} install --yes /root/new-p.deb /root/new-c.deb"));
    wait_active();
    assert!(ok("cat /etc/coinflow/symbols.toml").contains("#symbols = []"));
}

fn an_upgrade_under_load_loses_and_doubles_nothing(release: Release) {
    let _turn = beside_others();
    let working = Working::new(release);
    working.watch("200ms", &["BTC", "ETH", "XRP", "SOL", "DOGE"]);
    working.wait_rows(50);
    let folder = tempfile::tempdir().expect("a folder");
    for (package, conffile) in [(PRODUCER, "etc/coinflow/symbols.toml"), (CONSUMER, "etc/coinflow/consumerd.toml")] {
        let newer = repacked(package, "0.1.99-1", conffile, "# a newer remark", folder.path());
        working.machine.put_file(&newer, &format!("/root/{package}.deb"), 0o644).expect("a package");
    }
    working.ok("apt-get -qq -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install --yes /root/coinflow-*.deb");
    working.wait_rows(50);
    working.ok(&format!("systemctl stop {PRODUCER}"));
    working.rig.settle();
    let runs = "SELECT count(DISTINCT producer_run) FROM coinflow.orderbook";
    assert_eq!(working.rig.number(runs), Some(2), "one run before the upgrade, and one behind it");
    let holes = "SELECT coalesce(sum(missing), 0)::bigint FROM (SELECT max(producer_sequence) - count(*) AS missing \
                   FROM coinflow.orderbook GROUP BY market, producer_run) AS runs";
    assert_eq!(working.rig.number(holes), Some(0));
}
