//! How each kind of fault begins, goes on, and ends.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use super::ledger::Ledger;
use super::plan::{Fault, Kind};
use super::proxy::Mode;
use super::world::{MARKETS, World};
use crate::exchange::api::{Fault as Answer, FaultRule, Pause, Target};
use crate::servers::{Daemon, Signal, StopMode};
use crate::wait::wait_until;

/// Between two turns of a fault that goes on.
pub(super) const TURN: Duration = Duration::from_millis(150);
const SLOW: Duration = Duration::from_millis(150);
/// Beyond an hour, books would rightly become dead letters.
const JUMPS: [&str; 4] = ["+600", "-600", "+0", "-7"];
const CLOCK: &str = "clock";
const STANDBY: Duration = Duration::from_secs(60);

/// Whether the fault can be had here.
pub(super) fn begin(world: &mut World, ledger: &mut Ledger, fault: Fault) -> Result<bool, String> {
    let at = fault.target;
    match fault.kind {
        Kind::ProducerdKill => {
            kill(&mut world.producerd)?;
            ledger.killed(fault);
        }
        Kind::ProducerdFreeze => {
            ledger.uneasy_from_now();
            world.producerd.sigstop()?;
        }
        Kind::ProducerdRestart => {
            ledger.uneasy_from_now();
            stop_cleanly(&mut world.producerd)?;
            ledger.stopped(&world.producerd, Some(fault.kind))?;
        }
        Kind::ProducerdClock => {
            let Some(library) = world.faketime.clone() else { return Ok(false) };
            ledger.uneasy_from_now();
            stop_cleanly(&mut world.producerd)?;
            ledger.stopped(&world.producerd, Some(fault.kind))?;
            fake_clock(&mut world.producerd, &library)?;
            ledger.started(&world.producerd);
            world.producerd.start()?;
        }
        Kind::ConsumerdClock => {
            let Some(library) = world.faketime.clone() else { return Ok(false) };
            stop_cleanly(&mut world.consumerds[at])?;
            fake_clock(&mut world.consumerds[at], &library)?;
            world.consumerds[at].start()?;
        }
        Kind::ReloadStorm => ledger.uneasy_from_now(),
        Kind::RebalanceStorm | Kind::BrokersRolling => {}
        Kind::ConsumerdKill => kill(&mut world.consumerds[at])?,
        Kind::ConsumerdFreeze | Kind::ConsumerdZombie => world.consumerds[at].sigstop()?,
        Kind::ConsumerdRestart => stop_cleanly(&mut world.consumerds[at])?,
        Kind::BrokerKill => world.kafka.kill9_broker(at)?,
        Kind::BrokerFreeze => world.kafka.signal_broker(at, Signal::STOP)?,
        Kind::BrokerRestart => world.kafka.stop_broker(at)?,
        Kind::KafkaKill => world.kafka.kill9()?,
        Kind::KafkaCut => {}
        Kind::KafkaDelay => world.links(at).iter().for_each(|link| link.set(Mode::Delay(SLOW))),
        Kind::KafkaFrozen => world.links(at).iter().for_each(|link| link.set(Mode::Freeze)),
        Kind::KafkaRefused => refuse_kafka(world),
        Kind::PostgresImmediate => world.postgres.stop(StopMode::Immediate)?,
        Kind::PostgresFast => world.postgres.stop(StopMode::Fast)?,
        Kind::PostgresKill => world.postgres.kill9()?,
        Kind::PostgresFreeze => world.postgres.sigstop()?,
        Kind::PostgresCut | Kind::PostgresTerminate => {}
        Kind::PostgresDelay => world.to_postgres.set(Mode::Delay(SLOW)),
        Kind::PostgresFrozen => world.to_postgres.set(Mode::Freeze),
        Kind::PostgresReadOnly => settings(world, &["ALTER SYSTEM SET default_transaction_read_only = on"])?,
        Kind::PostgresFailover => stand_by(world)?,
        Kind::PostgresRestore => world.copy = Some(world.postgres.copy(false)?),
        Kind::ExchangeErrors => {
            ledger.uneasy_from_now();
            let rule = FaultRule { target: Target::Books, fault: Answer::Gateway { status: 502 }, times: None };
            world.exchange.control().add_fault(&rule)?;
        }
        Kind::ExchangeHangs => {
            ledger.uneasy_from_now();
            world.exchange.control().pause(Pause::Hang)?;
        }
        Kind::SpoolFull => {
            if world.small_spool.is_none() {
                return Ok(false);
            }
            refuse_kafka(world);
        }
    }
    Ok(true)
}

