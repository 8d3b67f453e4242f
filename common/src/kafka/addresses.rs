//! What a client may connect to.

use std::ffi::CString;

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::client::{Client, ClientContext};

use super::Cluster;
use super::cluster::Stranded;

/// Gives a client that seems to have no address left those of its configuration again. To be called now and then.
///
/// A broker that its controller has given up for a while may answer that the cluster has topics and no brokers. librdkafka
/// 2.12 to 2.13 then forgets every address, the configured ones as well, and never connects again (its issue 5301). Where it
/// still has them this is of no consequence: what it need not know it forgets at the next answer.
pub fn restore_addresses<C: ClientContext>(client: &Client<C>, cluster: &Cluster) {
    let Some(stranded) = cluster.take_stranded() else { return };
    let level = match stranded {
        Stranded::Surely => log::Level::Warn,
        Stranded::Perhaps => log::Level::Debug,
    };
    let brokers = cluster.name();
    log::log!(level, "kafka is asked at the addresses of the configuration again brokers={brokers}");
    // The configuration has been read from text, and librdkafka has taken it before.
    let Ok(list) = CString::new(brokers) else { return };
    #[expect(unsafe_code, reason = "rdkafka has no safe access to it")]
    // SAFETY: the client lives as long as the borrow; librdkafka copies the list, and may be called from every thread.
    unsafe {
        rd_kafka_brokers_add(client.native_ptr(), list.as_ptr());
    }
}
