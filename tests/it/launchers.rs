//! The launchers themselves: what every other test stands on.

use std::time::{Duration, Instant};

use coinflow_tests::servers::{Kafka, KafkaOptions, Postgres, StopMode};

#[test]
fn kafka_keeps_its_records_and_its_port() {
    let mut kafka = Kafka::start().expect("Kafka starts");
    let client = kafka.client();
    client.create_topic("t", 2, 1, &[("retention.ms", "60000")]).expect("a topic");
    assert!(client.topics().expect("topics").contains(&"t".to_owned()));
    assert_eq!(client.topic_configs("t").expect("configs")["retention.ms"].as_deref(), Some("60000"));
    client.produce("t", Some(1), Some(b"key"), Some(b"value"), &[("schema", b"x")]).expect("a record");
    assert_eq!(client.watermarks("t").expect("watermarks").into_iter().collect::<Vec<_>>(), [(0, (0, 0)), (1, (0, 1))]);

    let (bootstrap, records) = (kafka.bootstrap(), client.records("t").expect("records"));
    assert_eq!((records.len(), records[0].key.as_deref()), (1, Some(&b"key"[..])));
    assert_eq!(records[0].headers, [("schema".to_owned(), Some(b"x".to_vec()))]);
    kafka.restart().expect("Kafka restarts");
    kafka.kill9().expect("killed");
    kafka.start_all().expect("Kafka starts again");
    assert_eq!(kafka.bootstrap(), bootstrap);
    assert_eq!(client.records("t").expect("records"), records);

    kafka.sigstop().expect("frozen");
    assert!(client.wait_brokers(1, Duration::from_millis(500)).is_err());
    kafka.sigcont().expect("thawed");
    client.wait_brokers(1, Duration::from_secs(10)).expect("it answers again");
    assert_eq!(client.count("t"), Ok(1));
    assert!(client.committed("nobody", "t").expect("offsets").is_empty());
    assert!(client.create_topic("t", 1, 1, &[]).is_err(), "it is there");
    assert!(client.count("other").is_err(), "topics are not made by themselves");
}

#[test]
fn kafka_of_three_brokers_loses_one() {
    let options = KafkaOptions {
        brokers: 3,
        properties: vec![("min.insync.replicas".to_owned(), "2".to_owned())],
        ..KafkaOptions::default()
    };
    let mut kafka = Kafka::start_with(&options).expect("three brokers");
    let client = kafka.client();
    client.create_topic("t", 3, 3, &[]).expect("a replicated topic");
    kafka.kill9_broker(0).expect("killed");
    client.produce("t", None, None, Some(b"value"), &[]).expect("two brokers are enough");
    kafka.start_broker(0).expect("back again");
    assert_eq!(client.count("t"), Ok(1));
}

#[test]
fn postgres_keeps_its_rows_and_its_port() {
    let mut server = Postgres::start().expect("PostgreSQL starts");
    let mut client = server.connect().expect("a connection");
    client.batch_execute("CREATE SCHEMA s; CREATE TABLE s.t (n int); INSERT INTO s.t VALUES (1)").expect("a table");
    let port = server.port();
    for mode in [StopMode::Fast, StopMode::Immediate, StopMode::Kill9] {
        server.restart(mode).unwrap_or_else(|error| panic!("{mode:?}: {error}"));
        assert_eq!(server.port(), port);
        let count: i64 =
            server.connect().expect("a connection").query_one("SELECT count(*) FROM s.t", &[]).expect("a row").get(0);
        assert_eq!(count, 1, "{mode:?}");
    }
    assert!(client.query_one("SELECT 1", &[]).is_err(), "the old session is gone");

    let mut client = server.connect().expect("a connection");
    server.sigstop().expect("frozen");
    let frozen = Instant::now();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| client.query_one("SELECT 1", &[]).map(|row| row.get::<_, i32>(0)));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!answer.is_finished());
        server.sigcont().expect("thawed");
        assert_eq!(answer.join().expect("no panic").expect("an answer"), 1);
    });
    assert!(frozen.elapsed() >= Duration::from_millis(200));
}
