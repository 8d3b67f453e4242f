//! What a spool finds when it is opened.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::{HEAD, LOCK, NEW_HEAD, Opened, POSITION, SEGMENT_SUFFIX, Segment, Store, remove};
use crate::spool::frame::Numbered;
use crate::spool::loss::Loss;
use crate::spool::position::Position;
use crate::spool::reader::{Found, Reader};

impl Store {
    pub(super) fn open_folder(folder: &Path, max_bytes: u64) -> io::Result<(Self, Opened)> {
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
        store.name_head()?;
        let missing = store.read_head()?;
        // Numbers from the end on are for records that are still to come.
        store.position.reserved = store.position.reserved.min(store.end);
        store.maybe_sent_before = store.position.reserved;
        store.forget_acked()?;
        store.next = store.next.max(store.segments.front().map_or(store.end, |segment| segment.first));
        if store.position_file.metadata()?.len() == 0 {
            store.write_position()?;
            File::open(folder)?.sync_all()?;
        }
        let records = store.waiting();
        let maybe_sent = store.position.reserved.saturating_sub(store.position.acked).min(records);
        Ok((store, Opened { records, maybe_sent, torn_bytes, missing }))
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

    /// The last run may have ended before its new head had its name. One that is not the position's was not written to its
    /// end, and the old state stands.
    fn name_head(&self) -> io::Result<()> {
        let path = self.folder.join(NEW_HEAD);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let bytes = file.metadata()?.len();
        let (mut reader, mut end) = (Reader::new(file, 0), None);
        while let Some(found) = reader.next(bytes)? {
            end = if let Found::Record(numbered) = found { Some(numbered.number + 1) } else { None };
        }
        if end != Some(self.position.head_end) {
            return remove(&path);
        }
        fs::rename(&path, self.folder.join(HEAD))?;
        File::open(&self.folder)?.sync_all()
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
}
