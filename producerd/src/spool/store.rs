//! The files of one exchange's spool.
//!
//! Records are appended to segments, each named by the number of its first record; numbers rise by one. The position says up
//! to where records have been delivered, and up to where they may have been sent. What a clean shutdown leaves that was under
//! way to Kafka goes into a file of its own, the head, that is read before everything else.

mod opening;
mod reading;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frame::{self, Numbered};
use super::loss::Loss;
use super::position::Position;
use super::reader::Reader;
use crate::publish::Record;

const SEGMENT_SUFFIX: &str = ".spool";
const HEAD: &str = "head";
/// A head that its position does not tell of yet.
const NEW_HEAD: &str = "head.new";
const POSITION: &str = "position";
const LOCK: &str = "lock";
/// A segment is closed beyond this, or beyond a sixteenth of what the spool may take.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
const SEGMENTS: u64 = 16;
/// Records that may be on their way to Kafka before the position is written again.
const RESERVED: u64 = 2000;

/// One segment: from `first` on, up to the next one's first.
#[derive(Debug)]
struct Segment {
    first: u64,
    bytes: u64,
}

/// What was found when the spool was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Records that wait.
    pub(crate) records: u64,
    /// The first of them that may have been sent already, for the last run was killed.
    pub(crate) maybe_sent: u64,
    /// Bytes of a record that was not written to its end.
    pub(crate) torn_bytes: u64,
    /// Records that were known to be there and are not any more.
    pub(crate) missing: u64,
}

/// What reading gave.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Numbered>,
    /// Records that cannot be read any more.
    pub(crate) damaged: u64,
}

/// The spool of one exchange, open for reading and appending. Only one process has it.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    max_bytes: u64,
    _lock: File,
    position_file: File,
    position: Position,
    written_position: Position,
    /// Up to where the last run may have sent what is here.
    maybe_sent_before: u64,
    /// Something was appended since the last sync.
    is_dirty: bool,
    /// What had to go and has not been taken note of.
    loss: Loss,
    /// Up to where that was, read or not, if it has not been taken note of.
    dropped_before: Option<u64>,
    segments: VecDeque<Segment>,
    /// The last segment, if it is of this run.
    active: Option<File>,
    /// The next record to be written has this number.
    end: u64,
    /// The next one to be read.
    next: u64,
    reader: Option<Reader>,
    /// Records of the head that have not been read.
    head: VecDeque<Numbered>,
    /// The number behind the head's last record, as long as there is a head.
    head_end: Option<u64>,
}

