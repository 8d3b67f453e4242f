use coinflow_common::orderbook::Market;

use super::*;

struct Rig {
    flow: Flow,
    now: Instant,
}

fn record() -> Record {
    Record { market: Market::parse("KRW-BTC").unwrap(), value: vec![0; 13], timestamp: 0 }
}

impl Rig {
    fn new(records: usize) -> Self {
        let now = Instant::now();
        let mut rig = Self { flow: Flow::new(now), now };
        rig.push(records);
        rig.flow.topic_is_ready();
        rig
    }

    fn push(&mut self, records: usize) {
        (0..records).for_each(|_| self.flow.push(record(), None, self.now));
    }

    /// Sends all that may go, at most so many.
    fn send(&mut self, most: usize) -> Vec<u64> {
        let mut sent = Vec::new();
        while sent.len() < most {
            let Some(front) = self.flow.front(self.now) else { break };
            sent.push(front.number);
            self.flow.sent(self.now);
        }
        sent
    }

    fn fail(&mut self, number: u64, fate: Fate) -> Failed {
        self.flow.failed(self.now, fate, number).expect("on its way")
    }

    fn deliver(&mut self, number: u64) -> bool {
        assert!(self.flow.delivered(self.now, number).is_some());
        self.flow.is_well()
    }

    /// Waits until something may go; how long that was, in milliseconds.
    fn wait(&mut self) -> u128 {
        let start = self.now;
        self.flow.topic_is_ready();
        while self.flow.front(self.now).is_none() {
            self.now += Duration::from_millis(1);
        }
        (self.now - start).as_millis()
    }
}

#[test]
fn nothing_goes_before_the_topic_is_there() {
    let now = Instant::now();
    let mut flow = Flow::new(now);
    flow.push(record(), None, now);
    assert!(flow.front(now).is_none() && !flow.is_flowing(now));
    flow.topic_is_ready();
    assert!(flow.front(now).is_some() && flow.is_flowing(now));
}

#[test]
fn what_finds_no_room_stays_in_front() {
    let mut rig = Rig::new(4);
    rig.send(2);
    rig.fail(0, Fate::Again);
    rig.fail(1, Fate::Again);
    rig.wait();
    // Looked at, and left: librdkafka is full.
    assert_eq!(rig.flow.front(rig.now).map(|front| front.number), Some(0));
    assert_eq!(rig.flow.front(rig.now).map(|front| front.number), Some(0));
    assert_eq!(rig.send(9), [0, 1, 2, 3]);
}

#[test]
fn after_an_error_nothing_overtakes() {
    let mut rig = Rig::new(5);
    assert_eq!(rig.send(3), [0, 1, 2]);
    assert_eq!(rig.fail(0, Fate::Again), Failed::Again { is_first: true });
    rig.now += PAUSE_MAX;
    rig.flow.topic_is_ready();
    assert_eq!(rig.send(9), [0; 0]);
    assert_eq!(rig.fail(1, Fate::Again), Failed::Again { is_first: false });
    assert_eq!(rig.fail(2, Fate::Again), Failed::Again { is_first: false });
    assert_eq!(rig.send(9), [0, 1, 2, 3, 4]);
}

#[test]
fn an_error_that_stays_is_tried_ever_more_slowly() {
    let mut rig = Rig::new(2);
    let mut waits = Vec::new();
    for _ in 0..7 {
        for number in rig.send(9) {
            rig.fail(number, Fate::Again);
        }
        waits.push(rig.wait());
    }
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
    // Over once all that waited has been delivered, not with the first of it.
    assert_eq!(rig.send(9), [0, 1]);
    assert!(!rig.deliver(0));
    rig.fail(1, Fate::Again);
    assert_eq!(rig.wait(), 5000);
    assert_eq!(rig.send(9), [1]);
    assert!(rig.deliver(1));
    rig.push(1);
    for number in rig.send(9) {
        rig.fail(number, Fate::Again);
    }
    assert_eq!(rig.wait(), 200);
}

