//! A wire to a Kafka broker that can make it name no broker.

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Read, Result as IoResult, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Kafka's number of the request Metadata.
const METADATA: i16 = 3;
/// From this version of it on, lengths are varints.
const FLEXIBLE: i16 = 9;

#[derive(Debug, Default)]
struct Shared {
    names_none: AtomicBool,
    changed: AtomicU64,
    done: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// Passes everything on, and can take the brokers out of each answer to Metadata, as a broker answers that is alone and does not
/// count itself in yet.
#[derive(Debug)]
pub struct KafkaProxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl KafkaProxy {
    /// Listens at `port` of 127.0.0.1; the broker at `broker`.
    pub fn start(port: u16, broker: u16) -> Result<KafkaProxy, String> {
        let fail = |error: Error| format!("a proxy for Kafka: {error}");
        let listener = TcpListener::bind(("127.0.0.1", port)).map_err(fail)?;
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let accept = move || {
            for client in listener.incoming() {
                if own.done.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(client) = client else { continue };
                let shared = Arc::clone(&own);
                // It ends with the connection.
                std::thread::spawn(move || serve(&client, broker, &shared));
            }
        };
        let acceptor = std::thread::Builder::new().name("kafka-proxy".to_owned()).spawn(accept).map_err(fail)?;
        Ok(KafkaProxy { port, shared, acceptor: Some(acceptor) })
    }

    pub fn names_none(&self, names_none: bool) {
        self.shared.names_none.store(names_none, Ordering::Relaxed);
    }

    /// How many answers have been changed.
    pub fn changed(&self) -> u64 {
        self.shared.changed.load(Ordering::Relaxed)
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // The acceptor waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The requests that are to be answered: correlation id, and the version of Metadata.
type Asked = Mutex<HashMap<[u8; 4], i16>>;

fn serve(client: &TcpStream, broker: u16, shared: &Arc<Shared>) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", broker)) else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    lock(&shared.open).extend([client.try_clone(), broker.try_clone()].into_iter().flatten());
    let asked = Asked::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = answers(&broker, client, &asked, shared);
            let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
        });
        let _ = requests(client, &broker, &asked);
        let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
    });
}

/// One message without its length.
fn message(mut from: &TcpStream) -> IoResult<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut message)?;
    Ok(message)
}

fn pass_on(mut to: &TcpStream, message: &[u8]) -> IoResult<()> {
    to.write_all(&(message.len() as u32).to_be_bytes())?;
    to.write_all(message)
}

fn requests(client: &TcpStream, broker: &TcpStream, asked: &Asked) -> IoResult<()> {
    loop {
        let message = message(client)?;
        if let [key_0, key_1, version_0, version_1, id_0, id_1, id_2, id_3, ..] = message[..] {
            if i16::from_be_bytes([key_0, key_1]) == METADATA {
                let version = i16::from_be_bytes([version_0, version_1]);
                lock(asked).insert([id_0, id_1, id_2, id_3], version);
            }
        }
        pass_on(broker, &message)?;
    }
}

fn answers(broker: &TcpStream, client: &TcpStream, asked: &Asked, shared: &Shared) -> IoResult<()> {
    loop {
        let mut message = message(broker)?;
        let version = message.first_chunk().and_then(|id| lock(asked).remove(id));
        if let (Some(version), true) = (version, shared.names_none.load(Ordering::Relaxed)) {
            message = without_brokers(&message, version).ok_or(ErrorKind::InvalidData)?;
            shared.changed.fetch_add(1, Ordering::Relaxed);
        }
        pass_on(client, &message)?;
    }
}

/// An answer to Metadata: correlation id, tags, throttle time, brokers (id, host, port, rack, tags), and what is passed on.
fn without_brokers(answer: &[u8], version: i16) -> Option<Vec<u8>> {
    if version < FLEXIBLE {
        return None;
    }
    let (head, mut rest) = answer.split_at_checked(4 + 1 + 4)?;
    for _ in 1..varint(&mut rest)? {
        rest = rest.get(4..)?;
        text(&mut rest)?;
        rest = rest.get(4..)?;
        text(&mut rest)?;
        // No tags are known.
        rest = rest.strip_prefix(&[0])?;
    }
    Some([head, &[1], rest].concat())
}

/// Nothing, or a text, whose length is counted from 1.
fn text(rest: &mut &[u8]) -> Option<()> {
    let length = varint(rest)?.saturating_sub(1);
    *rest = rest.get(length..)?;
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_are_cut_out() {
        let broker = [&[0, 0, 0, 1, 5][..], b"host", &[0, 0, 0x23, 0x84, 0, 0]].concat();
        let answer = |brokers: &[u8]| [&[9, 9, 9, 9, 0, 0, 0, 0, 0][..], brokers, b"rest"].concat();
        let two = [&[3][..], &broker, &broker].concat();
        assert_eq!(without_brokers(&answer(&two), 12), Some(answer(&[1])));
        assert_eq!(without_brokers(&answer(&two), 8), None);
        assert_eq!(without_brokers(&answer(&[3]), 12), None);
    }
}
