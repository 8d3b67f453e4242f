//! Replies over HTTP/1.1, written so that faults can break them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::net::sockopt;

use super::server::Stop;

/// Below this, compression gains nothing.
const GZIP_BYTES_MIN: usize = 512;

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
    /// That a fault adds.
    pub(crate) more_headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) delivery: Delivery,
    /// The body is compressed.
    pub(crate) gzip: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, content_type: Some(content_type.to_owned()), body: body.into(), ..Reply::default() }
    }

    pub(crate) fn json(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(status, "application/json", body)
    }

    /// The page of a gateway.
    pub(crate) fn html(status: u16) -> Reply {
        let body = format!(
            "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
        Reply::new(status, "text/html", body)
    }

    pub(crate) fn empty(status: u16) -> Reply {
        Reply { status, ..Reply::default() }
    }

    pub(crate) fn compress(&mut self) {
        if self.body.len() < GZIP_BYTES_MIN || matches!(self.delivery, Delivery::Huge(_)) {
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
        for (name, value) in &self.more_headers {
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
        418 => "I'm a teapot",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "-",
    }
}
