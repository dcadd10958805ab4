//! Another process over the same store goes on where the one before was, and no
//! answer leaves before what it says would outlive one.

use expect_test::expect;
use weir_message::{BatchBuilder, encode};

use super::script::{check, check_over};
use crate::command::Level;
use crate::group::part::Part;
use crate::memory_store::MemoryStore;
use crate::store::{Stamp, Store};

#[test]
fn a_queue_keeps_what_is_not_settled_and_nothing_else() {
    check(
        "queue orders level=disk messages_max=6
         ann: consume orders credit=9
         eve: publish orders a b c d e
         ann: ack 1
         ann: ack 3-4
         ann: nack 2 delay=9000
         eve: info orders
         restart
         eve: info orders
         bob: consume orders credit=1
         eve: publish orders f g h i j
         bob: ack 1
         bob: ack 2
         restart
         eve: info orders
         bob: consume orders credit=9
         bob: ack 1-9
         eve: info orders",
        expect![[r#"
            eve <- published 5: Ok(Disk)
            ann <- deliver a#1 b#2 c#3 d#4 e#5
            eve <- orders: 2 kept, 1..5, published 5 refused 0 removed 0
              [] built-in g0 lag 2 ready 0 in flight 1 delayed 1 parked 0 | delivered 5 again 0 acked 3 nacked 1 expired 0 dead 0 dropped 0 refused 0
                ann credit 8 holds 1
            eve <- orders: 2 kept, 1..5, published 0 refused 0 removed 0
              [] built-in g0 lag 2 ready 2 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            bob <- deliver b#1
            eve <- published 1 rows [4]: Err(QueueFull)
            eve <- published 4: Ok(Disk)
            orders has 0 free
            bob <- deliver e#2
            orders has 1 free
            bob <- deliver f#3
            orders has 2 free
            eve <- orders: 4 kept, 5..9, published 0 refused 0 removed 0
              [] built-in g0 lag 4 ready 4 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            bob <- deliver f#1 g#2 h#3 i#4
            eve <- orders: 0 kept, 9..9, published 0 refused 0 removed 0
              [] built-in g0 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 4 again 0 acked 4 nacked 0 expired 0 dead 0 dropped 0 refused 0
                bob credit 9 holds 0
        "#]],
    );
}

#[test]
fn a_group_goes_on_with_its_gaps() {
    check(
        "stream flights partitions=2 level=disk
         eve: publish flights k1/z
         group flights/audit start=latest
         group flights/board
         ann: consume flights/audit credit=9
         eve: publish flights k1/a k1/b k1/c k1/d k1/e k1/f
         ann: ack 2
         ann: ack 4-5
         eve: publish flights k1/g
         restart
         eve: info flights
         ann: consume flights/audit credit=9
         ann: ack 1-2
         bob: consume flights/board credit=9
         restart
         eve: info flights
         ann: consume flights/audit credit=9",
        expect![[r#"
            eve <- published 1: Ok(Disk)
            eve <- published 6: Ok(Disk)
            ann <- deliver a#1 b#2 c#3 d#4 e#5 f#6
            eve <- published 1: Ok(Disk)
            ann <- deliver g#7
            eve <- flights: 8 kept, 0+0..8+0, published 0 refused 0 removed 0
              [audit] built-in g0 lag 4 ready 4 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
              [board] built-in g0 lag 8 ready 8 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ann <- deliver a#1 | c#2 | f#3 | g#4
            bob <- deliver z#1 | a#2 b#3 c#4 d#5 e#6 f#7 | g#8
            eve <- flights: 8 kept, 0+0..8+0, published 0 refused 0 removed 0
              [audit] built-in g0 lag 2 ready 2 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
              [board] built-in g0 lag 8 ready 8 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ann <- deliver f#1 | g#2
        "#]],
    );
}

#[test]
fn a_seek_outlives_a_restart() {
    check(
        "stream flights
         group flights/audit
         ann: consume flights/audit credit=9
         eve: publish flights a b c d
         ann: ack 1-4
         eve: seek flights/audit offset:2
         ann: ack 6
         restart
         ann: consume flights/audit credit=9
         ann: ack 1
         eve: seek flights/audit earliest
         restart
         ann: consume flights/audit credit=2
         eve: seek flights/audit latest
         ann: ack 1-9 asks
         restart
         ann: consume flights/audit credit=9
         eve: publish flights e
         ann: ack 1 && eve: seek flights/audit earliest
         restart
         ann: consume flights/audit credit=9",
        expect![[r#"
            eve <- published 4: Ok(Memory)
            ann <- deliver a#1 b#2 c#3 d#4
            ann <- deliver c#5 d#6
            ann <- deliver c#1
            ann <- deliver a#2 b#3 c#4 d#5
            ann <- deliver a#1 b#2
            ann <- Count { done: 0, unknown: 9 }
            eve <- published 1: Ok(Memory)
            ann <- deliver e#1
            ann <- deliver a#2 b#3 c#4 d#5 | e#6
            ann <- deliver a#1 b#2 c#3 d#4 | e#5
        "#]],
    );
}

#[test]
fn a_delay_goes_by_the_wall_clock_over_a_restart() {
    check(
        "queue orders
         eve: publish orders a delay=500
         eve: publish orders b
         wait 100
         restart
         later 150
         ann: consume orders credit=9
         wait 300
         eve: publish orders c delay=1000
         restart
         later 5000
         ann: consume orders credit=9",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            eve <- published 1: Ok(Memory)
            ann <- deliver b#1
            255 ms:
            ann <- deliver a#2
            eve <- published 1: Ok(Memory)
            ann <- deliver a#1 | b#2 | c#3
        "#]],
    );
}

#[test]
fn a_wall_clock_that_jumps_back_starves_no_message() {
    check(
        "queue orders
         later 900000000000
         eve: publish orders a delay=500
         earlier 900000000000
         ann: consume orders credit=9
         wait 604799999
         eve: publish orders b
         wait 1",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            eve <- published 1: Ok(Memory)
            ann <- deliver b#1
            604800000 ms:
            ann <- deliver a#2
        "#]],
    );
}

#[test]
fn what_is_deleted_stays_deleted() {
    check(
        "stream flights
         group flights/audit
         ann: consume flights/audit credit=9
         eve: publish flights a b
         ann: ack 1
         delete flights/audit
         group flights/audit
         ann: consume flights/audit credit=9
         ann: ack 1-2
         delete flights
         stream flights
         group flights/audit
         restart
         eve: publish flights c
         ann: consume flights/audit credit=9",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1 b#2
            ann <- ended Deleted
            ann <- deliver a#1 b#2
            ann <- ended Deleted
            eve <- published 1: Ok(Memory)
            ann <- deliver c#1
        "#]],
    );
}

#[test]
fn retention_passes_a_cursor_and_what_is_too_old_at_boot_goes() {
    check(
        "stream flights messages_max=3 age=1000
         group flights/audit
         ann: consume flights/audit credit=1
         eve: publish flights a b c d e
         ann: ack 1
         eve: publish flights f g
         eve: info flights
         restart
         eve: info flights
         ann: consume flights/audit credit=1
         ann: ack 1
         later 2000
         restart
         eve: info flights",
        expect![[r#"
            eve <- published 5: Ok(Memory)
            ann <- deliver c#1
            ann <- deliver d#2
            eve <- published 2: Ok(Memory)
            eve <- flights: 3 kept, 4..7, published 7 refused 0 removed 4
              [audit] built-in g0 lag 3 ready 3 in flight 0 delayed 0 parked 0 | delivered 2 again 0 acked 1 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 1
            eve <- flights: 3 kept, 4..7, published 0 refused 0 removed 0
              [audit] built-in g0 lag 3 ready 3 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ann <- deliver e#1
            ann <- deliver f#2
            eve <- flights: 0 kept, 7..7, published 0 refused 0 removed 3
              [audit] built-in g0 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
        "#]],
    );
}

#[test]
fn dead_letters_stay_dead() {
    check(
        "queue orders
         bind hand powers=dead-letter attempts=1 exhausted=1
         ann: consume orders credit=9
         eve: publish orders a b c
         ann: nack 1
         ann: reject 2
         restart
         ann: consume orders credit=9
         bob: consume orders/dead credit=9",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 3: Ok(Disk)
            ann <- deliver a#1 b#2 c#3
            broker makes orders/dead
            ann <- deliver c#1
            bob <- deliver a#1 {weir-dead-reason=exhausted, weir-dead-source=orders, weir-dead-offset=0, weir-dead-attempts=1} | b#2 {weir-dead-reason=rejected:0, weir-dead-source=orders, weir-dead-offset=1, weir-dead-attempts=1}
        "#]],
    );
}

#[test]
fn an_answer_waits_until_what_it_says_is_safe() {
    check(
        "queue orders level=disk
         stream flights level=disk
         group flights/audit
         queue light
         ann: consume orders credit=9
         ann/2: consume light credit=9
         bob: consume flights/audit credit=9
         eve: publish orders a b c d e
         eve: publish flights f g
         eve: publish light h i
         hold stable
         ann: ack 1 asks
         ann: ack 2
         ann: nack 3 asks delay=50
         ann/2: ack 1 asks
         ann: ack 77 asks
         ann: reject 4 asks
         bob: seek flights/audit latest
         bob: info light
         eve: purge orders
         free stable
         wait 0
         eve: info light
         bob: ack 1 asks",
        expect![[r#"
            eve <- published 5: Ok(Disk)
            ann <- deliver a#1 b#2 c#3 d#4 e#5
            eve <- published 2: Ok(Disk)
            bob <- deliver f#1 g#2
            eve <- published 2: Ok(Memory)
            ann/2 <- deliver h#1 i#2
            broker makes orders/dead
            bob <- light: 1 kept, 1..2, published 2 refused 0 removed 0
              [] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 2 again 0 acked 1 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 8 holds 1
            ann <- Count { done: 1, unknown: 0 }
            ann <- Count { done: 1, unknown: 0 }
            ann <- Count { done: 1, unknown: 0 }
            ann <- Count { done: 0, unknown: 1 }
            ann <- Count { done: 1, unknown: 0 }
            eve <- Count { done: 1, unknown: 0 }
            eve <- light: 1 kept, 1..2, published 2 refused 0 removed 0
              [] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 2 again 0 acked 1 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 8 holds 1
            bob <- Count { done: 0, unknown: 1 }
        "#]],
    );
}

#[test]
fn nobody_waits_for_what_is_kept_in_memory_only() {
    check(
        "queue orders
         bind hand classes=orders:0 powers=transient
         ann: consume orders credit=9
         eve: publish orders a b
         hold stable
         ann: ack 1 asks
         free stable",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1 b#2
            ann <- Count { done: 1, unknown: 0 }
        "#]],
    );
}

#[test]
fn a_gone_connection_is_not_answered() {
    check(
        "queue orders level=disk
         ann: consume orders credit=9
         eve: publish orders a b
         hold stable
         ann: ack 1 asks
         ann: lost
         free stable
         wait 0
         wait 5000
         bob: consume orders credit=9",
        expect![[r#"
            eve <- published 2: Ok(Disk)
            ann <- deliver a#1 b#2
            bob <- deliver b#1 (try 2)
        "#]],
    );
}

#[test]
fn what_is_delivered_once_or_never_leaves_when_that_is_safe() {
    check(
        "queue orders level=disk
         bind hand ack=0
         eve: publish orders a b c d e
         hold stable
         ann: consume orders credit=1
         ann: pull 3 wait=20
         bob: consume orders
         bob: pull 5 wait=20
         wait 30
         ann: detach
         bob: info orders
         free stable
         wait 0
         restart
         hold stable
         bind hand ack=0
         eve: publish orders f
         free stable
         wait 0
         ann: consume orders
         hold stable
         ann: credit 1
         restart
         free stable
         bob: consume orders credit=9",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 5: Ok(Disk)
            bob <- orders: 0 kept, 5..5, published 5 refused 0 removed 0
              [] hand g1 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 5 again 0 acked 5 nacked 0 expired 0 dead 0 dropped 0 refused 0
                bob credit 0 holds 1
            ann <- deliver a#1
            ann <- deliver b#2 c#3 d#4
            ann <- Count { done: 3, unknown: 0 }
            bob <- deliver e#1
            bob <- Count { done: 1, unknown: 0 }
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
        "#]],
    );
}

#[test]
fn the_dying_wait_for_room() {
    check(
        "queue orders
         ann: consume orders credit=9
         eve: publish orders a b c
         full store
         ann: reject 1 asks
         wait 2500
         ann: ack 2
         eve: publish orders d
         eve: info orders
         free store
         wait 1000
         bob: consume orders/dead credit=9
         eve: info orders",
        expect![[r#"
            eve <- published 3: Ok(Memory)
            ann <- deliver a#1 b#2 c#3
            broker makes orders/dead
            ann <- Count { done: 1, unknown: 0 }
            eve <- published 1: Err(NoSpace)
            eve <- orders: 2 kept, 0..3, published 3 refused 1 removed 0
              [] built-in g0 lag 2 ready 0 in flight 1 delayed 0 parked 1 | delivered 3 again 0 acked 1 nacked 1 expired 0 dead 0 dropped 0 refused 0
                ann credit 8 holds 1
            bob <- deliver a#1 {weir-dead-reason=rejected:0, weir-dead-source=orders, weir-dead-offset=0, weir-dead-attempts=1}
            eve <- orders: 1 kept, 2..3, published 3 refused 1 removed 0
              [] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 3 again 0 acked 1 nacked 1 expired 0 dead 1 dropped 0 refused 0
                ann credit 8 holds 1
        "#]],
    );
}

/// A store with `count` records of one byte each in the log `name`, offset by
/// offset one append.
fn filled(name: &str, count: u8) -> MemoryStore {
    let mut store = MemoryStore::new(0).claiming(Level::Disk);
    let log = store.open(name).unwrap();
    for offset in 0..count {
        let (mut builder, mut bytes) = (BatchBuilder::default(), Vec::new());
        encode(&mut bytes, "s", &[], &[], &[b'a' + offset]);
        builder.push(&bytes);
        let stamp = Stamp { time_ms: 1, due_ms: 0 };
        store.append(log, offset.into(), stamp, builder.take(), Level::Disk).unwrap();
    }
    store
}

#[test]
fn damage_is_skipped_counted_and_closes_the_partition() {
    let mut store = filled("stream/flights/0", 6);
    store.damage_log("stream/flights/0", 2..4);
    check_over(
        store,
        "stream flights partitions=2 level=disk
         group flights/audit
         ann: consume flights/audit credit=9
         eve: read flights earliest
         eve: read flights offset:2
         eve: read flights offset:3
         eve: read flights offset:4
         eve: publish flights k1/g k2/h k3/i
         eve: info flights
         ann: ack 1-9
         restart
         eve: info flights
         ann: consume flights/audit credit=9
         eve: info flights",
        expect![[r#"
            ann <- lost 2 of 2..4
            ann <- deliver a#1 | b#2 | e#3 | f#4
            eve <- records a | b, next 2 of 0..6
            eve <- Lost { from: 2, to: 4 }
            eve <- Lost { from: 2, to: 4 }
            eve <- records e | f, next 6 of 0..6
            eve <- published 2 rows [0, 1]: Err(DataLoss)
            eve <- published 1 rows [2]: Ok(Disk)
            ann <- deliver i#5 in 1
            eve <- flights: 7 kept, 0+0..6+1, published 1 refused 2 removed 2
              [audit] built-in g0 lag 5 ready 0 in flight 5 delayed 0 parked 0 | delivered 5 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 4 holds 5
            eve <- flights: 7 kept, 0+0..6+1, published 0 refused 0 removed 0
              [audit] built-in g0 lag 2 ready 2 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ann <- lost 2 of 2..4
            eve <- flights: 7 kept, 0+0..6+1, published 0 refused 0 removed 2
              [audit] built-in g0 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 9 holds 0
        "#]],
    );
}

#[test]
fn every_consumer_hears_what_its_group_has_lost_and_nobody_had_settled() {
    let mut store = filled("stream/flights/0", 8);
    let cursor = store.open("group/flights/audit/0").unwrap();
    store.reset(cursor, 0);
    store.release(cursor, 3, 5, Level::Disk);
    store.damage_log("stream/flights/0", 2..6);
    check_over(
        store,
        "stream flights level=disk
         group flights/audit
         group flights/board
         ann: consume flights/audit credit=2
         bob: consume flights/audit
         cid: consume flights/board credit=1
         ann: credit 9
         cid: credit 9
         eve: info flights",
        expect![[r#"
            ann <- deliver a#1 | b#2
            cid <- deliver a#1
            ann <- lost 2 of 2..6
            bob <- lost 2 of 2..6
            ann <- deliver g#3 | h#4
            cid <- lost 4 of 2..6
            cid <- deliver b#2 | g#3 | h#4
            eve <- flights: 8 kept, 0..8, published 0 refused 0 removed 6
              [audit] built-in g0 lag 4 ready 0 in flight 4 delayed 0 parked 0 | delivered 4 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 7 holds 4
                bob credit 0 holds 0
              [board] built-in g0 lag 4 ready 0 in flight 4 delayed 0 parked 0 | delivered 4 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                cid credit 6 holds 4
        "#]],
    );
}

/// Where what is delivered waits until that is safe, what is lost waits with it: and the
/// end of a consumer, whose number may be another's then, comes behind both.
#[test]
fn what_is_lost_is_told_before_the_end_of_who_is_told() {
    let mut store = filled("stream/flights/0", 4);
    store.damage_log("stream/flights/0", 1..2);
    check_over(
        store,
        "bind once ack=0 attempts=1
         stream flights level=disk
         group flights/audit
         bob: consume flights/audit
         hold stable
         ann: consume flights/audit credit=9
         delete flights/audit
         free stable
         wait 0",
        expect![[r#"
            bob <- lost 1 of 1..2
            bob <- ended Deleted
            ann <- lost 1 of 1..2
            ann <- deliver a#1 | c#2 | d#3
            ann <- ended Deleted
        "#]],
    );
}

#[test]
fn a_cursor_says_nothing_of_messages_that_were_kept_in_memory_only() {
    let mut store = filled("stream/flights/0", 3);
    let cursor = store.open("group/flights/audit/0").unwrap();
    store.reset(cursor, 1);
    store.release(cursor, 2, 5, Level::Os);
    store.release(cursor, 7, 9, Level::Os);
    let beyond = store.open("group/flights/board/0").unwrap();
    store.reset(beyond, 8);
    check_over(
        store,
        "stream flights level=disk
         group flights/audit
         group flights/board
         ann: consume flights/audit credit=9
         bob: consume flights/board credit=9
         eve: publish flights d e f g h i
         restart
         ann: consume flights/audit credit=9
         eve: info flights",
        expect![[r#"
            ann <- deliver b#1
            eve <- published 6: Ok(Disk)
            ann <- deliver d#2 e#3 f#4 g#5 h#6 i#7
            bob <- deliver d#1 e#2 f#3 g#4 h#5 i#6
            ann <- deliver b#1 | d#2 e#3 f#4 g#5 h#6 i#7
            eve <- flights: 9 kept, 0..9, published 0 refused 0 removed 0
              [audit] built-in g0 lag 7 ready 0 in flight 7 delayed 0 parked 0 | delivered 7 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 2 holds 7
              [board] built-in g0 lag 6 ready 6 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
        "#]],
    );
}

/// The files may be put back, and with them what the group has settled.
#[test]
fn a_cursor_is_left_as_it_is_while_something_is_lost() {
    for (lost, start) in [(None, 3), (Some(2..3), 6)] {
        let mut store = filled("stream/flights/0", 3);
        if let Some(lost) = lost {
            store.damage_log("stream/flights/0", lost);
        }
        let log = store.open("stream/flights/0").unwrap();
        let cursor = store.open("group/flights/audit/0").unwrap();
        store.reset(cursor, 6);
        let part = Part::resume(&mut store, log, cursor);
        assert_eq!((store.bounds(cursor).start, part.slots.next()), (start, 3));
    }
}
