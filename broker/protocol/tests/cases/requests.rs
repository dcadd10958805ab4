//! Frames from client to server.

use serde_json::{Map, json};
use weir_message::Header;
use weir_protocol::{
    Alter, AlterGroup, AlterQueue, AlterStream, Consume, Create, CreateGroup, CreateQueue,
    CreateStream, Credit, Hello, Kind, Level, List, Order, PolicyRollback, PolicyStatus,
    PublishBuilder, Pull, Purge, Read, Request, RequestId, Seek, Settle, Start, Subscribe,
    SubscriptionId, TagRange, Target, Unsubscribe, Verb, encode_request,
};

use super::{Case, message};
use crate::common::from_hex;

fn case(
    name: &'static str,
    title: &'static str,
    shows: &'static str,
    id: u32,
    request: Request,
) -> Case {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, RequestId(id), &request);
    Case { name, title, shows, bytes }
}

fn map(value: serde_json::Value) -> Map<String, serde_json::Value> {
    value.as_object().unwrap().clone()
}

pub fn cases() -> Vec<Case> {
    let mut all = connection();
    all.extend(messages());
    all.extend(consumers());
    all.extend(create());
    all.extend(manage());
    all
}

fn connection() -> Vec<Case> {
    let hello = |token: Option<&str>| {
        Request::Hello(Hello {
            version: vec![1],
            client: "demo 1.0".into(),
            token: token.map(Into::into),
        })
    };
    vec![
        case(
            "hello-plain",
            "The first frame of every connection.",
            r#"[1, 1, {"version": [1], "client": "demo 1.0"}]"#,
            1,
            hello(None),
        ),
        case(
            "hello-token",
            "The first frame where the broker asks for a token.",
            r#"[1, 1, {"version": [1], "client": "demo 1.0", "token": "secret"}]"#,
            1,
            hello(Some("secret")),
        ),
        case("ping-plain", "Are you there?", "[9, 7]", 7, Request::Ping),
    ]
}

fn messages() -> Vec<Case> {
    let mut headers = Vec::new();
    let text = Header { name: "trace", value: b"t-1", text: true };
    let raw = Header { name: "raw", value: &[0, 255], text: false };
    Header::encode_all(&mut headers, &[text, raw]);
    let publish = |id: u32, delay_ms: u32, messages: &[Vec<u8>]| {
        let mut bytes = Vec::new();
        let mut builder = PublishBuilder::start(&mut bytes, delay_ms);
        for message in messages {
            builder.push(&mut bytes, message);
        }
        builder.finish(&mut bytes, RequestId(id));
        bytes
    };
    vec![
        Case {
            name: "publish-one",
            title: "One message, with an acknowledgement.",
            shows: r#"[2, 2, nil, [["orders", nil, nil, h'6869']]]"#,
            bytes: publish(2, 0, &[message("orders", b"", &[], b"hi")]),
        },
        Case {
            name: "publish-batch",
            title: "Two messages, no acknowledgement; the first has a key and headers.",
            shows: r#"[2, 0, nil, [["orders.eu", h'6b31', {"trace": "t-1", "raw": h'00ff'}, h'6f6e65'], ["orders.us", nil, nil, h'']]]"#,
            bytes: publish(
                0,
                0,
                &[
                    message("orders.eu", b"k1", &headers, b"one"),
                    message("orders.us", b"", &[], b""),
                ],
            ),
        },
        Case {
            name: "publish-delay",
            title: "A queue's consumers see the message after 1.5 s.",
            shows: r#"[2, 3, {"delay_ms": 1500}, [["orders", nil, nil, h'6869']]]"#,
            bytes: publish(3, 1500, &[message("orders", b"", &[], b"hi")]),
        },
        Case {
            name: "publish-short",
            title: "publish-one in the shortest encoding, as most MessagePack libraries write it. Read only: our own writer has wider heads.",
            shows: r#"[2, 2, nil, [["orders", nil, nil, h'6869']]]"#,
            bytes: from_hex("00000013 94 02 02 c0 91 94 a6 6f7264657273 c0 c0 c4 02 6869"),
        },
    ]
}

