//! The commands that ask an exchange once and print what it says.

use std::collections::BTreeSet;
use std::io::{Write, stderr, stdout};
use std::time::{Duration, Instant};

use coinflow_common::daemon::{Exit, OnHup, Signal, Signals};
use coinflow_common::orderbook::Market;
use uuid::Uuid;

use crate::books::{Received, order_book};
use crate::config::{Config, ExchangeConfig, Files};
use crate::exchange::{Book, ExchangeError};
use crate::http::{Client, Fetched, Resolver};
use crate::selection::Selection;
use crate::worker::{fetch, fetch_list};

/// One exchange, asked from this thread.
struct Asker<'a> {
    config: &'a ExchangeConfig,
    client: Client,
    next: Instant,
    /// It wants no further requests.
    is_refused: bool,
}

impl<'a> Asker<'a> {
    fn new(config: &'a ExchangeConfig) -> std::io::Result<Self> {
        let (resolver, lookups) = Resolver::new();
        let name = format!("{:.11}-dns", config.exchange.as_str());
        // It ends with the process: a look-up has no deadline.
        std::thread::Builder::new().name(name).spawn(move || lookups.run())?;
        let client = Client::new(&config.base_url, config.timeout, 1, resolver);
        Ok(Self { config, client, next: Instant::now(), is_refused: false })
    }

    /// Keeps to the exchange's rate.
    fn pace(&mut self) {
        std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
        self.next = Instant::now() + Duration::from_secs(1).div_f64(self.config.requests_per_second as f64);
    }

    /// The markets that it lists.
    fn list(&mut self) -> Result<BTreeSet<Market>, ExchangeError> {
        self.pace();
        let list = fetch_list(&self.client, self.config.api).map(|markets| markets.into_iter().collect());
        self.is_refused |= matches!(list, Err(ExchangeError::RateLimited { .. }));
        list
    }

    /// The books of these markets; a batch that one unknown market spoils is asked for in halves. After a refusal for
    /// the rate nothing more is asked.
    fn books(&mut self, markets: &[Market], each: &mut impl FnMut(&Market, Result<(Book, Received), String>)) {
        if self.is_refused {
            markets.iter().for_each(|market| each(market, Err("not asked".to_owned())));
            return;
        }
        self.pace();
        match fetch(&self.client, self.config.api, markets) {
            Ok((Fetched { requested_at, received_at, .. }, books)) => {
                let received = Received { requested_at, received_at };
                for (market, book) in markets.iter().zip(books) {
                    each(market, book.map(|book| (book, received)).map_err(|error| error.to_string()));
                }
            }
            Err(ExchangeError::UnknownMarket) if markets.len() > 1 => {
                let (left, right) = markets.split_at(markets.len() / 2);
                self.books(left, each);
                self.books(right, each);
            }
            Err(error) => {
                self.is_refused = matches!(error, ExchangeError::RateLimited { .. });
                markets.iter().for_each(|market| each(market, Err(error.to_string())));
            }
        }
    }
}

/// Makes SIGINT and SIGTERM end the process with exit code 0, whatever it waits for. Each line is one write, so none
/// is cut.
fn end_at_signal() -> std::io::Result<()> {
    let mut signals = Signals::install(OnHup::Nothing)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let wait = move || {
        while !matches!(runtime.block_on(signals.next()), Signal::Stop(_)) {}
        Exit::Done.leave_amid(None)
    };
    std::thread::Builder::new().name("signal-end".to_owned()).spawn(wait).map(drop)
}

/// `--dry-run`: each watched symbol once, its record on stdout.
pub(crate) fn dry_run(files: &Files) -> Exit {
    if let Err(error) = end_at_signal() {
        return complain(&error);
    }
    let run = Uuid::now_v7();
    let mut is_good = true;
    for config in &files.config.exchanges {
        let selection = files.symbols.get(&config.exchange).filter(|selection| **selection != Selection::default());
        let Some(selection) = selection else { continue };
        let mut asker = match Asker::new(config) {
            Ok(asker) => asker,
            Err(error) => return complain(&error),
        };
        let exchange = &config.exchange;
        let mut listed = None;
        if !selection.patterns.is_empty() {
            match asker.list() {
                Ok(markets) => {
                    for idle in selection.idle(&markets) {
                        _ = writeln!(stderr(), "{exchange}: {idle}");
                        is_good = false;
                    }
                    listed = Some(markets);
                }
                Err(error) => {
                    _ = writeln!(stderr(), "{exchange} market list: {error}");
                    is_good = false;
                }
            }
        }
        let markets: Vec<Market> = selection.resolve(listed.as_ref()).into_iter().map(|watch| watch.market).collect();
        for batch in config.limits().batches(markets.iter()) {
            asker.books(&batch, &mut |market, answer| {
                is_good &= match answer {
                    Ok((book, received)) => {
                        let book = order_book(exchange, market, book, received, run, config.levels as usize);
                        let mut line = Vec::new();
                        book.encode(&mut line);
                        line.push(b'\n');
                        stdout().write_all(&line).is_ok()
                    }
                    Err(why) => {
                        _ = writeln!(stderr(), "{exchange} {market}: {why}");
                        false
                    }
                };
            });
        }
    }
    if is_good { Exit::Done } else { Exit::Failed }
}

/// `markets EXCHANGE`: the codes that it lists, sorted.
pub(crate) fn markets(config: &Config, exchange: &str) -> Exit {
    let Some(config) = config.exchanges.iter().find(|config| config.exchange.as_str() == exchange) else {
        let known: Vec<&str> = config.exchanges.iter().map(|config| config.exchange.as_str()).collect();
        _ = writeln!(stderr(), "{exchange:?} is not an exchange; known: {}", known.join(", "));
        return Exit::Usage;
    };
    if let Err(error) = end_at_signal() {
        return complain(&error);
    }
    let mut asker = match Asker::new(config) {
        Ok(asker) => asker,
        Err(error) => return complain(&error),
    };
    let all = match asker.list() {
        Ok(markets) => markets,
        Err(error) => {
            _ = writeln!(stderr(), "{exchange} market list: {error}");
            return Exit::Failed;
        }
    };
    let text: String = all.iter().map(|market| format!("{market}\n")).collect();
    if stdout().write_all(text.as_bytes()).is_ok() { Exit::Done } else { Exit::Failed }
}

fn complain(error: &std::io::Error) -> Exit {
    _ = writeln!(stderr(), "{error}");
    Exit::Failed
}
