//! Compaction of streams as clients see it; see `compaction_model` for what must hold.

use expect_test::expect;

use super::script::check;

#[test]
fn the_last_message_of_a_key_stays_and_so_does_its_offset() {
    check(
        "stream prices compact=1
         eve: publish prices k1/a k2/b c k1/d k2/e k1/f
         wait 50
         eve: read prices earliest
         eve: read prices offset:1
         eve: info prices
         group prices/late
         ann: consume prices/late credit=9
         eve: publish prices k2/g
         wait 9000
         eve: info prices
         wait 2000
         eve: info prices
         eve: read prices earliest",
        expect![[r#"
            eve <- published 6: Ok(Memory)
            eve <- records c | e f, next 6 of 2..6
            eve <- records c | e f, next 6 of 2..6
            eve <- prices: 3 kept, 2..6, published 6 refused 0 removed 0 compacted 3 stops 0
            ann <- deliver c#1 | e#2 f#3
            eve <- published 1: Ok(Memory)
            ann <- deliver g#4
            eve <- prices: 4 kept, 2..7, published 7 refused 0 removed 0 compacted 3 stops 0
              [late] built-in g0 lag 4 ready 0 in flight 4 delayed 0 parked 0 | delivered 4 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 5 holds 4
            eve <- prices: 4 kept, 2..7, published 7 refused 0 removed 0 compacted 3 stops 0
              [late] built-in g0 lag 4 ready 0 in flight 4 delayed 0 parked 0 | delivered 4 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 5 holds 4
            eve <- records c | e f | g, next 7 of 2..7
        "#]],
    );
}

#[test]
fn a_tombstone_hides_the_older_ones_and_goes_itself() {
    check(
        "stream prices compact=1 tombstone=60000
         eve: publish prices k1/a k2/b k1/
         wait 50
         eve: read prices earliest
         wait 59000
         eve: read prices earliest
         wait 9000
         eve: read prices earliest
         eve: info prices",
        expect![[r#"
            eve <- published 3: Ok(Memory)
            eve <- records b , next 3 of 1..3
            eve <- records b , next 3 of 1..3
            eve <- records b, next 2 of 1..3
            eve <- prices: 1 kept, 1..3, published 3 refused 0 removed 0 compacted 2 stops 0
        "#]],
    );
}

#[test]
fn what_a_consumer_holds_is_its_own_until_that_ends() {
    check(
        "stream prices
         group prices/audit order=1
         ann: consume prices/audit credit=1
         bob: consume prices/audit credit=9
         eve: publish prices k1/a k2/b k1/c k2/d
         alter-stream prices compact=1
         wait 50
         eve: info prices
         ann: nack 1
         bob: ack 1
         eve: info prices",
        expect![[r#"
            eve <- published 4: Ok(Memory)
            ann <- deliver a#1
            bob <- deliver b#1
            eve <- prices: 2 kept, 2..4, published 4 refused 0 removed 0 compacted 2 stops 0
              [audit] built-in g0 lag 4 ready 2 in flight 2 delayed 0 parked 0 | delivered 2 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 1
                bob credit 8 holds 1
            bob <- deliver c#2
            ann <- deliver d#2
            eve <- prices: 2 kept, 2..4, published 4 refused 0 removed 0 compacted 2 stops 0
              [audit] built-in g0 lag 2 ready 0 in flight 2 delayed 0 parked 0 | delivered 4 again 0 acked 1 nacked 1 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 1
                bob credit 8 holds 1
        "#]],
    );
}

#[test]
fn a_partition_with_too_many_gaps_is_left_alone() {
    check(
        "gaps 1
         stream prices compact=1
         eve: publish prices x k1/a y k1/b z k1/c
         wait 50
         eve: info prices
         eve: publish prices k1/d k1/e k1/f k1/g k1/h
         wait 20000
         eve: info prices
         gaps 9
         wait 600000
         eve: info prices
         eve: read prices earliest",
        expect![[r#"
            eve <- published 6: Ok(Memory)
            eve <- prices: 5 kept, 0..6, published 6 refused 0 removed 0 compacted 1 stops 1
            eve <- published 5: Ok(Memory)
            eve <- prices: 10 kept, 0..11, published 11 refused 0 removed 0 compacted 1 stops 1
            eve <- prices: 4 kept, 0..11, published 11 refused 0 removed 0 compacted 7 stops 1
            eve <- records x | y | z | h, next 11 of 0..11
        "#]],
    );
}

#[test]
fn bounds_count_what_is_kept() {
    check(
        "stream prices compact=1 messages_max=3
         eve: publish prices k1/a k2/b k1/c
         wait 50
         eve: publish prices d
         eve: info prices
         eve: publish prices e
         eve: info prices
         eve: read prices earliest",
        expect![[r#"
            eve <- published 3: Ok(Memory)
            eve <- published 1: Ok(Memory)
            eve <- prices: 3 kept, 1..4, published 4 refused 0 removed 0 compacted 1 stops 0
            eve <- published 1: Ok(Memory)
            eve <- prices: 3 kept, 2..5, published 5 refused 0 removed 1 compacted 1 stops 0
            eve <- records c | d | e, next 5 of 2..5
        "#]],
    );
}

#[test]
fn a_pass_with_too_many_keys_is_followed_by_another() {
    check(
        "keys 2
         stream prices compact=1
         eve: publish prices i j k l m n o p q r k1/a k2/b k1/c k2/d k3/e k4/f k3/g k4/h
         wait 50
         eve: info prices
         wait 11000
         eve: info prices",
        expect![[r#"
            eve <- published 18: Ok(Memory)
            eve <- prices: 16 kept, 0..18, published 18 refused 0 removed 0 compacted 2 stops 0
            eve <- prices: 14 kept, 0..18, published 18 refused 0 removed 0 compacted 4 stops 0
        "#]],
    );
}
