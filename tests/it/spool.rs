//! Kafka is away: books wait on disk, whatever happens meanwhile, and arrive in order when it is back.

use std::path::PathBuf;
use std::time::Duration;

use coinflow_tests::servers::Signal;
use coinflow_tests::wait::wait_until;

use crate::rig::{LATER, Rig, SOON, lines_at, summary};

const AWAY: Duration = Duration::from_secs(15);

/// What STATUS says now, of the present run.
fn status(rig: &Rig) -> String {
    let all = rig.producerd.notify().all();
    let mut told = "";
    for message in &all {
        if message.value("READY") == Some("1") {
            told = "";
        } else if let Some(status) = message.value("STATUS") {
            told = status;
        }
    }
    told.to_owned()
}

/// The files that hold books.
fn segments(rig: &Rig) -> Vec<PathBuf> {
    let Ok(files) = std::fs::read_dir(rig.producerd.folder().join("spool/bithumb")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "spool") || path.ends_with("head"));
    paths
}

fn wait_status(rig: &Rig, text: &str, is_there: bool) {
    let is_so = || {
        let status = status(rig);
        (!status.is_empty() && status.contains(text) == is_there).then_some(())
    };
    wait_until(LATER, &format!("STATUS to say or drop {text:?}"), is_so)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", status(rig), rig.logs()));
}

/// How many books all runs so far have said that Kafka may have had.
fn maybe_delivered(rig: &Rig) -> u64 {
    let lines = rig.producerd.stderr().all();
    let counts = lines.iter().filter_map(|line| line.split_once("maybe_delivered=")?.1.trim().parse::<u64>().ok());
    counts.sum()
}

/// A rig that polls 50 books a second and has stored some.
fn flowing() -> Rig {
    let mut rig = Rig::new();
    rig.watch("100ms", &["BTC", "ETH", "XRP", "SOL", "ADA"]);
    rig.start_daemons();
    rig.wait_rows(50, SOON);
    rig
}

#[test]
fn an_outage_loses_nothing_and_keeps_the_order() {
    let mut rig = flowing();
    rig.kafka.stop().expect("down");
    wait_status(&rig, "books in the spool", true);
    std::thread::sleep(AWAY);
    rig.kafka.start_all().expect("up");
    wait_status(&rig, "books in the spool", false);
    let numbers = rig.stop_producerd();
    assert_eq!(numbers["books_accepted"], numbers["books_delivered"], "{numbers:?}\n{}", rig.logs());
    assert!(numbers["books_accepted"] > 15 * 45, "{numbers:?}");
    let (stored, missing, doubled, disorder) = rig.account_of_rows(numbers["books_accepted"]);
    assert_eq!((stored as u64, missing, doubled, disorder), (numbers["books_accepted"], 0, 0, 0), "{}", rig.logs());
    assert!(segments(&rig).is_empty(), "nothing is left on disk");
    // On a slow machine, books may have had to wait for the topic as well.
    let told: Vec<String> = rig.producerd.stderr().all();
    let count = |text: &str| told.iter().filter(|line| line.contains(text)).count();
    let [begun, ended] = ["books wait in the spool", "no book waits in the spool any more"].map(count);
    assert!((1..=2).contains(&begun) && begun == ended, "{told:#?}");
    assert_eq!(lines_at(&rig.producerd, "ERROR"), [""; 0]);
}

