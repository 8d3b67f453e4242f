//! A name server that hangs.

use std::time::Duration;

use coinflow_tests::exchange::{Venue, now_us};
use coinflow_tests::servers::{ExchangeProcess, Release};
use coinflow_tests::wait::wait_until;

use super::{PRODUCER, Working, beside_others, on_each_release};
use crate::exchanges::polls;
use crate::rig::LATER;

on_each_release!(a_name_server_that_hangs_stops_one_exchange_and_only_if_its_name_is_new);

/// Longer than addresses count as fresh.
const STALE: Duration = Duration::from_secs(35);
const NAME: &str = "upbit.example";

fn a_name_server_that_hangs_stops_one_exchange_and_only_if_its_name_is_new(release: Release) {
    let _turn = beside_others();
    let working = Working::new(release);
    let upbit = ExchangeProcess::start_venue(working.rig.producerd.folder(), 1, Venue::Upbit).expect("Upbit starts");
    // It takes each question and answers none. The machine shares the host's network, and other machines do, too.
    let address = match release {
        Release::Bookworm => "127.0.53.12",
        Release::Trixie => "127.0.53.13",
    };
    working.put("/etc/systemd/system/names.socket", &format!("[Socket]\nListenDatagram={address}:53\n"));
    working.put("/etc/systemd/system/names.service", "[Service]\nExecStart=sleep infinity\n");
    working.ok("systemctl start names.socket");
    working.put("/etc/resolv.conf", &format!("nameserver {address}\n"));
    let base_url = upbit.base_url();
    let (_, port) = base_url.rsplit_once(':').expect("a port");
    working.configure(&format!("[exchange.upbit]\nbase_url = \"http://{NAME}:{port}\""), "");
    working.put(
        "/etc/coinflow/symbols.toml",
        "interval = \"500ms\"\n[bithumb]\nsymbols = [\"BTC\", \"ETH\"]\n[upbit]\nsymbols = [\"BTC\"]\n",
    );
    working.ok(&format!("systemctl restart {PRODUCER}"));
    let told = format!("no address of {NAME}: no answer in time");
    working.wait_journal(&format!("-u {PRODUCER}"), &told);
    let shown = format!("no address of {NAME}");
    working.wait_property(PRODUCER, "StatusText", |status| {
        status.contains("upbit does not answer") && status.contains(&shown)
    });

    let control = working.rig.control();
    let began = now_us();
    std::thread::sleep(Duration::from_secs(10));
    let ended = now_us();
    for (market, times) in polls(&control) {
        let seen: Vec<u64> = times.into_iter().filter(|time| (began..ended).contains(time)).collect();
        let widest = seen.windows(2).map(|pair| pair[1] - pair[0]).max().expect("polls");
        assert!(
            (19..=21).contains(&seen.len()) && widest < 850_000,
            "{market}: {} polls, a gap of {widest}",
            seen.len()
        );
    }

    // It is taken up by itself.
    working.ok(&format!("echo '127.0.0.1 {NAME}' >>/etc/hosts"));
    let count = || upbit.control().requests(0).expect("requests").len();
    wait_until(LATER, "polls of Upbit", || (count() > 3).then_some(())).unwrap_or_else(|error| {
        panic!("{error}\n{}", working.logs());
    });
    // What was known once serves on.
    working.ok(&format!("sed -i '/{NAME}/d' /etc/hosts"));
    std::thread::sleep(STALE);
    let before = count();
    std::thread::sleep(Duration::from_secs(10));
    let polls = count() - before;
    assert!((19..=21).contains(&polls), "{polls} polls in 10 s\n{}", working.logs());
}
