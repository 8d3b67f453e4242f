//! How commands end that wait for somebody.

use std::io::{ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use coinflow_tests::servers::{Daemon, Signal};
use coinflow_tests::wait::wait_until;
use rustix::process::{Pid, kill_process};

use crate::rig::{LATER, Rig, SOON};

/// So soon a command has to end.
const END_MAX: Duration = Duration::from_secs(3);

/// Ends with the test.
struct Command(Child);

impl Drop for Command {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Command {
    fn start(daemon: &Daemon, arguments: &[&str], output: impl Fn() -> Stdio) -> Self {
        let mut command = daemon.command().expect("a binary");
        command.args(arguments).stdin(Stdio::null()).stdout(output()).stderr(output());
        Self(command.spawn().expect("it starts"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).expect("a signal");
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("its state")
    }
}

/// Both ends of a connection that takes nothing more.
fn stuck() -> (UnixStream, UnixStream) {
    let (mut writing, reading) = UnixStream::pair().expect("a pair");
    writing.set_nonblocking(true).expect("set");
    loop {
        match writing.write(&[0; 1024]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    writing.set_nonblocking(false).expect("set");
    (writing, reading)
}

#[test]
fn a_signal_ends_a_command_that_nobody_reads() {
    let mut rig = Rig::new();
    rig.watch("1s", &["BTC"]);
    rig.start_daemons();
    rig.wait_rows(3, LATER);
    rig.stop_producerd();
    let (writing, _reading) = stuck();
    let output = || Stdio::from(OwnedFd::from(writing.try_clone().expect("a copy")));
    let start = |daemon, arguments| Command::start(daemon, arguments, output);
    let mut commands = [
        ("consumerd --help", 0, start(&rig.consumerd, &["--help"])),
        ("consumerd verify", 3, start(&rig.consumerd, &["verify"])),
        ("consumerd offsets show", 0, start(&rig.consumerd, &["offsets", "show"])),
        ("consumerd dead-letters list", 0, start(&rig.consumerd, &["dead-letters", "list"])),
        ("producerd --dry-run", 0, start(&rig.producerd, &["--dry-run"])),
        ("producerd markets", 0, start(&rig.producerd, &["markets", "bithumb"])),
    ];
    std::thread::sleep(Duration::from_secs(4));
    for (name, _, command) in &mut commands {
        assert_eq!(command.ended(), None, "{name} waits");
    }
    for (at, (name, code, command)) in commands.iter_mut().enumerate() {
        command.signal(if at % 2 == 0 { Signal::TERM } else { Signal::INT });
        let status = wait_until(END_MAX, name, || command.ended()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(status.code(), Some(*code), "{name}");
    }
}

#[test]
fn the_session_of_a_command_that_was_killed_ends() {
    let mut rig = Rig::new();
    rig.consumerd.start().expect("consumerd starts");
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'dead_letter'";
    wait_until(SOON, "the tables", || (rig.number(tables) == Some(1)).then_some(())).expect("tables");
    rig.stop_consumerd();
    let slow = "ALTER TABLE coinflow.dead_letter RENAME TO letters; \
                CREATE VIEW coinflow.dead_letter AS SELECT letters.* FROM pg_sleep(60), coinflow.letters";
    rig.postgres.connect().expect("a connection").batch_execute(slow).expect("a slow view");
    let mut command = Command::start(&rig.consumerd, &["dead-letters", "list"], Stdio::null);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    wait_until(SOON, "the query", || (rig.number(sessions) == Some(1)).then_some(())).expect("a session");
    command.0.kill().expect("killed");
    let killed = Instant::now();
    wait_until(SOON, "the end of the session", || (rig.number(sessions) == Some(0)).then_some(())).expect("it ends");
    show!("the session has ended after {:.1} s", killed.elapsed().as_secs_f64());
}
