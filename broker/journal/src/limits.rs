//! Every bound of the journal, with its unit. Those of the format are checked
//! before anything is allocated for what a file says.

/// What a disk writes whole, bytes. Blocks start at multiples of it, so that a
/// torn block never shares a sector with an acknowledged one.
pub const SECTOR_BYTES: usize = 512;
/// Head of every file, bytes.
pub const FILE_HEAD_BYTES: usize = 4096;
/// Header of a block, bytes.
pub const BLOCK_HEADER_BYTES: usize = 64;
/// One entry of a block's table, bytes.
pub const TABLE_ENTRY_BYTES: usize = 56;
/// Most entries of one block.
pub const TABLE_ENTRIES_MAX: usize = 65_536;
/// Longest block with its padding, bytes.
pub const BLOCK_BYTES_MAX: usize = (16 << 20) + (64 << 10);
/// Longest body of one entry, bytes: it fits a block of its own.
pub const BODY_BYTES_MAX: usize = BLOCK_BYTES_MAX - SECTOR_BYTES;
/// Where a checkpoint begins another block, bytes.
pub const CHECKPOINT_BLOCK_BYTES: usize = 4 << 20;
/// Released stretches in one entry of a checkpoint; a log that has more takes
/// several entries.
pub const RANGES_PER_ENTRY_MAX: usize = 65_536;
/// Longest name or key in an entry, bytes.
pub const NAME_BYTES_MAX: usize = 64 << 10;

