//! Daemons that are killed, stopped, hang or panic under systemd.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coinflow_tests::exchange::api::{Fault, FaultRule, Target};
use coinflow_tests::servers::{Release, StopMode};
use coinflow_tests::wait::wait_until;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::{CONSUMER, PRODUCER, Working, beside_others, on_each_release};
use crate::rig::{GROUP, LATER, TOPIC};

on_each_release!(
    killed_they_come_back_and_nothing_is_lost_or_doubled,
    stopped_while_busy,
    a_worker_that_hangs_is_ended_by_the_watchdog,
    a_panic_is_an_error_in_the_journal_and_a_restart,
);

const SYMBOLS: [&str; 10] = ["BTC", "ETH", "XRP", "SOL", "DOGE", "ADA", "BTC-ETH", "NFT", "BCH", "LINK"];

/// 50 polls a second.
fn busy(working: &Working) {
    working.watch("200ms", &SYMBOLS);
    working.wait_rows(50);
}

fn killed_they_come_back_and_nothing_is_lost_or_doubled(release: Release) {
    let _turn = beside_others();
    let working = Working::new(release);
    busy(&working);
    for unit in [PRODUCER, CONSUMER, PRODUCER] {
        let (restarts, pid) = (working.property(unit, "NRestarts"), working.machine.main_pid(unit).expect("a pid"));
        let killed = Instant::now();
        working.ok(&format!("kill -KILL {pid}"));
        working.wait_restarted(unit, pid);
        let after = killed.elapsed();
        let expected = Duration::from_secs(5)..Duration::from_secs(15);
        assert!(expected.contains(&after), "{unit} restarts after 5 s, not {after:?}");
        assert_ne!(working.property(unit, "NRestarts"), restarts);
        working.wait_rows(50);
    }
    working.ok(&format!("systemctl stop {PRODUCER}"));
    let records = working.rig.settle();
    // What the exchange has served is in Kafka, but for what was on its way when producerd was killed.
    let runs = working.rig.number("SELECT count(DISTINCT producer_run) FROM coinflow.orderbook");
    assert_eq!(runs, Some(3));
    let holes = "SELECT coalesce(sum(missing), 0)::bigint FROM (SELECT max(producer_sequence) - count(*) AS missing \
                   FROM coinflow.orderbook GROUP BY market, producer_run) AS runs";
    assert_eq!(working.rig.number(holes), Some(0), "of {records}");
}

fn stopped_while_busy(release: Release) {
    let _turn = beside_others();
    let mut working = Working::new(release);
    busy(&working);
    let stop = |working: &Working, unit: &str| {
        let began = Instant::now();
        working.ok(&format!("systemctl stop {unit}"));
        let took = began.elapsed();
        let [result, code] = ["Result", "ExecMainStatus"].map(|name| working.property(unit, name));
        assert_eq!((&*result, &*code), ("success", "0"), "{unit}\n{}", working.logs());
        show!("systemctl stop {unit}: {took:?}");
        // TimeoutStopSec= is 30 s.
        assert!(took < Duration::from_secs(10), "{unit}: {took:?}");
    };
    stop(&working, PRODUCER);
    working.rig.settle();
    stop(&working, CONSUMER);
    let client = working.rig.client();
    let ends: BTreeMap<i32, i64> = client
        .watermarks(TOPIC)
        .expect("watermarks")
        .into_iter()
        .map(|(partition, (_, end))| (partition, end))
        .collect();
    assert_eq!(client.committed(GROUP, TOPIC).expect("offsets"), ends, "the last positions are committed");
    working.ok(&format!("systemctl start {PRODUCER} {CONSUMER}"));
    working.wait_rows(50);
    // In the middle of requests, and with nothing that answers.
    let rule = FaultRule { target: Target::Books, fault: Fault::Delay { ms: 2500 }, times: None };
    working.rig.control().add_fault(&rule).expect("a fault");
    std::thread::sleep(Duration::from_secs(1));
    working.rig.kafka.sigstop().expect("frozen");
    working.rig.postgres.sigstop().expect("frozen");
    std::thread::sleep(Duration::from_secs(2));
    stop(&working, PRODUCER);
    stop(&working, CONSUMER);
    working.rig.kafka.sigcont().expect("thawed");
    working.rig.postgres.sigcont().expect("thawed");
    working.ok(&format!("systemctl start {CONSUMER}"));
    working.rig.settle();
}

