//! Where a spool stands: 44 bytes, written in one go.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: [u8; 8] = *b"CFpos002";
const BYTES: usize = 44;
const BODY_BYTES: usize = 40;
/// Numbers begin here, so that there is room for some before the first.
const FIRST: u64 = 1 << 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// All records before this number have been delivered.
    pub(super) acked: u64,
    /// No record from this number on has been sent.
    pub(super) reserved: u64,
    /// The number of the next record, where no segment tells.
    pub(super) next_number: u64,
    /// The number behind the last record of the head.
    pub(super) head_end: u64,
}

impl Position {
    /// What the file says. If it is damaged, nothing has been delivered, but all may have been sent; if the spool is new, there is
    /// nothing.
    pub(super) fn read(file: &File, is_new: bool) -> io::Result<Self> {
        let mut bytes = [0; BYTES];
        let is_whole = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
        let (acked, reserved) = if is_new { (FIRST, FIRST) } else { (0, u64::MAX) };
        let unknown = Self { acked, reserved, next_number: FIRST, head_end: 0 };
        Ok(is_whole.then(|| Self::decode(&bytes)).flatten().unwrap_or(unknown))
    }

    pub(super) fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = [self.acked, self.reserved, self.next_number, self.head_end];
        for (place, number) in bytes[8..BODY_BYTES].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes[..BODY_BYTES]);
        bytes[BODY_BYTES..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let crc = u32::from_le_bytes(*bytes.last_chunk()?);
        if bytes[..8] != MAGIC || crc32fast::hash(&bytes[..BODY_BYTES]) != crc {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self { acked: number(8)?, reserved: number(16)?, next_number: number(24)?, head_end: number(32)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_damage_is_seen() {
        let position = Position { acked: 1, reserved: 2, next_number: 3, head_end: 4 };
        let bytes = position.encode();
        assert_eq!(Position::decode(&bytes), Some(position));
        for at in 0..BYTES {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert_eq!(Position::decode(&bad), None, "{at}");
        }
    }
}
