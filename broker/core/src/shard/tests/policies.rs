//! Policies that pick and wish, and generations that follow each other.

use expect_test::expect;

use super::script::check;

#[test]
fn a_plan_s_happy_path_makes_no_call() {
    check(
        "queue orders level=disk
         bind least classes=orders:2
         calls least
         ann: consume orders credit=9
         calls least
         eve: publish orders a b c
         eve: publish orders d
         ann: ack 1-4
         eve: publish orders e
         ann: ack 5
         calls least",
        expect![[r#"
            least was called 1 times
            least was called 1 times
            ~ classify ["orders"]
            eve <- published 3: Ok(Disk)
            ann <- deliver a#1 b#2 c#3
            eve <- published 1: Ok(Disk)
            ann <- deliver d#4
            eve <- published 1: Ok(Disk)
            ann <- deliver e#5
            least was called 1 times
        "#]],
    );
}

#[test]
fn a_policy_hears_what_it_asked_for() {
    check(
        "queue orders
         bind least hears=2,3,4,5,6,7,12 lease=100 retry=10 shows
         ann: consume orders credit=3
         eve: publish orders a b c
         ann: ack 1
         ann: nack 2 delay=50 code=9
         ann: extend 3 by=200
         ann: credit 1
         wait 100
         wait 150
         ann: lost",
        expect![[r#"
            ~ least opens orders
            ~ least hears joined 1 credit 3
            ~ classify ["orders"]
            eve <- published 3: Ok(Disk)
            ann <- deliver a#1 b#2 c#3
            ~ least hears acked 0 by 1
            ~ least hears credit 1 +1
            ~ least hears nacked 1 by 1 code 9 delay 50
            ~ least hears credit 1 +1
            ~ least hears extended 2 at 1 left 200
            ~ least hears credit 1 +1
            50 ms:
            ann <- deliver b#4 (try 2)
            150 ms:
            ~ least hears expired 1 at 1 try 2
            ~ least hears credit 1 +1
            170 ms:
            ann <- deliver b#5 (try 3)
            200 ms:
            ~ least hears expired 2 at 1 try 1
            ~ least hears credit 1 +1
            210 ms:
            ann <- deliver c#6 (try 2)
            ~ least hears left 1 code 1
        "#]],
    );
}

#[test]
fn a_policy_that_picks() {
    check(
        "queue orders
         bind hand chooser=0 hears=1,2,3,4,5,6,7,11 retry=10 deals shows
         ann: consume orders credit=1
         bob: consume orders credit=2
         eve: publish orders a b c d
         ann: ack 1
         bob: nack 1
         wait 10
         bob: detach",
        expect![[r#"
            ~ hand opens orders
            ~ hand hears joined 1 credit 1
            ~ hand hears joined 2 credit 2
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 2 c tries 0
            ~ hand hears ready 3 d tries 0
            eve <- published 4: Ok(Disk)
            ann <- deliver a#1
            bob <- deliver b#1 c#2
            ~ hand hears acked 0 by 1
            ~ hand hears credit 1 +1
            ~ hand hears nacked 1 by 2 code 0 delay 0
            ~ hand hears credit 2 +1
            10 ms:
            ~ hand hears ready 1 b tries 1
            ann <- deliver b#2 (try 2)
            ~ hand hears left 2 code 0
            ~ hand hears ready 2 c tries 0
        "#]],
    );
}

#[test]
fn wishes_are_checked() {
    check(
        "queue orders order=1
         bind hand chooser=0 hears=1,2,3,11 shows
         ann: consume orders credit=1
         eve: publish orders x/a x/b y/c y/d
         wish hand dispatch message=1 consumer=1
         wish hand dispatch message=0 consumer=9
         wish hand dispatch message=77 consumer=1
         wish hand dispatch message=0 consumer=1
         wish hand dispatch message=2 consumer=1
         wish hand dispatch message=0 consumer=1
         wish hand dead-letter message=2
         wish hand drop message=2
         wish hand park message=0
         wish hand retry message=0
         wish hand extend message=2 consumer=1 value=10
         wish hand dispatch message=1 consumer=1 group=55
         wish hand 99 message=1
         eve: publish orders z/e
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 2 c tries 0
            eve <- published 4: Ok(Disk)
            ~ hand hears ready 4 e tries 0
            ~ hand hears refused code 5 kind 1 message 1
            ~ hand hears refused code 3 kind 1 message 0
            ~ hand hears refused code 2 kind 1 message 77
            ~ hand hears refused code 4 kind 1 message 2
            ~ hand hears refused code 7 kind 1 message 0
            ~ hand hears refused code 6 kind 3 message 2
            ~ hand hears refused code 6 kind 4 message 2
            ~ hand hears refused code 7 kind 5 message 0
            ~ hand hears refused code 7 kind 2 message 0
            ~ hand hears refused code 7 kind 6 message 2
            ~ hand hears refused code 2 kind 1 message 1
            ~ hand hears refused code 1 kind 99 message 1
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            eve <- orders: 5 kept, 0..5, published 5 refused 0 removed 0
              [] hand g1 lag 5 ready 4 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 12
                ann credit 0 holds 1
        "#]],
    );
}

#[test]
fn wishes_with_the_power() {
    check(
        "queue orders
         bind hand chooser=0 hears=1,9,11,12 powers=drop,dead-letter shows
         ann: consume orders credit=9
         eve: publish orders a b c d e
         wish hand drop message=0 code=1
         wish hand dead-letter message=1 code=4
         wish hand park message=2
         wish hand retry message=3 value=100
         wish hand dispatch message=4 consumer=1 value=50
         wish hand extend message=4 consumer=1 value=25
         wish hand wake value=60 message=123
         eve: publish orders f
         eve: info orders
         wait 60
         wish hand retry message=2
         wait 40
         ann: ack 1
         bob: consume orders/dead credit=0
         wish hand dispatch message=0 consumer=2 group=2
         bob: credit 1",
        expect![[r#"
            ~ hand opens orders
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 2 c tries 0
            ~ hand hears ready 3 d tries 0
            ~ hand hears ready 4 e tries 0
            eve <- published 5: Ok(Disk)
            ~ hand hears ready 5 f tries 0
            ~ hand hears extended 4 at 1 left 75
            eve <- published 1: Ok(Disk)
            ann <- deliver e#1
            broker makes orders/dead
            eve <- orders: 4 kept, 2..6, published 6 refused 0 removed 0
              [] hand g1 lag 4 ready 1 in flight 1 delayed 1 parked 1 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 1 dropped 1 refused 0
                ann credit 8 holds 1
            60 ms:
            ~ hand hears woke 123
            100 ms:
            ~ hand hears ready 3 d tries 0
            ~ hand hears ready 2 c tries 0
            bob <- deliver b#1 {weir-dead-reason=policy:4, weir-dead-source=orders, weir-dead-offset=1, weir-dead-attempts=0}
        "#]],
    );
}

#[test]
fn timers_tick() {
    check(
        "queue orders
         bind least tick=100 hears=10 shows
         wait 250",
        expect![[r#"
            ~ least opens orders
            100 ms:
            ~ least hears tick
            200 ms:
            ~ least hears tick
        "#]],
    );
}

#[test]
fn a_new_generation_takes_over_in_flight() {
    check(
        "queue orders
         bind hand chooser=0 hears=all deals shows
         ann: consume orders credit=2
         eve: publish orders a b c
         ann: nack 1
         wait 100
         bind hand chooser=0 hears=all deals shows
         ann: ack 2 asks
         ann: ack 3 asks
         bind other rank=-1
         eve: publish orders d e
         ann: ack 4-9 asks
         eve: info orders
         unbind other
         eve: publish orders f
         unbind hand
         eve: publish orders g
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ hand hears replayed
            ~ hand hears joined 1 credit 2
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 2 c tries 0
            eve <- published 3: Ok(Disk)
            ann <- deliver a#1 b#2
            ~ hand hears nacked 0 by 1 code 0 delay 0
            ~ hand hears credit 1 +1
            100 ms:
            ~ hand hears ready 0 a tries 1
            ann <- deliver a#3 (try 2)
            ~ hand opens orders with state of hand.1
            ~ hand hears joined 1 credit 0
            ~ hand hears leased 1 to 1 try 1 left 900
            ~ hand hears leased 0 to 1 try 2 left 1000
            ~ hand hears ready 2 c tries 0
            ~ hand hears replayed
            ~ hand hears acked 1 by 1
            ~ hand hears credit 1 +1
            ann <- Count { done: 1, unknown: 0 }
            ~ hand hears acked 0 by 1
            ~ hand hears credit 1 +1
            ann <- Count { done: 1, unknown: 0 }
            ~ hand closes 1
            ann <- deliver c#4
            ~ classify ["orders"]
            eve <- published 2: Ok(Disk)
            ann <- deliver d#5
            ann <- Count { done: 2, unknown: 4 }
            ann <- deliver e#6
            eve <- orders: 1 kept, 4..5, published 5 refused 0 removed 0
              [] other g3 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 6 again 1 acked 4 nacked 1 expired 0 dead 0 dropped 0 refused 0
                ann credit 1 holds 1
            ~ hand opens orders with state of hand.1
            ~ hand hears joined 1 credit 1
            ~ hand hears leased 4 to 1 try 1 left 1000
            ~ hand hears replayed
            ~ classify ["orders"]
            ~ hand hears ready 5 f tries 0
            eve <- published 1: Ok(Disk)
            ann <- deliver f#7
            eve <- published 1: Ok(Memory)
            eve <- orders: 3 kept, 4..7, published 7 refused 0 removed 0
              [] built-in g0 lag 3 ready 1 in flight 2 delayed 0 parked 0 | delivered 7 again 1 acked 4 nacked 1 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 2
        "#]],
    );
}

#[test]
fn the_lowest_rank_that_applies_decides() {
    check(
        "queue orders
         queue mail-in
         stream flights
         group flights/audit
         bind b queues=* groups=none/* rank=5 shows
         bind a queues=orders groups=flights/* rank=5 shows
         bind mail queues=mail-* groups=x rank=1 shows
         eve: info orders
         eve: info mail-in
         eve: info flights
         unbind mail
         eve: info mail-in
         queue late
         eve: info late",
        expect![[r#"
            ~ b opens mail-in
            ~ b opens orders
            ~ a opens flights/audit
            ~ a opens orders
            ~ b closes 1
            ~ b closes 2
            ~ mail opens mail-in
            eve <- orders: 0 kept, 0..0, published 0 refused 0 removed 0
              [] a g2 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            eve <- mail-in: 0 kept, 0..0, published 0 refused 0 removed 0
              [] mail g3 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            eve <- flights: 0 kept, 0..0, published 0 refused 0 removed 0
              [audit] a g2 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ~ b opens mail-in
            eve <- mail-in: 0 kept, 0..0, published 0 refused 0 removed 0
              [] b g1 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ~ b opens late
            eve <- late: 0 kept, 0..0, published 0 refused 0 removed 0
              [] b g1 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
        "#]],
    );
}

#[test]
fn a_policy_can_turn_consumers_away() {
    check(
        "queue orders
         bind door turns_away=ann
         ann: consume orders credit=1
         bob: consume orders credit=1
         eve: publish orders a
         bind door turns_away=bob
         eve: info orders",
        expect![[r#"
            ann <- Rejected(TurnedAway)
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            bob <- deliver a#1
            bob <- ended TurnedAway
            eve <- orders: 1 kept, 0..1, published 1 refused 0 removed 0
              [] door g2 lag 1 ready 1 in flight 0 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
        "#]],
    );
}

#[test]
fn classes_are_asked_once_per_subject_and_generation() {
    check(
        "queue orders level=os
         bind least classes=orders:0
         eve: publish orders a b
         eve: publish orders c
         bind least classes=orders:0 powers=transient
         eve: publish orders d
         bind least classes=orders:2
         eve: publish orders e
         eve: publish orders f",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 2: Ok(Os)
            eve <- published 1: Ok(Os)
            ~ classify ["orders"]
            eve <- published 1: Ok(Memory)
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            eve <- published 1: Ok(Disk)
        "#]],
    );
}

/// What one group makes do with is not what another gets.
#[test]
fn a_stream_s_messages_are_kept_as_the_group_wants_that_wants_most() {
    check(
        "stream flights level=disk
         group flights/fast
         bind quick groups=flights/fast classes=flights:0 powers=transient
         eve: publish flights a
         group flights/audit
         eve: publish flights b
         bind loud groups=flights/audit classes=flights:0 powers=transient
         eve: publish flights c
         fail loud broken
         ann: consume flights/audit credit=0
         eve: publish flights d",
        expect![[r#"
            ~ classify ["flights"]
            eve <- published 1: Ok(Memory)
            eve <- published 1: Ok(Disk)
            ~ classify ["flights"]
            eve <- published 1: Ok(Memory)
            policy loud.2 failed: it trapped
            eve <- published 1: Ok(Disk)
        "#]],
    );
}

#[test]
fn options_reach_the_policy_when_they_change() {
    check(
        "stream flights
         bind least shows hears=5,14
         group flights/audit options=1
         ann: consume flights/audit credit=1
         group flights/audit options=1
         group flights/audit options=2",
        expect![[r#"
            ~ least opens flights/audit
            ~ least hears replayed
            ~ least hears joined 1 credit 1
            ~ least closes 1
            ~ least opens flights/audit
            ~ least hears joined 1 credit 1
            ~ least hears replayed
        "#]],
    );
}
