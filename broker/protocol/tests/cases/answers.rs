//! Frames from server to client.

use serde_json::json;
use weir_protocol::{
    BindingStatus, ConsumerInfo, DeliverBuilder, DeliveredCount, DoneCount, Empty, ErrorCode,
    GenerationStatus, GroupFigures, GroupInfo, HelloAnswer, HelloLimits, Kind, Level, ListAnswer,
    ListItem, LostRange, Order, PolicyCounters, PolicyFailure, PolicyItem, PolicyListAnswer,
    PolicyLogLine, PolicyMetric, PolicyStatusAnswer, QueueInfo, Refusal, RequestId, RunHeader,
    SettleCount, StreamInfo, SubscriptionId, WireError, answer,
};

use super::{Case, message};
use crate::common::from_hex;

/// A moment: 2023-11-14, 22:13:20 UTC.
const TIME_MS: u64 = 1_700_000_000_000;
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

pub fn cases() -> Vec<Case> {
    let mut all = plain();
    all.extend(info());
    all.extend(policies());
    all.extend(messages());
    all.extend(errors());
    all
}

fn ok(
    name: &'static str,
    title: &'static str,
    shows: &'static str,
    id: u32,
    body: &impl serde::Serialize,
) -> Case {
    let mut bytes = Vec::new();
    answer::encode_ok(&mut bytes, RequestId(id), body);
    Case { name, title, shows, bytes }
}

