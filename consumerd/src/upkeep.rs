//! The thread that keeps the days: it makes them ahead and drops the old ones, on a connection of its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use coinflow_common::daemon::Beat;
use coinflow_common::orderbook::Timestamp;
use postgres::Client;

use crate::config::Postgres;
use crate::store::{Bounds, Class, PgFault, Schema, connect, days, migrate};
use crate::writer::{Change, Health};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// Between two tries.
const RETRY: Duration = Duration::from_secs(5);
/// Why there is no connection, the writers tell, unless theirs lasts: then it is told here, at this try.
const TOLD_AT_TRY: u32 = 12;

/// Tells threads that it is time to end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn set(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long, or until it is set.
    fn wait(&self, at_most: Duration) {
        let guard = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(guard, at_most, |stopped| !*stopped));
    }
}

/// The body of the thread.
pub(crate) fn run(settings: &Postgres, stop: &Arc<Stop>, beat: &Beat) {
    let mut health = Health::default();
    let mut refused = 0;
    while !stop.is_set() {
        beat.turn();
        let waiting = beat.waiting("PostgreSQL");
        let result = connect(settings, Bounds::DAYS).map(|mut client| look(&mut client, settings, now()));
        drop(waiting);
        let change = match &result {
            Ok(Ok(())) => health.served(),
            Ok(Err(fault)) => health.failed(fault, now()),
            Err(fault) => {
                refused = if fault.class() == Class::Away { 0 } else { refused + 1 };
                (refused == TOLD_AT_TRY).then_some(Change::Refuses)
            }
        };
        match (change, &result) {
            (Some(Change::Refuses), Ok(Err(fault)) | Err(fault)) => {
                log::warn!("days cannot be kept, trying on err={:?}", fault.to_string());
            }
            (Some(Change::Back { since }), _) => log::debug!("days are kept again since={since}"),
            _ => {}
        }
        if result.is_ok() {
            refused = 0;
        }
        let _waiting = beat.waiting("the next look");
        stop.wait(if matches!(result, Ok(Ok(()))) { INTERVAL } else { RETRY });
    }
}

fn look(client: &mut Client, settings: &Postgres, now: Timestamp) -> Result<(), PgFault> {
    let schema = Schema::new(&settings.schema);
    migrate(client, &schema)?;
    let attached = days::attached(client, &schema)?;
    for day in days::ready(now).filter(|day| !attached.contains(day)) {
        days::make(client, &schema, day)?;
    }
    if let Some(retention) = settings.retention {
        let oldest = now.saturating_sub(retention).day();
        for date in days::retire_before(client, &schema, oldest)? {
            log::info!("day dropped date={date}");
        }
    }
    Ok(())
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}