fn consumers() -> Vec<Case> {
    let sub = SubscriptionId(5);
    let range = |first, last| TagRange { first, last };
    let settle =
        |verb, ranges: &[TagRange]| Request::Settle(Settle { sub, verb, ranges: ranges.to_vec() });
    let mut all = vec![
        case(
            "settle-ack",
            "Tags 1 to 100 and 102 are done; no answer wanted.",
            "[3, 0, 5, 0, 0, [1, 100, 102, 102]]",
            0,
            settle(Verb::Ack, &[range(1, 100), range(102, 102)]),
        ),
        case(
            "settle-nack",
            "Tag 101 again in 250 ms at the earliest.",
            "[3, 8, 5, 1, 250, [101, 101]]",
            8,
            settle(Verb::Nack { delay_ms: 250 }, &[range(101, 101)]),
        ),
        case(
            "settle-extend",
            "Another 60 s for tag 103.",
            "[3, 9, 5, 2, 60000, [103, 103]]",
            9,
            settle(Verb::Extend { by_ms: 60_000 }, &[range(103, 103)]),
        ),
        case(
            "settle-reject",
            "Tags 104 to 300 can never be done; reason 7.",
            "[3, 10, 5, 3, 7, [104, 300]]",
            10,
            settle(Verb::Reject { code: 7 }, &[range(104, 300)]),
        ),
        case(
            "settle-flush",
            "What became of all that was settled without an answer so far?",
            "[3, 11, 5, 0, 0, []]",
            11,
            settle(Verb::Ack, &[]),
        ),
        case(
            "credit-more",
            "64 more deliveries for consumer 5.",
            "[4, 0, 5, 64]",
            0,
            Request::Credit(Credit { sub, amount: 64 }),
        ),
        case(
            "unsubscribe-plain",
            "Subscription or consumer 5 ends.",
            r#"[6, 11, {"sub": 5}]"#,
            11,
            Request::Unsubscribe(Unsubscribe { sub }),
        ),
        case(
            "pull-wait",
            "Ten messages, or what comes within 2 s.",
            r#"[8, 12, {"sub": 5, "messages_max": 10, "wait_ms": 2000}]"#,
            12,
            Request::Pull(Pull { sub, messages_max: 10, wait_ms: 2_000 }),
        ),
    ];
    all.extend(subscriptions(sub));
    all
}

fn subscriptions(sub: SubscriptionId) -> Vec<Case> {
    let subscribe = |share: Option<&str>| {
        Request::Subscribe(Subscribe {
            sub,
            pattern: "orders.*".into(),
            share: share.map(Into::into),
        })
    };
    vec![
        case(
            "subscribe-plain",
            "Hear a channel, as subscription 5.",
            r#"[5, 4, {"sub": 5, "pattern": "orders.*"}]"#,
            4,
            subscribe(None),
        ),
        case(
            "subscribe-share",
            "Share a channel with the other members of `workers`.",
            r#"[5, 4, {"sub": 5, "pattern": "orders.*", "share": "workers"}]"#,
            4,
            subscribe(Some("workers")),
        ),
        case(
            "consume-queue",
            "Consume a queue, 256 deliveries ahead.",
            r#"[7, 5, {"sub": 5, "queue": "orders", "credit": 256}]"#,
            5,
            Request::Consume(Consume {
                sub,
                queue: Some("orders".into()),
                credit: 256,
                ..Consume::default()
            }),
        ),
        case(
            "consume-group",
            "Consume a stream's group, by pull only, with a name and labels.",
            r#"[7, 6, {"sub": 5, "stream": "flights", "group": "audit", "credit": 0, "name": "w1", "labels": {"zone": "a"}}]"#,
            6,
            Request::Consume(Consume {
                sub,
                stream: Some("flights".into()),
                group: Some("audit".into()),
                name: "w1".into(),
                labels: map(json!({"zone": "a"})),
                ..Consume::default()
            }),
        ),
    ]
}

fn create() -> Vec<Case> {
    vec![
        case(
            "create-queue",
            "A queue that keeps two families of subjects.",
            r#"[16, 20, {"kind": "queue", "name": "orders", "subjects": ["orders", "orders.>"], "if_absent": true, "messages_max": 1000000, "bytes_max": 0, "level": "memory", "order": "key"}]"#,
            20,
            Request::Create(Create::Queue(CreateQueue {
                name: "orders".into(),
                subjects: vec!["orders".into(), "orders.>".into()],
                if_absent: true,
                messages_max: 1_000_000,
                level: Some(Level::Memory),
                order: Order::Key,
                ..CreateQueue::default()
            })),
        ),
        case(
            "create-stream",
            "A stream of eight partitions that keeps a day, as safely as the broker can.",
            r#"[16, 21, {"kind": "stream", "name": "flights", "partitions": 8, "messages_max": 0, "bytes_max": 0, "age_ms_max": 86400000}]"#,
            21,
            Request::Create(Create::Stream(CreateStream {
                name: "flights".into(),
                partitions: 8,
                age_ms_max: 86_400_000,
                ..CreateStream::default()
            })),
        ),
        case(
            "create-stream-compact",
            "A stream that keeps the last message of each key, and an empty one for an hour.",
            r#"[16, 21, {"kind": "stream", "name": "prices", "partitions": 1, "messages_max": 0, "bytes_max": 0, "age_ms_max": 0, "compact": true, "tombstone_ms": 3600000}]"#,
            21,
            Request::Create(Create::Stream(CreateStream {
                name: "prices".into(),
                compact: true,
                tombstone_ms: Some(3_600_000),
                ..CreateStream::default()
            })),
        ),
        case(
            "create-group",
            "A group that starts to read at a moment.",
            r#"[16, 22, {"kind": "group", "stream": "flights", "name": "audit", "start": {"time_ms": 1700000000000}, "order": "none", "options": {"fan": 2}}]"#,
            22,
            Request::Create(Create::Group(CreateGroup {
                stream: "flights".into(),
                name: "audit".into(),
                start: Start::TimeMs(1_700_000_000_000),
                options: map(json!({"fan": 2})),
                ..CreateGroup::default()
            })),
        ),
        Case {
            name: "create-short",
            title: "Only what is needed, with `kind` at the end. Read only: our own writer spells the defaults out.",
            shows: r#"[16, 23, {"name": "q", "kind": "queue"}]"#,
            bytes: from_hex("00000016 93 10 17 82 a4 6e616d65 a1 71 a4 6b696e64 a5 7175657565"),
        },
    ]
}