fn plain() -> Vec<Case> {
    let hello = HelloAnswer {
        version: 1,
        server: "weir 0.1.0".into(),
        connection: 17,
        limits: HelloLimits::default(),
        levels: vec![Level::Memory],
    };
    let item = ListItem {
        kind: Kind::Queue,
        name: "orders".into(),
        stream: None,
        subjects: vec!["orders".into(), "orders.>".into()],
        partitions: None,
        messages: Some(3),
        bytes: Some(60),
    };
    vec![
        ok("ok-empty", "Done.", "[64, 7, {}]", 7, &Empty {}),
        ok(
            "ok-hello",
            "Answer of hello: the connection is open.",
            r#"[64, 1, {"version": 1, "server": "weir 0.1.0", "connection": 17, "limits": {"frame_bytes": 1048576, "answer_bytes": 1114112, "batch_messages": 16384, "subscriptions": 100000, "requests_in_flight": 4096, "credit": 65536}, "levels": ["memory"]}]"#,
            1,
            &hello,
        ),
        Case {
            name: "ok-newer-broker",
            title: "An answer of a newer broker: an unknown key and an item more. Read only: it is to be ignored, not repeated.",
            shows: r#"[64, 1, {"version": 1, "mood": "fine"}, 9]"#,
            bytes: from_hex("00000018 94 40 01 82 a7 76657273696f6e 01 a4 6d6f6f64 a4 66696e65 09"),
        },
        ok(
            "ok-settle",
            "Answer of settle: one tag was not known any more.",
            r#"[64, 8, {"done": 100, "unknown": 1}]"#,
            8,
            &SettleCount { done: 100, unknown: 1 },
        ),
        ok(
            "ok-pull",
            "Answer of pull, behind the deliveries.",
            r#"[64, 12, {"delivered": 10}]"#,
            12,
            &DeliveredCount { delivered: 10 },
        ),
        ok("ok-purge", "Answer of purge.", r#"[64, 33, {"done": 3}]"#, 33, &DoneCount { done: 3 }),
        ok(
            "ok-list",
            "Answer of list: there is more.",
            r#"[64, 28, {"items": [{"kind": "queue", "name": "orders", "subjects": ["orders", "orders.>"], "messages": 3, "bytes": 60}], "next": "orders"}]"#,
            28,
            &ListAnswer { items: vec![item], next: Some("orders".into()) },
        ),
    ]
}

fn figures() -> GroupFigures {
    GroupFigures {
        binding: "default-delivery".into(),
        generation: 1,
        lag: 3,
        ready: 1,
        in_flight: 2,
        delivered: 12,
        redelivered: 1,
        acked: 9,
        nacked: 1,
        consumers_total: 1,
        consumers: vec![ConsumerInfo {
            connection: 17,
            sub: 5,
            name: "w1".into(),
            credit: 254,
            in_flight: 2,
        }],
        ..GroupFigures::default()
    }
}

fn info() -> Vec<Case> {
    let queue = QueueInfo {
        name: "orders".into(),
        subjects: vec!["orders".into()],
        messages_max: 1_000_000,
        order: Order::Key,
        messages: 3,
        bytes: 60,
        published: 12,
        delivery: figures(),
        ..QueueInfo::default()
    };
    let group = GroupInfo {
        stream: "flights".into(),
        name: "audit".into(),
        options: json!({"fan": 2}).as_object().unwrap().clone(),
        cursors: vec![7, 2],
        delivery: figures(),
        ..GroupInfo::default()
    };
    let stream = StreamInfo {
        name: "flights".into(),
        subjects: vec!["flights".into()],
        partitions: 2,
        age_ms_max: 86_400_000,
        compact: true,
        tombstone_ms: 3_600_000,
        messages: 9,
        bytes: 180,
        kept: vec![6, 3],
        starts: vec![0, 0],
        ends: vec![8, 4],
        published: 12,
        compacted: 3,
        groups: vec![group.clone()],
        ..StreamInfo::default()
    };
    vec![
        ok(
            "ok-info-queue",
            "Answer of info for a queue.",
            r#"[64, 29, {"name": "orders", ..., "delivery": {...}}]"#,
            29,
            &queue,
        ),
        ok(
            "ok-info-stream",
            "Answer of info for a stream.",
            r#"[64, 29, {"name": "flights", ..., "groups": [{...}]}]"#,
            29,
            &stream,
        ),
        ok(
            "ok-info-group",
            "Answer of info for a group.",
            r#"[64, 29, {"stream": "flights", "name": "audit", ..., "delivery": {...}}]"#,
            29,
            &group,
        ),
    ]
}

fn policies() -> Vec<Case> {
    let policy = PolicyItem {
        name: "json-router".into(),
        version: "0.1.0".into(),
        roles: vec!["router".into()],
        origin: "shipped".into(),
        digest: DIGEST.into(),
        bindings: vec!["flights-router".into()],
        error: None,
    };
    let status = BindingStatus {
        binding: "flights-router".into(),
        policy: "json-router".into(),
        version: "0.1.0".into(),
        role: "router".into(),
        stage: "publish".into(),
        scope: vec!["flights.>".into()],
        order: 100,
        on_failure: "refuse".into(),
        powers: vec!["retarget".into()],
        config: json!({"default": "flights.rest"}).as_object().unwrap().clone(),
        state: "kept".into(),
        error: Some("flights-router.toml line 3: there is no policy `json-routr`".into()),
        generation: 2,
        digest: DIGEST.into(),
        since_ms: TIME_MS,
        breaker: "closed".into(),
        calls: 100,
        rows: 25_600,
        memo_hits: 0,
        failed_rows: 7,
        denied_rows: 2,
        refused_rows: 0,
        dropped_rows: 0,
        diverted_rows: 0,
        failures: 5,
        traps: 1,
        instances: 3,
        memory_bytes: 1 << 20,
        kv_refused: 0,
        kv_bytes: 0,
        log_lines_dropped: 950,
        last_failure: Some(PolicyFailure {
            generation: 2,
            time_ms: TIME_MS,
            reason: "ran past its 20 ms".into(),
        }),
        metrics: vec![
            PolicyMetric {
                name: "late".into(),
                kind: "counter".into(),
                help: "flights that were late".into(),
                value: json!(12),
                buckets: Vec::new(),
            },
            PolicyMetric {
                name: "load".into(),
                kind: "gauge".into(),
                help: "".into(),
                value: json!(0.5),
                buckets: Vec::new(),
            },
        ],
        log: vec![PolicyLogLine {
            time_ms: TIME_MS,
            generation: 2,
            level: "info".into(),
            message: "started".into(),
        }],
        previous: vec![GenerationStatus {
            generation: 1,
            digest: DIGEST.into(),
            rows: 51_200,
            failed_rows: 3,
            state: "failed".into(),
            reason: Some("ran past its 20 ms".into()),
        }],
    };
    let counters = PolicyCounters {
        passes: 9,
        compilations: 3,
        activations: 4,
        refusals: 1,
        rollbacks: 1,
        troubles: 1,
        file_problems: 1,
    };
    vec![
        ok(
            "ok-policy_list",
            "Answer of policy_list.",
            r#"[64, 40, {"policies": [{"name": "json-router", ...}]}]"#,
            40,
            &PolicyListAnswer { policies: vec![policy] },
        ),
        ok(
            "ok-policy_status",
            "Answer of policy_status: the file is broken, generation 2 goes on.",
            r#"[64, 41, {"bindings": [{"binding": "flights-router", ..., "state": "kept", ...}], ...}]"#,
            41,
            &PolicyStatusAnswer { bindings: vec![status.clone()], counters },
        ),
        ok(
            "ok-policy_rollback",
            "Answer of policy_rollback: generation 1 is back, as generation 3.",
            r#"[64, 42, {"binding": "flights-router", ..., "state": "rolled-back", ...}]"#,
            42,
            &BindingStatus {
                state: "rolled-back".into(),
                error: Some("rolled back by an operator".into()),
                generation: 3,
                rows: 0,
                calls: 0,
                last_failure: None,
                metrics: Vec::new(),
                log: Vec::new(),
                previous: Vec::new(),
                ..status
            },
        ),
    ]
}

fn messages() -> Vec<Case> {
    let published = |id, stored, reached, unrouted, refusals: &[Refusal]| {
        let mut bytes = Vec::new();
        let id = RequestId(id);
        answer::encode_published(
            &mut bytes,
            id,
            Level::Memory,
            stored,
            reached,
            unrouted,
            refusals,
        );
        bytes
    };
    let first = message("orders", b"", &[], b"hi");
    let both = [first.clone(), message("orders", b"k1", &[], b"ho")].concat();
    let header =
        RunHeader { tag: 1, partition: 0, offset: 40, time_ms: TIME_MS, attempt: 1, count: 2 };
    let again = RunHeader { tag: 3, offset: 12, attempt: 2, count: 1, ..header };
    let deliver = |runs: &[(RunHeader, &[u8])]| {
        let mut bytes = Vec::new();
        let mut builder = DeliverBuilder::start(&mut bytes, SubscriptionId(5));
        for (header, messages) in runs {
            builder.run(&mut bytes, header, messages);
        }
        builder.finish(&mut bytes);
        bytes
    };
    let refused = |row, count, code, message: &'static str| Refusal {
        row,
        count,
        code,
        message: message.into(),
    };
    let channel = RunHeader { time_ms: TIME_MS, attempt: 1, count: 1, ..RunHeader::default() };
    let mut records = Vec::new();
    let record = RunHeader { tag: 0, partition: 3, offset: 1_000, ..header };
    let runs = [(record, &both[..])].into_iter();
    answer::encode_records(&mut records, RequestId(30), (0, 1_002, 1_002), runs);
    vec![
        Case {
            name: "published-stored",
            title: "Kept by one queue, heard by three subscribers.",
            shows: "[66, 2, 0, 1, 3, 0, []]",
            bytes: published(2, 1, 3, 0, &[]),
        },
        Case {
            name: "published-refused",
            title: "Of 100 messages 40 found the queue full, one was refused by a policy, one reached nobody.",
            shows: r#"[66, 3, 0, 58, 0, 1, [[50, 40, "queue_full", ""], [95, 1, "policy_refused", "no weight"]]]"#,
            bytes: published(
                3,
                58,
                0,
                1,
                &[
                    refused(50, 40, ErrorCode::QueueFull, ""),
                    refused(95, 1, ErrorCode::PolicyRefused, "no weight"),
                ],
            ),
        },
        Case {
            name: "deliver-queue",
            title: "Two new messages with tags 1 and 2, and a redelivery with tag 3.",
            shows: r#"[67, 5, [[1, 0, 40, 1700000000000, 1, [["orders", nil, nil, h'6869'], ["orders", h'6b31', nil, h'686f']]], [3, 0, 12, 1700000000000, 2, [["orders", nil, nil, h'6869']]]]]"#,
            bytes: deliver(&[(header, &both), (again, &first)]),
        },
        Case {
            name: "deliver-channel",
            title: "A message of a channel: nothing to settle.",
            shows: r#"[67, 5, [[0, 0, 0, 1700000000000, 1, [["orders", nil, nil, h'6869']]]]]"#,
            bytes: deliver(&[(channel, &first)]),
        },
        Case {
            name: "records-range",
            title: "Answer of read: two messages of partition 3.",
            shows: r#"[68, 30, {"start": 0, "end": 1002, "next": 1002}, [[0, 3, 1000, 1700000000000, 1, [["orders", nil, nil, h'6869'], ["orders", h'6b31', nil, h'686f']]]]]"#,
            bytes: records,
        },
    ]
}

