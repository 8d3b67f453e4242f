//! A Debian with systemd as its first process, booted by systemd-nspawn: where packages are tried.
//!
//! Its files are an overlay in memory over a root that is kept between runs. It shares the host's network unless it
//! has one of its own, and it ends with its owner.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Pid;
use tempfile::TempDir;

use super::kept::kept;
use super::process::children;
use super::{Finished, Process};
use crate::wait::wait_until;

const MAKE_ROOT: &str = include_str!("../../machine/make-root");
/// Of the names of machines, and of what belongs to them.
const PREFIX: &str = "coinflow-machine-";
const SWEPT_AFTER: Duration = Duration::from_secs(600);
const BOOT: Duration = Duration::from_secs(60);
/// Most seconds of a command inside.
const COMMAND_SECONDS: &str = "180";

/// Mounts belong to a namespace of their own, and are gone with its last process.
const START: &str = r#"
    mount -t tmpfs -o mode=755 tmpfs "$1"
    mkdir "$1/upper" "$1/work" "$1/root"
    mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
    # What nspawn keeps for each machine would stay there when it is killed.
    mkdir -p /run/systemd/nspawn
    mount -t tmpfs -o mode=755 tmpfs /run/systemd/nspawn
    # Of its own, for machines in one would stop each other's units.
    echo 0 >"$4/cgroup.procs"
    root=$1/root name=$3
    shift 4
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec systemd-nspawn -q -D "$root" --machine="$name" --register=no --keep-unit \
        --resolv-conf=off "$@" --boot
"#;

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// 12, systemd 252.
    Bookworm,
    /// 13, systemd 257.
    Trixie,
}