impl Store {
    /// Opens the spool in `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// What the system says, with the file's name; also if another process has it.
    pub(crate) fn open(folder: &Path, max_bytes: u64) -> io::Result<(Self, Opened)> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        Self::open_folder(folder, max_bytes).map_err(named)
    }

    /// Records that have not been read.
    pub(crate) fn waiting(&self) -> u64 {
        self.head.len() as u64 + (self.end - self.next)
    }

    fn segment_path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}{SEGMENT_SUFFIX}"))
    }

    /// Appends records, and makes room for them if the spool is full. The first `sent` of them are on their way to Kafka already
    /// and are not to be read; all that is in the spool has been read then.
    ///
    /// # Errors
    /// What the system says; then nothing was appended.
    pub(crate) fn append<'a>(&mut self, records: impl Iterator<Item = &'a Record>, sent: usize) -> io::Result<()> {
        let (mut bytes, mut end) = (Vec::new(), self.end);
        for record in records {
            frame::encode(end, record, &mut bytes);
            end += 1;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.make_room(bytes.len() as u64)?;
        if sent > 0 {
            // First, so that the next run knows what was sent, whenever this one ends.
            self.position.reserved = self.position.reserved.max(self.end + sent as u64);
            self.write_position()?;
        }
        let segment_max = (self.max_bytes / SEGMENTS).min(SEGMENT_BYTES_MAX);
        if self.active.is_some() && self.segments.back().is_some_and(|last| last.bytes >= segment_max) {
            self.sync()?;
            self.active = None;
        }
        let file = match &self.active {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let file = options.create(true).truncate(true).write(true).open(self.segment_path(self.end))?;
                File::open(&self.folder)?.sync_all()?;
                // An earlier try may have come so far.
                if self.segments.back().is_some_and(|last| last.first == self.end) {
                    self.segments.pop_back();
                }
                self.segments.push_back(Segment { first: self.end, bytes: 0 });
                self.active.insert(file)
            }
        };
        let before = self.segments.back().map_or(0, |last| last.bytes);
        if let Err(error) = file.write_all_at(&bytes, before) {
            // What was written is not read; at the next start it is known by its numbers, or a torn tail.
            _ = file.set_len(before);
            return Err(error);
        }
        self.is_dirty = true;
        if sent > 0 {
            self.next = self.end + sent as u64;
        }
        self.end = end;
        if let Some(last) = self.segments.back_mut() {
            last.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// What had to go since the last call.
    pub(crate) fn take_loss(&mut self) -> Loss {
        std::mem::take(&mut self.loss)
    }

    /// The numbers that had to go since the last call, whether they had been read or not. Those of the head never have to.
    pub(crate) fn take_dropped(&mut self) -> Option<Range<u64>> {
        let end = self.dropped_before.take()?;
        Some(self.head_end.unwrap_or(0)..end).filter(|numbers| !numbers.is_empty())
    }

    /// Whether something is not yet safe from a power loss.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty || self.is_position_dirty()
    }

    /// What was appended survives the machine from now on, and so does the position.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.is_dirty {
            if let Some(file) = &self.active {
                file.sync_data()?;
            }
            self.is_dirty = false;
        }
        if self.is_position_dirty() { self.write_position() } else { Ok(()) }
    }

    fn is_position_dirty(&self) -> bool {
        let (Position { acked, reserved, .. }, written) = (self.position, self.written_position);
        (acked, reserved) != (written.acked, written.reserved)
    }

    fn write_position(&mut self) -> io::Result<()> {
        self.position.next_number = self.end;
        self.position_file.write_all_at(&self.position.encode(), 0)?;
        self.position_file.sync_data()?;
        self.written_position = self.position;
        Ok(())
    }

    /// The number that the next record to be written will have.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The number that the next record to be read has, where nothing is damaged.
    pub(crate) fn next_number(&self) -> u64 {
        self.head.front().map_or(self.next, |numbered| numbered.number)
    }

    /// All before this number has been delivered, or given up. Whether that is news.
    pub(crate) fn acked(&mut self, number: u64) -> bool {
        let is_news = number > self.position.acked;
        self.position.acked = self.position.acked.max(number);
        is_news
    }

    /// Removes what has been delivered.
    pub(crate) fn forget_acked(&mut self) -> io::Result<()> {
        if self.head_end.take_if(|end| *end <= self.position.acked).is_some() {
            remove(&self.folder.join(HEAD))?;
        }
        while self.segments.front().is_some_and(|_| self.front_end() <= self.position.acked) {
            self.remove_front()?;
        }
        Ok(())
    }

    fn front_end(&self) -> u64 {
        self.segments.get(1).map_or(self.end, |segment| segment.first)
    }

    fn remove_front(&mut self) -> io::Result<()> {
        let Some(front) = self.segments.front() else { return Ok(()) };
        remove(&self.segment_path(front.first))?;
        self.reader.take_if(|reader| reader.first == front.first);
        self.segments.pop_front();
        if self.segments.is_empty() {
            self.active = None;
        }
        Ok(())
    }

    /// Lets the oldest segments go until so many bytes have room.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        while self.bytes() + bytes > self.max_bytes && !self.segments.is_empty() {
            let end = self.front_end();
            // Read once more, to tell what it is that goes.
            while self.next < end {
                let mut damaged = 0;
                if let Some(numbered) = self.read_segment(&mut damaged)? {
                    self.loss.add(&numbered.record);
                }
                self.loss.records += damaged;
            }
            self.remove_front()?;
            self.dropped_before = Some(end);
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Leaves the spool such that the next run begins with these records, which were read or were never in it, and goes on
    /// behind what was read last. The first `maybe_sent` of them may have reached Kafka.
    pub(crate) fn close(&mut self, under_way: &[Record], maybe_sent: usize) -> io::Result<()> {
        let unread: Vec<Record> = self.head.drain(..).map(|numbered| numbered.record).collect();
        let count = (under_way.len() + unread.len()) as u64;
        let first = self.next - count;
        // What the run before may have sent may still be here.
        let before = if self.maybe_sent_before > self.next { self.maybe_sent_before } else { 0 };
        let reserved = before.max(first + maybe_sent as u64);
        if count > 0 {
            let mut bytes = Vec::new();
            for (number, record) in (first..).zip(under_way.iter().chain(&unread)) {
                frame::encode(number, record, &mut bytes);
            }
            // Whole before the position tells of it, for the disk may be full; and the position before the name, so that none
            // of it counts as delivered. The next run gives the name if this one does not come so far.
            let path = self.folder.join(NEW_HEAD);
            let mut file = File::create(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            File::open(&self.folder)?.sync_all()?;
            self.position.acked = self.position.acked.min(first);
            self.position.head_end = self.next;
            self.write_position()?;
            fs::rename(&path, self.folder.join(HEAD))?;
            File::open(&self.folder)?.sync_all()?;
            self.head_end = Some(self.next);
        }
        self.sync()?;
        self.position = Position { acked: first, reserved, ..self.position };
        self.write_position()?;
        self.forget_acked()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
