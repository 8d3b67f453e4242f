//! The blocking threads that make requests.

use std::sync::Arc;
use std::time::Duration;

use coinflow_common::daemon::Beat;
use coinflow_common::orderbook::Market;
use tokio::sync::mpsc;

use crate::books::{Books, Received};
use crate::exchange::{Api, BookResult, ExchangeError, RateHint};
use crate::handout::Polls;
use crate::http::{Client, Fetched};
use crate::schedule::{Answer, Ask, PollId};

/// What came of a poll of one exchange.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exchange's index at the supervisor.
    pub(crate) unit: usize,
    pub(crate) id: PollId,
    pub(crate) answer: Answer,
}

/// One worker of one exchange.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) unit: usize,
    pub(crate) api: &'static Api,
    pub(crate) client: Client,
    pub(crate) timeout: Duration,
    pub(crate) books: Arc<Books>,
    pub(crate) polls: Polls,
    pub(crate) ended: mpsc::Sender<Ended>,
}

impl Worker {
    /// Until the exchange's unit is gone.
    pub(crate) fn run(&self, beat: &Beat) {
        loop {
            let waiting = beat.waiting("work");
            let Some(poll) = self.polls.take() else { return };
            drop(waiting);
            let answer = match &poll.ask {
                Ask::Books(markets) => self.poll(markets, beat),
                Ask::List => self.list(beat),
            };
            // The channel has room for each poll in flight; without a supervisor nobody wants to know.
            if self.ended.try_send(Ended { unit: self.unit, id: poll.id, answer }).is_err() {
                log::debug!("a poll ended after its time exchange={}", self.api.exchange);
            }
        }
    }

    fn poll(&self, markets: &[Market], beat: &Beat) -> Answer {
        let waiting = beat.waiting_at_most(self.api.exchange, self.timeout);
        let fetched = match self.client.get(&self.api.adapter.book_path(markets)) {
            Ok(fetched) => fetched,
            Err(error) => return Answer::Books(Err(error), RateHint::default()),
        };
        let hint = self.api.adapter.rate_hint(&fetched.headers);
        let books = self.api.adapter.parse_books(&fetched.reply(), markets);
        drop(waiting);
        let received = Received { requested_at: fetched.requested_at, received_at: fetched.received_at };
        let accept = |(market, book): (&Market, BookResult)| match self.books.accept(market, book?, received) {
            true => Ok(()),
            false => Err(ExchangeError::Aborted),
        };
        Answer::Books(books.map(|books| markets.iter().zip(books).map(accept).collect()), hint)
    }

    fn list(&self, beat: &Beat) -> Answer {
        let requests = u32::try_from(self.api.adapter.list_paths().len()).unwrap_or(u32::MAX);
        let _waiting = beat.waiting_at_most(self.api.exchange, self.timeout.saturating_mul(requests));
        Answer::List(fetch_list(&self.client, self.api))
    }
}

/// Asks for the books of these markets: one result each.
pub(crate) fn fetch(
    client: &Client,
    api: &Api,
    markets: &[Market],
) -> Result<(Fetched, Vec<BookResult>), ExchangeError> {
    let fetched = client.get(&api.adapter.book_path(markets))?;
    let books = api.adapter.parse_books(&fetched.reply(), markets)?;
    Ok((fetched, books))
}

/// Asks for the codes of all markets that the exchange lists.
pub(crate) fn fetch_list(client: &Client, api: &Api) -> Result<Vec<Market>, ExchangeError> {
    let mut all = Vec::new();
    for path in api.adapter.list_paths() {
        all.extend(api.adapter.parse_list(path, &client.get(path)?.reply())?);
    }
    Ok(all)
}