/// One of many moments while the fault goes on, counted from 0.
pub(super) fn turn(world: &mut World, fault: Fault, turn: u32) -> Result<(), String> {
    match fault.kind {
        Kind::KafkaCut => world.links(fault.target).iter().for_each(|link| link.cut()),
        Kind::PostgresCut => world.to_postgres.cut(),
        Kind::PostgresTerminate => {
            let mut client = world.postgres.connect_as("postgres", "postgres")?;
            let ended = client
                .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'coinflow'", &[]);
            ended.map_err(|error| format!("ending backends: {error}"))?;
        }
        Kind::ProducerdClock if turn % 4 == 3 => set_clock(&world.producerd, JUMPS[turn as usize / 4 % JUMPS.len()])?,
        Kind::ConsumerdClock if turn % 4 == 3 => {
            set_clock(&world.consumerds[fault.target], JUMPS[turn as usize / 4 % JUMPS.len()])?;
        }
        Kind::ReloadStorm => reload(world, if turn % 2 == 0 { &MARKETS[2..] } else { &MARKETS })?,
        Kind::RebalanceStorm if turn % 8 == 0 => world.consumerds[2].start()?,
        Kind::RebalanceStorm if turn % 8 == 6 => stop_cleanly(&mut world.consumerds[2])?,
        // When a second's worth of books is on its way there.
        Kind::SpoolFull if turn == 8 => fill(world)?,
        _ => {}
    }
    Ok(())
}

pub(super) fn end(world: &mut World, ledger: &mut Ledger, fault: Fault) -> Result<(), String> {
    let at = fault.target;
    match fault.kind {
        Kind::ProducerdKill | Kind::ProducerdRestart => {
            ledger.started(&world.producerd);
            world.producerd.start()?;
        }
        Kind::ProducerdFreeze => world.producerd.sigcont()?,
        Kind::ProducerdClock => {
            stop_cleanly(&mut world.producerd)?;
            ledger.stopped(&world.producerd, Some(fault.kind))?;
            world.producerd.clear_environment();
            ledger.started(&world.producerd);
            world.producerd.start()?;
        }
        Kind::ConsumerdClock => {
            stop_cleanly(&mut world.consumerds[at])?;
            world.consumerds[at].clear_environment();
            world.consumerds[at].start()?;
        }
        Kind::ReloadStorm => reload(world, &MARKETS)?,
        Kind::ConsumerdKill | Kind::ConsumerdRestart => world.consumerds[at].start()?,
        Kind::ConsumerdFreeze | Kind::ConsumerdZombie => world.consumerds[at].sigcont()?,
        Kind::RebalanceStorm => {
            if world.consumerds[2].is_running() {
                stop_cleanly(&mut world.consumerds[2])?;
            }
        }
        Kind::BrokerKill | Kind::BrokerRestart => world.kafka.begin_broker(at)?,
        Kind::BrokerFreeze => world.kafka.signal_broker(at, Signal::CONT)?,
        Kind::BrokersRolling => {
            for at in 0..3 {
                world.kafka.stop_broker(at)?;
                world.kafka.begin_broker(at)?;
                if at < 2 {
                    world.kafka.wait_ready(3)?;
                    world.wait_in_sync()?;
                }
            }
        }
        Kind::KafkaKill => world.kafka.start_all()?,
        Kind::KafkaCut => {}
        Kind::KafkaDelay | Kind::KafkaFrozen | Kind::KafkaRefused => world.all_links(Mode::Pass),
        Kind::PostgresImmediate | Kind::PostgresFast | Kind::PostgresKill => world.postgres.start_again()?,
        Kind::PostgresFreeze => world.postgres.sigcont()?,
        Kind::PostgresCut | Kind::PostgresTerminate => {}
        Kind::PostgresDelay | Kind::PostgresFrozen => world.to_postgres.set(Mode::Pass),
        Kind::PostgresReadOnly => settings(world, &["ALTER SYSTEM RESET default_transaction_read_only"])?,
        Kind::PostgresFailover => fail_over(world, true)?,
        Kind::PostgresRestore => fail_over(world, false)?,
        Kind::ExchangeErrors => world.exchange.control().clear_faults()?,
        Kind::ExchangeHangs => world.exchange.control().resume()?,
        Kind::SpoolFull => {
            let path = ballast(world);
            if !path.exists() {
                // Its turn has not come in time, on a slow machine.
                fill(world)?;
                std::thread::sleep(Duration::from_secs(1));
            }
            std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            world.all_links(Mode::Pass);
        }
    }
    ledger.easy_soon();
    Ok(())
}

