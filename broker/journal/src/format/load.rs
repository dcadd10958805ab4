//! Reading from files: a part as a whole, for recovery; a block's table or one
//! body, for segments.

use std::io;

use bytes::Bytes;

use super::read::{Header, headless, is_zero_sector};
use super::{BadPart, Entry, Found, Identity, Unsound};
use crate::files::File;
use crate::limits::SECTOR_BYTES;

/// Up to `len` bytes of the file from byte `from` on; fewer only at its end.
/// Allocates no more than the file has.
///
/// # Errors
/// As the operating system says.
pub fn load(file: &dyn File, from: u64, len: usize) -> io::Result<Bytes> {
    let there = file.len()?.saturating_sub(from);
    let len = len.min(usize::try_from(there).unwrap_or(usize::MAX));
    Ok(file.read(len, from)?.into())
}

/// What lies at byte `at` of the file: as [`super::read_block`], with one small
/// read, or two when the table is longer than a sector.
///
/// # Errors
/// As the operating system says.
pub fn read_head_at(file: &dyn File, at: u64, identity: Identity) -> io::Result<Found> {
    let sector = load(file, at, SECTOR_BYTES)?;
    if is_zero_sector(&sector) {
        return Ok(Found::End);
    }
    let header = match Header::decode(&sector, identity) {
        Ok(header) => header,
        Err(what) => return Ok(headless(what)),
    };
    let there = file.len()?.saturating_sub(at);
    if there < header.content_len() as u64 {
        return Ok(header.bad(BadPart::Truncated));
    }
    if header.bodies_start() <= sector.len() {
        return Ok(header.with_table(&sector));
    }
    let start = load(file, at, header.bodies_start())?;
    if start.len() < header.bodies_start() {
        return Ok(header.bad(BadPart::Truncated));
    }
    Ok(header.with_table(&start))
}

/// The body of `entry`, whose block starts at byte `block_at` of the file; its
/// checksum is checked.
///
/// # Errors
/// As the operating system says; inside, [`Unsound`].
pub fn read_body(
    file: &dyn File,
    block_at: u64,
    entry: &Entry,
) -> io::Result<Result<Bytes, Unsound>> {
    // How much there is need not be looked up first: a table that is read bounds the length.
    let body: Bytes = file.read(entry.body.len(), block_at + entry.body.start as u64)?.into();
    Ok(match body {
        body if body.len() < entry.body.len() => Err(Unsound::Short),
        body if crc32c::crc32c(&body) != entry.body_crc => Err(Unsound::Checksum),
        body => Ok(body),
    })
}
