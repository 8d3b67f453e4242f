//! In which state the books are. Pure.

/// Books of one exchange since the start. Each accepted one, and each taken over from the spool of an earlier run, is in exactly
/// one state:
/// `accepted + taken over = in flight + spooled + delivered + dropped + unknown`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    /// Found in the spool at the start.
    pub(crate) taken_over: u64,
    /// In memory, here or in librdkafka.
    pub(crate) in_flight: u64,
    /// On disk, and not handed to librdkafka since.
    pub(crate) spooled: u64,
    /// Kafka has confirmed them.
    pub(crate) delivered: u64,
    /// Lost, and said so.
    pub(crate) dropped: u64,
    /// Given up at the end of the process, and Kafka may have them.
    pub(crate) unknown: u64,
}

impl Counts {
    /// Whether the books are where they are said to be.
    pub(crate) fn is_balanced(&self) -> bool {
        self.accepted + self.taken_over == self.in_flight + self.spooled + self.delivered + self.dropped + self.unknown
    }

    /// The process ends, and nobody will hear what became of the rest.
    pub(crate) fn give_up(&mut self) {
        self.unknown += std::mem::take(&mut self.in_flight);
    }

    /// So many came to lie on disk.
    pub(super) fn spooled(&mut self, records: u64) {
        self.in_flight = self.in_flight.saturating_sub(records);
        self.spooled += records;
    }

    /// So many that lay on disk are in memory alone now.
    pub(super) fn leave_spool(&mut self, records: u64) {
        self.spooled = self.spooled.saturating_sub(records);
        self.in_flight += records;
    }

    pub(super) fn leaves_spool(&mut self, is_spooled: bool) {
        self.leave_spool(u64::from(is_spooled));
    }

    pub(super) fn returns_to_spool(&mut self, is_spooled: bool) {
        self.spooled(u64::from(is_spooled));
    }

    pub(super) fn delivered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.delivered += 1;
    }

    /// So many of those in flight are lost.
    pub(super) fn dropped(&mut self, records: u64) {
        self.in_flight = self.in_flight.saturating_sub(records);
        self.dropped += records;
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.taken_over += other.taken_over;
        self.in_flight += other.in_flight;
        self.spooled += other.spooled;
        self.delivered += other.delivered;
        self.dropped += other.dropped;
        self.unknown += other.unknown;
    }
}
