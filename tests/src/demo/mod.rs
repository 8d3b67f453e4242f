//! The demo: the main job on one machine, from three exchanges' books to rows in PostgreSQL, with a reload on the way and an
//! account at the end.

mod account;
mod configs;
mod rows;
mod screen;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::servers::{Daemon, ExchangeProcess, Kafka, KafkaClient, Postgres, Program, Signal};
use crate::wait::wait_until;
use account::{Account, Polls};
use configs::{VENUES, Watched};
use rows::Rows;
use screen::Screen;

/// Between two looks into PostgreSQL on a terminal, and between two tables elsewhere.
const REDRAW: Duration = Duration::from_millis(500);
const REPRINT: Duration = Duration::from_secs(5);
const READY: Duration = Duration::from_secs(30);
const FIRST_BOOKS: Duration = Duration::from_secs(30);
const RELOAD: Duration = Duration::from_secs(10);
const STORED: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long books flow.
    pub time: Duration,
    /// Leaves everything running.
    pub keep: bool,
    /// The real exchanges.
    pub live: bool,
}

/// Runs the demo; true when every number agrees. `interrupted` ends it early, and in order.
pub fn run(options: Options, interrupted: &Arc<AtomicBool>) -> Result<bool, String> {
    let mut screen = Screen::new();
    let mut stage = Stage::set(options, &mut screen)?;
    let played = play(&mut stage, options, interrupted, &mut screen)
        .and_then(|()| if options.keep { Ok(None) } else { settle(&mut stage, &mut screen).map(Some) });
    match played {
        Ok(Some(equal)) => Ok(equal),
        Ok(None) => stage.leave(&mut screen).map(|()| true),
        Err(error) => {
            screen.say(&stage.last_lines());
            Err(error)
        }
    }
}

/// Everything that was started; it all ends with this.
#[derive(Debug)]
struct Stage {
    // Ended in this order.
    producerd: Daemon,
    consumerd: Daemon,
    /// None of them: the real ones.
    exchanges: Vec<ExchangeProcess>,
    kafka: Kafka,
    postgres: Postgres,
    folder: tempfile::TempDir,
    watched: Watched,
}

impl Stage {
    fn set(options: Options, screen: &mut Screen) -> Result<Stage, String> {
        let began = Instant::now();
        screen.say("starting Apache Kafka and PostgreSQL (the first run fetches Kafka's jars) …");
        let folder = tempfile::Builder::new().prefix("coinflow-demo-").tempdir();
        let folder = folder.map_err(|error| format!("a temporary folder: {error}"))?;
        let (kafka, postgres) = std::thread::scope(|scope| {
            let kafka = scope.spawn(Kafka::start);
            let postgres = Postgres::start();
            (kafka.join().unwrap_or_else(|_| Err("the Kafka launcher panicked".to_owned())), postgres)
        });
        let (kafka, postgres) = (kafka?, postgres?);
        let mut exchanges = Vec::new();
        if !options.live {
            for venue in VENUES {
                exchanges.push(ExchangeProcess::start_venue(folder.path(), 1, venue)?);
            }
        }
        let base_urls: Vec<String> = exchanges.iter().map(ExchangeProcess::base_url).collect();
        screen.say(&format!(
            "Kafka at {}, PostgreSQL at port {}, {} ({:.1} s)",
            kafka.bootstrap(),
            postgres.port(),
            if options.live {
                "the real exchanges".to_owned()
            } else {
                format!("exchanges at {}", base_urls.join(" "))
            },
            began.elapsed().as_secs_f64()
        ));

        let watched = Watched::default();
        let producerd = Daemon::in_folder(Program::Producerd, folder.path())?;
        let consumerd = Daemon::in_folder(Program::Consumerd, folder.path())?;
        producerd.write("producerd.toml", &configs::producerd(&kafka.bootstrap(), &base_urls))?;
        producerd.write("symbols.toml", &watched.symbols())?;
        consumerd.write("consumerd.toml", &configs::consumerd(&kafka.bootstrap(), &postgres.connection()))?;
        Ok(Stage { producerd, consumerd, exchanges, kafka, postgres, folder, watched })
    }

    fn start_daemons(&mut self, screen: &mut Screen) -> Result<(), String> {
        for daemon in [&mut self.consumerd, &mut self.producerd] {
            daemon.start()?;
        }
        for daemon in [&mut self.consumerd, &mut self.producerd] {
            daemon.wait_ready(READY)?;
        }
        screen.say(&format!("producerd and consumerd run with the files in {}", self.folder.path().display()));
        Ok(())
    }

    /// Watches one market more and another one less; how long producerd took for it.
    fn reload(&mut self) -> Result<Duration, String> {
        self.watched.change();
        self.producerd.write("symbols.toml", &self.watched.symbols())?;
        let (mark, began) = (self.producerd.notify().mark(), Instant::now());
        self.producerd.signal(Signal::HUP)?;
        let (_, reloading) = self.producerd.notify().wait_for_after(mark, "RELOADING=1", RELOAD)?;
        self.producerd.notify().wait_for_after(reloading, "READY=1", RELOAD)?;
        Ok(began.elapsed())
    }

    fn last_lines(&self) -> String {
        const LINES: usize = 15;
        let mut text = String::new();
        for (name, lines) in [("producerd", self.producerd.stderr()), ("consumerd", self.consumerd.stderr())] {
            let all = lines.all();
            let tail = all[all.len().saturating_sub(LINES)..].join("\n");
            text.push_str(&format!("--- {name}, last lines\n{tail}\n"));
        }
        text
    }

