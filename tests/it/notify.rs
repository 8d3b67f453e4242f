//! What systemd hears under Type=notify.

use std::time::{Duration, Instant};

use coinflow_tests::servers::{Daemon, NotifyMessage, StopMode};
use coinflow_tests::wait::wait_until;
use rustix::process::Signal;

use crate::rig::{Rig, SOON};

fn wait_status(daemon: &Daemon, texts: &[&str]) -> String {
    let mut last = None;
    let what = format!("a STATUS with {texts:?}");
    let waited = wait_until(SOON, &what, || {
        let all = daemon.notify().all();
        last = all.iter().rev().find_map(|message| message.value("STATUS").map(str::to_owned));
        last.clone().filter(|status| texts.iter().all(|text| status.contains(text)))
    });
    waited.unwrap_or_else(|error| panic!("{error}; the last one is {last:?}"))
}

fn count(daemon: &Daemon, line: &str) -> usize {
    daemon.notify().all().iter().filter(|message| message.lines.iter().any(|have| have == line)).count()
}

#[test]
fn ready_reloading_status_watchdog_stopping() {
    let mut rig = Rig::new();
    rig.watch("200ms", &["BTC", "ETH", "XRP"]);
    rig.producerd.set_watchdog(Duration::from_secs(2));
    rig.consumerd.set_watchdog(Duration::from_secs(2));
    let started = Instant::now();
    rig.start_daemons();
    for daemon in [&rig.producerd, &rig.consumerd] {
        daemon.wait_for_notify("READY=1", SOON).expect("ready");
    }
    assert!(started.elapsed() < Duration::from_secs(3), "ready after {:?}", started.elapsed());
    rig.wait_rows(10, SOON);

    // What an operator wants to know.
    wait_status(&rig.producerd, &["3 symbols", "books/s", "Kafka up"]);
    wait_status(&rig.consumerd, &["main", "lag 0", "books/s", "PostgreSQL up"]);

    let mark = rig.producerd.notify().mark();
    rig.producerd.signal(Signal::HUP).expect("SIGHUP");
    let (reloading, mark) = rig.producerd.notify().wait_for_after(mark, "RELOADING=1", SOON).expect("reloading");
    let monotonic = reloading.value("MONOTONIC_USEC").expect("in the same datagram");
    assert!(monotonic.parse::<u64>().is_ok_and(|usec| usec > 0), "{monotonic}");
    let (ready, _) = rig.producerd.notify().wait_for_after(mark, "READY=1", SOON).expect("ready again");
    assert!(ready.at >= reloading.at);
    wait_status(&rig.producerd, &["last reload", "ok"]);

    // consumerd has nothing to reload, says so, and runs on.
    rig.consumerd.signal(Signal::HUP).expect("SIGHUP");
    rig.consumerd.wait_for_line("nothing to reload", SOON).expect("a line");

    for daemon in [&rig.producerd, &rig.consumerd] {
        let before = count(daemon, "WATCHDOG=1");
        let fed = || (count(daemon, "WATCHDOG=1") >= before + 3).then_some(());
        wait_until(Duration::from_secs(6), "the watchdog to be fed", fed).expect("fed");
    }

    // Waiting is not hanging: with everything away the watchdog is fed all the same.
    rig.postgres.stop(StopMode::Fast).expect("down");
    rig.kafka.sigstop().expect("frozen");
    wait_status(&rig.consumerd, &["PostgreSQL down since"]);
    for daemon in [&rig.producerd, &rig.consumerd] {
        let before = count(daemon, "WATCHDOG=1");
        let fed = || (count(daemon, "WATCHDOG=1") >= before + 3).then_some(());
        wait_until(Duration::from_secs(6), "the watchdog to be fed", fed).expect("fed while waiting");
    }
    rig.kafka.sigcont().expect("thawed");
    rig.postgres.start_again().expect("up");
    wait_status(&rig.consumerd, &["PostgreSQL up"]);

    rig.stop_producerd();
    rig.stop_consumerd();
    for daemon in [&rig.producerd, &rig.consumerd] {
        assert_eq!(count(daemon, "STOPPING=1"), 1);
    }
    let all = rig.producerd.notify().all();
    let is = |line: &'static str| move |message: &NotifyMessage| message.lines.iter().any(|have| have == line);
    let stopping = all.iter().position(is("STOPPING=1"));
    assert!(stopping > all.iter().position(is("READY=1")));
}

#[test]
fn a_producerd_that_watches_nothing_says_so() {
    let mut rig = Rig::new();
    rig.producerd.write("symbols.toml", "").expect("an empty file");
    rig.producerd.start().expect("producerd starts");
    wait_status(&rig.producerd, &["watches nothing"]);
    assert!(rig.producerd.stop().expect("it ends").success());
}
