//! Plans that the broker carries out by itself, and deliver-stage filters; and what a shard
//! keeps or does meanwhile that nobody sees from outside.

use expect_test::expect;
use weir_message::{BatchBuilder, encode};

use super::super::{Destination, Shard};
use super::hands::LetterFilter;
use super::script::check;
use crate::command::*;
use crate::dead_letter::QUEUE_END;
use crate::effect::{Effect, Reply};
use crate::env::Now;
use crate::group::Group;
use crate::limits;
use crate::memory_store::MemoryStore;
use crate::policy::{Plan, Scope, event};

const ID: DestinationId = DestinationId(1);
const CONNECTION: ConnectionId = ConnectionId(1);
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);

#[test]
fn at_most_once_settles_at_hand_over_and_acks_only_return_credit() {
    check(
        "queue orders
         bind once ack=0 attempts=1
         ann: consume orders credit=2
         eve: publish orders a b c d
         eve: info orders
         ann: ack 1 asks
         ann: lost
         joe: consume orders credit=5
         joe: nack 1 asks
         wait 60000
         eve: info orders
         calls once",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 4: Ok(Disk)
            ann <- deliver a#1 b#2
            eve <- orders: 2 kept, 2..4, published 4 refused 0 removed 0
              [] once g1 lag 2 ready 2 in flight 0 delayed 0 parked 0 | delivered 2 again 0 acked 2 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 2
            ann <- Count { done: 1, unknown: 0 }
            ann <- deliver c#3
            joe <- deliver d#1
            joe <- Count { done: 1, unknown: 0 }
            eve <- orders: 0 kept, 4..4, published 4 refused 0 removed 0
              [] once g1 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 4 again 0 acked 4 nacked 0 expired 0 dead 0 dropped 0 refused 0
                joe credit 5 holds 0
            once was called 4 times
        "#]],
    );
}

/// One try was over when the plan changed, another was not.
#[test]
fn at_most_once_to_everyone_tells_of_earlier_tries() {
    check(
        "queue orders
         bind all spread=1 retry=10
         ann: consume orders credit=5
         eve: publish orders a b
         ann: nack 1
         bind all spread=1 ack=0
         ann: nack 2 delay=10
         wait 10
         eve: info orders",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 2: Ok(Disk)
            ann <- deliver a#1 b#2
            ann <- deliver a#3 (try 2)
            10 ms:
            ann <- deliver b#4 (try 2)
            eve <- orders: 0 kept, 2..2, published 2 refused 0 removed 0
              [] all g2 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 4 again 2 acked 2 nacked 2 expired 0 dead 0 dropped 0 refused 0
                ann credit 3 holds 2
        "#]],
    );
}

#[test]
fn the_last_try_ends_in_the_dead_letter_queue_with_its_reason() {
    check(
        "queue orders
         bind least attempts=2 exhausted=1 powers=dead-letter retry=10
         ann: consume orders credit=5
         eve: publish orders k/a b header=bin
         ann: nack 1
         wait 10
         ann: nack 3
         ann: reject 2 code=7
         eve: info orders
         bob: consume orders/dead credit=5
         bob: reject 1
         bob: ack 2
         eve: info orders/dead",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 2: Ok(Disk)
            ann <- deliver a#1 {h=bin} b#2 {h=bin}
            10 ms:
            ann <- deliver a#3 {h=bin} (try 2)
            broker makes orders/dead
            eve <- orders: 0 kept, 2..2, published 2 refused 0 removed 0
              [] least g1 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 3 again 1 acked 0 nacked 3 expired 0 dead 2 dropped 0 refused 0
                ann credit 5 holds 0
            bob <- deliver a#1 {h=bin, weir-dead-reason=exhausted, weir-dead-source=orders, weir-dead-offset=0, weir-dead-attempts=2} | b#2 {h=bin, weir-dead-reason=rejected:7, weir-dead-source=orders, weir-dead-offset=1, weir-dead-attempts=1}
            eve <- orders/dead: 1 kept, 0..2, published 2 refused 0 removed 0
              [] built-in g0 lag 1 ready 0 in flight 0 delayed 0 parked 1 | delivered 2 again 0 acked 1 nacked 1 expired 0 dead 0 dropped 0 refused 0
                bob credit 5 holds 0
        "#]],
    );
}