    /// Goes away, and leaves everything behind.
    fn leave(self, screen: &mut Screen) -> Result<(), String> {
        let bootstrap = self.kafka.bootstrap();
        let (socket, port) = (self.postgres.socket_folder().display().to_string(), self.postgres.port());
        let summaries = self.exchanges.iter().map(|one| format!("{}/control/summary", one.base_url()));
        let exchanges = match summaries.collect::<Vec<_>>().join(" ") {
            none if none.is_empty() => "the real ones".to_owned(),
            urls => urls,
        };
        let mut pids = vec![self.producerd.leave()?, self.consumerd.leave()?];
        pids.extend(self.exchanges.into_iter().map(ExchangeProcess::leave));
        let (brokers, kafka_folder) = self.kafka.leave()?;
        pids.extend(brokers);
        let (postmaster, postgres_folder) = self.postgres.leave()?;
        let folder: PathBuf = self.folder.keep();
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        screen.say(&format!(
            "
Everything is left running.
  rows       psql -h {socket} -p {port} -U coinflow coinflow -c 'SELECT * FROM coinflow.latest'
  records    kcat -b {bootstrap} -C -t {topic} -o -5 -e -f '%k %h\\n%s\\n'
  topics     kcat -b {bootstrap} -L
  AKHQ       bootstrap.servers: \"{bootstrap}\"
  reload     edit {folder}/symbols.toml, then kill -HUP {producerd}
  logs       {folder}/producerd.stderr and consumerd.stderr
  exchanges  {exchanges}
  stop       kill {pids}; kill -INT {postmaster}
  remove     rm -r {folder} {kafka_folder} {postgres_folder}",
            folder = folder.display(),
            producerd = pids[0],
            topic = configs::topics()[0],
            pids = pids.join(" "),
            kafka_folder = kafka_folder.display(),
            postgres_folder = postgres_folder.display(),
        ));
        Ok(())
    }
}

/// Books flow: the live table, with a reload after a third of the time.
fn play(stage: &mut Stage, options: Options, interrupted: &AtomicBool, screen: &mut Screen) -> Result<(), String> {
    stage.start_daemons(screen)?;
    let began = Instant::now();
    let mut rows = Rows::new(stage.postgres.connect()?);
    let arrived = wait_until(FIRST_BOOKS, "every watched market in PostgreSQL", || {
        let found = rows.latest().unwrap_or_default().len() >= stage.watched.markets().len();
        (found || interrupted.load(Ordering::Relaxed)).then(|| began.elapsed())
    })?;
    screen.say(&format!(
        "books of all {} markets are in PostgreSQL after {:.1} s\n",
        stage.watched.markets().len(),
        arrived.as_secs_f64()
    ));

    let pause = if screen.redraws() { REDRAW } else { REPRINT };
    let mut reload_at = Some(began + options.time / 3);
    let mut shown: Option<Instant> = None;
    while began.elapsed() < options.time && !interrupted.load(Ordering::Relaxed) {
        if reload_at.is_some_and(|at| Instant::now() >= at) {
            reload_at = None;
            let took = stage.reload()?;
            screen.say(&format!(
                "\nreload in {:.0} ms: {} is watched from now on, {} no more\n",
                took.as_secs_f64() * 1000.0,
                stage.watched.added().1,
                stage.watched.removed().1
            ));
        }
        if shown.is_none_or(|at| at.elapsed() >= pause) {
            shown = Some(Instant::now());
            screen.draw(&table::lines(&rows.latest()?, &stage.watched.markets(), began.elapsed()));
        }
        for daemon in [&mut stage.producerd, &mut stage.consumerd] {
            if !daemon.is_running() {
                return Err("a daemon ended by itself".to_owned());
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    screen.draw(&table::lines(&rows.latest()?, &stage.watched.markets(), began.elapsed()));
    screen.keep();
    Ok(())
}

/// Stops the source, lets the rest arrive, and compares.
fn settle(stage: &mut Stage, screen: &mut Screen) -> Result<bool, String> {
    screen.say("\nstopping producerd, and waiting until consumerd has stored everything …");
    let exit = stage.producerd.stop()?;
    let polls = Polls::from_log(&stage.producerd.stderr().all());
    let kafka: KafkaClient = stage.kafka.client();
    let mut records = 0;
    for topic in configs::topics() {
        records += kafka.count(&topic)?;
    }
    let mut rows = Rows::new(stage.postgres.connect()?);
    // If it does not come about, the account says what is missing.
    let _ = wait_until(STORED, "every record in PostgreSQL", || {
        let stored = rows.count().ok()? + rows.dead_letters().ok()?;
        (stored >= records).then_some(())
    });
    let consumerd_exit = stage.consumerd.stop()?;
    let account = Account {
        polls,
        records,
        rows: rows.count()?,
        dead_letters: rows.dead_letters()?,
        exits: [("producerd", exit.code()), ("consumerd", consumerd_exit.code())],
        added: rows.books_of(stage.watched.added())?,
        changed: stage.watched.changed().then(|| stage.watched.added().1.to_owned()),
    };
    let differences = account.differences();
    screen.say(&account.text());
    for difference in &differences {
        screen.say(&format!("  {difference}"));
    }
    screen.say(if differences.is_empty() { "equal" } else { "NOT equal" });
    Ok(differences.is_empty())
}
