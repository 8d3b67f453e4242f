//! The blocking threads that make requests.

use std::sync::Arc;
use std::time::Duration;

use coinflow_common::daemon::Beat;
use coinflow_common::orderbook::Market;
use crossbeam_channel::Receiver;
use tokio::sync::mpsc;

use crate::books::{Books, Received};
use crate::exchange::{Api, BookResult, ExchangeError, Reply};
use crate::http::{Client, Fetched};
use crate::schedule::{Outcome, Poll, PollId};

/// How a poll of one exchange ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exchange's index at the supervisor.
    pub(crate) unit: usize,
    pub(crate) id: PollId,
    pub(crate) outcome: Outcome,
}

/// One worker of one exchange.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) unit: usize,
    pub(crate) api: &'static Api,
    pub(crate) client: Client,
    pub(crate) timeout: Duration,
    pub(crate) books: Arc<Books>,
    pub(crate) polls: Receiver<Poll>,
    pub(crate) ended: mpsc::Sender<Ended>,
}

impl Worker {
    /// Until the exchange's unit is gone.
    pub(crate) fn run(&self, beat: &Beat) {
        loop {
            let waiting = beat.waiting("work");
            let Ok(poll) = self.polls.recv() else { return };
            drop(waiting);
            let outcome = self.poll(&poll.markets, beat);
            // The channel has room for each poll in flight; without a supervisor nobody wants to know.
            if self.ended.try_send(Ended { unit: self.unit, id: poll.id, outcome }).is_err() {
                log::debug!("a poll ended after its time exchange={}", self.api.exchange);
            }
        }
    }

    fn poll(&self, markets: &[Market], beat: &Beat) -> Outcome {
        let waiting = beat.waiting_at_most(self.api.exchange, self.timeout);
        let (fetched, books) = fetch(&self.client, self.api, markets)?;
        drop(waiting);
        let received = Received { requested_at: fetched.requested_at, received_at: fetched.received_at };
        let accept = |(market, book): (&Market, BookResult)| match self.books.accept(market, book?, received) {
            true => Ok(()),
            false => Err(ExchangeError::Aborted),
        };
        Ok(markets.iter().zip(books).map(accept).collect())
    }
}

/// Asks for the books of these markets: one result each.
pub(crate) fn fetch(
    client: &Client,
    api: &Api,
    markets: &[Market],
) -> Result<(Fetched, Vec<BookResult>), ExchangeError> {
    let fetched = client.get(&api.adapter.book_path(markets))?;
    let books = api.adapter.parse_books(&Reply { status: fetched.status, body: &fetched.body }, markets)?;
    Ok((fetched, books))
}
