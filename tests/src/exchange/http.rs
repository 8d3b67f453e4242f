//! HTTP/1.1 as the exchange speaks it: requests are parsed with `httparse`, replies are written so that faults can break them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::net::sockopt;

use super::server::Stop;

/// Room for a query that is too long for the exchange (4,096 characters) and for the usual headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Bodies come to the control endpoint only; a book override is some kilobytes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Below this, compression gains nothing.
const GZIP_BYTES_MIN: usize = 512;

/// A request, as far as the exchange looks at it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) client: IpAddr,
    pub(crate) connection: u64,
    pub(crate) arrived_us: u64,
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    pub(crate) user_agent: Option<String>,
    pub(crate) accept_encoding: Option<String>,
    pub(crate) keep_alive: bool,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Every value of a query parameter, decoded.
    pub(crate) fn parameters(&self, name: &str) -> Vec<String> {
        let pairs = self.query().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| percent_decode(key) == name).map(|(_, value)| percent_decode(value)).collect()
    }

    pub(crate) fn accepts_gzip(&self) -> bool {
        self.accept_encoding
            .as_deref()
            .is_some_and(|encodings| encodings.split(',').any(|one| one.trim().starts_with("gzip")))
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = if first == b'%' { tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()) } else { None };
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why no further request comes from a connection.
#[derive(Debug)]
pub(crate) enum Closed {
    /// The client is gone, or was silent for too long.
    Gone,
    /// What came is not HTTP as the exchange takes it; this status says so.
    Refused(u16),
}

impl From<io::Error> for Closed {
    fn from(_: io::Error) -> Closed {
        Closed::Gone
    }
}

/// The reading half of a connection: what came in, but belongs to the next request.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) client: IpAddr,
    pub(crate) connection: u64,
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(client: IpAddr, connection: u64) -> Reader {
        Reader { client, connection, buffer: Vec::new() }
    }

    /// Waits for the next request. The stream's read time-out bounds the silence.
    pub(crate) fn next(&mut self, stream: &mut TcpStream, now_us: impl Fn() -> u64) -> Result<Request, Closed> {
        let mut arrived_us = None;
        let (mut request, head_bytes, body_bytes) = loop {
            if !self.buffer.is_empty() {
                arrived_us.get_or_insert_with(&now_us);
                if let Some(parsed) = self.parse_head(arrived_us.unwrap_or_default())? {
                    break parsed;
                }
            }
            if self.buffer.len() >= HEAD_BYTES_MAX {
                return Err(Closed::Refused(431));
            }
            self.fill(stream)?;
        };
        self.buffer.drain(..head_bytes);
        if body_bytes > BODY_BYTES_MAX {
            return Err(Closed::Refused(413));
        }
        while self.buffer.len() < body_bytes {
            self.fill(stream)?;
        }
        request.body = self.buffer.drain(..body_bytes).collect();
        Ok(request)
    }

    fn fill(&mut self, stream: &mut TcpStream) -> Result<(), Closed> {
        let mut chunk = [0; 8 << 10];
        match stream.read(&mut chunk)? {
            0 => Err(Closed::Gone),
            read => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }

    fn parse_head(&self, arrived_us: u64) -> Result<Option<(Request, usize, usize)>, Closed> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        let head_bytes = match head.parse(&self.buffer) {
            Ok(httparse::Status::Complete(bytes)) => bytes,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Closed::Refused(400)),
        };
        let header = |name: &str| {
            let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            found.map(|header| String::from_utf8_lossy(header.value).into_owned())
        };
        if header("transfer-encoding").is_some() {
            return Err(Closed::Refused(411));
        }
        let body_bytes = match header("content-length") {
            None => 0,
            Some(text) => text.trim().parse().map_err(|_| Closed::Refused(400))?,
        };
        let connection = header("connection").unwrap_or_default().to_ascii_lowercase();
        let request = Request {
            client: self.client,
            connection: self.connection,
            arrived_us,
            method: head.method.unwrap_or_default().to_owned(),
            target: head.path.unwrap_or_default().to_owned(),
            user_agent: header("user-agent"),
            accept_encoding: header("accept-encoding"),
            keep_alive: if head.version == Some(1) { connection != "close" } else { connection == "keep-alive" },
            body: Vec::new(),
        };
        Ok(Some((request, head_bytes, body_bytes)))
    }
}