const _: () = {
    assert!(FILE_HEAD_BYTES.is_multiple_of(SECTOR_BYTES));
    assert!(BLOCK_BYTES_MAX.is_multiple_of(SECTOR_BYTES));
    assert!(BLOCK_HEADER_BYTES + TABLE_ENTRY_BYTES <= SECTOR_BYTES);
    assert!(BLOCK_HEADER_BYTES + TABLE_ENTRIES_MAX * TABLE_ENTRY_BYTES < BLOCK_BYTES_MAX);
    assert!(RANGES_PER_ENTRY_MAX * 16 + NAME_BYTES_MAX < CHECKPOINT_BLOCK_BYTES);
};
/// Size of a journal file, bytes.
pub const JOURNAL_FILE_BYTES: u64 = 64 << 20;
/// Where a block is full, bytes; what is more begins the next.
pub const BLOCK_TARGET_BYTES: usize = 8 << 20;
/// Bytes handed over and not written beyond which owners of stores stop taking in
/// more.
pub const PENDING_BYTES_MAX: u64 = 32 << 20;
/// Bytes of message bodies kept in memory when nothing is said.
pub const RESIDENT_BYTES: u64 = 256 << 20;
/// Journal files kept for the writer to use again: as many as one round gives back,
/// and one more, so that none is filled with zeros while all goes its way ...
pub const SPARES_MAX: usize = FILED_AT_ONCE_MAX + 1;
/// ... in so many bytes, but for two of them ...
pub const SPARES_BYTES_MAX: u64 = 1 << 30;
/// ... and as long as there is room on the disk; where it is short, this many.
pub const SPARES_PRESSED: usize = 1;
/// Syncs asked for in a journal file from which on the next is to be full of zeros: each
/// takes half as long again in one that was only allocated (90 us more here), and filling
/// one with zeros takes as long as writing it. For files of the default size, one sync in a
/// MiB; in smaller ones they may be as close as their number says.
pub const UNFILLED_SYNCS_MAX: u32 = 64;
/// Journal files for which there must be room on the disk, or what was only allocated is
/// filled with zeros and used again like others: what is removed there, others take.
pub const SPARES_ROOM: u64 = 4;
/// What is left of a journal file, one in so many of its bytes, when its successor must
/// exist, or publishes are refused: consumers settle in what is left.
pub const ROLL_RESERVE_SHARE: u64 = 4;
/// What stays free on the disk when a journal file is prepared, one in so many of its
/// bytes: a checkpoint, which gives room back, needs some itself.
pub const SPARE_MARGIN_SHARE: u64 = 4;
/// How often a writer that has no room for a file to go on in looks for some, ms.
pub const HELD_MS: u64 = 200;
/// Blobs kept in memory after they were written.
pub const BLOBS_CACHED_MAX: usize = 8;
/// Longest blob read back, bytes.
pub const BLOB_BYTES_MAX: usize = 64 << 20;
/// Lines of the keeper kept until somebody takes them.
pub const NEWS_LINES_MAX: usize = 64;
/// Read at once when looking for a time in a segment, bytes.
pub const SEARCH_BYTES: usize = 256 << 10;
/// Sealed journal files that wait before the oldest is filed: what is settled
/// meanwhile is never copied, and a start reads them.
pub const KEPT_JOURNAL_FILES: usize = 6;
/// Journal files filed in one round: each log that has something in them costs a
/// write and a sync a round, however little it is.
pub const FILED_AT_ONCE: usize = 3;
/// Journal files filed in one round, most: where more wait, rounds follow each other, and
/// none takes more memory than this asks for.
pub const FILED_AT_ONCE_MAX: usize = 8;
/// Bytes read ahead for filing, about, with what each chunk takes beside its records.
pub const LOADED_BYTES_MAX: u64 = 64 << 20;
/// What a chunk that is read ahead takes beside its records, bytes, about.
pub const LOADED_PIECE_BYTES: u64 = 200;
/// Bytes of a block for each chunk that is wanted of it, up to which it is read as a whole:
/// to copy them costs as much as a read.
pub const LOADED_BLOCK_BYTES_EACH: usize = 16 << 10;
/// What is read first of such a block, bytes: most are no longer.
pub const LOADED_FIRST_BYTES: usize = 64 << 10;
/// Appends kept of the tables that filing has read, for chunks that are not read ahead. Some
/// 64 MiB, and enough for the journal files of a round of 128-byte messages in shared blocks.
pub const APPENDS_KEPT_MAX: usize = 1 << 20;
/// Where an entry in a segment ends, bytes of messages: one is read and checked as a
/// whole, and readers want about two of them at once.
pub const FILED_ENTRY_BYTES: usize = 32 << 10;
/// Bytes written without a sync after which the disk is let begin with them, so that
/// the sync at the file's end has little to wait for.
pub const UNSYNCED_BYTES: u64 = 4 << 20;
/// Segments that are written before the first of them is synced, most.
pub const UNSYNCED_SEGMENTS_MAX: usize = 128;
/// Room on the disk that a store takes ahead of what it writes: one in so many of a
/// journal file's bytes.
pub const ROOM_STEP_SHARE: u64 = 1_024;
/// Longest a write with its sync takes, us, for the owner of a store to do it by
/// itself instead of handing it to the writer's thread and being woken after.
pub const QUICK_SYNC_US: u64 = 400;
/// The most of it, bytes.
pub const QUICK_SYNC_BYTES: usize = 256 << 10;
/// The most that the owner of a store writes by itself without a sync, bytes: what
/// takes longer to copy than to wake a thread is better done beside the next turn.
pub const QUICK_WRITE_BYTES: usize = 16 << 10;
/// Whole milliseconds that a hand-over waits for another store's turn, to be synced with it.
pub const LEFT_MS_MAX: u64 = 1;
/// Nothing is left to another store for so long after one took longer than that, ms.
pub const LEFT_IN_VAIN_MS: u64 = 10;
/// Entries that a store has room for between its turns, most.
pub const TURN_ORDERS_KEPT_MAX: usize = 4_096;
/// Emptied builders kept for the next blocks: one forms while another is written.
pub const BUILDERS_KEPT_MAX: usize = 2;
/// Logs whose last append in a block is known, so that the next joins it: by the rest of the
/// log's number.
pub const OPEN_APPENDS: u64 = 1_024;
/// Entries for which such a builder has room, most.
pub const BUILDER_ENTRIES_MAX: usize = 4_096;
/// Room that it has for copied bodies, most, bytes.
pub const BUILDER_BYTES_MAX: usize = 64 << 10;
/// Bodies that have gone from memory before they are dropped from the line of those that
/// may have to leave it, fewest.
pub const RESIDENT_LOOK: usize = 4_096;
/// Blocks of the journal kept after they were read.
pub const RECENT_READS: usize = 4;
/// Bodies of entries kept of each.
pub const RECENT_BODIES: usize = 4;
/// A sealed segment is written again when what lives in it would take less than this
/// part of its bytes, in percent ...
pub const SPARSE_PERCENT: u64 = 50;
/// ... and at least this part of a full segment's bytes is won: one in so many.
pub const SPARSE_WIN_SHARE: u64 = 64;
/// Sparse segments chosen at one checkpoint, those first that win most.
pub const SPARSE_CHOSEN_MAX: usize = 64;
/// Released stretches that are kept for those, in all.
pub const SPARSE_STRETCHES_MAX: usize = 1 << 20;
/// Footers read at one checkpoint to find out how much there is in a segment.
pub const SPARSE_FOOTERS_MAX: usize = 64;
/// Most bytes read and written in one go to write segments again, but for a block:
/// filing waits for no more than that.
pub const REWRITE_STEP_BYTES: u64 = 1 << 20;
/// Most bytes read and written in a second to write segments again.
pub const REWRITE_BYTES_PER_SECOND: u64 = 16 << 20;
