//! The files of one exchange's spool.
//!
//! Records are appended to segments, each named by the number of its first record; numbers rise by one. The position says up
//! to where records have been delivered, and up to where they may have been sent. What a clean shutdown leaves that was under
//! way to Kafka goes into a file of its own, the head, that is read before everything else.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::{AddAssign, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use coinflow_common::orderbook::{Market, Timestamp};
use rustix::fs::{FlockOperation, flock};

use super::frame::{self, Numbered};
use super::position::Position;
use super::reader::{Found, Reader};
use crate::publish::Record;

const SEGMENT_SUFFIX: &str = ".spool";
const HEAD: &str = "head";
const POSITION: &str = "position";
const LOCK: &str = "lock";
/// A segment is closed beyond this, or beyond a sixteenth of what the spool may take.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
const SEGMENTS: u64 = 16;
/// Markets that a log line names.
const MARKETS_NAMED_MAX: usize = 100;
/// Records that may be on their way to Kafka before the position is written again.
const RESERVED: u64 = 2000;

/// One segment: from `first` on, up to the next one's first.
#[derive(Debug)]
struct Segment {
    first: u64,
    bytes: u64,
}

/// Records that are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) records: u64,
    /// Of each market, as far as they could be read: how many, and the times of the first and the last in milliseconds since
    /// the Unix epoch.
    pub(crate) markets: BTreeMap<Market, (u64, i64, i64)>,
}

impl AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        for (market, (more, begin, end)) in other.markets {
            let (count, first, last) = self.markets.entry(market).or_insert((0, begin, end));
            (*count, *first, *last) = (*count + more, begin.min(*first), end.max(*last));
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={} market=", self.records)?;
        for (at, (market, (count, first, last))) in self.markets.iter().take(MARKETS_NAMED_MAX).enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{market}:{count}:{}..{}", time(*first), time(*last))?;
        }
        match self.markets.len().saturating_sub(MARKETS_NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn time(millis: i64) -> String {
    Timestamp::from_micros(millis.saturating_mul(1000)).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}

impl Loss {
    pub(crate) fn add(&mut self, record: &Record) {
        self.records += 1;
        let at = record.timestamp;
        let (count, first, last) = self.markets.entry(record.market.clone()).or_insert((0, at, at));
        (*count, *first, *last) = (*count + 1, at.min(*first), at.max(*last));
    }
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

    fn open_folder(folder: &Path, max_bytes: u64) -> io::Result<(Self, Opened)> {
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            if let Some(parent) = folder.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "another producerd has it"))?;
        let position_file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(folder.join(POSITION))?;
        let mut segments = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SEGMENT_SUFFIX)).and_then(|n| n.parse().ok());
            if let Some(first) = number {
                segments.push(Segment { first, bytes: entry.metadata()?.len() });
            }
        }
        segments.sort_by_key(|segment| segment.first);
        let is_new = segments.is_empty() && !folder.join(HEAD).exists();
        let position = Position::read(&position_file, is_new)?;
        let mut store = Self {
            folder: folder.to_owned(),
            max_bytes,
            _lock: lock,
            position_file,
            position,
            written_position: position,
            maybe_sent_before: position.reserved,
            is_dirty: false,
            loss: Loss::default(),
            dropped_before: None,
            segments: segments.into(),
            active: None,
            end: position.next_number,
            next: position.acked,
            reader: None,
            head: VecDeque::new(),
            head_end: None,
        };
        let torn_bytes = store.cut_tail()?;
        let missing = store.read_head()?;
        store.forget_acked()?;
        store.next = store.next.max(store.segments.front().map_or(store.end, |segment| segment.first));
        if store.position_file.metadata()?.len() == 0 {
            store.write_position()?;
            File::open(folder)?.sync_all()?;
        }
        let records = store.waiting();
        let maybe_sent = store.position.reserved.min(store.end).saturating_sub(store.position.acked).min(records);
        Ok((store, Opened { records, maybe_sent, torn_bytes, missing }))
    }

    /// Records that have not been read.
    pub(crate) fn waiting(&self) -> u64 {
        self.head.len() as u64 + (self.end - self.next)
    }

    fn segment_path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}{SEGMENT_SUFFIX}"))
    }

    /// Cuts off what a crash has left half written, and finds the end of the numbers; how many bytes that were.
    fn cut_tail(&mut self) -> io::Result<u64> {
        let Some(last) = self.segments.back() else { return Ok(0) };
        let path = self.segment_path(last.first);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let (mut reader, mut good, mut end) = (Reader::new(file.try_clone()?, last.first), 0, last.first);
        while let Some(found) = reader.next(last.bytes)? {
            if let Found::Record(Numbered { number, .. }) = found {
                (good, end) = (reader.position(), number + 1);
            }
        }
        let torn = last.bytes - good;
        if torn > 0 {
            file.set_len(good)?;
        }
        self.end = self.end.max(end);
        if let Some(last) = self.segments.back_mut() {
            last.bytes = good;
        }
        if good == 0 {
            // The next one may have its name.
            remove(&path)?;
            self.segments.pop_back();
        }
        Ok(torn)
    }

    /// Reads the head, if there is one; how many records of it are missing.
    fn read_head(&mut self) -> io::Result<u64> {
        let file = match File::open(self.folder.join(HEAD)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let bytes = file.metadata()?.len();
        let mut reader = Reader::new(file, 0);
        while let Some(found) = reader.next(bytes)? {
            if let Found::Record(numbered) = found
                && numbered.number >= self.position.acked
            {
                self.next = numbered.number + 1;
                self.head.push_back(numbered);
            }
        }
        self.next = self.next.max(self.position.head_end);
        self.end = self.end.max(self.next);
        self.head_end = Some(self.next);
        let should = self.position.head_end.saturating_sub(self.position.acked);
        Ok(if self.position.acked == 0 { 0 } else { should.saturating_sub(self.head.len() as u64) })
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
            self.position.reserved = self.position.reserved.max(self.next);
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

    fn read_segment(&mut self, damaged: &mut u64) -> io::Result<Option<Numbered>> {
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
            // Ahead of the head, so that none of it counts as delivered whenever the process ends.
            self.position.acked = self.position.acked.min(first);
            self.position.head_end = self.next;
            self.write_position()?;
            let path = self.folder.join("head.new");
            let mut file = File::create(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
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

/// Whether the same call may do better in a while.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN];
    passing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
