//! A TCP proxy whose connections can be cut, refused, delayed and frozen.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(10);
const CONNECT: Duration = Duration::from_secs(2);
const CHUNK: usize = 16 << 10;

/// What becomes of bytes and of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Pass,
    /// New connections are taken and closed at once; those that are open stay.
    Refuse,
    /// Each piece waits this long, in either direction.
    Delay(Duration),
    /// Nothing passes, and no connection ends.
    Freeze,
}

#[derive(Debug)]
struct Shared {
    target_port: AtomicU16,
    mode: Mutex<Mode>,
    ended: AtomicBool,
    open: Mutex<HashMap<u64, [TcpStream; 2]>>,
    number: AtomicU64,
}

/// Listens on 127.0.0.1 and connects to another port there; ends when dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(super) fn start(port: u16, target_port: u16) -> Result<Proxy, String> {
        let fail = |error: std::io::Error| format!("proxy at port {port}: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        let shared = Arc::new(Shared {
            target_port: AtomicU16::new(target_port),
            mode: Mutex::new(Mode::Pass),
            ended: AtomicBool::new(false),
            open: Mutex::default(),
            number: AtomicU64::new(0),
        });
        let own = Arc::clone(&shared);
        let listener = std::thread::spawn(move || listen(&listener, &own));
        Ok(Proxy { port, shared, listener: Some(listener) })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// Connections from now on lead to this port.
    pub(super) fn lead_to(&self, target_port: u16) {
        self.shared.target_port.store(target_port, Ordering::Relaxed);
        self.cut();
    }

    /// Ends every connection; new ones are as the mode says.
    pub(super) fn cut(&self) {
        for streams in lock(&self.shared.open).values() {
            // It may have ended by itself.
            streams.iter().for_each(|stream| _ = stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.cut();
        if let Some(thread) = self.listener.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                // Ends with its connection, or with the proxy.
                std::thread::spawn(move || _ = connect(stream, &shared));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// Waits while nothing may pass; how long the piece has to wait then. None: it is over.
fn gate(shared: &Shared) -> Option<Duration> {
    loop {
        if shared.ended.load(Ordering::Relaxed) {
            return None;
        }
        match *lock(&shared.mode) {
            Mode::Freeze => {}
            Mode::Delay(time) => return Some(time),
            Mode::Pass | Mode::Refuse => return Some(Duration::ZERO),
        }
        std::thread::sleep(LOOK);
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    if *lock(&shared.mode) == Mode::Refuse || gate(shared).is_none() {
        return Ok(());
    }
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, shared.target_port.load(Ordering::Relaxed)));
    let server = TcpStream::connect_timeout(&target, CONNECT)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let number = shared.number.fetch_add(1, Ordering::Relaxed);
    lock(&shared.open).insert(number, [client.try_clone()?, server.try_clone()?]);
    let (from, to, other) = (client.try_clone()?, server.try_clone()?, Arc::clone(shared));
    let up = std::thread::spawn(move || pass(from, to, &other));
    pass(server, client, shared);
    let _ = up.join();
    lock(&shared.open).remove(&number);
    Ok(())
}

/// The end of one direction is the end of both: neither Kafka's protocol nor PostgreSQL's has half-closed connections.
fn pass(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut bytes = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let Some(wait) = gate(shared) else { break };
        std::thread::sleep(wait);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::free_port;

    /// Answers each byte with itself.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut byte = [0];
                    let mut stream = stream;
                    while stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {}
                });
            }
        });
        port
    }

    fn asked(stream: &mut TcpStream) -> std::io::Result<u8> {
        let mut byte = [0];
        stream.write_all(b"x")?;
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn every_mode() {
        let proxy = Proxy::start(free_port().expect("a port"), echo()).expect("it listens");
        let connect = || {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).expect("connected");
            stream.set_read_timeout(Some(Duration::from_millis(400))).expect("a timeout");
            stream
        };
        let mut stream = connect();
        assert_eq!(asked(&mut stream).expect("passed"), b'x');
        proxy.set(Mode::Delay(Duration::from_millis(50)));
        let began = std::time::Instant::now();
        assert_eq!(asked(&mut stream).expect("passed"), b'x');
        assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
        proxy.set(Mode::Freeze);
        assert!(asked(&mut stream).is_err(), "nothing passes");
        proxy.set(Mode::Pass);
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("what was held passes now");
        proxy.set(Mode::Refuse);
        assert_eq!(asked(&mut stream).expect("open ones stay"), b'x');
        assert!(asked(&mut connect()).is_err(), "new ones are refused");
        proxy.cut();
        assert!(asked(&mut stream).is_err(), "cut");
    }
}