fn manage() -> Vec<Case> {
    let target = |kind, name: &str, stream: Option<&str>| Target {
        kind,
        name: name.into(),
        stream: stream.map(Into::into),
    };
    let mut all = vec![
        case(
            "alter-queue",
            "Another bound; everything else stays.",
            r#"[17, 24, {"kind": "queue", "name": "orders", "messages_max": 5}]"#,
            24,
            Request::Alter(Alter::Queue(AlterQueue {
                name: "orders".into(),
                messages_max: Some(5),
                ..AlterQueue::default()
            })),
        ),
        case(
            "alter-stream",
            "Other subjects; everything else stays.",
            r#"[17, 25, {"kind": "stream", "name": "flights", "subjects": ["flights.>"]}]"#,
            25,
            Request::Alter(Alter::Stream(AlterStream {
                name: "flights".into(),
                subjects: Some(vec!["flights.>".into()]),
                ..AlterStream::default()
            })),
        ),
        case(
            "alter-stream-compact",
            "Compaction is switched on; everything else stays.",
            r#"[17, 25, {"kind": "stream", "name": "flights", "compact": true}]"#,
            25,
            Request::Alter(Alter::Stream(AlterStream {
                name: "flights".into(),
                compact: Some(true),
                ..AlterStream::default()
            })),
        ),
        case(
            "alter-group",
            "Strict order from now on.",
            r#"[17, 26, {"kind": "group", "stream": "flights", "name": "audit", "order": "all"}]"#,
            26,
            Request::Alter(Alter::Group(AlterGroup {
                stream: "flights".into(),
                name: "audit".into(),
                order: Some(Order::All),
                options: None,
            })),
        ),
        case(
            "delete-group",
            "A group with its cursor.",
            r#"[18, 27, {"kind": "group", "name": "audit", "stream": "flights"}]"#,
            27,
            Request::Delete(target(Kind::Group, "audit", Some("flights"))),
        ),
        case(
            "info-queue",
            "Figures of a queue.",
            r#"[20, 29, {"kind": "queue", "name": "orders"}]"#,
            29,
            Request::Info(target(Kind::Queue, "orders", None)),
        ),
        case(
            "purge-queue",
            "Remove what waits.",
            r#"[23, 33, {"queue": "orders"}]"#,
            33,
            Request::Purge(Purge { queue: "orders".into() }),
        ),
    ];
    all.extend(list_and_streams());
    all.extend(policies());
    all
}

fn list_and_streams() -> Vec<Case> {
    vec![
        case("list-all", "Everything.", "[19, 28, {}]", 28, Request::List(List::default())),
        case(
            "list-page",
            "The next 100 queues.",
            r#"[19, 28, {"kind": "queue", "after": "orders", "items_max": 100}]"#,
            28,
            Request::List(List {
                kind: Some(Kind::Queue),
                after: Some("orders".into()),
                items_max: Some(100),
            }),
        ),
        case(
            "read-offset",
            "50 messages of partition 3 from offset 1000.",
            r#"[21, 30, {"stream": "flights", "partition": 3, "from": {"offset": 1000}, "messages_max": 50}]"#,
            30,
            Request::Read(Read {
                stream: "flights".into(),
                partition: 3,
                from: Start::Offset(1_000),
                messages_max: Some(50),
                bytes_max: None,
            }),
        ),
        case(
            "read-earliest",
            "From the oldest message, 64 KiB.",
            r#"[21, 31, {"stream": "flights", "partition": 0, "from": "earliest", "bytes_max": 65536}]"#,
            31,
            Request::Read(Read {
                stream: "flights".into(),
                partition: 0,
                from: Start::Earliest,
                messages_max: None,
                bytes_max: Some(65_536),
            }),
        ),
        case(
            "seek-latest",
            "A group forgets what is behind it, in all partitions.",
            r#"[22, 32, {"stream": "flights", "group": "audit", "to": "latest"}]"#,
            32,
            Request::Seek(Seek {
                stream: "flights".into(),
                group: "audit".into(),
                partition: None,
                to: Start::Latest,
            }),
        ),
    ]
}

fn policies() -> Vec<Case> {
    vec![
        case("policy_list-plain", "Which policies there are.", "[32, 40, {}]", 40, {
            Request::PolicyList
        }),
        case(
            "policy_status-one",
            "What a binding does.",
            r#"[33, 41, {"binding": "flights-router"}]"#,
            41,
            Request::PolicyStatus(PolicyStatus { binding: Some("flights-router".into()) }),
        ),
        case(
            "policy_rollback-one",
            "Back to the generation before.",
            r#"[34, 42, {"binding": "flights-router"}]"#,
            42,
            Request::PolicyRollback(PolicyRollback { binding: "flights-router".into() }),
        ),
    ]
}