/// A broker that hangs says nothing: what was on its way to it is on disk as well.
#[test]
fn a_kill_while_kafka_hangs_loses_no_book_that_has_waited() {
    let mut rig = flowing();
    rig.kafka.sigstop().expect("frozen");
    std::thread::sleep(AWAY / 3);
    // The first run ends in the midst of it; the second one, too, having added to the same spool.
    for _ in 0..2 {
        let books = rig.control().served(0).expect("books").len();
        let more = || (rig.control().served(0).expect("books").len() > books + 100).then_some(());
        wait_until(SOON, "more books", more).expect("polled");
        rig.producerd.signal(Signal::KILL).expect("killed");
        rig.producerd.wait_exit(SOON).expect("it ends");
        rig.producerd.start().expect("producerd starts again");
        let line = rig.producerd.wait_for_line("books of an earlier run wait in the spool", SOON).expect("told");
        assert!(line.contains("exchange=bithumb count="), "{line}");
    }
    wait_status(&rig, "books in the spool", true);
    rig.kafka.sigcont().expect("thawed");
    wait_status(&rig, "books in the spool", false);
    let numbers = rig.stop_producerd();
    assert_eq!(numbers["books_accepted"] + numbers["books_taken_over"], numbers["books_delivered"], "{numbers:?}");
    // Each run's books are there without a hole; only what was accepted in its last moments can be missing, which is its end.
    let (stored, missing, doubled, _) = rig.account_of_rows(numbers["books_delivered"]);
    assert_eq!(missing, 0, "{stored} rows\n{}", rig.logs());
    let served = rig.control().served(0).expect("books").len() as i64;
    assert!(served - stored <= 2 * 40, "{stored} of {served} books");
    show!("killed twice while Kafka hung: {served} books served, {stored} stored, {doubled} of them twice");
    // What Kafka may have had is sent again, and nothing else.
    let maybe = maybe_delivered(&rig);
    assert!(doubled as u64 <= maybe, "{doubled} doubled, {maybe} may have been");
}

#[test]
fn a_stop_and_a_start_while_kafka_is_away_lose_nothing() {
    let mut rig = flowing();
    rig.kafka.stop().expect("down");
    let mut accepted = 0;
    let mut kept = 0;
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(3));
        let numbers = rig.stop_producerd();
        assert_eq!((numbers["books_in_flight"], numbers["books_dropped"]), (0, 0), "{numbers:?}\n{}", rig.logs());
        assert_eq!(numbers.get("books_taken_over").copied().unwrap_or(0), kept, "{numbers:?}");
        accepted += numbers["books_accepted"];
        kept = numbers["books_spooled"];
        rig.producerd.start().expect("producerd starts again");
    }
    rig.kafka.start_all().expect("up");
    wait_status(&rig, "books in the spool", true);
    wait_status(&rig, "books in the spool", false);
    let numbers = rig.stop_producerd();
    accepted += numbers["books_accepted"];
    let (stored, missing, doubled, disorder) = rig.account_of_rows(accepted);
    assert_eq!((stored as u64, missing, disorder), (accepted, 0, 0), "{}", rig.logs());
    // What was on its way when Kafka went down, it may have stored without saying so.
    let maybe = maybe_delivered(&rig);
    assert!(doubled as u64 <= maybe, "{doubled} doubled, {maybe} may have been\n{}", rig.logs());
}

#[test]
fn a_spool_that_cannot_be_used_is_told_and_books_flow_without_it() {
    let mut rig = Rig::new();
    // A file where the folder should be.
    rig.producerd.write("spool", "not a folder").expect("a file");
    rig.watch("100ms", &["BTC", "ETH"]);
    rig.start_daemons();
    let line = rig.producerd.wait_for_line("the spool cannot be used", SOON).expect("told");
    assert!(line.contains(" ERROR ") && line.contains("exchange=bithumb") && line.contains("spool"), "{line}");
    rig.wait_rows(50, SOON);
    wait_status(&rig, "bithumb: the spool cannot be used", true);
    // An outage that memory can bear.
    rig.kafka.stop().expect("down");
    std::thread::sleep(Duration::from_secs(5));
    rig.kafka.start_all().expect("up");
    let rows = rig.rows();
    rig.wait_rows(rows + 150, LATER);
    // Put right, it is used again without a restart.
    std::fs::remove_file(rig.producerd.folder().join("spool")).expect("removed");
    wait_status(&rig, "the spool cannot be used", false);
    let numbers = rig.stop_producerd();
    assert_eq!(numbers["books_accepted"], numbers["books_delivered"], "{numbers:?}\n{}", rig.logs());
    let (stored, missing, doubled, disorder) = rig.account_of_rows(numbers["books_accepted"]);
    assert_eq!((stored as u64, missing, doubled, disorder), (numbers["books_accepted"], 0, 0, 0), "{}", rig.logs());
}

