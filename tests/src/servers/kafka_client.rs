//! Looking into Kafka from outside: what tests compare coinflow's own account with.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::wait::wait_until;

const CALL: Duration = Duration::from_secs(10);
const ADMIN_TRIES: u32 = 5;

/// A record as it stands in the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaRecord {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
pub struct KafkaClient {
    bootstrap: String,
}

impl KafkaClient {
    pub fn new(bootstrap: &str) -> KafkaClient {
        KafkaClient { bootstrap: bootstrap.to_owned() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "coinflow-tests");
        // A server that is about to start is found soon.
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        config
    }

    fn consumer(&self, group: &str) -> Result<BaseConsumer, String> {
        let mut config = self.config();
        config.set("group.id", group).set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        config.create().map_err(|error| format!("a consumer: {error}"))
    }

    fn admin<T, F: Future<Output = Result<T, KafkaError>>>(
        &self,
        what: &str,
        call: impl Fn(AdminClient<DefaultClientContext>, AdminOptions) -> F,
    ) -> Result<T, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
        for _ in 0..ADMIN_TRIES {
            let client = self.config().create().map_err(|error| format!("an admin client: {error}"))?;
            let options = AdminOptions::new().operation_timeout(Some(CALL)).request_timeout(Some(CALL));
            match runtime.block_on(call(client, options)) {
                // A new client drops the address that it was given once it knows the brokers, and with it what has not gone out.
                Err(KafkaError::AdminOp(RDKafkaErrorCode::DestroyBroker)) => {}
                result => return result.map_err(|error| format!("{what}: {error}")),
            }
        }
        Err(format!("{what}: not sent in {ADMIN_TRIES} tries"))
    }

    /// Waits until the cluster has this many brokers.
    pub fn wait_brokers(&self, brokers: usize, timeout: Duration) -> Result<(), String> {
        let consumer = self.consumer("coinflow-tests")?;
        wait_until(timeout, &format!("{brokers} brokers at {}", self.bootstrap), || {
            let metadata = consumer.fetch_metadata(None, Duration::from_secs(1)).ok()?;
            (metadata.brokers().len() == brokers).then_some(())
        })
    }

    /// Makes a topic with configs such as `("retention.ms", "60000")`, and waits until every partition has a leader.
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), String> {
        let results = self.admin(topic, |client, options| {
            let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
            for (key, value) in configs {
                new = new.set(key, value);
            }
            async move { client.create_topics([&new], &options).await }
        })?;
        for result in results {
            result.map_err(|(topic, code)| format!("{topic}: {code}"))?;
        }
        self.wait_topic(topic, partitions as usize, CALL)
    }

    /// Waits until a topic, made by whomever, has this many partitions with a leader.
    pub fn wait_topic(&self, topic: &str, partitions: usize, timeout: Duration) -> Result<(), String> {
        let what = format!("{partitions} partitions of {topic}");
        wait_until(timeout, &what, || self.partitions(topic).ok().filter(|found| found.len() == partitions)).map(|_| ())
    }

    /// Until the topic has so many.
    pub fn add_partitions(&self, topic: &str, partitions: usize) -> Result<(), String> {
        let results = self.admin(topic, |client, options| async move {
            client.create_partitions([&NewPartitions::new(topic, partitions)], &options).await
        })?;
        results
            .into_iter()
            .try_for_each(|result| result.map(|_| ()).map_err(|(topic, code)| format!("{topic}: {code}")))
    }

    pub fn delete_topic(&self, topic: &str) -> Result<(), String> {
        let results =
            self.admin(topic, |client, options| async move { client.delete_topics(&[topic], &options).await })?;
        results
            .into_iter()
            .try_for_each(|result| result.map(|_| ()).map_err(|(topic, code)| format!("{topic}: {code}")))
    }

    /// Deletes the records of a partition before an offset, as retention does.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) -> Result<(), String> {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .map_err(|error| format!("{topic}/{partition}: {error}"))?;
        let deleted = self.admin("deleting records", |client, options| {
            let offsets = &offsets;
            async move { client.delete_records(offsets, &options).await }
        })?;
        deleted.elements().iter().try_for_each(|element| element.error()).map_err(|error| error.to_string())
    }

    pub fn topics(&self) -> Result<Vec<String>, String> {
        let metadata = self.consumer("coinflow-tests")?.fetch_metadata(None, CALL);
        let metadata = metadata.map_err(|error| format!("metadata: {error}"))?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    /// Every config of a topic, defaults among them.
    pub fn topic_configs(&self, topic: &str) -> Result<BTreeMap<String, Option<String>>, String> {
        let resources = self.admin(topic, |client, options| async move {
            client.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await
        })?;
        let mut configs = BTreeMap::new();
        for resource in resources {
            let resource = resource.map_err(|code| format!("{topic}: {code}"))?;
            configs.extend(resource.entries.into_iter().map(|entry| (entry.name, entry.value)));
        }
        Ok(configs)
    }

    /// The partitions of a topic that have a leader.
    pub fn partitions(&self, topic: &str) -> Result<Vec<i32>, String> {
        let metadata = self.consumer("coinflow-tests")?.fetch_metadata(Some(topic), CALL);
        let metadata = metadata.map_err(|error| format!("{topic}: {error}"))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        let found = found.ok_or_else(|| format!("no topic {topic}"))?;
        Ok(found.partitions().iter().filter(|one| one.leader() >= 0).map(|one| one.id()).collect())
    }

    /// The id of the broker that leads a partition. That of the group's partition of `__consumer_offsets` coordinates it.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<i32, String> {
        let metadata = self.consumer("coinflow-tests")?.fetch_metadata(Some(topic), CALL);
        let metadata = metadata.map_err(|error| format!("{topic}: {error}"))?;
        let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let leader = partitions.find(|one| one.id() == partition).map(|one| one.leader());
        leader.ok_or_else(|| format!("no partition {partition} of {topic}"))
    }

    /// Until every partition of a topic has a leader and all its replicas are in sync.
    pub fn wait_in_sync(&self, topic: &str, timeout: Duration) -> Result<(), String> {
        let consumer = self.consumer("coinflow-tests")?;
        wait_until(timeout, &format!("all replicas of {topic} in sync"), || {
            let metadata = consumer.fetch_metadata(Some(topic), CALL).ok()?;
            let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions()).peekable();
            let is_there = partitions.peek().is_some();
            let in_sync = partitions.all(|one| one.leader() >= 0 && one.isr().len() == one.replicas().len());
            (is_there && in_sync).then_some(())
        })
    }

    /// (first, end) of each partition; the end is the offset of the next record.
    pub fn watermarks(&self, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>, String> {
        let consumer = self.consumer("coinflow-tests")?;
        let mut watermarks = BTreeMap::new();
        for partition in self.partitions(topic)? {
            let found = consumer.fetch_watermarks(topic, partition, CALL);
            watermarks.insert(partition, found.map_err(|error| format!("{topic}/{partition}: {error}"))?);
        }
        Ok(watermarks)
    }

    /// Records that a topic holds: the sum of end − first. (True while nothing is compacted and no transaction was used.)
    pub fn count(&self, topic: &str) -> Result<u64, String> {
        Ok(self.watermarks(topic)?.values().map(|(first, end)| (end - first).max(0) as u64).sum())
    }

    /// The offsets that a group has committed, where it has.
    pub fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>, String> {
        let mut wanted = TopicPartitionList::new();
        for partition in self.partitions(topic)? {
            wanted.add_partition(topic, partition);
        }
        let committed = self.consumer(group)?.committed_offsets(wanted, CALL);
        let committed = committed.map_err(|error| format!("offsets of {group}: {error}"))?;
        let elements = committed.elements();
        let offsets = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(offsets.collect())
    }

    /// A consumer group's state, such as `Stable`, and the client id of each member.
    pub fn group(&self, group: &str) -> Result<(String, Vec<String>), String> {
        let list = self.consumer("coinflow-tests")?.client().fetch_group_list(Some(group), CALL);
        let list = list.map_err(|error| format!("group {group}: {error}"))?;
        let found = list.groups().iter().find(|found| found.name() == group);
        let found = found.ok_or_else(|| format!("no group {group}"))?;
        Ok((found.state().to_owned(), found.members().iter().map(|member| member.client_id().to_owned()).collect()))
    }

    /// Every record of a topic, partition by partition.
    pub fn records(&self, topic: &str) -> Result<Vec<KafkaRecord>, String> {
        self.records_from(topic, &BTreeMap::new())
    }

    /// Those from these offsets on; of a partition that has none here, all.
    pub fn records_from(&self, topic: &str, from: &BTreeMap<i32, i64>) -> Result<Vec<KafkaRecord>, String> {
        let watermarks = self.watermarks(topic)?;
        let mut records = Vec::new();
        for (&partition, &(first, end)) in &watermarks {
            let first = from.get(&partition).map_or(first, |&from| first.max(from));
            if first >= end {
                continue;
            }
            let consumer = self.consumer("coinflow-tests")?;
            let mut assignment = TopicPartitionList::new();
            let added = assignment.add_partition_offset(topic, partition, Offset::Offset(first));
            added
                .and_then(|()| consumer.assign(&assignment))
                .map_err(|error| format!("{topic}/{partition}: {error}"))?;
            let mut next = first;
            while next < end {
                let polled = consumer.poll(CALL).ok_or_else(|| format!("{topic}/{partition}: nothing after {next}"))?;
                let message = polled.map_err(|error| format!("{topic}/{partition}: {error}"))?;
                next = message.offset() + 1;
                records.push(KafkaRecord {
                    partition,
                    offset: message.offset(),
                    timestamp_ms: message.timestamp().to_millis(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: message.headers().map_or_else(Vec::new, |headers| {
                        let own = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
                        headers.iter().map(own).collect()
                    }),
                });
            }
        }
        Ok(records)
    }

    /// Writes a record, to any partition when none is named, and waits until the cluster has it.
    pub fn produce(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Result<(), String> {
        let mut config = self.config();
        config.set("acks", "all").set("message.timeout.ms", CALL.as_millis().to_string());
        let producer: BaseProducer = config.create().map_err(|error| format!("a producer: {error}"))?;
        let mut owned = OwnedHeaders::new();
        for (key, value) in headers {
            owned = owned.insert(Header { key, value: Some(*value) });
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(owned);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        producer.send(record).map_err(|(error, _)| format!("{topic}: {error}"))?;
        producer.flush(CALL).map_err(|error| format!("{topic}: {error}"))
    }
}
