//! A process in a group of its own that does not outlive its owner.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait::wait_until;

const STOP: Duration = Duration::from_secs(15);
const KILL: Duration = Duration::from_secs(10);

/// A running child. Dropping it stops it: SIGTERM, and SIGKILL to its group when that does not help in time.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    guard: Guard,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with both outputs appended to files, which may be the same one.
    pub fn spawn(name: &str, command: &mut Command, stdout: &Path, stderr: &Path) -> Result<Process, String> {
        let append = |path: &Path| {
            File::options().create(true).append(true).open(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        command.stdin(Stdio::null()).stdout(append(stdout)?).stderr(append(stderr)?).process_group(0);
        let child =
            command.spawn().map_err(|error| format!("{name}: cannot start {:?}: {error}", command.get_program()))?;
        let guard = Guard::new(child.id())?;
        Ok(Process { name: name.to_owned(), child, guard, exit: None })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn target(&self) -> Result<Pid, String> {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| format!("{} has no usable pid", self.name))
    }

    /// To the process alone, not to its children.
    pub fn signal(&mut self, signal: Signal) -> Result<(), String> {
        if self.exited().is_some() {
            return Err(format!("{} has ended", self.name));
        }
        kill_process(self.target()?, signal).map_err(|error| format!("{}: {signal:?}: {error}", self.name))
    }

    /// To the process and its children.
    pub fn signal_group(&mut self, signal: Signal) -> Result<(), String> {
        if self.exited().is_some() {
            return Err(format!("{} has ended", self.name));
        }
        kill_process_group(self.target()?, signal).map_err(|error| format!("{}: {signal:?}: {error}", self.name))
    }

    /// The exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().ok().flatten();
        }
        self.exit
    }

    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus, String> {
        let what = format!("{} (pid {}) to end", self.name, self.pid());
        wait_until(timeout, &what, || self.exited())
    }

    /// SIGTERM, and SIGKILL when it has not ended in `timeout`; the error tells that.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus, String> {
        if let Some(exit) = self.exited() {
            return Ok(exit);
        }
        self.signal(Signal::TERM)?;
        // If it was stopped by SIGSTOP, it has to run to see SIGTERM.
        self.signal_group(Signal::CONT).or_else(|error| if self.exited().is_some() { Ok(()) } else { Err(error) })?;
        self.wait_exit(timeout).or_else(|error| {
            self.kill9()?;
            Err(format!("{error}; killed it"))
        })
    }

    /// SIGKILL to the whole group.
    pub fn kill9(&mut self) -> Result<ExitStatus, String> {
        if let Some(exit) = self.exited() {
            return Ok(exit);
        }
        self.signal_group(Signal::KILL)?;
        self.wait_exit(KILL)
    }

    /// Leaves it running, for good.
    pub fn leave(mut self) {
        self.guard.release();
        // Neither stopped nor waited for: `Child` does nothing when dropped.
        self.exit = Some(ExitStatus::default());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What cannot be stopped now, the guard kills.
        if self.stop(STOP).is_ok() {
            self.guard.release();
        }
    }
}

/// Kills the group when this process is gone, however it went: a shell that waits for the end of its standard input.
#[derive(Debug)]
struct Guard {
    shell: Child,
}

impl Guard {
    fn new(group: u32) -> Result<Guard, String> {
        let shell = Command::new("sh")
            .args(["-c", r#"read -r released || kill -KILL -- "-$1""#, "sh", &group.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Ok(Guard { shell: shell.map_err(|error| format!("cannot start sh: {error}"))? })
    }

    fn release(&mut self) {
        if let Some(mut stdin) = self.shell.stdin.take() {
            // Fails only when the shell has ended, and then there is nothing to release.
            let _ = stdin.write_all(b"released\n");
        }
        let _ = self.shell.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closes its standard input, which is the sign, unless it was released.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// The children of a process.
pub(super) fn children(parent: u32) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let has_parent = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // pid (name) state ppid …; the name may hold anything, a closing bracket among it.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1).is_some_and(|ppid| ppid == parent.to_string())
    };
    processes.filter(has_parent).filter_map(Pid::from_raw).collect()
}
