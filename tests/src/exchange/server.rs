//! The listener and its connections: one thread each, all of them bounded and joined.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Options;
use super::api::Pause;
use super::control::{self, Then};
use super::http::{Closed, Reader, Request};
use super::reply::{self, Delivery, Reply};
use super::world::{Answer, World};

const CONNECTIONS_MAX: usize = 512;
/// A silent connection is closed after this; nginx's default.
const IDLE: Duration = Duration::from_secs(75);
const WRITE: Duration = Duration::from_secs(60);
/// How long stopping waits for connections that are at work.
const STOP: Duration = Duration::from_secs(5);

/// A request to stop, which wakes whoever sleeps.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    requested: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    pub(crate) fn requested(&self) -> bool {
        *self.lock()
    }

    /// True: stopped while, or before, sleeping.
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        let result = self.wake.wait_timeout_while(self.lock(), time, |requested| !*requested);
        *result.unwrap_or_else(PoisonError::into_inner).0
    }

    fn request(&self) {
        *self.lock() = true;
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.requested.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    world: Mutex<World>,
    stop: Stop,
    /// Open connections, to be shut down when the exchange stops.
    open: Mutex<HashMap<u64, TcpStream>>,
    /// Signalled at each end of a connection.
    closed: Condvar,
    address: SocketAddr,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request_stop(&self) {
        self.stop.request();
        // Wakes the listener out of accept().
        let _ = TcpStream::connect(self.address);
        for stream in self.open().values() {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(options: &Options) -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(options.venue, options.seed)),
            stop: Stop::default(),
            open: Mutex::default(),
            closed: Condvar::new(),
            address: listener.local_addr()?,
        });
        let own = Arc::clone(&shared);
        let listener =
            std::thread::Builder::new().name("ex-listen".to_owned()).spawn(move || listen(&listener, &own))?;
        Ok(Server { shared, listener: Some(listener) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    pub(crate) fn request_stop(&self) {
        self.shared.request_stop();
    }

    /// Waits until somebody asks the exchange to stop, over the control endpoint or with `request_stop`.
    pub(crate) fn join(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        // A panic of the listener has been printed already; there is nothing left to stop then.
        let _ = listener.join();
        let open = self.shared.open();
        let waited = self.shared.closed.wait_timeout_while(open, STOP, |open| !open.is_empty());
        for stream in waited.unwrap_or_else(PoisonError::into_inner).0.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = 0;
    loop {
        let accepted = listener.accept();
        if shared.stop.requested() {
            return;
        }
        let Ok((stream, client)) = accepted else {
            // Out of descriptors, most likely; some will come back.
            shared.stop.sleep(Duration::from_millis(20));
            continue;
        };
        connections += 1;
        if shared.open().len() >= CONNECTIONS_MAX {
            reply::reset(&stream);
            continue;
        }
        let Ok(clone) = stream.try_clone() else { continue };
        shared.open().insert(connections, clone);
        let own = Arc::clone(shared);
        let reader = Reader::new(client.ip(), connections);
        let thread = std::thread::Builder::new().name("ex-conn".to_owned()).spawn(move || {
            connection(stream, reader, &own);
            own.open().remove(&connections);
            own.closed.notify_all();
        });
        if thread.is_err() {
            shared.open().remove(&connections);
        }
    }
}

fn connection(mut stream: TcpStream, mut reader: Reader, shared: &Shared) {
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(IDLE)))
        .and_then(|()| stream.set_write_timeout(Some(WRITE)));
    if prepared.is_err() {
        return;
    }
    shared.world().summary.connections += 1;
    loop {
        let request = match reader.next(&mut stream, now_us) {
            Ok(request) => request,
            Err(Closed::Gone) => return,
            Err(Closed::Refused(status)) => {
                let _ = Reply::empty(status).write(&mut stream, false, &shared.stop);
                return;
            }
        };
        let kept = match request.path().strip_prefix("/control/") {
            Some(route) => control(&mut stream, &request, route, shared),
            None => exchange(&mut stream, &request, shared),
        };
        if !kept.unwrap_or(false) {
            return;
        }
    }
}

fn control(stream: &mut TcpStream, request: &Request, route: &str, shared: &Shared) -> io::Result<bool> {
    let open = shared.open().len() as u64;
    let (mut reply, then) = {
        let mut world = shared.world();
        world.summary.connections_open = open;
        control::answer(&mut world, request, route)
    };
    if request.accepts_gzip() {
        reply.compress();
    }
    let kept = reply.write(stream, request.keep_alive, &shared.stop);
    if then == Then::Stop {
        shared.request_stop();
    }
    kept
}

fn exchange(stream: &mut TcpStream, request: &Request, shared: &Shared) -> io::Result<bool> {
    if !passes_pause(stream, request, shared) {
        return Ok(false);
    }
    let (mut answer, compress) = {
        let mut world = shared.world();
        let answer = world.answer(request, now_us());
        (answer, world.compresses(request))
    };
    if compress {
        answer.reply.compress();
    }
    if !answer.delay.is_zero() && shared.stop.sleep(answer.delay) {
        return Ok(false);
    }
    let trickles = matches!(answer.reply.delivery, Delivery::Trickle { .. });
    let books = std::mem::take(&mut answer.books);
    let sequence = shared.world().note_request(request, &answer);
    // A client that has its reply finds it in the log; one that did not take it makes its books vanish from there again.
    if trickles {
        let kept = answer.reply.write(stream, request.keep_alive, &shared.stop)?;
        if kept || !request.keep_alive {
            shared.world().note_books(request, sequence, books);
        }
        return Ok(kept);
    }
    let noted = shared.world().note_books(request, sequence, books);
    let kept = answer.reply.write(stream, request.keep_alive, &shared.stop);
    if kept.is_err() {
        shared.world().retract_books(&noted);
    }
    kept
}

/// Holds or resets a request while the exchange is paused.
fn passes_pause(stream: &TcpStream, request: &Request, shared: &Shared) -> bool {
    loop {
        let pause = shared.world().pause;
        match pause {
            None => return true,
            Some(Pause::Reset) => {
                shared.world().note_request(request, &Answer::default());
                reply::reset(stream);
                return false;
            }
            Some(Pause::Hang) => {
                if shared.stop.sleep(Duration::from_millis(10)) {
                    return false;
                }
            }
        }
    }
}

/// Unix microseconds, as the replayed exchange's logs have them.
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