/// SIGKILL; one that had ended before by itself has not been killed.
fn kill(daemon: &mut Daemon) -> Result<(), String> {
    let status = daemon.kill9()?;
    if status.signal() == Some(9) {
        return Ok(());
    }
    Err(format!("{} had ended by itself, with {status}", daemon.folder().display()))
}

/// SIGTERM: exit code 0, and in time.
pub(super) fn stop_cleanly(daemon: &mut Daemon) -> Result<(), String> {
    let exit = daemon.stop().map_err(|error| format!("SIGTERM: {error}"))?;
    if exit.success() { Ok(()) } else { Err(format!("SIGTERM: {} ended with {exit}", daemon.folder().display())) }
}

fn reload(world: &mut World, markets: &[&str]) -> Result<(), String> {
    world.watch(markets)?;
    world.producerd.signal(Signal::HUP)
}

/// The wall clock of its next start is what a file says; the monotonic one is the true one, as when somebody sets the time.
fn fake_clock(daemon: &mut Daemon, library: &str) -> Result<(), String> {
    set_clock(daemon, "+0")?;
    let file = daemon.folder().join(CLOCK).display().to_string();
    for (key, value) in [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", &file),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ] {
        daemon.set_environment(key, value);
    }
    Ok(())
}

fn set_clock(daemon: &Daemon, offset: &str) -> Result<(), String> {
    daemon.write(CLOCK, &format!("{offset}\n")).map(|_| ())
}

fn refuse_kafka(world: &World) {
    world.all_links(Mode::Refuse);
    world.to_kafka.iter().for_each(|link| link.cut());
}

fn ballast(world: &World) -> std::path::PathBuf {
    world.producerd.folder().join("spool/ballast")
}

/// Leaves no byte in the spool's file system.
fn fill(world: &World) -> Result<(), String> {
    use std::io::Write;
    let path = ballast(world);
    let mut file = std::fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    while file.write_all(&[0; 4096]).is_ok() {}
    Ok(())
}

fn settings(world: &World, statements: &[&str]) -> Result<(), String> {
    let mut client = world.postgres.connect_as("postgres", "postgres")?;
    for statement in statements.iter().chain(&["SELECT pg_reload_conf()"]) {
        client.batch_execute(statement).map_err(|error| format!("{statement}: {error}"))?;
    }
    Ok(())
}

/// A standby without which nothing is committed from now on.
fn stand_by(world: &mut World) -> Result<(), String> {
    let mut standby = world.postgres.copy(true)?;
    standby.start_again()?;
    world.copy = Some(standby);
    settings(world, &["ALTER SYSTEM SET synchronous_standby_names = 'standby'"])?;
    let mut client = world.postgres.connect_as("postgres", "postgres")?;
    let query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
    wait_until(STANDBY, "a synchronous standby", || {
        (client.query_one(query, &[]).ok()?.get::<_, i64>(0) == 1).then_some(())
    })
}

/// The database dies; its copy takes its place, and its address.
fn fail_over(world: &mut World, promote: bool) -> Result<(), String> {
    let mut copy = world.copy.take().ok_or("there is no copy")?;
    world.postgres.kill9()?;
    copy.start_again()?;
    if promote {
        let mut client = copy.connect_as("postgres", "postgres")?;
        let promoted =
            client.query_one("SELECT pg_promote(true, 60)", &[]).map_err(|error| format!("pg_promote: {error}"))?;
        if !promoted.get::<_, bool>(0) {
            return Err("the standby was not promoted".to_owned());
        }
    }
    world.to_postgres.lead_to(copy.port());
    world.postgres = copy;
    Ok(())
}