#[test]
fn a_lease_that_runs_out_is_a_try() {
    check(
        "queue orders
         bind least attempts=2 exhausted=1 powers=dead-letter retry=10 lease=100
         ann: consume orders credit=5
         eve: publish orders a
         wait 1000
         bob: consume orders/dead credit=5",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            110 ms:
            ann <- deliver a#2 (try 2)
            210 ms:
            broker makes orders/dead
            bob <- deliver a#1 {weir-dead-reason=exhausted, weir-dead-source=orders, weir-dead-offset=0, weir-dead-attempts=2}
        "#]],
    );
}

/// Half of a ms more is no ms more, until there are several of them.
#[test]
fn a_back_off_of_one_ms_grows_too() {
    check(
        "queue orders
         bind least retry=1 growth=150 retry_max=4
         ann: consume orders credit=9
         eve: publish orders a
         ann: nack 1
         wait 1
         ann: nack 2
         wait 1
         ann: nack 3
         wait 2
         ann: nack 4
         wait 3
         ann: nack 5
         wait 4",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            1 ms:
            ann <- deliver a#2 (try 2)
            2 ms:
            ann <- deliver a#3 (try 3)
            4 ms:
            ann <- deliver a#4 (try 4)
            7 ms:
            ann <- deliver a#5 (try 5)
            11 ms:
            ann <- deliver a#6 (try 6)
        "#]],
    );
}

#[test]
fn without_the_power_the_last_try_parks() {
    check(
        "queue orders
         bind least attempts=1 exhausted=1
         ann: consume orders credit=5
         eve: publish orders a b
         ann: nack 1
         wait 10000
         eve: info orders
         eve: purge orders
         bind least attempts=1 exhausted=2
         eve: publish orders c
         ann: nack 3
         bind least attempts=1 exhausted=2 powers=drop
         eve: publish orders d
         ann: nack 4
         wait 10000
         eve: info orders",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 2: Ok(Disk)
            ann <- deliver a#1 b#2
            eve <- orders: 2 kept, 0..2, published 2 refused 0 removed 0
              [] least g1 lag 2 ready 0 in flight 0 delayed 0 parked 2 | delivered 2 again 0 acked 0 nacked 1 expired 1 dead 0 dropped 0 refused 0
                ann credit 5 holds 0
            eve <- Count { done: 2, unknown: 0 }
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver c#3
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver d#4
            eve <- orders: 1 kept, 2..4, published 4 refused 0 removed 2
              [] least g3 lag 1 ready 0 in flight 0 delayed 0 parked 1 | delivered 4 again 0 acked 0 nacked 3 expired 1 dead 0 dropped 1 refused 0
                ann credit 5 holds 0
        "#]],
    );
}

#[test]
fn a_full_dead_letter_queue_parks() {
    check(
        "queue orders
         queue orders/dead messages_max=1
         ann: consume orders credit=5
         eve: publish orders a b
         ann: reject 1-2
         ann: reject 2
         eve: info orders",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1 b#2
            eve <- orders: 2 kept, 0..2, published 2 refused 0 removed 0
              [] built-in g0 lag 2 ready 0 in flight 0 delayed 0 parked 2 | delivered 2 again 0 acked 0 nacked 2 expired 0 dead 0 dropped 0 refused 0
                ann credit 5 holds 0
        "#]],
    );
}

