//! Every limit of the wire, with its unit. What a server may configure is named
//! so; everything else is part of the protocol.

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;
/// Longest frame a client may send, bytes after the prefix; a server's default.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Longest frame before the hello is answered, bytes.
pub const FRAME_BYTES_BEFORE_HELLO_MAX: u32 = 4 << 10;
/// What an answer may be longer than the longest request, bytes: a message comes
/// back with a longer head, and as a dead letter with more headers.
pub const ANSWER_SLACK_BYTES: u32 = 64 << 10;
/// Longest frame a server sends at the default, bytes.
pub const ANSWER_BYTES_MAX: u32 = FRAME_BYTES_MAX + ANSWER_SLACK_BYTES;
/// Longest frame a server may be configured for, bytes.
pub const FRAME_BYTES_CEILING: u32 = 64 << 20;
/// Time from the accepted connection to a whole hello, milliseconds.
pub const HELLO_DEADLINE_MS: u64 = 5_000;

/// Deepest nesting of arrays and maps in a frame, its own array included.
pub const DEPTH_MAX: usize = 16;
/// Most items of one array, or pairs of one map; frames with messages aside.
pub const ITEMS_MAX: u32 = 32_768;
/// Longest control frame of a client, bytes: whatever is not publish, settle or
/// credit.
pub const CONTROL_BYTES_MAX: usize = 128 << 10;
/// Most values in a control frame of a client, keys of maps included. A decoded
/// value takes up to 40 times its bytes.
pub const REQUEST_NODES_MAX: u32 = 8_192;
/// Most values in a frame of a server that holds no messages.
pub const ANSWER_NODES_MAX: u32 = 262_144;

/// Most messages of one publish frame.
pub const PUBLISH_MESSAGES_MAX: usize = 16_384;
/// Longest delay of a publish or a nack, milliseconds (7 days).
pub const DELAY_MS_MAX: u32 = 7 * 24 * 3_600 * 1_000;
/// Most ranges of delivery tags in one settle frame.
pub const SETTLE_RANGES_MAX: usize = 16_384;
/// Most runs of one deliver or records frame.
pub const RUNS_MAX: usize = 16_384;

/// Most subscriptions and consumers of one connection; a server's default.
pub const SUBSCRIPTIONS_MAX: u32 = 100_000;
/// Requests without an answer on one connection; a server's default. A server
/// reads no further until some are answered.
pub const REQUESTS_IN_FLIGHT_MAX: u32 = 4_096;
/// Most credit one frame or one consumer may hold, deliveries.
pub const CREDIT_MAX: u32 = 65_536;
/// Longest wait of a pull, milliseconds.
pub const PULL_WAIT_MS_MAX: u32 = 60_000;
/// Most messages of one pull.
pub const PULL_MESSAGES_MAX: u32 = 65_536;
/// Messages of one read where the request names none.
pub const READ_MESSAGES_DEFAULT: u32 = 1_000;
/// Most messages of one read.
pub const READ_MESSAGES_MAX: u32 = 65_536;
/// Bytes of one read where the request names none; also the most.
pub const READ_BYTES_MAX: u32 = 1 << 20;
/// Items of one list answer where the request names none; also the most.
pub const LIST_ITEMS_MAX: u32 = 1_000;

/// Longest name of a queue, stream, group, share group, binding or consumer, bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest subject or pattern, bytes.
pub const PATTERN_BYTES_MAX: usize = 255;
/// Most patterns that are read for one queue or stream; the broker takes fewer (64).
pub const SUBJECTS_MAX: usize = 256;
/// Longest name of a client program in the hello, bytes.
pub const CLIENT_BYTES_MAX: usize = 128;
/// Longest token in the hello, bytes.
pub const TOKEN_BYTES_MAX: usize = 2_048;
/// Most protocol versions in the hello.
pub const VERSIONS_MAX: usize = 16;
/// Longest labels of a consumer or options of a group, bytes as JSON.
pub const LABELS_BYTES_MAX: usize = 16 << 10;
/// Deepest nesting of labels and options, their own map included: answers hold them deeper
/// than requests do.
pub const LABELS_DEPTH_MAX: u64 = 8;
/// Longest text of an error's message and of its hint, bytes each.
pub const ERROR_TEXT_BYTES_MAX: usize = 1_024;

/// Most bytes one refusal of a published frame takes when its text is left out.
const REFUSAL_BYTES_MAX: usize = 1 + 5 + 5 + 32 + 1;
const _: () = assert!(PUBLISH_MESSAGES_MAX * REFUSAL_BYTES_MAX < FRAME_BYTES_MAX as usize);
const _: () = assert!(FRAME_BYTES_CEILING < u32::MAX - ANSWER_SLACK_BYTES);
const _: () = assert!(PUBLISH_MESSAGES_MAX <= u16::MAX as usize && RUNS_MAX <= u16::MAX as usize);