impl Release {
    pub fn suite(self) -> &'static str {
        match self {
            Release::Bookworm => "bookworm",
            Release::Trixie => "trixie",
        }
    }

    pub fn systemd(self) -> u32 {
        match self {
            Release::Bookworm => 252,
            Release::Trixie => 257,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct MachineOptions {
    /// With PostgreSQL, Java and sudo installed.
    pub has_servers: bool,
    /// A loopback of its own, and nothing else.
    pub has_own_network: bool,
    /// Folders of the host, to be seen there as these; they cannot be written to.
    pub binds: Vec<(PathBuf, String)>,
}

/// A running machine. Dropping it ends it at once.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    /// The host's pid of its first process.
    leader: u32,
    _cgroup: Cgroup,
    _folder: TempDir,
}

impl Machine {
    /// Returns when systemd has started everything.
    pub fn boot(release: Release, options: &MachineOptions) -> Result<Machine, String> {
        let root = root(release, options.has_servers)?;
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir();
        let folder = folder.map_err(|error| format!("a temporary folder: {error}"))?;
        let (mount, log) = (folder.path().join("mount"), folder.path().join("console"));
        std::fs::create_dir(&mount).map_err(|error| format!("{}: {error}", mount.display()))?;
        let name = folder.path().file_name().unwrap_or_default();
        let cgroup = Cgroup::new(Path::new(name))?;
        let mut command = Command::new("unshare");
        // The pid namespace ends with its first process, and that one with this child, however it ends.
        command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-euc", START, "sh"]).arg(&mount).arg(&root).arg(name).arg(&cgroup.path);
        if options.has_own_network {
            command.arg("--private-network");
        }
        for (host, inside) in &options.binds {
            command.arg(format!("--bind-ro={}:{inside}", host.display()));
        }
        let process = Process::spawn("systemd-nspawn", &mut command, &log, &log)?;
        let mut machine = Machine { process, leader: 0, _cgroup: cgroup, _folder: folder };
        machine.wait_booted().map_err(|error| {
            let log = std::fs::read(&log).unwrap_or_default();
            format!("{error}; its console:\n{}", String::from_utf8_lossy(&log))
        })?;
        Ok(machine)
    }

    fn wait_booted(&mut self) -> Result<(), String> {
        wait_until(BOOT, "the machine to boot", || {
            if let Some(exit) = self.process.exited() {
                return Some(Err(format!("systemd-nspawn ended: {exit}")));
            }
            self.leader = leader(self.process.pid())?;
            let state = self.run("systemctl is-system-running").ok()?;
            ["running", "degraded"].contains(&state.stdout.trim()).then_some(Ok(()))
        })?
    }

    /// Runs a shell script inside, as root, to its end.
    pub fn run(&self, script: &str) -> Result<Finished, String> {
        self.run_with(script, b"")
    }

    /// The same, with a standard input.
    pub fn run_with(&self, script: &str, stdin: &[u8]) -> Result<Finished, String> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", COMMAND_SECONDS, "nsenter", "--all", "--target", &self.leader.to_string()]);
        command.args(["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]);
        command.args(["LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=cat", "SYSTEMD_COLORS=0"]);
        command.args(["sh", "-c", script]);
        let fail = |error: std::io::Error| format!("nsenter: {error}");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(fail)?;
        if let Some(mut pipe) = child.stdin.take() {
            // A script that does not read it may have ended.
            let _ = pipe.write_all(stdin);
        }
        let output = child.wait_with_output().map_err(fail)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Finished { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Runs a script that has to succeed; returns what it prints.
    pub fn ok(&self, script: &str) -> Result<String, String> {
        let Finished { status, stdout, stderr } = self.run(script)?;
        match status.success() {
            true => Ok(stdout),
            false => Err(format!("{script:?}: {status}\n{stdout}{stderr}")),
        }
    }

    /// Writes a file, in one step, and the folders that it needs.
    pub fn put(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), String> {
        let script = format!(
            "mkdir -p \"$(dirname {path})\" && cat >{path}.new && chmod {mode:o} {path}.new && mv {path}.new {path}"
        );
        let Finished { status, stderr, .. } = self.run_with(&script, bytes)?;
        if status.success() { Ok(()) } else { Err(format!("{path}: {status} {stderr}")) }
    }

    /// Puts a file of the host there.
    pub fn put_file(&self, host: &Path, path: &str, mode: u32) -> Result<(), String> {
        let bytes = std::fs::read(host).map_err(|error| format!("{}: {error}", host.display()))?;
        self.put(path, &bytes, mode)
    }

    /// A property of a unit, as `systemctl show` has it.
    pub fn property(&self, unit: &str, property: &str) -> Result<String, String> {
        let shown = self.ok(&format!("systemctl show --value --property={property} {unit}"))?;
        Ok(shown.trim().to_owned())
    }

    /// The main process of a unit, by its pid inside.
    pub fn main_pid(&self, unit: &str) -> Result<u32, String> {
        self.property(unit, "MainPID")?.parse().map_err(|error| format!("MainPID of {unit}: {error}"))
    }

    /// The host's pid of a process or thread inside.
    pub fn host_pid(&self, inside: u32) -> Result<u32, String> {
        let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let ours = namespace(self.leader);
        let is_it = |pid: &u32| pids_inside(*pid).last() == Some(&inside) && namespace(*pid) == ours;
        let entries = std::fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.into_iter().find(is_it).ok_or_else(|| format!("no process {inside} inside"))
    }

    /// Lines of the journal, by arguments of journalctl; only the messages.
    pub fn journal(&self, arguments: &str) -> Result<Vec<String>, String> {
        // Without entries it says so on stdout.
        let text = self.ok(&format!("journalctl --sync; journalctl --quiet --no-pager --output=cat {arguments}"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // There is nothing to shut down in order.
        let _ = self.process.kill9();
    }
}

/// A group of processes of cgroup v2, below this process's own; with its shadow in the older hierarchy of systemd, which
/// nspawn makes where there is one.
#[derive(Debug)]
struct Cgroup {
    path: PathBuf,
    shadow: Option<PathBuf>,
}

impl Cgroup {
    fn new(name: &Path) -> Result<Cgroup, String> {
        let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let (mounts, own) = (read("/proc/self/mounts")?, read("/proc/self/cgroup")?);
        let below = |kind: &str, option: &str, of: &str| {
            let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            let mount = mounts.find(|mount| {
                mount.get(2) == Some(&kind) && mount.get(3).is_some_and(|options| options.contains(option))
            });
            let own = own.lines().find_map(|line| line.split_once(of)).map_or("", |(_, path)| path);
            mount.map(|mount| Path::new(mount[1]).join(own.trim_start_matches('/')))
        };
        let parent = below("cgroup2", "", "0::").ok_or("no cgroup2 is mounted")?;
        sweep(&parent);
        let path = parent.join(name);
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Cgroup { path, shadow: below("cgroup", "name=systemd", "name=systemd:").map(|parent| parent.join(name)) })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last processes may be about to end.
        let _ = wait_until(Duration::from_secs(5), "an empty cgroup", || remove_group(&self.path).ok());
        if let Some(shadow) = &self.shadow {
            let _ = remove_group(shadow);
        }
    }
}

/// Fails as long as there are processes in it.
fn remove_group(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_group(&path)?;
        }
    }
    std::fs::remove_dir(folder)
}

/// Removes the groups of machines whose owner was killed. Those that run have processes, and stay; those that are about to
/// start are young.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let is_old = modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > SWEPT_AFTER);
        if is_old && entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = remove_group(&entry.path());
        }
    }
}

/// The kept root of a release.
fn root(release: Release, has_servers: bool) -> Result<PathBuf, String> {
    let suite = release.suite();
    let base = kept(&format!("debian-{suite}"), MAKE_ROOT, |folder| make_root(suite, folder, None))?;
    if !has_servers {
        return Ok(base);
    }
    kept(&format!("debian-{suite}-servers"), MAKE_ROOT, |folder| make_root(suite, folder, Some(&base)))
}

fn make_root(suite: &str, folder: &Path, base: Option<&Path>) -> Result<(), String> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", MAKE_ROOT, "make-root", suite]).arg(folder);
    command.args(base).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(30)..].join("\n");
    Err(format!(
        "a root of {suite} cannot be made (packages debootstrap and systemd-container): {}\n{tail}",
        output.status
    ))
}

/// The first process of the machine, by those above it: unshare, then systemd-nspawn, then it. Before it is there, mount
/// and the like are in its place, and they see the host's files.
fn leader(unshare: u32) -> Option<u32> {
    let pid = |pid: &Pid| u32::try_from(pid.as_raw_nonzero().get()).ok();
    let nspawn = pid(children(unshare).first()?)?;
    let levels = pids_inside(nspawn).len();
    let is_first = |pid: &u32| {
        let pids = pids_inside(*pid);
        pids.len() > levels && pids.last() == Some(&1)
    };
    children(nspawn).iter().filter_map(pid).find(is_first)
}

/// The pids of a process in each of the pid namespaces that it is in, from ours inwards.
fn pids_inside(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
