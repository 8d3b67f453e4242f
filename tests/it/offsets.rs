//! `consumerd offsets`: what an operator sees of the positions, and sets.

use coinflow_tests::servers::Finished;

use crate::books::Writer;
use crate::rig::{LATER, Rig, SOON, TOPIC};

/// The exit code and what was said.
fn offsets(rig: &Rig, arguments: &[&str]) -> (i32, Finished) {
    let arguments = [&["offsets"], arguments].concat();
    let finished = rig.consumerd.run(&arguments, SOON).expect("it ends");
    (finished.status.code().expect("an exit code"), finished)
}

/// The lines of `offsets show`, in columns.
fn shown(rig: &Rig, arguments: &[&str]) -> Vec<Vec<String>> {
    let (code, finished) = offsets(rig, &[&["show"], arguments].concat());
    assert_eq!(code, 0, "{}", finished.stderr);
    finished.stdout.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn positions_are_shown_beside_what_kafka_holds() {
    let mut rig = Rig::new();
    let (code, finished) = offsets(&rig, &["show"]);
    assert_eq!((code, finished.stdout.as_str()), (1, ""), "no tables yet");
    assert!(finished.stderr.contains("kafka_offset") && finished.stderr.contains("first start"), "{}", finished.stderr);
    rig.client().create_topic(TOPIC, 1, 1, &[]).expect("a topic");
    let mut writer = Writer::new(&rig.kafka.bootstrap(), TOPIC);
    writer.write(100);
    rig.consumerd.start().expect("consumerd starts");
    rig.wait_rows(100, LATER);
    rig.stop_consumerd();
    writer.write(7);
    writer.finish();
    rig.client().delete_before(TOPIC, 0, 40).expect("deleted");

    let lines = shown(&rig, &["--source", "main", "--log-level", "error"]);
    let heading = "SOURCE TOPIC PARTITION GENERATION NEXT_OFFSET LAST_RECORD_AT LOW HIGH LAG";
    assert_eq!(lines[0].join(" "), heading);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let time = lines[1][5].clone();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert_eq!(lines[1], ["main", TOPIC, "0", "0", "100", &time, "40", "107", "7"]);
    let (code, finished) = offsets(&rig, &["show", "--source", "other"]);
    assert_eq!((code, finished.stderr.as_str()), (1, "there is no source other\n"));

    // Nobody joined the group, and nothing was committed beside the daemon.
    assert_eq!(rig.client().committed(crate::rig::GROUP, TOPIC).expect("commits")[&0], 100);
    rig.kafka.stop().expect("Kafka stops");
    let (code, finished) = offsets(&rig, &["show"]);
    assert_eq!(code, 0, "{}", finished.stderr);
    let line: Vec<_> = finished.stdout.lines().nth(1).expect("a line").split_whitespace().collect();
    assert_eq!(line, ["main", TOPIC, "0", "0", "100", &time, "-", "-", "-"]);
    assert!(finished.stderr.contains("only the database's part is shown"), "{}", finished.stderr);
}
