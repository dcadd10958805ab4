//! A shard with a shipped delivery policy: what its plan can do, the broker does
//! without a call.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Bench, Messages, TestClock, counts};
use weir_core::command::{
    Command, ConnectionId, DestinationId, Level, Publish, QueueConfig, RequestId, Settlement,
    Source, SubscriptionId, Verb,
};
use weir_core::effect::Effect;
use weir_core::env::Now;
use weir_core::memory_store::MemoryStore;
use weir_core::policy::Scope;
use weir_core::shard::Shard;
use weir_message::Batch;
use weir_policy::delivery::WasmDelivery;
use weir_policy::setup::Role;

const MESSAGES: usize = 100;

fn turn(shard: &mut Shard, command: Command) -> Vec<Effect> {
    let now = Now { steady_ms: 1, wall_ms: 1 };
    let mut effects = Vec::new();
    shard.apply(now, command, &mut effects);
    shard.commit(now, &mut effects).unwrap();
    effects
}

fn delivered(effects: &[Effect]) -> usize {
    let runs = effects.iter().filter_map(|effect| match effect {
        Effect::Deliver { runs, .. } => Some(runs),
        _ => None,
    });
    runs.flatten().map(|run| run.count as usize).sum()
}

#[test]
fn publish_deliver_and_ack_make_no_guest_call() {
    let bench = Bench::new(TestClock::manual(0));
    let mut shard = Shard::new(Box::new(MemoryStore::new(1 << 20)), 1_000..2_000);
    let setup = bench.setup(Role::Delivery, 1, "{}");
    let policy = WasmDelivery::new(bench.shipped("at-least-once"), setup.clone()).unwrap();
    let scope = Scope { queues: vec!["*".into()], ..Scope::default() };
    let bind = Command::BindDelivery { binding: "tested".into(), scope, policy: Some(policy) };
    turn(&mut shard, bind);
    let (id, connection, subscription) = (DestinationId(1), ConnectionId(1), SubscriptionId(1));
    let config = QueueConfig { messages_max: 0, bytes_max: 0, level: Level::Memory, order: 0 };
    turn(&mut shard, Command::CreateQueue { id, name: "orders".into(), config });
    let attach = Command::Attach {
        connection,
        subscription,
        request: RequestId(1),
        source: Source::Queue(id),
        credit: MESSAGES as u32,
        name: "worker".into(),
        labels: String::new(),
    };
    turn(&mut shard, attach);
    let before = counts(&setup).calls;
    assert!(before > 0, "the policy gave the plan");

    let batch = Messages::of(&[("orders", "x"); MESSAGES]);
    let publish = Publish {
        destination: id,
        connection,
        receipt: None,
        batch: Batch::from_bytes(batch.buffer.into()).unwrap(),
        rows: weir_core::command::Rows::new(),
        delay_ms: 0,
    };
    let effects = turn(&mut shard, Command::Publish(publish));
    assert_eq!(delivered(&effects), MESSAGES);
    let settlements = vec![Settlement { first: 1, last: MESSAGES as u64, verb: Verb::Ack }];
    let settle = Command::Settle { connection, subscription, request: None, settlements };
    turn(&mut shard, settle);
    assert_eq!(counts(&setup).calls, before);
    assert_eq!(counts(&setup).rows, 0);
}
