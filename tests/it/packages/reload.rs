//! `systemctl reload`: it returns when the new symbols are in force, or fails and changes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coinflow_tests::exchange::now_us;
use coinflow_tests::servers::Release;
use coinflow_tests::wait::wait_until;

use super::{PRODUCER, Working, alone, beside_others, on_each_release, symbols_file};
use crate::rig::SOON;

on_each_release!(
    returns_after_it_is_done_under_full_load,
    waits_for_a_daemon_that_hears_late,
    a_broken_file_changes_nothing,
    a_broken_file_at_start,
);

const RELOADS: usize = 200;
const SYMBOLS: usize = 500;
const INTERVAL: Duration = Duration::from_secs(10);

/// Reloads in turn with each of two files, and prints for each how long it took in µs, its exit code and what STATUS
/// says at that moment.
const RELOAD: &str = r#"
    for i in $(seq RELOADS); do
        cp /root/symbols-$((i % 2)).toml /etc/coinflow/symbols.toml
        began=${EPOCHREALTIME/./}
        systemctl reload producerd
        code=$?
        ended=${EPOCHREALTIME/./}
        echo "$((ended - began)) $code $(systemctl show --value --property=StatusText producerd)"
    done
"#;

fn returns_after_it_is_done_under_full_load(release: Release) {
    let _turn = alone();
    let working = Working::new(release);
    let codes: Vec<String> = (0..SYMBOLS).map(|index| format!("KRW-T{index:03}")).collect();
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    working.rig.control().list(&codes).expect("listed");
    // One has 500 symbols, the other 499 of these: the last one comes and goes.
    let (going, staying) = codes.split_last().expect("500 codes");
    let files = [&codes[..], staying];
    for (index, symbols) in files.iter().enumerate() {
        working.put(&format!("/root/symbols-{index}.toml"), &symbols_file("10s", symbols));
    }
    working.ok("cp /root/symbols-0.toml /etc/coinflow/symbols.toml; systemctl reload producerd");
    std::thread::sleep(INTERVAL + Duration::from_secs(1));
    let pid = working.machine.main_pid(PRODUCER).expect("a pid");

    let stop = AtomicBool::new(false);
    let lines = std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..cores {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let script = RELOAD.replace("RELOADS", &RELOADS.to_string());
        let lines = working.machine.run_with("exec bash -s", script.as_bytes()).map(|finished| finished.stdout);
        stop.store(true, Ordering::Relaxed);
        lines.expect("the script ends")
    });
    let mut took = Vec::new();
    for (index, line) in (1..).zip(lines.lines()) {
        let mut words = line.splitn(3, ' ');
        took.push(words.next().and_then(|word| word.parse::<u64>().ok()).expect("a time"));
        assert_eq!(words.next(), Some("0"), "reload {index}: {line}");
        let expected = format!("{} symbols", SYMBOLS - index % 2);
        let status = words.next().unwrap_or_default();
        assert!(status.starts_with(&expected), "reload {index} returned before it was done: {status}");
    }
    assert_eq!(took.len(), RELOADS);
    took.sort_unstable();
    let [median, most, longest] =
        [RELOADS / 2, RELOADS * 95 / 100, RELOADS - 1].map(|at| Duration::from_micros(took[at]));
    show!("reload under full load: median {median:?}, 95 % {most:?}, longest {longest:?}");
    // The aim is 200 ms, which nineteen of twenty keep, and in some runs all of them. These bounds are kept beside others'
    // work, too.
    assert!(
        median < Duration::from_millis(500) && longest < Duration::from_secs(2),
        "median {median:?}, 95 % {most:?}, longest {longest:?}"
    );

    // The last reload, of an even number, was to 500: nobody else has missed a poll, up to now, and the last symbol is
    // polled again. After one more it is no longer.
    let polls = || {
        let mut polls: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for request in working.rig.control().requests(0).expect("requests") {
            for market in request.markets {
                polls.entry(market).or_default().push(request.arrived_us);
            }
        }
        polls
    };
    std::thread::sleep(INTERVAL);
    assert_eq!(working.machine.main_pid(PRODUCER), Ok(pid));
    let (mut seen, now) = (polls(), now_us());
    for code in staying {
        let times = seen.get_mut(*code).expect("polls");
        times.push(now);
        let widest = times.windows(2).map(|pair| Duration::from_micros(pair[1].saturating_sub(pair[0]))).max();
        assert!(widest <= Some(INTERVAL + INTERVAL / 5), "{code}: a gap of {widest:?}\n{}", working.logs());
    }
    assert!(seen[*going].last() > Some(&(now - 12_000_000)), "the new symbol is polled");
    working.ok("cp /root/symbols-1.toml /etc/coinflow/symbols.toml; systemctl reload producerd");
    let before = polls()[*going].len();
    std::thread::sleep(INTERVAL);
    assert_eq!(polls()[*going].len(), before, "the old symbol is polled no longer");
    working.ok(&format!("systemctl stop {PRODUCER}"));
    let summary = working.wait_journal(&format!("-u {PRODUCER}"), "summary ");
    assert!(summary.contains("polls_skipped=0 polls_failed=0"), "{summary}");
}