fn a_worker_that_hangs_is_ended_by_the_watchdog(release: Release) {
    let _turn = beside_others();
    let working = Working::new(release);
    // As the unit has it, but with less patience.
    working.put(&format!("/etc/systemd/system/{PRODUCER}.service.d/watchdog.conf"), "[Service]\nWatchdogSec=4\n");
    working.configure("workers = 1", "");
    working.ok(&format!("systemctl daemon-reload; systemctl restart {PRODUCER}"));
    working.watch("200ms", &["BTC"]);
    working.wait_rows(5);
    // The only worker is nearly always in the middle of a request.
    let rule = FaultRule { target: Target::Books, fault: Fault::Delay { ms: 2500 }, times: None };
    working.rig.control().add_fault(&rule).expect("a fault");
    std::thread::sleep(Duration::from_secs(1));
    let pid = working.machine.main_pid(PRODUCER).expect("a pid");
    let worker = thread(working.machine.host_pid(pid).expect("the host's pid"), "bithumb-1");

    std::thread::scope(|scope| {
        // The one who traces has to be there until the end of the traced.
        scope.spawn(move || {
            ptrace::seize(worker, ptrace::Options::empty()).expect("traced");
            ptrace::interrupt(worker).expect("stopped");
            waitpid(worker, Some(WaitPidFlag::__WALL)).expect("it is stopped");
            waitpid(worker, Some(WaitPidFlag::__WALL)).expect("it ends");
        });
        // Whatever comes of it, the traced has to end, for the tracer waits for that.
        let is_restarted = || (working.machine.main_pid(PRODUCER).ok()? != pid).then_some(());
        let restarted = wait_until(LATER, "a restart by the watchdog", is_restarted);
        let _ = working.machine.run(&format!("kill -KILL {pid}"));
        restarted
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", working.logs()));
    working.wait_restarted(PRODUCER, pid);
    let errors = working.journal(&format!("-u {PRODUCER} -p err"));
    let hangs = errors.iter().find(|line| line.contains("thread hangs")).expect("a line");
    assert!(hangs.contains("thread=bithumb-1") && hangs.contains("waits_on=bithumb"), "{hangs}");
    working.wait_journal(&format!("-u {PRODUCER}"), "Watchdog timeout (limit 4s)");
    working.rig.control().clear_faults().expect("no faults");
    working.wait_rows(5);
}

/// A thread of a process of the host, by name.
fn thread(pid: u32, name: &str) -> Pid {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let is_it = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let path = tasks.map(|task| task.expect("a thread").path()).find(is_it).expect("the thread");
    let number = path.file_name().and_then(|number| number.to_str()?.parse().ok());
    Pid::from_raw(number.expect("a thread's number"))
}

fn a_panic_is_an_error_in_the_journal_and_a_restart(release: Release) {
    let _turn = beside_others();
    let mut working = Working::new(release);
    busy(&working);
    // Without a file descriptor to be had, a library that consumerd connects with panics, in one of its threads.
    let pid = working.machine.main_pid(CONSUMER).expect("a pid");
    working.ok(&format!("prlimit --pid {pid} --nofile=4:4"));
    working.rig.postgres.restart(StopMode::Immediate).expect("PostgreSQL restarts");
    working.wait_restarted(CONSUMER, pid);
    let errors = working.journal(&format!("-u {CONSUMER} -t consumerd -p err"));
    let panic = errors.iter().find(|line| line.starts_with("panic thread=")).expect("a line");
    assert!(panic.starts_with("panic thread=write-0") && panic.contains("Too many open files"), "{panic}");
    working.ok(&format!("systemctl stop {PRODUCER}"));
    assert!(working.rig.settle() > 0);
}
