//! CPU time and memory of processes and threads.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, sysconf};

/// User and system time of one kind of `getrusage`.
fn usage(who: UsageWho) -> Duration {
    let Ok(usage) = getrusage(who) else { return Duration::ZERO };
    let of = |value: nix::sys::time::TimeVal| {
        Duration::from_micros((value.tv_sec() * 1_000_000 + value.tv_usec()).unsigned_abs())
    };
    of(usage.user_time()) + of(usage.system_time())
}

/// Of this thread.
pub(super) fn of_thread() -> Duration {
    usage(UsageWho::RUSAGE_THREAD)
}

/// Of all children that have ended and were waited for.
pub(super) fn of_children() -> Duration {
    usage(UsageWho::RUSAGE_CHILDREN)
}

/// Of a running process, with all its threads.
pub(super) fn of_process(pid: u32) -> Result<Duration, String> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // The name in brackets may contain anything.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    let [user, system] = fields[..] else { return Err(format!("{path}: {stat:?}")) };
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).unsigned_abs();
    Ok(Duration::from_secs_f64((user + system) as f64 / per_second as f64))
}

/// The most memory that a running process has ever had resident, in MB.
pub(super) fn peak_mb(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0 / 1e6).ok_or_else(|| format!("no VmHWM in {path}"))
}
