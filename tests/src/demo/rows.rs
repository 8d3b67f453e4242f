//! What PostgreSQL holds.

use postgres::Client;

use super::configs::Watch;

/// The newest book of a market, numbers as PostgreSQL prints them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Latest {
    pub(super) exchange: String,
    pub(super) market: String,
    pub(super) bid_quantity: Option<String>,
    pub(super) bid_price: Option<String>,
    pub(super) ask_price: Option<String>,
    pub(super) ask_quantity: Option<String>,
    pub(super) age_s: f64,
    pub(super) books: i64,
}

pub(super) struct Rows {
    client: Client,
}

impl Rows {
    pub(super) fn new(client: Client) -> Rows {
        Rows { client }
    }

    pub(super) fn latest(&mut self) -> Result<Vec<Latest>, String> {
        let query = "
            SELECT latest.exchange, latest.market, best_bid_quantity::text, best_bid_price::text, best_ask_price::text,
                   best_ask_quantity::text, extract(epoch FROM clock_timestamp() - received_at)::float8, books
            FROM coinflow.latest
            JOIN (SELECT exchange, market, count(*) AS books FROM coinflow.orderbook GROUP BY exchange, market) AS counted
              USING (exchange, market)
            ORDER BY latest.exchange, latest.market COLLATE \"C\" DESC";
        let rows = self.client.query(query, &[]).map_err(|error| format!("coinflow.latest: {}", detail(&error)))?;
        let latest = rows.iter().map(|row| Latest {
            exchange: row.get(0),
            market: row.get(1),
            bid_quantity: row.get(2),
            bid_price: row.get(3),
            ask_price: row.get(4),
            ask_quantity: row.get(5),
            age_s: row.get(6),
            books: row.get(7),
        });
        Ok(latest.collect())
    }

    pub(super) fn count(&mut self) -> Result<u64, String> {
        self.number("SELECT count(*) FROM coinflow.orderbook")
    }

    pub(super) fn dead_letters(&mut self) -> Result<u64, String> {
        self.number("SELECT count(*) FROM coinflow.dead_letter")
    }

    pub(super) fn books_of(&mut self, (exchange, market): Watch) -> Result<u64, String> {
        // Neither holds a quote.
        self.number(&format!(
            "SELECT count(*) FROM coinflow.orderbook WHERE exchange = '{exchange}' AND market = '{market}'"
        ))
    }

    fn number(&mut self, query: &str) -> Result<u64, String> {
        let row = self.client.query_one(query, &[]).map_err(|error| format!("{query}: {}", detail(&error)))?;
        Ok(row.get::<_, i64>(0).max(0) as u64)
    }
}

/// The server's own words, if it was the server that refused.
fn detail(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}
