//! The list of promises, and the test that keeps each of them.

/// Number, test and what must hold, in the order of the report.
pub(crate) const PROMISES: [(&str, &str, &str); 23] = [
    (
        "D1",
        "ack_survives_kill9",
        "what was acknowledged at `os` or `disk` is there after `kill -9`: same offset, same bytes",
    ),
    (
        "D2",
        "ack_survives_power_cut",
        "the same for `disk` after a power cut; `os` loses a suffix and nothing else",
    ),
    (
        "D3",
        "any_subset_survives",
        "whatever part of what was not synced survives a power cut, what was acknowledged is there, and nothing that was not written",
    ),
    (
        "D4",
        "torn_tail_every_byte",
        "wherever the last block ends early or holds something else: a start keeps every block before it whole, and takes the next",
    ),
    (
        "D5",
        "bitrot_below_mark",
        "a bit that turns in what was synced is never silent: the range is named, its neighbours are readable, nothing is cut",
    ),
    (
        "D6",
        "unsynced_island",
        "what lies behind a hole in what was not synced is never served, not then and not later",
    ),
    (
        "D7",
        "fsync_fails_once",
        "a failed sync: nothing it covered is acknowledged, the process ends with code 74, the next start is clean",
    ),
    (
        "D8",
        "disk_full_and_back",
        "a full disk: publishers are told `no_space`, consumers go on, publishing resumes within 5 s of room",
    ),
    ("D9", "short_write_eintr", "short writes and interrupted calls leave no gap and no duplicate"),
    (
        "D10",
        "dir_entry_durable",
        "queues, streams, groups, rolled files, checkpoints and bindings are there after a power cut right behind the answer",
    ),
    (
        "D11",
        "index_is_derived",
        "with a segment's index gone or wrong the store answers as a scan would, and no log ends elsewhere",
    ),
    (
        "D12",
        "crash_in_recovery",
        "power cuts during each call of a start, and again during the next: nothing is lost, no start counts as stopped cleanly",
    ),
    (
        "D13",
        "retention_crash",
        "power cuts while logs are trimmed, removed, filed and checkpointed: no kept record is gone, no removed one is back",
    ),
    (
        "D13",
        "compaction_crash",
        "the same while a stream is compacted: of every key the last acknowledged message is there, or a later one",
    ),
    (
        "D14",
        "damaged_metadata",
        "damaged checkpoints and heads: the generation before serves, or the start is refused and nothing is changed; never \"empty\"",
    ),
    (
        "D15",
        "slow_sync",
        "syncs of 2 s: memory stays within its bound, order is kept, no acknowledgement comes before its sync",
    ),
    (
        "D16",
        "format_compat",
        "a data folder of each format so far opens and holds what it held; one of a later format is refused with both numbers, and unchanged",
    ),
    (
        "S1",
        "queue_conservation",
        "acknowledged = consumed + waiting + dead-lettered, whatever dies",
    ),
    ("S2", "confirmed_ack_final", "what a consumer's confirmed ack settled never comes again"),
    (
        "S3",
        "dead_letter_atomic",
        "whenever the power goes, a rejected message is in the dead-letter queue at least once, and once by its source and offset",
    ),
    (
        "S4",
        "stream_checker",
        "over kill -9, pauses and cut networks offsets have no gap, a replay is identical, no reader skips or goes back, each producer's order is kept",
    ),
    (
        "S7",
        "model_equivalence",
        "brokers over the journal and over memory, given the same and restarted at the same moments, give everybody the same",
    ),
    (
        "S7",
        "nothing_is_lost_overtaken_or_delivered_after_its_ack",
        "many sessions in virtual time beside a model: what was kept is settled, dead or counted; in order; not again behind its ack",
    ),
];
