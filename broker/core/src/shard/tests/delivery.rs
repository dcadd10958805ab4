//! Plans that the broker carries out by itself, and deliver-stage filters.

use expect_test::expect;

use super::script::check;

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
