//! A record as Kafka gave it, and the buffers that such things live in.

use std::ops::Range;

/// A record as Kafka gave it: a dead letter keeps it. It lies in one buffer, for there are thousands a second.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    /// Kafka's record time in milliseconds since 1970.
    pub(crate) at_ms: Option<i64>,
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
    /// From here on each header is the length of its name, the name, the length of its value or -1, and the value.
    headers_at: usize,
    bytes: Vec<u8>,
}

/// What producerd's headers take.
const HEADERS_BYTES: usize = 192;

/// Name and value; names are UTF-8.
pub(crate) type Header<'a> = (&'a str, Option<&'a [u8]>);

impl Raw {
    /// Without headers. What the buffer held is forgotten.
    pub(crate) fn new(at_ms: Option<i64>, key: Option<&[u8]>, payload: Option<&[u8]>, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        // At once: growth by doubling would leave half of most buffers empty.
        buffer.reserve(length(key) + length(payload) + HEADERS_BYTES);
        let mut put = |part: Option<&[u8]>| {
            part.map(|part| {
                let begin = buffer.len();
                buffer.extend_from_slice(part);
                begin..buffer.len()
            })
        };
        let (key, payload) = (put(key), put(payload));
        Self { at_ms, key, payload, headers_at: buffer.len(), bytes: buffer }
    }

    pub(crate) fn push_header(&mut self, name: &str, value: Option<&[u8]>) {
        self.bytes.extend(length(name.len()));
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend(value.map_or((-1i32).to_ne_bytes(), |value| length(value.len())));
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.key.clone().map(|range| &self.bytes[range])
    }

    pub(crate) fn payload(&self) -> Option<&[u8]> {
        self.payload.clone().map(|range| &self.bytes[range])
    }

    /// In their order; a name may stand more than once.
    pub(crate) fn headers(&self) -> Headers<'_> {
        Headers(&self.bytes[self.headers_at..])
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Kafka's own lengths are of this type.
fn length(bytes: usize) -> [u8; 4] {
    (bytes as i32).to_ne_bytes()
}

/// What is left of the headers.
#[derive(Debug, Clone)]
pub(crate) struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    /// None for a length of -1, and at the end.
    fn part(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (part, rest) = match usize::try_from(i32::from_ne_bytes(*length)) {
            Ok(length) => rest.split_at_checked(length).map(|(part, rest)| (Some(part), rest))?,
            Err(_) => (None, rest),
        };
        self.0 = rest;
        part
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let name = self.part()?;
        Some((std::str::from_utf8(name).unwrap_or_default(), self.part()))
    }
}

/// Buffers of records that are done, to be used again: to allocate some kilobytes in one thread and to free them in
/// another costs as much as to fill them. Apart by what they were for, since each kind has its size.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    pub(crate) raws: Buffers,
    pub(crate) tuples: Buffers,
}

impl Spare {
    /// Takes those of another one, as far as there is room.
    pub(crate) fn append(&mut self, other: Self) {
        self.raws.append(other.raws);
        self.tuples.append(other.tuples);
    }
}

/// Buffers of one kind, bounded.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    buffers: Vec<Vec<u8>>,
    /// Their capacities together.
    bytes: usize,
}

/// What a usual batch has: one is read while another one is stored.
const BYTES_MAX: usize = 3 << 20;
/// Bigger ones are freed: few books are so big, and one that was once would keep its memory.
const BUFFER_BYTES_MAX: usize = 8 << 10;

impl Buffers {
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop()?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if (1..=BUFFER_BYTES_MAX).contains(&bytes) && self.bytes + bytes <= BYTES_MAX {
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }

    fn append(&mut self, other: Self) {
        match self.buffers.is_empty() {
            true => *self = other,
            false => other.buffers.into_iter().for_each(|buffer| self.give(buffer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut raw = Raw::new(Some(7), Some(b"key"), Some(b"value"), b"old".to_vec());
        let headers: [Header<'_>; 4] = [("a", Some(b"1")), ("", None), ("a", Some(b"")), ("b", Some(b"\xff\0"))];
        for (name, value) in headers {
            raw.push_header(name, value);
        }
        assert_eq!((raw.key(), raw.payload()), (Some(&b"key"[..]), Some(&b"value"[..])));
        assert_eq!(raw.headers().collect::<Vec<_>>(), headers);
        assert_eq!(raw.len(), 3 + 5 + 4 * 8 + 3 + 1 + 2);

        let empty = Raw::new(None, None, Some(b""), Vec::new());
        assert_eq!((empty.key(), empty.payload(), empty.headers().next()), (None, Some(&b""[..]), None));
        assert_eq!((Raw::default().payload(), Raw::default().headers().next()), (None, None));
    }

    #[test]
    fn buffers_are_bounded() {
        let mut buffers = Buffers::default();
        buffers.give(Vec::new());
        buffers.give(Vec::with_capacity(BUFFER_BYTES_MAX * 2));
        assert!(buffers.take().is_none());
        for _ in 0..=BYTES_MAX / 8192 {
            buffers.give(Vec::with_capacity(8192));
        }
        assert_eq!(buffers.bytes, BYTES_MAX);
        let mut others = Buffers::default();
        others.give(Vec::with_capacity(8));
        buffers.append(others);
        assert_eq!(buffers.buffers.len(), BYTES_MAX / 8192);
        assert_eq!(buffers.take().map(|buffer| buffer.capacity()), Some(8192));
        assert_eq!(buffers.bytes, BYTES_MAX - 8192);
    }
}
