//! Order per key and of the whole group, whatever consumers do.

use expect_test::expect;

use super::script::{World, check};

#[test]
fn a_key_is_in_the_hands_of_one_consumer_at_a_time() {
    check(
        "queue orders order=1
         ann: consume orders credit=5
         bob: consume orders credit=5
         eve: publish orders x/a x/b y/c x/d z/e e f
         ann: ack 1-5
         bob: ack 1-5",
        expect![[r#"
            eve <- published 7: Ok(Memory)
            ann <- deliver a#1 | c#2 | e#3 | f#4
            bob <- deliver e#1
            bob <- deliver b#2
            ann <- deliver d#5
        "#]],
    );
}

#[test]
fn a_nacked_message_holds_up_its_key_only() {
    check(
        "queue orders order=1
         ann: consume orders credit=2
         eve: publish orders x/a x/b y/c y/d
         ann: nack 1 delay=100
         ann: ack 2
         ann: ack 3
         wait 100
         ann: ack 4
         ann: ack 5",
        expect![[r#"
            eve <- published 4: Ok(Memory)
            ann <- deliver a#1 | c#2
            ann <- deliver d#3
            100 ms:
            ann <- deliver a#4 (try 2)
            ann <- deliver b#5
        "#]],
    );
}

#[test]
fn a_lost_consumer_s_keys_stay_in_order() {
    check(
        "queue orders order=1
         ann: consume orders credit=5
         eve: publish orders x/a x/b y/c y/d
         bob: consume orders credit=5
         ann: lost
         eve: publish orders x/e
         wait 1000
         bob: ack 1-2
         bob: ack 3-4
         bob: ack 5",
        expect![[r#"
            eve <- published 4: Ok(Memory)
            ann <- deliver a#1 | c#2
            eve <- published 1: Ok(Memory)
            1000 ms:
            bob <- deliver a#1 (try 2) | c#2 (try 2)
            bob <- deliver b#3 | d#4
            bob <- deliver e#5
        "#]],
    );
}

#[test]
fn parked_and_dead_messages_leave_their_lane() {
    check(
        "queue orders order=1
         bind least attempts=1 exhausted=0
         ann: consume orders credit=5
         eve: publish orders x/a x/b x/c
         ann: nack 1
         ann: reject 2
         ann: ack 3
         eve: info orders",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 3: Ok(Disk)
            ann <- deliver a#1
            ann <- deliver b#2
            broker makes orders/dead
            ann <- deliver c#3
            eve <- orders: 1 kept, 0..3, published 3 refused 0 removed 0
              [] least g1 lag 1 ready 0 in flight 0 delayed 0 parked 1 | delivered 3 again 0 acked 1 nacked 2 expired 0 dead 1 dropped 0 refused 0
                ann credit 5 holds 0
        "#]],
    );
}

#[test]
fn the_whole_group_is_one_lane() {
    check(
        "queue orders order=2
         ann: consume orders credit=5
         bob: consume orders credit=5
         eve: publish orders a b c
         ann: nack 1 delay=10
         wait 10
         bob: ack 1
         ann: ack 2
         bob: ack 2
         ann: ack 1-9",
        expect![[r#"
            eve <- published 3: Ok(Memory)
            ann <- deliver a#1
            10 ms:
            bob <- deliver a#1 (try 2)
            ann <- deliver b#2
            bob <- deliver c#2
        "#]],
    );
}

#[test]
fn order_can_be_asked_for_while_messages_are_out() {
    check(
        "queue orders
         ann: consume orders credit=2
         eve: publish orders x/a x/b x/c x/d y/e
         alter orders order=1
         ann: nack 2 delay=10
         ann: nack 1 delay=20
         wait 20
         ann: ack 3
         ann: ack 4-5
         ann: ack 6-7
         alter orders
         eve: publish orders x/f x/g
         ann: ack 1-9",
        expect![[r#"
            eve <- published 5: Ok(Memory)
            ann <- deliver a#1 b#2
            ann <- deliver e#3
            20 ms:
            ann <- deliver a#4 (try 2)
            ann <- deliver b#5 (try 2)
            ann <- deliver c#6
            eve <- published 2: Ok(Memory)
            ann <- deliver d#7 | f#8
        "#]],
    );
}

#[test]
fn a_delay_holds_up_its_key_but_no_other() {
    check(
        "queue orders order=1
         ann: consume orders credit=9
         eve: publish orders x/a delay=100
         eve: publish orders x/b y/c
         eve: publish orders x/d delay=300
         wait 100
         ann: ack 2
         ann: ack 3
         wait 200",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            eve <- published 2: Ok(Memory)
            ann <- deliver c#1
            eve <- published 1: Ok(Memory)
            100 ms:
            ann <- deliver a#2
            ann <- deliver b#3
            300 ms:
            ann <- deliver d#4
        "#]],
    );
}

#[test]
fn a_window_bounds_what_is_looked_at() {
    check(
        "queue orders order=1
         bind small window=3 order=1
         ann: consume orders credit=9
         eve: publish orders x/a x/b x/c y/d
         eve: info orders
         ann: ack 1
         ann: ack 2",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 4: Ok(Disk)
            ann <- deliver a#1
            ann <- deliver d#2
            eve <- orders: 4 kept, 0..4, published 4 refused 0 removed 0
              [] small g1 lag 4 ready 2 in flight 2 delayed 0 parked 0 | delivered 2 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 7 holds 2
            ann <- deliver b#3
        "#]],
    );
}

#[test]
fn a_window_full_of_one_key_holds_up_no_other() {
    check(
        "queue orders order=1
         bind small window=2 order=1
         ann: consume orders credit=9
         eve: publish orders x/a x/b x/c y/d y/e z/f
         ann: ack 1",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 6: Ok(Disk)
            ann <- deliver a#1
            ann <- deliver d#2 | f#3
            ann <- deliver b#4
        "#]],
    );
}

/// A turn looks only so far beyond the window; the next one, which is due at once, goes on.
#[test]
fn what_lies_far_behind_a_key_that_waits_comes_in_a_later_turn() {
    let mut world = World::new();
    world.line("queue orders order=1");
    world.line("bind small window=1 order=1");
    world.line("ann: consume orders credit=9");
    world.line(&format!("eve: publish orders{} y/last", " x/a".repeat(6000)));
    assert!(world.seen.ends_with("ann <- deliver a#1\n"), "{}", world.seen);
    world.line("wait 0");
    assert!(world.seen.ends_with("0 ms:\nann <- deliver last#2\n"), "{}", world.seen);
}

/// What is delivered once or never waits until that is safe, also after its policy has
/// changed: what is settled by acks from then on comes behind it, to that consumer.
#[test]
fn deliveries_keep_their_order_when_at_most_once_becomes_at_least_once() {
    check(
        "queue orders level=disk
         queue mails
         bind once queues=orders ack=0
         ann: consume orders
         ann/2: consume mails
         eve: publish orders a b c d
         eve: publish mails m
         hold stable
         ann: credit 1
         bind once queues=orders ack=1
         ann: credit 1
         ann/2: credit 1
         ann: pull 1
         free stable
         ann: credit 1",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 4: Ok(Disk)
            eve <- published 1: Ok(Memory)
            ann/2 <- deliver m#1
            ann <- deliver a#1
            ann <- deliver b#2
            ann <- deliver c#3
            ann <- Count { done: 1, unknown: 0 }
            ann <- deliver d#4
        "#]],
    );
}

#[test]
fn keys_move_without_breaking_their_order() {
    check(
        "stream flights
         bind groups chooser=3 order=1
         group flights/audit
         ann: consume flights/audit credit=9
         eve: publish flights 1/a1 2/a2 3/a3 4/a4 1/b1 2/b2 3/b3 4/b4
         bob: consume flights/audit credit=9
         ann: ack 1
         ann: ack 2
         ann: ack 3
         ann: lost
         wait 100
         wait 2000
         bob: ack 1-3
         bob: ack 4-5",
        expect![[r#"
            ~ classify ["flights"]
            eve <- published 8: Ok(Disk)
            ann <- deliver a1#1 a2#2 a3#3 a4#4
            bob <- deliver b1#1
            ann <- deliver b2#5
            ann <- deliver b3#6
            100 ms:
            bob <- deliver a4#2 (try 2) | b2#3 b3#4 (try 2)
            1100 ms:
            bob <- deliver b1#5 (try 2)
            1300 ms:
            bob <- deliver a4#6 (try 3) | b2#7 b3#8 (try 3)
        "#]],
    );
}