/// How a reply's bytes get to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    #[default]
    Whole,
    Trickle {
        bytes: usize,
        every: Duration,
    },
    /// Head and half of the body, then RST.
    Reset,
    /// This many bytes, chunked, in place of the body.
    Huge(u64),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) delivery: Delivery,
    /// The body is compressed.
    pub(crate) gzip: bool,
}

impl Reply {
    pub(crate) fn json(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, content_type: Some("application/json".to_owned()), body: body.into(), ..Reply::default() }
    }

    pub(crate) fn empty(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub(crate) fn compress(&mut self) {
        if self.body.len() < GZIP_BYTES_MIN || self.delivery != Delivery::Whole {
            return;
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(self.body.len() / 2), Compression::fast());
        if encoder.write_all(&self.body).is_ok() {
            if let Ok(compressed) = encoder.finish() {
                self.body = compressed;
                self.gzip = true;
            }
        }
    }

    fn head(&self, keep_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let mut header = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        header("server", "nginx");
        if let Some(content_type) = &self.content_type {
            header("content-type", content_type);
        }
        for (name, value) in &self.headers {
            header(name, value);
        }
        if self.gzip {
            header("content-encoding", "gzip");
        }
        match self.delivery {
            Delivery::Huge(_) => header("transfer-encoding", "chunked"),
            _ => header("content-length", &self.body.len().to_string()),
        }
        header("connection", if keep_alive { "keep-alive" } else { "close" });
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Whether the connection can serve another request.
    pub(crate) fn write(&self, stream: &mut TcpStream, keep_alive: bool, stop: &Stop) -> io::Result<bool> {
        let mut bytes = self.head(keep_alive);
        match &self.delivery {
            Delivery::Whole => {
                bytes.extend_from_slice(&self.body);
                stream.write_all(&bytes)?;
            }
            Delivery::Trickle { bytes: piece, every } => {
                stream.write_all(&bytes)?;
                for piece in self.body.chunks((*piece).max(1)) {
                    stream.write_all(piece)?;
                    if stop.sleep(*every) {
                        return Ok(false);
                    }
                }
            }
            Delivery::Reset => {
                bytes.extend_from_slice(&self.body[..self.body.len() / 2]);
                stream.write_all(&bytes)?;
                // The client shall see half a body before the reset, and RST discards what it has not read yet.
                stop.sleep(Duration::from_millis(50));
                reset(stream);
                return Ok(false);
            }
            Delivery::Huge(length) => {
                stream.write_all(&bytes)?;
                write_huge(stream, *length, stop)?;
            }
        }
        Ok(keep_alive)
    }
}

/// Blanks inside a JSON array: no parser can refuse them before the end.
fn write_huge(stream: &mut TcpStream, length: u64, stop: &Stop) -> io::Result<()> {
    const CHUNK: u64 = 64 << 10;
    let mut left = length;
    let mut blanks = vec![b' '; CHUNK as usize];
    blanks[0] = b'[';
    while left > 0 && !stop.requested() {
        let now = left.min(CHUNK);
        stream.write_all(format!("{now:x}\r\n").as_bytes())?;
        stream.write_all(&blanks[..now as usize])?;
        stream.write_all(b"\r\n")?;
        blanks[0] = b' ';
        left -= now;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// Closes with RST in place of FIN.
pub(crate) fn reset(stream: &TcpStream) {
    // If it fails, the client sees an early end instead, which is as broken a reply.
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_may_repeat() {
        let request = |target: &str| Request {
            client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            connection: 1,
            arrived_us: 0,
            method: "GET".to_owned(),
            target: target.to_owned(),
            user_agent: None,
            accept_encoding: Some("deflate, gzip;q=0.5".to_owned()),
            keep_alive: true,
            body: Vec::new(),
        };
        let cases: [(&str, &[&str]); 6] = [
            ("/v1/orderbook?markets=KRW-BTC,KRW-ETH", &["KRW-BTC,KRW-ETH"]),
            ("/v1/orderbook?markets=KRW-BTC%2CKRW-ETH", &["KRW-BTC,KRW-ETH"]),
            ("/v1/orderbook?markets=A&x=1&markets=B", &["A", "B"]),
            ("/v1/orderbook?markets=", &[""]),
            ("/v1/orderbook?markets=%", &["%"]),
            ("/v1/orderbook", &[]),
        ];
        for (target, wanted) in cases {
            assert_eq!(request(target).parameters("markets"), wanted, "{target}");
            assert_eq!(request(target).path(), "/v1/orderbook");
        }
        assert!(request("/").accepts_gzip());
    }
}
