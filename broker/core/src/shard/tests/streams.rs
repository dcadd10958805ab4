//! Streams: groups, partitions, retention, seeking, reading.

use expect_test::expect;
use weir_message::Batch;

use super::script::check;
use crate::command::{Command, ConnectionId, DestinationId, Publish, Rows, StreamConfig};
use crate::env::Now;
use crate::memory_store::MemoryStore;
use crate::shard::Shard;

#[test]
fn every_group_gets_every_message_once() {
    check(
        "stream flights
         group flights/audit
         group flights/board
         ann: consume flights/audit credit=9
         bob: consume flights/board credit=9
         cid: consume flights/board credit=9
         eve: publish flights a b c d
         ann: ack 1-4
         bob: ack 1
         eve: info flights",
        expect![[r#"
            eve <- published 4: Ok(Memory)
            ann <- deliver a#1 b#2 c#3 d#4
            bob <- deliver a#1 b#2 | d#3
            cid <- deliver c#1
            eve <- flights: 4 kept, 0..4, published 4 refused 0 removed 0
              [audit] built-in g0 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 4 again 0 acked 4 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 9 holds 0
              [board] built-in g0 lag 3 ready 0 in flight 3 delayed 0 parked 0 | delivered 4 again 0 acked 1 nacked 0 expired 0 dead 0 dropped 0 refused 0
                bob credit 7 holds 2
                cid credit 8 holds 1
        "#]],
    );
}

#[test]
fn keys_choose_the_partition_and_the_rest_goes_round() {
    check(
        "stream flights partitions=3
         group flights/audit
         eve: publish flights k1/a k2/b k3/c k1/d k2/e
         eve: publish flights f g
         eve: publish flights h
         eve: info flights
         ann: consume flights/audit credit=99
         eve: read flights earliest partition=1
         eve: read flights earliest partition=3",
        expect![[r#"
            eve <- published 5 rows [0, 1, 3, 4, 2]: Ok(Memory)
            eve <- published 2: Ok(Memory)
            eve <- published 1: Ok(Memory)
            eve <- flights: 8 kept, 0+0+0..4+3+1, published 8 refused 0 removed 0
              [audit] built-in g0 lag 8 ready 8 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ann <- deliver c#1 in 1 | f#2 g#3 in 1 | h#4 in 2 | a#5 b#6 d#7 e#8
            eve <- records c in 1 | f g in 1, next 3 of 0..3
            eve <- Rejected(NoPartition)
        "#]],
    );
}

#[test]
fn a_group_starts_where_it_says() {
    check(
        "stream flights
         eve: publish flights a b
         wait 100
         eve: publish flights c d
         group flights/all
         group flights/new start=latest
         group flights/third start=offset:2
         group flights/timed start=time:50
         ann: consume flights/all credit=9
         bob: consume flights/new credit=9
         cid: consume flights/third credit=9
         dan: consume flights/timed credit=9
         eve: publish flights e",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1 b#2 | c#3 d#4
            cid <- deliver c#1 d#2
            dan <- deliver c#1 d#2
            eve <- published 1: Ok(Memory)
            ann <- deliver e#5
            bob <- deliver e#1
            cid <- deliver e#3
            dan <- deliver e#3
        "#]],
    );
}

#[test]
fn a_group_can_go_back_and_forth() {
    check(
        "stream flights
         group flights/audit
         ann: consume flights/audit credit=3
         eve: publish flights a b
         wait 100
         eve: publish flights c d e
         ann: ack 1-2
         eve: seek flights/audit earliest
         ann: ack 3-5 asks
         ann: ack 6-8
         eve: seek flights/audit time:100
         ann: ack 9-11
         eve: seek flights/audit offset:1
         eve: seek flights/audit latest
         eve: publish flights f
         eve: seek flights/audit offset:99
         eve: seek flights/nobody latest
         eve: seek flights/audit latest partition=1
         eve: info flights",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1 b#2
            eve <- published 3: Ok(Memory)
            ann <- deliver c#3
            ann <- deliver d#4 e#5
            ann <- deliver a#6 b#7 | c#8
            ann <- Count { done: 0, unknown: 3 }
            ann <- deliver d#9 e#10
            ann <- deliver c#11 d#12 e#13
            ann <- deliver b#14 | c#15 d#16
            eve <- published 1: Ok(Memory)
            ann <- deliver f#17
            eve <- Rejected(OffsetOutOfRange)
            eve <- Rejected(NotFound)
            eve <- Rejected(NoPartition)
            eve <- flights: 6 kept, 0..6, published 6 refused 0 removed 0
              [audit] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 17 again 0 acked 6 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 2 holds 1
        "#]],
    );
}

#[test]
fn retention_by_count() {
    check(
        "stream flights messages_max=3
         group flights/audit
         ann: consume flights/audit credit=1
         eve: publish flights a b
         eve: publish flights c d e
         ann: ack 1
         ann: ack 2
         eve: info flights
         eve: read flights offset:1
         eve: read flights offset:2 max=2
         eve: read flights offset:4
         eve: read flights offset:5
         eve: read flights offset:6",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1
            eve <- published 3: Ok(Memory)
            ann <- deliver c#2
            ann <- deliver d#3
            eve <- flights: 3 kept, 2..5, published 5 refused 0 removed 2
              [audit] built-in g0 lag 2 ready 1 in flight 1 delayed 0 parked 0 | delivered 3 again 0 acked 2 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 1
            eve <- Rejected(OffsetOutOfRange)
            eve <- records c d, next 4 of 2..5
            eve <- records e, next 5 of 2..5
            eve <- records , next 5 of 2..5
            eve <- Rejected(OffsetOutOfRange)
        "#]],
    );
}

#[test]
fn retention_by_bytes() {
    check(
        "stream flights bytes_max=50
         eve: publish flights 1234567
         eve: publish flights 2234567
         eve: publish flights 3234567
         eve: info flights
         eve: read flights earliest",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            eve <- published 1: Ok(Memory)
            eve <- published 1: Ok(Memory)
            eve <- flights: 2 kept, 1..3, published 3 refused 0 removed 1
            eve <- records 2234567 | 3234567, next 3 of 1..3
        "#]],
    );
}

#[test]
fn retention_by_age() {
    check(
        "stream flights age=1000
         group flights/audit
         eve: publish flights a
         wait 600
         eve: publish flights b
         wait 500
         eve: info flights
         ann: consume flights/audit credit=9
         wait 600
         eve: info flights
         ann: ack 1 asks
         eve: publish flights c
         alter-stream flights age=10
         wait 20
         eve: info flights",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            eve <- published 1: Ok(Memory)
            eve <- flights: 1 kept, 1..2, published 2 refused 0 removed 1
              [audit] built-in g0 lag 1 ready 1 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ann <- deliver b#1
            eve <- flights: 0 kept, 2..2, published 2 refused 0 removed 2
              [audit] built-in g0 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 8 holds 1
            ann <- Count { done: 1, unknown: 0 }
            eve <- published 1: Ok(Memory)
            ann <- deliver c#2
            eve <- flights: 0 kept, 3..3, published 3 refused 0 removed 3
              [audit] built-in g0 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 2 again 0 acked 1 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 8 holds 1
        "#]],
    );
}

#[test]
fn a_group_that_is_to_start_behind_the_end_starts_at_the_end() {
    check(
        "stream flights
         eve: publish flights a
         group flights/audit start=offset:7
         ann: consume flights/audit credit=9
         eve: publish flights b c",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            eve <- published 2: Ok(Memory)
            ann <- deliver b#1 c#2
        "#]],
    );
}

/// A clock that is set back leaves messages behind that look older than what lies before
/// them: as long as they go when that would have, the shard does not ask all the time.
#[test]
fn a_message_too_old_behind_a_later_one_is_no_reason_to_wake_all_the_time() {
    let mut shard = Shard::new(Box::new(MemoryStore::new(0)), 1_000..1_100);
    let config = StreamConfig { age_ms_max: 1_000, messages_max: 1, ..StreamConfig::default() };
    let id = DestinationId(1);
    let mut now = Now { steady_ms: 0, wall_ms: 100_000 };
    let create = Command::CreateStream { id, name: "flights".into(), config };
    turn(&mut shard, now, [create, publish(id, "a")]);
    now = Now { steady_ms: 10, wall_ms: 50_000 };
    turn(&mut shard, now, [publish(id, "b")]);
    let mut wakes = 0;
    while let Some(due_ms) = shard.next_deadline() {
        now.wall_ms += due_ms - now.steady_ms;
        now.steady_ms = due_ms;
        turn(&mut shard, now, []);
        wakes += 1;
    }
    assert_eq!(now.wall_ms, 101_001, "as old as what was published before it, and removed");
    assert!(wakes < 60, "woken {wakes} times");
}

/// One turn of a shard.
fn turn(shard: &mut Shard, now: Now, commands: impl IntoIterator<Item = Command>) {
    let mut effects = Vec::new();
    shard.tick(now, &mut effects);
    commands.into_iter().for_each(|command| shard.apply(now, command, &mut effects));
    shard.commit(now, &mut effects).expect("memory does not fail");
}

fn publish(destination: DestinationId, payload: &str) -> Command {
    let mut message = Vec::new();
    weir_message::encode(&mut message, "flights", b"", &[], payload.as_bytes());
    Command::Publish(Publish {
        destination,
        connection: ConnectionId(1),
        receipt: None,
        batch: Batch::of_one(message.into()),
        rows: Rows::new(),
        delay_ms: 0,
    })
}

#[test]
fn reads_keep_to_their_bounds() {
    check(
        "stream flights
         queue orders
         eve: publish flights a b c
         eve: publish flights d
         eve: read flights earliest max=2
         eve: read flights offset:1 bytes=1
         eve: read flights offset:1 bytes=28
         eve: read flights latest
         eve: read orders earliest
         eve: purge flights",
        expect![[r#"
            eve <- published 3: Ok(Memory)
            eve <- published 1: Ok(Memory)
            eve <- records a b, next 2 of 0..4
            eve <- records b, next 2 of 0..4
            eve <- records b c, next 3 of 0..4
            eve <- records , next 4 of 0..4
            eve <- Rejected(WrongKind)
            eve <- Rejected(WrongKind)
        "#]],
    );
}

#[test]
fn a_deleted_group_tells_its_consumers() {
    check(
        "stream flights
         group flights/audit
         group flights/board
         ann: consume flights/audit credit=1
         bob: consume flights/board credit=1
         delete flights/audit
         eve: publish flights a
         ann: consume flights/audit credit=1
         delete flights
         ann: ack 1 asks",
        expect![[r#"
            ann <- ended Deleted
            eve <- published 1: Ok(Memory)
            bob <- deliver a#1
            ann <- Rejected(NotFound)
            bob <- ended Deleted
            ann <- Rejected(NoSubscription)
        "#]],
    );
}

#[test]
fn a_group_s_dead_letters_have_a_queue_of_their_own() {
    check(
        "stream flights partitions=2
         group flights/audit
         ann: consume flights/audit credit=5
         eve: publish flights k2/a
         ann: reject 1 code=2
         bob: consume flights/audit/dead credit=1
         eve: info flights",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            ann <- deliver a#1
            broker makes flights/audit/dead
            bob <- deliver a#1 {weir-dead-reason=rejected:2, weir-dead-source=flights/audit, weir-dead-offset=0:0, weir-dead-attempts=1}
            eve <- flights: 1 kept, 0+0..1+0, published 1 refused 0 removed 0
              [audit] built-in g0 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 1 expired 0 dead 1 dropped 0 refused 0
                ann credit 5 holds 0
        "#]],
    );
}
