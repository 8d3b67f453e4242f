//! Requests over HTTP/1.1, parsed with `httparse`.

use std::io::{self, Read};
use std::net::{IpAddr, TcpStream};

/// Room for the query that names all markets of Upbit (7.7 KB), for one too long for Bithumb, and for the usual headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Bodies come to the control endpoint only; a book override is some kilobytes.
const BODY_BYTES_MAX: usize = 4 << 20;

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
    pub(crate) origin: Option<String>,
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

    /// The first value of a query parameter, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).into_iter().next()
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
            origin: header("origin"),
            keep_alive: if head.version == Some(1) { connection != "close" } else { connection == "keep-alive" },
            body: Vec::new(),
        };
        Ok(Some((request, head_bytes, body_bytes)))
    }
}

#[cfg(test)]
impl Request {
    /// As if it had come over the loopback.
    pub(crate) fn get(target: &str) -> Request {
        Request {
            client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            connection: 1,
            arrived_us: 0,
            method: "GET".to_owned(),
            target: target.to_owned(),
            user_agent: None,
            accept_encoding: None,
            origin: None,
            keep_alive: true,
            body: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_may_repeat() {
        let request =
            |target: &str| Request { accept_encoding: Some("deflate, gzip;q=0.5".to_owned()), ..Request::get(target) };
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