/// Sends all that waits to a Kafka that refuses batches of more than `most` records, and each that has the record
/// `bad`. What was lost, and how many batches it took.
fn deliver(rig: &mut Rig, most: usize, bad: Option<u64>) -> (Vec<u64>, usize) {
    let (mut lost, mut batches) = (Vec::new(), 0);
    while rig.flow.waiting() > 0 {
        let batch = rig.send(usize::MAX);
        assert!(batch.is_sorted() && !batch.is_empty());
        batches += 1;
        let is_refused = batch.len() > most || bad.is_some_and(|bad| batch.contains(&bad));
        for number in batch {
            if !is_refused {
                rig.deliver(number);
            } else if matches!(rig.fail(number, Fate::Lost), Failed::Lost(_)) {
                lost.push(number);
            }
        }
    }
    assert!(rig.flow.is_idle());
    (lost, batches)
}

#[test]
fn only_what_is_refused_alone_is_lost() {
    assert_eq!(deliver(&mut Rig::new(1), 100, Some(0)), (vec![0], 1));
    for bad in 0..20 {
        let (lost, batches) = deliver(&mut Rig::new(20), 100, Some(bad));
        assert_eq!(lost, [bad]);
        assert!(batches <= 25, "{bad}: {batches}");
    }
}

#[test]
fn a_topic_that_takes_small_batches_only_gets_them() {
    let (lost, batches) = deliver(&mut Rig::new(90), 3, None);
    assert_eq!(lost, [0; 0]);
    assert!(batches <= 60, "{batches}");
    let (lost, batches) = deliver(&mut Rig::new(90), 1, None);
    assert_eq!(lost, [0; 0]);
    assert!(batches <= 200, "{batches}");
}

#[test]
fn after_a_refusal_nothing_overtakes() {
    let mut rig = Rig::new(3);
    rig.send(2);
    assert_eq!(rig.fail(0, Fate::Lost), Failed::Fewer);
    assert_eq!(rig.send(9), [0; 0]);
    assert_eq!(rig.fail(1, Fate::Lost), Failed::Fewer);
    assert_eq!(rig.send(9), [0]);
}

#[test]
fn without_reports_nothing_more_goes_out() {
    let mut rig = Rig::new(3);
    assert_eq!(rig.send(1), [0]);
    rig.now += STALL;
    assert!(!rig.flow.is_flowing(rig.now));
    assert_eq!(rig.send(9), [0; 0]);
    rig.deliver(0);
    assert_eq!(rig.send(9), [1, 2]);
}

#[test]
fn what_came_back_before_others_is_copied_and_not_taken_out() {
    let mut rig = Rig::new(6);
    rig.send(4);
    rig.fail(0, Fate::Again);
    rig.fail(1, Fate::Again);
    // 2 and 3 are still on their way, and 4 and 5 wait behind them.
    assert!(rig.flow.pop_fresh().is_some() && rig.flow.pop_fresh().is_some());
    assert_eq!(rig.flow.pop_fresh(), None);
    let numbers = |copies: Vec<(u64, Record)>| copies.into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(numbers(rig.flow.copies()), [0, 1, 2, 3]);
    rig.flow.was_not_spooled(1);
    assert!(rig.flow.was_spooled(2, 77));
    assert_eq!(numbers(rig.flow.copies()), [1]);
}

#[test]
fn what_is_on_its_way_is_bounded() {
    let mut rig = Rig::new(20_000);
    let most = WINDOW_BYTES.div_ceil(record().bytes());
    assert_eq!(rig.send(usize::MAX).len(), most);
    (0..100).for_each(|number| _ = rig.deliver(number));
    assert_eq!(rig.send(usize::MAX).len(), 100);
}

#[test]
fn fates() {
    assert_eq!(fate(RDKafkaErrorCode::TopicAuthorizationFailed), Fate::Again);
    assert_eq!(fate(RDKafkaErrorCode::PolicyViolation), Fate::Again);
    assert_eq!(fate(RDKafkaErrorCode::MessageSizeTooLarge), Fate::Lost);
    assert_eq!(fate(RDKafkaErrorCode::PurgeQueue), Fate::Pending);
}

#[test]
fn the_most_on_their_way_is_that_since_the_last_look() {
    let mut rig = Rig::new(5);
    rig.send(3);
    rig.deliver(0);
    rig.deliver(1);
    assert_eq!(rig.flow.take_on_its_way_most(), 3);
    assert_eq!(rig.flow.take_on_its_way_most(), 1, "one is still on its way");
    rig.send(1);
    assert_eq!(rig.flow.take_on_its_way_most(), 2);
}
