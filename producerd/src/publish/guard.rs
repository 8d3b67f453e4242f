//! Kafka's guard against doubles: under one id and epoch of a producer it takes each record once.
//!
//! librdkafka raises the epoch by itself when a broker has lost its place in the order, as after an election of a leader
//! that had missed something, and sends what was on its way again. What Kafka had of that before is then there twice, and
//! no delivery report tells. The statistics do (`eos` in librdkafka's STATISTICS.md).

use serde::Deserialize;

#[derive(Deserialize)]
struct Statistics {
    eos: Option<Guard>,
}

/// Under which Kafka looks for doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Guard {
    producer_id: i64,
    producer_epoch: i64,
}

/// What the statistics say of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing, or not yet.
    Nothing,
    /// The same as before, or the first one.
    Same,
    Anew,
}

impl Guard {
    /// Compares with what was seen before, and keeps what is seen now.
    pub(super) fn observe(last: &mut Option<Self>, statistics: &[u8]) -> Seen {
        let seen = serde_json::from_slice::<Statistics>(statistics).ok().and_then(|statistics| statistics.eos);
        // While there is none, the id is negative.
        let Some(seen) = seen.filter(|guard| guard.producer_id >= 0) else { return Seen::Nothing };
        match last.replace(seen) {
            Some(before) if before != seen => Seen::Anew,
            _ => Seen::Same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_epoch_or_id_is_a_new_guard() {
        let mut last = None;
        let mut observe = |text: &str| Guard::observe(&mut last, text.as_bytes());
        let eos = |id: i64, epoch: i64| {
            format!(
                r#"{{"brokers":{{}},"eos":{{"idemp_state":"Assigned","producer_id":{id},"producer_epoch":{epoch}}}}}"#
            )
        };
        let steps = [
            (eos(-1, -1), Seen::Nothing),
            (eos(7, 0), Seen::Same),
            (eos(7, 0), Seen::Same),
            (eos(-1, -1), Seen::Nothing),
            (eos(7, 1), Seen::Anew),
            (eos(7, 1), Seen::Same),
            (eos(9, 0), Seen::Anew),
            ("{}".to_owned(), Seen::Nothing),
            ("nonsense".to_owned(), Seen::Nothing),
            (eos(9, 0), Seen::Same),
        ];
        for (text, expected) in steps {
            assert_eq!(observe(&text), expected, "{text}");
        }
    }
}
