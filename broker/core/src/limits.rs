//! Every bound of the core, with its unit, and the sums between them.

/// Most consumers of one group.
pub const CONSUMERS_PER_GROUP_MAX: usize = 10_000;
/// Most groups of one stream.
pub const GROUPS_PER_STREAM_MAX: usize = 1_000;
/// Most partitions of a stream.
pub const PARTITIONS_MAX: u16 = 1_024;
/// Most credit of one consumer, deliveries.
pub const CREDIT_MAX: u32 = 65_536;
/// Bytes in flight per consumer where the plan says nothing.
pub const BYTES_PER_CONSUMER: u32 = 8 << 20;
/// Bytes that one turn hands over to one connection where the edge says nothing; one
/// message may go beyond them.
pub const TURN_BYTES_PER_CONNECTION: u64 = 1 << 20;
/// Messages a group keeps facts of (waiting, in flight, delayed, parked); beyond
/// it the group takes no more from its log.
pub const PENDING_PER_GROUP_MAX: usize = 1_000_000;
/// Longest lease, delay or timer, ms (7 days).
pub const TIMER_MS_MAX: u64 = 7 * 24 * 3_600 * 1_000;
/// How long dying messages wait for room before they are tried again, ms.
pub const BURY_AGAIN_MS: u64 = 1_000;
/// Bytes that go to a dead-letter queue in one append; one message alone may be longer. Far
/// less than a journal's block holds, and without room only so much is tried again.
pub const BURY_BATCH_BYTES: usize = 1 << 20;
/// Messages that go to a dead-letter queue in one append.
pub const BURY_BATCH_MESSAGES: usize = 4_096;
/// How long a message is left alone that is too old and cannot be removed yet, since a later
/// time was noted before it, ms.
pub const RETAIN_AGAIN_MS: u64 = 1_000;
/// Stretches of lost messages that consumers are told of one by one; what is found beyond
/// them before anybody is told comes with the last of its partition.
pub const LOST_STRETCHES_MAX: usize = 64;
/// Windows of messages that wait in a group at most where it looks beyond the first for
/// consumers that have room: all that waits is looked at again when consumers come and go.
/// What is in flight, delayed or parked is not, and does not count.
pub const WINDOWS_HELD_MAX: usize = 16;
/// The same, messages that wait, where the window is small.
pub const SMALL_WINDOW_HELD_MAX: usize = 64 << 10;
/// Timers a policy may have open per group.
pub const WAKES_PER_GROUP_MAX: usize = 10_000;
/// Waiting receives of one consumer.
pub const PULLS_PER_CONSUMER_MAX: usize = 64;
/// Longest wait of a pull, ms.
pub const PULL_MS_MAX: u32 = 60_000;
/// Most bytes one read of a stream returns.
pub const READ_BYTES_MAX: u32 = 1 << 20;
/// The same with the heads of its runs, bytes: what fits the answer's frame, less its own
/// head.
pub const RECORDS_BYTES_MAX: usize = (1 << 20) + (64 << 10) - 64;
/// Most runs that one read of a stream returns: as many as such a frame holds.
pub const RECORDS_RUNS_MAX: usize = 16_384;
/// What a run takes in that frame beside its messages, bytes.
pub const RUN_HEAD_BYTES: usize = 39;
/// Longest queue, stream or group name, bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Queues of one shard that refuse messages and of which the edge is told.
pub const PRESSED_QUEUES_MAX: usize = 64;
/// Turns without a publish after which a full queue gives its place among them up.
pub const PRESSED_QUIET_TURNS: u32 = 1_000;
/// Deepest subject or pattern, tokens.
pub const TOKENS_MAX: usize = 32;
/// Messages a policy is asked about in one call.
pub const POLICY_BATCH_ROWS: usize = 512;
/// Events of one call of a policy that looks at no messages, until it is restarted in one:
/// then as many as of one that does.
pub const POLICY_BATCH_EVENTS: usize = 4_096;
/// Most `*` in one token of a pattern: what the index finds without a search.
pub const STARS_PER_TOKEN_MAX: usize = 2;
/// Weight of the different shapes of globs (tokens with a `*` beside other bytes) that the
/// index of one broker may hold, each counted once for the tokens before it: [`GLOB_WEIGHT`]
/// or [`WIDE_GLOB_WEIGHT`] each. A match looks each one up that may apply.
pub const GLOB_WEIGHT_MAX: u64 = 256 << 10;
/// Of a shape with one `*`: one look-up.
pub const GLOB_WEIGHT: u64 = 1;
/// Of a shape with two: a look-up for each place where the middle may lie.
pub const WIDE_GLOB_WEIGHT: u64 = 16;
/// Most logs of the streams of one broker: a stream has one for each partition, and each of
/// its groups as many cursors. Each takes some 500 bytes.
pub const STREAM_LOGS_MAX: u64 = 1_000_000;
/// Most patterns one queue or stream listens on.
pub const PATTERNS_PER_DESTINATION_MAX: usize = 64;
/// Most channel subscriptions of one broker.
pub const SUBSCRIPTIONS_MAX: usize = 8_000_000;
/// Most queues and streams of one broker.
pub const DESTINATIONS_MAX: usize = 100_000;
/// How long the last message of a key is kept that has no payload where the operator
/// says nothing, ms (24 hours).
pub const TOMBSTONE_MS: u64 = 24 * 3_600 * 1_000;
/// Bytes that one step of a compaction pass reads; traffic goes on between steps. A
/// step takes 1 ms with messages of 100 bytes.
pub const COMPACTION_STEP_BYTES: usize = 256 << 10;
/// Stretches of neighbours that one step reads: each costs a look-up, however short.
pub const COMPACTION_STEP_PIECES: usize = 1_024;
/// From one step of a pass to the next, ms: most of the time is left for traffic.
pub const COMPACTION_PAUSE_MS: u64 = 3;
/// From the start of one pass over a partition to the next, ms.
pub const COMPACTION_EVERY_MS: u64 = 10_000;
/// How long a message is left alone at most that may supersede another, ms (24 hours).
pub const COMPACTION_LAG_MS: u64 = 24 * 3_600 * 1_000;
/// Keys that one pass looks at; a pass ends where there are more. Seven eighths of a
/// power of two, so that the table is full: 25 bytes a place, 25 MiB, once per shard.
pub const COMPACTION_KEYS_MAX: usize = 7 << 17;
/// Gaps in one log. What is released is kept as stretches, in memory and in checkpoints:
/// a pass that would make one more stops.
pub const GAPS_PER_LOG_MAX: usize = 1_000_000;
/// How long a partition with that many gaps is left alone, ms (10 minutes).
pub const COMPACTION_FULL_MS: u64 = 600_000;
/// Passes that look for old tombstones only, at most so many in the time that one is kept.
pub const TOMBSTONE_PASSES: u64 = 8;
/// Stretches of a log's messages of level memory that are told apart.
pub const VOLATILE_STRETCHES_MAX: usize = 1_024;
