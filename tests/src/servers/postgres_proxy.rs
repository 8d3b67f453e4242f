//! A wire to PostgreSQL that can be cut in the middle of a COMMIT.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the next COMMIT of a session that has sent COPY data is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// PostgreSQL never hears of it.
    Before,
    /// PostgreSQL has committed, and its answer is lost.
    After,
    /// It is on its way when the wire breaks: nobody knows.
    Between,
}

#[derive(Debug, Default)]
struct Shared {
    cut: Mutex<Option<Cut>>,
    cuts: AtomicU64,
    refuses: AtomicBool,
    done: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// Listens at a port of its own and passes everything on, until it is told to cut.
#[derive(Debug)]
pub struct PostgresProxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl PostgresProxy {
    /// `server`: PostgreSQL's port on 127.0.0.1.
    pub fn start(server: u16) -> Result<PostgresProxy, String> {
        let fail = |error: std::io::Error| format!("a proxy for PostgreSQL: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(fail)?;
        let port = listener.local_addr().map_err(fail)?.port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let accept = move || {
            for client in listener.incoming() {
                if own.done.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(client), false) = (client, own.refuses.load(Ordering::Relaxed)) else { continue };
                let shared = Arc::clone(&own);
                // It ends with the connection.
                std::thread::spawn(move || serve(client, server, &shared));
            }
        };
        let acceptor = std::thread::Builder::new().name("pg-proxy".to_owned()).spawn(accept).map_err(fail)?;
        Ok(PostgresProxy { port, shared, acceptor: Some(acceptor) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// At the next COMMIT behind a COPY; from then on no connection is taken until `admit`.
    pub fn cut(&self, cut: Cut) {
        *lock(&self.shared.cut) = Some(cut);
    }

    /// How often it was cut.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    pub fn admit(&self) {
        self.shared.refuses.store(false, Ordering::Relaxed);
    }
}

impl Drop for PostgresProxy {
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(client: TcpStream, server: u16, shared: &Arc<Shared>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    lock(&shared.open).extend([client.try_clone(), server.try_clone()].into_iter().flatten());
    // Set when the answer to a COMMIT is to be swallowed.
    let swallow = Arc::new(AtomicBool::new(false));
    if let (Ok(from), Ok(to)) = (server.try_clone(), client.try_clone()) {
        let swallow = Arc::clone(&swallow);
        std::thread::spawn(move || answers(from, to, &swallow));
    }
    let _ = requests(&client, &server, shared, &swallow);
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

/// Message by message. The first one has no type; TLS is not spoken.
fn requests(
    mut client: &TcpStream,
    mut server: &TcpStream,
    shared: &Shared,
    swallow: &AtomicBool,
) -> std::io::Result<()> {
    let mut message = Vec::new();
    let (mut is_first, mut copied) = (true, false);
    loop {
        message.clear();
        let head = if is_first { 4 } else { 5 };
        message.resize(head, 0);
        client.read_exact(&mut message)?;
        let length: [u8; 4] = message[head - 4..].try_into().expect("four bytes");
        message.resize(head - 4 + u32::from_be_bytes(length) as usize, 0);
        client.read_exact(&mut message[head..])?;
        let kind = if is_first { 0 } else { message[0] };
        is_first = false;
        copied |= kind == b'd';
        if kind == b'Q' && message[5..].starts_with(b"COMMIT") {
            let cut = if std::mem::take(&mut copied) { lock(&shared.cut).take() } else { None };
            if let Some(cut) = cut {
                shared.refuses.store(true, Ordering::Relaxed);
                match cut {
                    Cut::Before => {}
                    Cut::After => {
                        swallow.store(true, Ordering::Relaxed);
                        server.write_all(&message)?;
                        // The other direction ends when the answer has come; PostgreSQL needs no longer than this.
                        std::thread::sleep(Duration::from_secs(1));
                    }
                    Cut::Between => server.write_all(&message)?,
                }
                shared.cuts.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
        server.write_all(&message)?;
    }
}

fn answers(mut from: TcpStream, mut to: TcpStream, swallow: &AtomicBool) {
    let mut buffer = [0; 8 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !swallow.load(Ordering::Relaxed) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
