//! The connection is cut in the middle of a COMMIT: whatever became of it, the next try finds out.

use std::time::Duration;

use coinflow_tests::servers::{Cut, PostgresProxy};
use coinflow_tests::wait::wait_until;

use crate::database::goes_on;
use crate::exactly_once::check;
use crate::overrun::wait_status;
use crate::rig::{LATER, Rig};

const TAKEN_PLACE: &str = "the unanswered commit has taken place";

/// Cuts some commits; how many of them the daemon found to have taken place.
fn cut(cut: Cut, times: usize) -> usize {
    let mut rig = Rig::new();
    let proxy = PostgresProxy::start(rig.postgres.port()).expect("a proxy");
    let text = format!(
        "[postgres]\nconnection = \"host=127.0.0.1 port={} user=coinflow dbname=coinflow\"\ntls = \"off\"\n\
         [source.main]\nbrokers = [\"{}\"]\n",
        proxy.port(),
        rig.kafka.bootstrap()
    );
    rig.consumerd.write("consumerd.toml", &text).expect("consumerd.toml");
    check(&mut rig, |rig| {
        let pid = rig.consumerd.pid();
        for time in 1..=times {
            goes_on(rig);
            proxy.cut(cut);
            let is_cut = || (proxy.cuts() == time as u64).then_some(());
            wait_until(LATER, "a COMMIT to be cut", is_cut).expect("it is cut");
            wait_status(rig, "PostgreSQL down since");
            proxy.admit();
        }
        goes_on(rig);
        assert!(rig.consumerd.is_running() && rig.consumerd.pid() == pid, "no restart\n{}", rig.logs());
        std::thread::sleep(Duration::from_secs(1));
    });
    rig.stop_consumerd();
    let lines = rig.consumerd.stderr().all();
    let batches = lines.iter().filter(|line| line.contains(TAKEN_PLACE)).count();
    show!("{cut:?}: {batches} lines of commits that have taken place");
    assert!(!lines.iter().any(|line| line.contains("moved by somebody else")), "{}", rig.logs());
    batches
}

#[test]
fn cut_before_postgresql_hears_of_it() {
    assert_eq!(cut(Cut::Before, 3), 0);
}

#[test]
fn cut_after_postgresql_has_committed() {
    // One line for each partition of the batch.
    assert!(cut(Cut::After, 3) >= 3);
}

#[test]
fn cut_while_it_is_on_its_way() {
    cut(Cut::Between, 5);
}