#[test]
fn a_name_too_long_for_a_dead_letter_queue_parks() {
    let name = "q".repeat(limits::NAME_BYTES_MAX - QUEUE_END.len() + 1);
    let script = format!(
        "queue {name}
         ann: consume {name} credit=5
         eve: publish {name} a
         ann: reject 1
         eve: info {name}"
    );
    check(
        &script,
        expect![[r#"
            eve <- published 1: Ok(Memory)
            ann <- deliver a#1
            eve <- qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq: 1 kept, 0..1, published 1 refused 0 removed 0
              [] built-in g0 lag 1 ready 0 in flight 0 delayed 0 parked 1 | delivered 1 again 0 acked 0 nacked 1 expired 0 dead 0 dropped 0 refused 0
                ann credit 5 holds 0
        "#]],
    );
}

#[test]
fn a_consumer_holds_no_more_than_the_plan_allows() {
    check(
        "queue orders
         bind few per_consumer=2
         ann: consume orders credit=9
         eve: publish orders a b c d
         ann: ack 1
         bind heavy rank=-1 bytes=40
         ann: ack 2-3
         eve: publish orders 12345678901234567890 12345678901234567890 12345678901234567890
         ann: ack 4
         ann: ack 5-9",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 4: Ok(Disk)
            ann <- deliver a#1 b#2
            ann <- deliver c#3
            ann <- deliver d#4
            ~ classify ["orders"]
            eve <- published 3: Ok(Disk)
            ann <- deliver 12345678901234567890#5
            ann <- deliver 12345678901234567890#6
            ann <- deliver 12345678901234567890#7
        "#]],
    );
}

#[test]
fn fewest_in_flight_gets_the_next() {
    check(
        "queue orders
         bind even chooser=2
         ann: consume orders credit=9
         bob: consume orders credit=9
         eve: publish orders a b c d e f
         bob: ack 1-3
         eve: publish orders g h i j
         ann: detach
         eve: publish orders k",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 6: Ok(Disk)
            ann <- deliver a#1 | c#2 | e#3
            bob <- deliver b#1 | d#2 | f#3
            eve <- published 4: Ok(Disk)
            bob <- deliver g#4 h#5 i#6
            ann <- deliver j#4
            bob <- deliver a#7 | c#8 | e#9 | j#10
            eve <- published 1: Ok(Disk)
            bob <- deliver k#11
        "#]],
    );
}

#[test]
fn a_key_keeps_its_consumer_and_few_keys_move() {
    check(
        "queue orders
         bind keys chooser=3
         ann: consume orders credit=99
         bob: consume orders credit=99
         eve: publish orders 1/1 2/2 3/3 4/4 5/5 6/6 7/7 8/8
         eve: publish orders 1/1 2/2 3/3 4/4 5/5 6/6 7/7 8/8
         cid: consume orders credit=99
         eve: publish orders 1/1 2/2 3/3 4/4 5/5 6/6 7/7 8/8
         cid: detach
         eve: publish orders 1/1 2/2 3/3 4/4 5/5 6/6 7/7 8/8 9 9",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 8: Ok(Disk)
            bob <- deliver 1#1 | 5#2 | 8#3
            ann <- deliver 2#1 3#2 4#3 | 6#4 7#5
            eve <- published 8: Ok(Disk)
            bob <- deliver 1#4 | 5#5 | 8#6
            ann <- deliver 2#6 3#7 4#8 | 6#9 7#10
            eve <- published 8: Ok(Disk)
            bob <- deliver 1#7 | 5#8 | 8#9
            cid <- deliver 2#1
            ann <- deliver 3#11 4#12 | 6#13 7#14
            ann <- deliver 2#15
            eve <- published 10: Ok(Disk)
            bob <- deliver 1#10 | 5#11 | 8#12 | 9#13
            ann <- deliver 2#16 3#17 4#18 | 6#19 7#20 | 9#21
        "#]],
    );
}

#[test]
fn a_key_waits_for_its_consumer_and_holds_up_nobody() {
    check(
        "queue orders
         bind keys chooser=3
         ann: consume orders credit=1
         bob: consume orders credit=9
         eve: publish orders 1/a 1/b 2/c 2/d 3/e 3/f 4/g 4/h
         ann: ack 1
         ann: lost
         wait 100",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 8: Ok(Disk)
            bob <- deliver a#1 b#2
            ann <- deliver c#1
            ann <- deliver d#2
            bob <- deliver e#3 f#4 g#5 h#6
            100 ms:
            bob <- deliver d#7 (try 2)
        "#]],
    );
}

#[test]
fn spread_gives_every_consumer_a_copy() {
    check(
        "queue orders
         bind all spread=1 retry=10
         eve: publish orders a
         ann: consume orders credit=2
         bob: consume orders credit=1
         eve: publish orders b c
         ann: ack 1
         eve: info orders
         bob: ack 1
         eve: info orders
         bob: nack 2
         wait 10
         ann: ack 2-3
         bob: ack 3
         bob: detach
         eve: info orders
         eve: publish orders d
         ann: lost
         eve: info orders
         zoe: consume orders credit=9",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            eve <- published 2: Ok(Disk)
            ann <- deliver b#2
            bob <- deliver b#1
            ann <- deliver c#3
            eve <- orders: 2 kept, 1..3, published 3 refused 0 removed 0
              [] all g1 lag 2 ready 0 in flight 2 delayed 0 parked 0 | delivered 4 again 0 acked 1 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 2
                bob credit 0 holds 1
            bob <- deliver c#2
            eve <- orders: 2 kept, 1..3, published 3 refused 0 removed 0
              [] all g1 lag 2 ready 0 in flight 2 delayed 0 parked 0 | delivered 5 again 0 acked 2 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 2
                bob credit 0 holds 1
            10 ms:
            bob <- deliver c#3 (try 2)
            eve <- orders: 0 kept, 3..3, published 3 refused 0 removed 0
              [] all g1 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 6 again 1 acked 5 nacked 1 expired 0 dead 0 dropped 0 refused 0
                ann credit 2 holds 0
            eve <- published 1: Ok(Disk)
            ann <- deliver d#4
            eve <- orders: 1 kept, 3..4, published 4 refused 0 removed 0
              [] all g1 lag 1 ready 1 in flight 0 delayed 0 parked 0 | delivered 7 again 1 acked 5 nacked 1 expired 0 dead 0 dropped 0 refused 0
            zoe <- deliver d#1
        "#]],
    );
}

#[test]
fn spread_dead_letters_once() {
    check(
        "queue orders
         bind all spread=1 attempts=1 exhausted=1 powers=dead-letter
         ann: consume orders credit=2
         bob: consume orders credit=2
         eve: publish orders a
         ann: nack 1
         bob: nack 1
         eve: info orders/dead",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            bob <- deliver a#1
            broker makes orders/dead
            eve <- orders/dead: 1 kept, 0..1, published 1 refused 0 removed 0
              [] built-in g0 lag 1 ready 1 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
        "#]],
    );
}

#[test]
fn filters_judge_what_is_about_to_be_delivered() {
    check(
        "queue orders
         queue other
         filter letters queues=orders
         ann: consume orders credit=3
         bob: consume other credit=9
         eve: publish other xa dob
         eve: publish orders xa a b dob rex hold c e
         ann: ack 1-9
         eve: info orders
         unfilter letters
         wait 1000
         bob/2: consume orders/dead credit=5",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            bob <- deliver xa#1 dob#2
            eve <- published 8: Ok(Memory)
            ann <- deliver a#1 b#2
            ann <- deliver REWRITTEN#3
            broker makes orders/dead
            ann <- deliver c#4 e#5
            eve <- orders: 3 kept, 5..8, published 8 refused 0 removed 0
              [] built-in g0 lag 3 ready 0 in flight 2 delayed 1 parked 0 | delivered 5 again 0 acked 3 nacked 0 expired 0 dead 1 dropped 1 refused 0
                ann credit 1 holds 2
            1000 ms:
            ann <- deliver hold#6
            bob/2 <- deliver dob#1 {weir-dead-reason=letter d, weir-dead-source=orders, weir-dead-offset=3, weir-dead-attempts=0}
        "#]],
    );
}

#[test]
fn a_filter_judges_copies_and_at_most_once_too() {
    check(
        "queue orders
         bind all spread=1
         filter letters
         ann: consume orders credit=9
         bob: consume orders credit=9
         eve: publish orders xa a
         ann: ack 1
         bob: ack 1
         eve: info orders
         bind all ack=0
         eve: publish orders xb b hb
         unfilter letters
         wait 1000
         eve: info orders",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 2: Ok(Disk)
            ann <- deliver a#1
            bob <- deliver a#1
            eve <- orders: 0 kept, 2..2, published 2 refused 0 removed 0
              [] all g1 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 2 again 0 acked 2 nacked 0 expired 0 dead 0 dropped 2 refused 0
                ann credit 9 holds 0
                bob credit 9 holds 0
            ~ classify ["orders"]
            eve <- published 3: Ok(Disk)
            ann <- deliver b#2
            1000 ms:
            ann <- deliver hb#3
            eve <- orders: 0 kept, 5..5, published 5 refused 0 removed 0
              [] all g2 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 4 again 0 acked 4 nacked 0 expired 0 dead 0 dropped 3 refused 0
                ann credit 7 holds 2
                bob credit 9 holds 0
        "#]],
    );
}

/// A shard with an empty queue `orders`.
fn with_queue(store: MemoryStore) -> Shard {
    let config = QueueConfig::default();
    with([Command::CreateQueue { id: ID, name: "orders".into(), config }], store)
}

/// A shard with an empty stream `orders` and its group `audit`.
fn with_stream(config: StreamConfig, store: MemoryStore) -> Shard {
    let (group, group_config) = ("audit".to_owned(), GroupConfig::default());
    let commands = [
        Command::CreateStream { id: ID, name: "orders".into(), config },
        Command::PutGroup { stream: ID, group, config: group_config },
    ];
    with(commands, store)
}

fn with(commands: impl IntoIterator<Item = Command>, store: MemoryStore) -> Shard {
    let mut shard = Shard::new(Box::new(store), 1_000..1_100);
    shard.bound_turns(1 << 30);
    turn(&mut shard, 0, commands);
    shard
}

/// One turn of a shard.
fn turn(
    shard: &mut Shard,
    steady_ms: u64,
    commands: impl IntoIterator<Item = Command>,
) -> Vec<Effect> {
    let now = Now { steady_ms, wall_ms: 1_000_000 + steady_ms };
    let mut effects = Vec::new();
    shard.tick(now, &mut effects);
    commands.into_iter().for_each(|command| shard.apply(now, command, &mut effects));
    shard.commit(now, &mut effects).expect("memory does not fail");
    group(shard).check_books();
    effects
}

/// The group of what there is.
fn group(shard: &mut Shard) -> &mut Group {
    let mut groups = shard.groups.values_mut();
    groups.find(|group| group.identity.subject() == "orders").expect("it is made first")
}

fn attach(source: Source) -> Command {
    Command::Attach {
        connection: CONNECTION,
        subscription: SUBSCRIPTION,
        request: RequestId(1),
        source,
        credit: limits::CREDIT_MAX,
        name: String::new(),
        labels: String::new(),
    }
}

/// Publishes messages with payloads of these lengths, together.
fn publish(lengths: impl IntoIterator<Item = usize>) -> Command {
    let mut batch = BatchBuilder::default();
    for length in lengths {
        let mut message = Vec::new();
        encode(&mut message, "orders", &[], &[], &vec![b'x'; length]);
        batch.push(&message);
    }
    Command::Publish(Publish {
        destination: ID,
        connection: CONNECTION,
        receipt: None,
        batch: batch.take(),
        rows: Rows::new(),
        delay_ms: 0,
    })
}

/// Settles these ranges of tags, all alike.
fn settle(ranges: &[(u64, u64)], verb: Verb) -> Command {
    let settlements = ranges.iter().map(|&(first, last)| Settlement { first, last, verb });
    Command::Settle {
        connection: CONNECTION,
        subscription: SUBSCRIPTION,
        request: Some(RequestId(2)),
        settlements: settlements.collect(),
    }
}

/// How many deliveries were settled, and how many were not known.
fn counted(effects: &[Effect]) -> (u64, u64) {
    let counted = effects.iter().find_map(|effect| match effect {
        Effect::Reply { reply: Reply::Count { done, unknown }, .. } => Some((*done, *unknown)),
        _ => None,
    });
    counted.expect("somebody has asked")
}

/// How many messages came to a dead-letter queue with each append.
fn burials(shard: &Shard, queue: &str) -> Vec<usize> {
    let id = shard.names.get(queue).expect("somebody has died");
    let Some(Destination::Queue(queue)) = shard.destinations.get(id) else {
        panic!("it is a queue");
    };
    let mut records = Vec::new();
    shard.store.read(queue.log, 0, usize::MAX, &mut records).expect("memory does not fail");
    records.iter().map(|piece| piece.batch.len()).collect()
}

/// More than fits one append, in a store that has no room for all of it at first.
#[test]
fn the_dying_are_carried_away_in_parts_as_there_is_room() {
    let mut shard = with_queue(MemoryStore::new(3_800_000));
    let lengths = [300_000, 300_000, 300_000, 1_200_000, 300_000];
    turn(&mut shard, 0, [attach(Source::Queue(ID))]);
    turn(&mut shard, 0, lengths.map(|length| publish([length])));
    turn(&mut shard, 0, [settle(&[(1, 5)], Verb::Reject { code: 0 })]);
    assert_eq!(burials(&shard, "orders/dead"), [3]);
    assert_eq!((group(&mut shard).live(), group(&mut shard).dying.len()), (2, 2));
    turn(&mut shard, 999, []);
    assert_eq!(burials(&shard, "orders/dead"), [3], "it is not time");
    turn(&mut shard, 1_000, []);
    assert_eq!(burials(&shard, "orders/dead"), [3, 1], "what is longer than a part goes alone");
    turn(&mut shard, 2_000, []);
    assert_eq!(burials(&shard, "orders/dead"), [3, 1, 1]);
    assert_eq!((group(&mut shard).live(), group(&mut shard).dying.len()), (0, 0));
    assert_eq!(group(&mut shard).counters.dead_lettered, 5);
}

#[test]
fn very_many_dying_are_carried_away_in_parts() {
    let mut shard = with_queue(MemoryStore::new(0));
    let most = limits::BURY_BATCH_MESSAGES;
    turn(&mut shard, 0, [attach(Source::Queue(ID))]);
    turn(&mut shard, 0, [publish(std::iter::repeat_n(1, most + 2))]);
    turn(&mut shard, 0, [settle(&[(1, most as u64 + 2)], Verb::Reject { code: 0 })]);
    assert_eq!(burials(&shard, "orders/dead"), [most, 2]);
    assert_eq!(group(&mut shard).live(), 0);
}

#[test]
fn what_retention_takes_of_the_dying_is_not_buried() {
    let store = MemoryStore::new(0);
    let faults = store.faults();
    let mut shard = with_stream(StreamConfig::default(), store);
    turn(&mut shard, 0, [attach(Source::Group(ID, "audit".into()))]);
    turn(&mut shard, 0, [publish([1, 1, 1])]);
    faults.no_space(true);
    turn(&mut shard, 0, [settle(&[(1, 2)], Verb::Reject { code: 0 })]);
    let config = StreamConfig { messages_max: 2, ..StreamConfig::default() };
    turn(&mut shard, 0, [Command::AlterStream { id: ID, config }]);
    assert_eq!((group(&mut shard).live(), group(&mut shard).dying.len()), (2, 1));
    faults.no_space(false);
    turn(&mut shard, 1_000, []);
    assert_eq!(burials(&shard, "orders/audit/dead"), [1]);
    assert_eq!((group(&mut shard).live(), group(&mut shard).dying.len()), (1, 0));
}

#[test]
fn a_delivery_in_several_ranges_is_settled_once_and_unknown_from_then_on() {
    let mut shard = with_queue(MemoryStore::new(0));
    turn(&mut shard, 0, [attach(Source::Queue(ID)), publish([1; 6])]);
    group(&mut shard).plan.interest = 1 << event::EXTENDED;
    let ranges = [(5, 6), (1, 3), (2, 4), (2, 4), (7, 3)];
    for verb in [Verb::Extend { by_ms: 50 }, Verb::Ack] {
        let effects = turn(&mut shard, 0, [settle(&ranges, verb)]);
        assert_eq!(counted(&effects), (6, 5), "{verb:?}");
    }
    let events = &group(&mut shard).events;
    assert_eq!(events.iter().filter(|told| told.kind == event::EXTENDED).count(), 6);
    turn(&mut shard, 0, [publish([1; 2])]);
    let ranges = [(8, 8), (0, u64::MAX), (u64::MAX, u64::MAX)];
    let effects = turn(&mut shard, 0, [settle(&ranges, Verb::Ack)]);
    assert_eq!(counted(&effects), (2, u64::MAX), "the sum ends at the largest number");
}

/// Failed tries that are remembered for consumers, each of which gets every message.
fn tries(shard: &mut Shard) -> usize {
    group(shard).consumers.values().map(|consumer| consumer.tries.len()).sum()
}

fn everyone() -> Plan {
    Plan { spread: 1, attempts: 2, retry_first_ms: 0, ..Plan::AT_LEAST_ONCE }
}

#[test]
fn failed_tries_are_forgotten_with_the_last() {
    let mut shard = with_queue(MemoryStore::new(0));
    group(&mut shard).plan = everyone();
    turn(&mut shard, 0, [attach(Source::Queue(ID)), publish([1])]);
    for (tag, left) in [(1, 1), (2, 0)] {
        turn(&mut shard, 0, [settle(&[(tag, tag)], Verb::Nack { delay_ms: 0, code: 0 })]);
        assert_eq!(tries(&mut shard), left, "after try {tag}");
    }
}

#[test]
fn failed_tries_are_forgotten_with_the_message() {
    let config = StreamConfig { messages_max: 1, ..StreamConfig::default() };
    let mut shard = with_stream(config, MemoryStore::new(0));
    group(&mut shard).plan = everyone();
    turn(&mut shard, 0, [attach(Source::Group(ID, "audit".into())), publish([1])]);
    turn(&mut shard, 0, [settle(&[(1, 1)], Verb::Nack { delay_ms: 0, code: 0 })]);
    assert_eq!(tries(&mut shard), 1);
    turn(&mut shard, 0, [publish([1])]);
    assert_eq!(tries(&mut shard), 0);
}

/// A filter drops the copy, or it is settled when it is handed over.
#[test]
fn failed_tries_are_forgotten_with_a_copy_that_is_settled_without_its_consumer_s_word() {
    for is_dropped in [true, false] {
        let mut shard = with_queue(MemoryStore::new(0));
        group(&mut shard).plan = Plan { attempts: 0, ..everyone() };
        turn(&mut shard, 0, [attach(Source::Queue(ID)), publish([1])]);
        turn(&mut shard, 0, [settle(&[(1, 1)], Verb::Nack { delay_ms: 5, code: 0 })]);
        assert_eq!(tries(&mut shard), 1);
        if is_dropped {
            let scope = Scope { queues: vec!["orders".to_owned()], ..Scope::default() };
            let (binding, filter) = ("letters".to_owned(), Box::new(LetterFilter));
            let bind = Command::BindFilter { binding, scope, filter: Some(filter) };
            turn(&mut shard, 0, [bind]);
        } else {
            group(&mut shard).plan.ack = 0;
        }
        turn(&mut shard, 5, []);
        assert_eq!((tries(&mut shard), group(&mut shard).live()), (0, 0), "{is_dropped}");
    }
}

/// What waits is lined up anew when a group is moved: not once for each partition, so that a
/// policy hears of no message as ready that goes as well.
#[test]
fn a_seek_moves_all_partitions_at_once() {
    let config = StreamConfig { partitions: 2, ..StreamConfig::default() };
    let mut shard = with_stream(config, MemoryStore::new(0));
    let interest = 1 << event::READY | 1 << event::GONE;
    group(&mut shard).plan = Plan { chooser: 0, interest, ..Plan::AT_LEAST_ONCE };
    turn(&mut shard, 0, [publish([1]), publish([1])]);
    let seek = Command::Seek {
        connection: CONNECTION,
        request: RequestId(3),
        stream: ID,
        group: "audit".to_owned(),
        partition: None,
        to: Start::Latest,
    };
    turn(&mut shard, 0, [seek]);
    let kinds: Vec<u8> = group(&mut shard).events.iter().map(|told| told.kind).collect();
    assert_eq!(kinds, [event::READY, event::READY, event::GONE, event::GONE]);
}