fn errors() -> Vec<Case> {
    let frame = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    };
    let not_found = WireError::new(ErrorCode::NotFound, "there is no queue `orders`");
    let unauthorized = WireError::new(ErrorCode::Unauthorized, "the token is wrong");
    let lost = WireError {
        hint: "read on from offset 250".into(),
        lost: Some((120, 250)),
        ..WireError::new(ErrorCode::DataLoss, "damaged")
    };
    let gone = LostRange { partition: 2, from: 120, to: 250 };
    let deleted = WireError::new(ErrorCode::Deleted, "the queue `orders` was deleted");
    let stops = WireError::new(ErrorCode::ShuttingDown, "the broker stops");
    vec![
        Case {
            name: "error-request",
            title: "A request is refused; the connection goes on.",
            shows: r#"[65, 5, {"code": "not_found", "message": "there is no queue `orders`", "hint": "create it first, or list what there is"}]"#,
            bytes: frame(&|out| answer::encode_error(out, RequestId(5), &not_found)),
        },
        Case {
            name: "error-lost",
            title: "A read begins with messages that are lost; the next is that of offset 250.",
            shows: r#"[65, 6, {"code": "data_loss", "message": "damaged", "hint": "read on from offset 250", "lost": [120, 250]}]"#,
            bytes: frame(&|out| answer::encode_error(out, RequestId(6), &lost)),
        },
        Case {
            name: "error-connection",
            title: "Id 0: the broker closes the connection.",
            shows: r#"[65, 0, {"code": "unauthorized", "message": "the token is wrong", "hint": "send the right token in the hello"}]"#,
            bytes: frame(&|out| answer::encode_error(out, RequestId(0), &unauthorized)),
        },
        Case {
            name: "skipped-some",
            title: "Subscription 5 was too slow and missed 250 messages.",
            shows: "[69, 5, 250]",
            bytes: frame(&|out| answer::encode_skipped(out, SubscriptionId(5), 250, None)),
        },
        Case {
            name: "skipped-lost",
            title: "Of offsets 120 to 249 of partition 2, consumer 5 has lost 128 messages.",
            shows: "[69, 5, 128, [2, 120, 250]]",
            bytes: frame(&|out| answer::encode_skipped(out, SubscriptionId(5), 128, Some(gone))),
        },
        Case {
            name: "ended-deleted",
            title: "Consumer 5 ends, because its queue was deleted.",
            shows: r#"[70, 5, {"code": "deleted", "message": "the queue `orders` was deleted", "hint": "create it again, then consume again"}]"#,
            bytes: frame(&|out| answer::encode_ended(out, SubscriptionId(5), &deleted)),
        },
        Case {
            name: "goodbye-shutdown",
            title: "The broker stops.",
            shows: r#"[71, 0, {"code": "shutting_down", "message": "the broker stops", "hint": "connect again, with a growing pause between tries"}]"#,
            bytes: frame(&|out| answer::encode_goodbye(out, &stops)),
        },
    ]
}