/// The signal is heard long after the command that sends it has ended: the reload is not over before.
fn waits_for_a_daemon_that_hears_late(release: Release) {
    let _turn = beside_others();
    let working = Working::new(release);
    working.watch("200ms", &["BTC"]);
    working.put("/etc/coinflow/symbols.toml", &symbols_file("200ms", &["BTC", "ETH"]));
    let script = r#"
        kill -STOP $PID
        systemctl reload producerd & reload=$!
        sleep 3
        systemctl show --value --property=ActiveState producerd
        kill -CONT $PID
        wait $reload
        echo "$? $(systemctl show --value --property=StatusText producerd)"
    "#;
    let pid = working.machine.main_pid(PRODUCER).expect("a pid");
    let said = working.ok(&script.replace("$PID", &pid.to_string()));
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("reloading"), "{said}");
    assert!(lines.next().is_some_and(|line| line.starts_with("0 2 symbols")), "{said}");
    working.wait_property(PRODUCER, "ActiveState", |state| state == "active");
}

fn a_broken_file_changes_nothing(release: Release) {
    let _turn = beside_others();
    let working = Working::new(release);
    working.watch("200ms", &["BTC", "ETH"]);
    working.wait_rows(10);
    let pid = working.machine.main_pid(PRODUCER).expect("a pid");
    let bad = "interval = \"1ms\"\n[bithumb]\nsymbols = [\"BTC\", \"KRW_XRP\"]\n[bithum]\n";
    working.put("/etc/coinflow/symbols.toml", bad);
    let finished = working.machine.run("systemctl reload producerd").expect("it ends");
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert_eq!(working.property(PRODUCER, "ActiveState"), "active");
    assert_eq!(working.machine.main_pid(PRODUCER), Ok(pid));
    // journalctl follows no alias, so it has to be told the unit's own name, or the identifier.
    for which in [format!("-u {PRODUCER}"), "-t producerd".to_owned()] {
        let errors = working.journal(&format!("{which} -p err"));
        for expected in [
            "/etc/coinflow/symbols.toml:1:12: interval: 1ms is not between 100ms and 1h",
            "/etc/coinflow/symbols.toml:3:19: bithumb.symbols[1]: \"KRW_XRP\" is not a market code; write KRW-XRP",
            "/etc/coinflow/symbols.toml:4:2: bithum: unknown key; did you mean bithumb?",
        ] {
            assert_eq!(errors.iter().filter(|line| *line == expected).count(), 1, "{which}: {errors:#?}");
        }
    }
    // The old set is polled on, whoever sends the signal past the check.
    working.ok(&format!("kill -HUP {pid}"));
    working.wait_property(PRODUCER, "StatusText", |status| status.contains("reload refused"));
    working.wait_rows(10);
    assert_eq!(working.machine.main_pid(PRODUCER), Ok(pid));
    working.watch("200ms", &["BTC", "ETH", "XRP"]);
    working.wait_property(PRODUCER, "StatusText", |status| status.starts_with("3 symbols"));
}

fn a_broken_file_at_start(release: Release) {
    let _turn = beside_others();
    let working = Working::new(release);
    working.watch("200ms", &["BTC"]);
    working.ok("echo '[kafak]' >>/etc/coinflow/producerd.toml; echo '[postgre]' >>/etc/coinflow/consumerd.toml");
    for (unit, file, reason) in [
        (PRODUCER, "producerd.toml", "kafak: unknown key; did you mean kafka?"),
        ("coinflow-consumerd", "consumerd.toml", "postgre: unknown key; did you mean postgres?"),
    ] {
        let finished = working.machine.run(&format!("systemctl restart {unit}")).expect("it ends");
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        std::thread::sleep(Duration::from_secs(6));
        let [state, restarts, code] =
            ["ActiveState", "NRestarts", "ExecMainStatus"].map(|name| working.property(unit, name));
        assert_eq!((&*state, &*restarts, &*code), ("failed", "0", "78"), "{unit}");
        let errors = working.journal(&format!("-u {unit} -p err"));
        let told = errors.iter().filter(|line| line.contains(file) && line.ends_with(reason)).count();
        assert_eq!(told, 1, "{errors:#?}");
        // Put right, it starts.
        working.ok(&format!("sed -i '$d' /etc/coinflow/{file}; systemctl start {unit}"));
    }
    let rows = working.rig.rows();
    wait_until(SOON, "books again", || (working.rig.rows() > rows).then_some(())).expect("books");
}
