//! How a spool is read.

use std::fs::File;
use std::io;

use super::{Batch, RESERVED, Segment, Store};
use crate::spool::frame::Numbered;
use crate::spool::reader::{Found, Reader};

impl Store {
    /// The next records, about so many bytes of them; they count as maybe sent from now on.
    ///
    /// # Errors
    /// What the system says; nothing has been read then.
    pub(crate) fn read(&mut self, bytes_max: usize) -> io::Result<Batch> {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        // That the position cannot be written is no reason to keep records; the next sync tells.
        if self.reserve().is_err() {
            self.position.reserved = self.position.reserved.max(self.next + RESERVED);
        }
        while bytes < bytes_max && batch.records.len() < RESERVED as usize && self.waiting() > 0 {
            match self.read_next(&mut batch.damaged) {
                Ok(Some(numbered)) => {
                    bytes += numbered.record.value.len();
                    batch.records.push(numbered);
                }
                Ok(None) => {}
                // It comes again with the next call.
                Err(_) if !batch.records.is_empty() || batch.damaged > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(batch)
    }

    fn reserve(&mut self) -> io::Result<()> {
        // A batch has no more records than are reserved here.
        if self.next + RESERVED <= self.written_position.reserved {
            return Ok(());
        }
        self.position.reserved = self.position.reserved.max(self.next + 2 * RESERVED);
        self.write_position()
    }

    fn read_next(&mut self, damaged: &mut u64) -> io::Result<Option<Numbered>> {
        match self.head.pop_front() {
            Some(numbered) => Ok(Some(numbered)),
            None => self.read_segment(damaged),
        }
    }

    pub(super) fn read_segment(&mut self, damaged: &mut u64) -> io::Result<Option<Numbered>> {
        let place = self.segments.partition_point(|segment| segment.first <= self.next).saturating_sub(1);
        let Some(Segment { first, bytes }) = self.segments.get(place) else {
            return Ok(self.give_up(self.end, damaged));
        };
        let (first, bytes) = (*first, *bytes);
        let end = self.segments.get(place + 1).map_or(self.end, |segment| segment.first);
        match self.read_file(first, bytes) {
            Ok(Some(Found::Record(numbered))) if (self.next..end).contains(&numbered.number) => {
                *damaged += numbered.number - self.next;
                self.next = numbered.number + 1;
                Ok(Some(numbered))
            }
            // From before what is to be read, or what damage lets look like a record.
            Ok(Some(_)) => Ok(None),
            Ok(None) => Ok(self.give_up(end, damaged)),
            Err(error) if is_passing(&error) => Err(error),
            // A file that is gone, may not be read, or lies on a bad sector keeps nobody from what is behind it.
            Err(_) => Ok(self.give_up(end, damaged)),
        }
    }

    fn read_file(&mut self, first: u64, bytes: u64) -> io::Result<Option<Found>> {
        let reader = match self.reader.as_mut().filter(|reader| reader.first == first) {
            Some(reader) => reader,
            None => {
                let file = File::open(self.segment_path(first))?;
                self.reader.insert(Reader::new(file, first))
            }
        };
        reader.next(bytes)
    }

    /// Nothing can be read any more up to this number.
    fn give_up(&mut self, end: u64, damaged: &mut u64) -> Option<Numbered> {
        *damaged += end - self.next;
        self.next = end;
        None
    }
}

/// Whether the same call may do better in a while.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN];
    passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
