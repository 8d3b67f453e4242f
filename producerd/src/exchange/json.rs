//! Reading exchanges' JSON: numbers keep the digits of their text, whether they come as numbers or as strings.

use std::borrow::Cow;
use std::fmt::Display;

use coinflow_common::orderbook::{Decimal, Level, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::quote;
use super::{ExchangeError, Reply};

/// Microseconds in what a Unix time counts, by how many it counts: 10^11 s and 10^14 ms are the year 5138.
const UNITS: [(u128, u128); 3] = [(100_000_000_000, 1_000_000), (100_000_000_000_000, 1_000), (u128::MAX, 1)];

/// Reads a whole body.
pub(super) fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ExchangeError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ExchangeError::BadReply("empty body".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| ExchangeError::BadReply(quote(&error.to_string())))
}

/// The first byte that is not a blank: `[` or `{` tells what shape a body has.
pub(super) fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|b| !b.is_ascii_whitespace())
}

/// A scalar's text: that of a number as it stands, that of a string without its quotes.
pub(super) fn text(raw: &RawValue) -> Cow<'_, str> {
    let json = raw.get();
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        Some(_) => serde_json::from_str(json).map_or(Cow::Borrowed(json), Cow::Owned),
        None => Cow::Borrowed(json),
    }
}

/// A level from its two fields; an error names the one that is wrong as `place.field`.
pub(super) fn level(
    place: impl Display + Copy,
    price: (&str, Option<&RawValue>),
    quantity: (&str, Option<&RawValue>),
) -> Result<Level, ExchangeError> {
    Ok(Level { price: decimal(place, price)?, quantity: decimal(place, quantity)? })
}

fn decimal(place: impl Display, (field, raw): (&str, Option<&RawValue>)) -> Result<Decimal, ExchangeError> {
    let bad = |what: String| ExchangeError::BadReply(format!("{place}.{field} {what}"));
    let text = text(raw.ok_or_else(|| bad("is missing".to_owned()))?);
    Decimal::parse_exchange(&text).map_err(|error| bad(format!("is {:?}: {error}", quote(&text))))
}

/// The exchange's time of a book, in seconds, milliseconds or microseconds by its magnitude; none where it gives none.
pub(super) fn timestamp(field: &str, raw: Option<&RawValue>) -> Result<Option<Timestamp>, ExchangeError> {
    let Some(raw) = raw else { return Ok(None) };
    let text = text(raw);
    let micros = |number: Decimal| {
        // At most 18 decimals, so this is no overflow.
        let one = 10u128.pow(u32::from(number.scale()));
        let (_, unit) = UNITS.into_iter().find(|(below, _)| number.digits() / one < *below)?;
        i64::try_from(number.digits().checked_mul(unit)? / one).ok()
    };
    Decimal::parse_exchange(&text)
        .ok()
        .and_then(micros)
        .and_then(|micros| Timestamp::from_micros(micros).ok())
        .map(Some)
        .ok_or_else(|| ExchangeError::BadReply(format!("{field} is {:?}: not a Unix time", quote(&text))))
}

/// What a reply carries as JSON. An error's body may be a page of the proxy in front; then its status counts.
pub(super) fn parse_reply<'de, T: Deserialize<'de>>(reply: &Reply<'de>) -> Result<T, ExchangeError> {
    parse(reply.body).map_err(|error| if reply.status == 200 { error } else { ExchangeError::Status(reply.status) })
}
