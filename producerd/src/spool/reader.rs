//! Reads a file of frames from its beginning, past whatever is damaged.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::frame::{self, Numbered, Parsed};

const CHUNK_BYTES: usize = 64 << 10;

/// What stands next in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Record(Numbered),
    /// So many bytes that are no record.
    Damage(u64),
}

#[derive(Debug)]
pub(super) struct Reader {
    /// The number of the file's first record.
    pub(super) first: u64,
    file: File,
    buffer: Vec<u8>,
    /// Where the unread part of the buffer begins.
    start: usize,
    /// Where the buffer ends in the file.
    read: u64,
    /// Where the file ends, if that is before where it should.
    end: u64,
}

impl Reader {
    pub(super) fn new(file: File, first: u64) -> Self {
        Self { first, file, buffer: Vec::new(), start: 0, read: 0, end: u64::MAX }
    }

    /// Up to where the file has been understood.
    pub(super) fn position(&self) -> u64 {
        self.read - (self.buffer.len() - self.start) as u64
    }

    /// What stands next before `limit`, which lies between two records, if all is well.
    pub(super) fn next(&mut self, limit: u64) -> io::Result<Option<Found>> {
        loop {
            let rest = &self.buffer[self.start..];
            let limit = limit.min(self.end);
            let left = limit.saturating_sub(self.position());
            if left == 0 {
                return Ok(None);
            }
            match frame::parse(rest) {
                Parsed::Record(numbered, bytes) => {
                    self.start += bytes;
                    return Ok(Some(Found::Record(numbered)));
                }
                Parsed::Short(needed) if needed as u64 <= left => self.fill(needed, limit)?,
                Parsed::Short(_) if rest.is_empty() => self.fill(1, limit)?,
                Parsed::Short(_) | Parsed::Damaged => {
                    let skipped = frame::next_start(rest);
                    self.start += skipped;
                    return Ok(Some(Found::Damage(skipped as u64)));
                }
            }
        }
    }

    /// Reads on until so many bytes are there.
    fn fill(&mut self, needed: usize, limit: u64) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let left = usize::try_from(limit.saturating_sub(self.read)).unwrap_or(usize::MAX);
        let more = needed.saturating_sub(self.buffer.len()).max(CHUNK_BYTES).min(left);
        let before = self.buffer.len();
        self.buffer.resize(before + more, 0);
        let result = self.file.read_exact_at(&mut self.buffer[before..], self.read);
        match result {
            Ok(()) => self.read += more as u64,
            Err(error) => {
                self.buffer.truncate(before);
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    return Err(error);
                }
                // Somebody has cut it.
                self.end = self.file.metadata()?.len().max(self.read);
            }
        }
        Ok(())
    }
}