/// A bit of the spool is overwritten, and its end cut off, while nobody has it open.
#[test]
fn damage_costs_the_books_that_it_hit() {
    let mut rig = flowing();
    rig.kafka.stop().expect("down");
    wait_status(&rig, "books in the spool", true);
    std::thread::sleep(Duration::from_secs(5));
    rig.producerd.signal(Signal::KILL).expect("killed");
    rig.producerd.wait_exit(SOON).expect("it ends");
    let path = segments(&rig).into_iter().find(|path| !path.ends_with("head")).expect("a segment");
    let mut bytes = std::fs::read(&path).expect("read");
    let (middle, end) = (bytes.len() / 2, bytes.len() - 100);
    bytes[middle] ^= 0x55;
    std::fs::write(&path, &bytes[..end]).expect("damaged");
    rig.watch("100ms", &[]);
    rig.producerd.start().expect("producerd starts again");
    rig.producerd.wait_for_line("has been cut exchange=bithumb bytes=", SOON).expect("told");
    rig.kafka.start_all().expect("up");
    let line = rig.producerd.wait_for_line("cannot be read", LATER).expect("told");
    assert!(line.contains("exchange=bithumb count="), "{line}");
    wait_status(&rig, "books in the spool", false);
    let numbers = rig.stop_producerd();
    // One in the middle. The last one is a torn tail.
    assert_eq!(numbers["books_taken_over"], numbers["books_delivered"] + 1, "{numbers:?}");
    assert_eq!(numbers["books_dropped"], 1, "{numbers:?}");
    let (_, missing, ..) = rig.account_of_rows(0);
    assert_eq!(missing, 1, "{}", rig.logs());
    assert_eq!(summary(&rig.producerd)["books_in_flight"], 0);
}

/// Resident memory of a process in KiB.
fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// 200 books a second while Kafka is away: `COINFLOW_AWAY_SECONDS=600` makes it ten minutes instead of a few seconds.
#[test]
fn memory_stays_flat_and_the_spool_is_drained_fast() {
    let away = std::env::var("COINFLOW_AWAY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let mut rig = Rig::new();
    rig.configure_producerd("markets_per_request = 10");
    let file = rig.producerd.folder().join("producerd.toml");
    let text = std::fs::read_to_string(&file).expect("the file").replace("16MiB", "1GiB");
    rig.producerd.write("producerd.toml", &text).expect("the file");
    let codes: Vec<String> = (1..=20).map(|number| format!("G{number:03}")).collect();
    rig.watch("100ms", &codes.iter().map(String::as_str).collect::<Vec<_>>());
    rig.producerd.start().expect("producerd starts");
    std::thread::sleep(Duration::from_secs(10));
    let pid = rig.producerd.pid().expect("it runs");
    let before = rss_kib(pid);
    rig.kafka.stop().expect("down");
    std::thread::sleep(Duration::from_secs(away));
    let during = rss_kib(pid);
    rig.kafka.start_all().expect("up");
    let waiting = || {
        let status = status(&rig);
        let (_, rest) = status.split_once("bithumb: ")?;
        rest.split_once(" books in the spool")?.0.parse::<u64>().ok()
    };
    // From the first book that leaves the spool to the last one.
    let most = wait_until(LATER, "books in the spool", waiting).expect("some");
    let began =
        wait_until(LATER, "the spool to shrink", || (waiting().unwrap_or(0) < most).then(std::time::Instant::now));
    let began = began.unwrap_or_else(|error| panic!("{error}: {}\n{}", status(&rig), rig.logs()));
    wait_status(&rig, "books in the spool", false);
    // STATUS comes once a second.
    let took = began.elapsed() + Duration::from_secs(1);
    let (after, rate) = (rss_kib(pid), most as f64 / took.as_secs_f64());
    let numbers = rig.stop_producerd();
    show!(
        "Kafka away for {away} s: {most} books in the spool, drained at {rate:.0} books/s or more; \
         memory {before} KiB before, {during} KiB at its end, {after} KiB after"
    );
    assert_eq!(numbers["books_accepted"], numbers["books_delivered"], "{numbers:?}\n{}", rig.logs());
    assert!(rate >= 1000.0, "{rate}");
    assert!(during.max(after) <= before + 10 * 1024, "{before} KiB, {during} KiB, {after} KiB");
}
