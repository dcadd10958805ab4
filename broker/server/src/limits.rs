//! Every bound of the server, with its unit. Wire limits are the protocol's,
//! those of queues and groups the core's.

/// Bytes one read may take from a socket that has sent much.
pub const READ_BYTES_MAX: usize = 256 << 10;
/// Bytes one read may take from a socket that has sent little.
pub const READ_BYTES_MIN: usize = 8 << 10;
/// Frames of one read that are acted on together; the rest of it follows at once.
pub const READ_FRAMES_MAX: usize = 4_096;
/// Bytes waiting for a connection above which it is not read from, and a
/// publisher waits for a listener that is making progress.
pub const OUTBOX_BYTES_SOFT: usize = 1 << 20;
/// Bytes waiting for a connection above which channel messages are skipped.
pub const OUTBOX_BYTES_MAX: usize = 8 << 20;
/// Bytes that all shards together hand over to one connection in a turn of theirs,
/// before they see how long its line is; each may go one message beyond its part.
pub const TURN_BYTES_MAX: usize = OUTBOX_BYTES_MAX - OUTBOX_BYTES_SOFT;
/// Messages for queues that were read together lie together in memory, up to so many
/// bytes: the last of them that is kept keeps the others alive.
pub const PACKED_BYTES_MAX: usize = 1 << 10;
/// Bytes from which a run is shared with the outbox, shorter ones are copied: below
/// it a reference count and an extra slice to write cost more than the copy.
pub const SHARED_RUN_BYTES_MIN: usize = 8 << 10;
/// Messages of several publish frames go into one deliver frame up to this size,
/// bytes; those of one publish frame always fit.
pub const RUN_BYTES_MAX: usize = 256 << 10;
/// A connection that has more to read is read again later when of what it published last
/// one message in so many was refused by full queues.
pub const FLOOD_REFUSED_SHARE: usize = 4;
/// Time between two looks whether such a queue has a place, ms.
pub const FLOOD_LOOK_MS: u64 = 1;
/// Time after which it is read again in any case, ms.
pub const FLOOD_MS_MAX: u64 = 8;
/// Longest that a publisher waits, per batch, for listeners that keep up, ms.
pub const LISTENER_WAIT_MS_MAX: u64 = 50;
/// Bytes a listener must read in that time to be waited for again.
pub const LISTENER_PROGRESS_BYTES_MIN: u64 = 256 << 10;
/// Messages a channel listener may miss before its subscription is ended.
pub const SKIPPED_MESSAGES_MAX: u64 = 1_000_000;
/// Batches of commands waiting for one shard.
pub const INBOX_BATCHES_MAX: usize = 1_024;
/// Bytes of messages, settlements and labels waiting for one shard.
pub const INBOX_BYTES_MAX: usize = 32 << 20;
/// Bytes of one batch without messages that are not counted there: [`INBOX_BATCHES_MAX`]
/// bounds them too, and acks need not stand in line behind publishers.
pub const INBOX_BYTES_FREE: usize = 16 << 10;
/// Batches a shard takes in one turn.
pub const TURN_BATCHES_MAX: usize = 64;
/// Time between two looks of a shard at a store with too much on its way, ms.
pub const CONGESTED_LOOK_MS: u64 = 1;
/// Time between two looks at what the store has to tell, ms.
pub const NEWS_LOOK_MS: u64 = 1_000;
/// Time for which whoever is refused for want of space is told the same figures, ms.
pub const ROOM_LOOK_MS: u64 = 200;
/// Time after which a want of space that lasts is told again, ms.
pub const NO_SPACE_TOLD_MS: u64 = 60_000;
/// Time after which a queue that the broker made is listed again, where there was no
/// space for its entry, ms.
pub const LIST_AGAIN_MS: u64 = 1_000;
/// Steps that the settlements of one connection may cost a shard before it waits until they
/// are done, about 10 ms of them: a step is a delivery whose lease is to last longer, which
/// may be said of the same ones again and again, or a partition of which is asked whether it
/// is safe. What ends a delivery is said of it once, and is no step.
pub const SETTLE_STEPS_MAX: u64 = 16 << 10;
/// Messages judged and routed together; a longer read is cut.
pub const PUBLISH_ROWS_MAX: usize = 4_096;
/// Copies of messages, one for each queue or stream that keeps it, which are made of what
/// was read at once; what would make more is refused.
pub const COPIES_PER_READ_MAX: u64 = 4 << 20;
/// Subjects whose route every session may remember.
pub const ROUTE_CACHE_SUBJECTS: usize = 10_000;
/// Subjects that all sessions together may remember beyond those, some 300 bytes each:
/// more than there can be queues, so that one session can write to all of them.
pub const ROUTE_CACHE_SUBJECTS_SPARE: usize = 256 << 10;
/// How many of those a session takes at once, and what part of what it remembers must
/// have been used again lately for that: one in so many.
pub const ROUTE_CACHE_STEP: usize = 16 << 10;
/// See [`ROUTE_CACHE_STEP`].
pub const ROUTE_CACHE_USED_SHARE: usize = 64;
/// Listeners, queues and streams that a session's remembered routes hold.
pub const ROUTE_CACHE_TARGETS_MAX: usize = 256 << 10;
/// Time that a session spends on looking up subjects before other tasks have their turn, ms.
pub const ROUTE_SEARCH_MS_MAX: u64 = 1;
/// Reads of a stream that one connection may have without an answer; each answer
/// may take a megabyte.
pub const READS_IN_FLIGHT_MAX: usize = 8;
/// Open files that are left to the store, its segments' and journal's, and to all else
/// that is no connection.
pub const STORE_DESCRIPTORS: usize = 600;
/// Connections the broker serves at once.
pub const CONNECTIONS_MAX: usize = 50_000;
/// Time after which a connection on which nothing comes is asked whether anybody is there,
/// ms: a host that lost its power says no goodbye.
pub const KEEPALIVE_IDLE_MS: u64 = 30_000;
/// Time between two such questions, ms.
pub const KEEPALIVE_INTERVAL_MS: u64 = 10_000;
/// Such questions without an answer, one behind the other, that end the connection.
pub const KEEPALIVE_PROBES: u32 = 3;
/// Longest that a stopping broker waits for shards and outboxes, ms.
pub const DRAIN_MS_MAX: u64 = 5_000;
/// Longest that a connection which ends waits for the answers that it is owed, ms: there must
/// be time left to say so.
pub const ANSWERS_MS_MAX: u64 = DRAIN_MS_MAX / 2;
/// Bytes of the items of one list answer; one item may be longer. Each value takes a byte at
/// least, so that this bounds their number too.
pub const LIST_BYTES_MAX: usize = 256 << 10;
/// Bytes that the groups of a stream's info may take with their options, cursors and
/// consumers; those of groups beyond it are left out.
pub const STREAM_INFO_BYTES_MAX: usize = 512 << 10;
/// Consumers listed of one group; the total is told beside them.
pub const CONSUMERS_LISTED_MAX: usize = 100;
/// Shards at most.
pub const SHARDS_MAX: u32 = 256;
/// Bytes of records kept in memory where the configuration says nothing; beyond
/// them publishers are refused with `no_space`.
pub const MEMORY_BYTES: u64 = 4 << 30;

// Bounds that two crates have, which know nothing of each other.
const _: () = {
    use weir_core::limits as core;
    use weir_protocol::limits as wire;
    const HEAD_BYTES: usize = 64;
    assert!(core::RECORDS_BYTES_MAX + HEAD_BYTES <= wire::ANSWER_BYTES_MAX as usize);
    assert!(core::RECORDS_RUNS_MAX == wire::RUNS_MAX);
    assert!(core::RUN_HEAD_BYTES == weir_protocol::RUN_HEADER_BYTES_MAX);
    assert!(core::PATTERNS_PER_DESTINATION_MAX <= wire::SUBJECTS_MAX);
    assert!(weir_policy::limits::MESSAGE_BYTES_MAX + HEAD_BYTES <= wire::FRAME_BYTES_MAX as usize);
};
