//! SIGTERM: the end within five seconds, whatever is away, and an account of what became of everything.

use std::time::{Duration, Instant};

use coinflow_tests::exchange::api::{Fault, Pause};
use coinflow_tests::servers::{Daemon, StopMode};
use coinflow_tests::wait::wait_until;
use rustix::process::Signal;

use crate::books::Writer;
use crate::rig::{GROUP, LATER, Rig, SOON, TOPIC, summary};

fn stop_in_time(daemon: &mut Daemon, signal: Signal) {
    let sent = Instant::now();
    daemon.signal(signal).expect("a signal");
    let status = daemon.wait_exit(Duration::from_secs(10)).expect("it ends");
    assert!(status.success(), "{status}\n{}", daemon.stderr().all().join("\n"));
    assert!(sent.elapsed() < Duration::from_secs(5), "ended after {:?}", sent.elapsed());
}

#[test]
fn all_is_well() {
    let mut rig = Rig::new();
    rig.watch("100ms", &["BTC", "ETH", "XRP", "SOL", "ADA"]);
    rig.start_daemons();
    rig.wait_rows(50, SOON);
    stop_in_time(&mut rig.producerd, Signal::TERM);
    let numbers = summary(&rig.producerd);
    assert_eq!(numbers["books_accepted"], numbers["books_delivered"], "{numbers:?}");
    assert_eq!(rig.settle() as u64, numbers["books_delivered"]);
    stop_in_time(&mut rig.consumerd, Signal::INT);
}

#[test]
fn a_busy_consumerd_commits_its_last_batch_to_both_sides() {
    let mut rig = Rig::new();
    rig.client().create_topic(TOPIC, 4, 1, &[]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(60_000);
    writer.finish();
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(1000, LATER);
    stop_in_time(&mut rig.consumerd, Signal::TERM);
    assert!(rig.rows() < 60_000, "it was to be stopped while busy");
    let committed = rig.client().committed(GROUP, TOPIC).expect("commits");
    let positions = rig.positions();
    assert_eq!(committed, positions, "Kafka's copy is that of the database");
    assert_eq!(positions.values().sum::<i64>(), rig.rows());
    rig.consumerd.start().expect("consumerd starts again");
    assert_eq!(rig.settle(), 60_000);
    rig.stop_consumerd();
}

#[test]
fn everything_is_away() {
    let mut rig = Rig::new();
    rig.watch("100ms", &["BTC", "ETH"]);
    rig.start_daemons();
    rig.wait_rows(10, SOON);
    rig.kafka.sigstop().expect("frozen");
    rig.postgres.sigstop().expect("frozen");
    std::thread::sleep(Duration::from_secs(2));
    stop_in_time(&mut rig.producerd, Signal::TERM);
    stop_in_time(&mut rig.consumerd, Signal::TERM);
    let numbers = summary(&rig.producerd);
    assert_eq!((numbers["books_in_flight"], numbers["books_dropped"]), (0, 0), "{numbers:?}");
    assert_eq!(numbers["books_accepted"], numbers["books_delivered"] + numbers["books_spooled"], "{numbers:?}");
    assert!(numbers["books_spooled"] > 0, "{numbers:?}");
    rig.kafka.sigcont().expect("thawed");
    rig.postgres.sigcont().expect("thawed");
    // What was kept is delivered by the next run.
    rig.watch("100ms", &[]);
    rig.start_daemons();
    let line = rig.producerd.wait_for_line("books of an earlier run wait in the spool", SOON).expect("told");
    assert!(line.contains(&format!("count={} ", numbers["books_spooled"])), "{line}");
    let (stored, missing, _, disorder) = rig.account_of_rows(numbers["books_accepted"]);
    assert_eq!((missing, disorder), (0, 0), "{stored} of {}\n{}", numbers["books_accepted"], rig.logs());
    let again = rig.stop_producerd();
    assert_eq!(
        (again["books_taken_over"], again["books_delivered"]),
        (numbers["books_spooled"], numbers["books_spooled"])
    );
}

#[test]
fn everything_is_down_from_the_start() {
    let mut rig = Rig::new();
    rig.watch("100ms", &["BTC", "ETH"]);
    rig.kafka.stop().expect("down");
    rig.postgres.stop(StopMode::Fast).expect("down");
    rig.control().pause(Pause::Hang).expect("paused");
    rig.start_daemons();
    std::thread::sleep(Duration::from_secs(3));
    stop_in_time(&mut rig.producerd, Signal::TERM);
    stop_in_time(&mut rig.consumerd, Signal::TERM);
}

#[test]
fn while_replies_are_on_their_way() {
    let mut rig = Rig::new();
    rig.watch("500ms", &["BTC", "ETH", "XRP"]);
    rig.control().strike(None, Fault::Delay { ms: 2500 }, 1000).expect("a fault");
    rig.producerd.start().expect("producerd starts");
    let asked = || (rig.control().summary().expect("a summary").requests > 3).then_some(());
    wait_until(SOON, "requests", asked).expect("requests");
    stop_in_time(&mut rig.producerd, Signal::TERM);
    let numbers = summary(&rig.producerd);
    let ended = numbers["polls_done"] + numbers["polls_skipped"] + numbers["polls_failed"];
    assert_eq!(numbers["polls_due"], ended, "{numbers:?}");
}
