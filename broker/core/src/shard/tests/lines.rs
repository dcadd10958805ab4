//! Lines to connections: what one turn hands over is bounded, and nothing is
//! handed over while too much waits to be sent.

use expect_test::expect;

use super::script::check;

#[test]
fn a_paused_connection_gets_nothing_and_then_all_of_it() {
    check(
        "queue orders
         queue mails
         ann: consume orders credit=2
         ann/2: consume mails credit=2
         bob: consume mails credit=1
         ann: pause
         eve: publish orders a b
         eve: publish mails c d
         ann: credit 1
         ann: resume
         ann: resume
         ann: ack 1",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            eve <- published 2: Ok(Memory)
            bob <- deliver c#1
            ann <- deliver a#1 b#2
            ann/2 <- deliver d#1
        "#]],
    );
}

#[test]
fn a_turn_hands_over_so_much_to_one_connection_and_goes_on_in_the_next() {
    check(
        "turns 20
         queue orders
         queue mails
         ann: consume orders credit=5
         ann/2: consume mails credit=5
         bob: consume mails credit=1
         eve: publish orders a b c
         eve: publish mails d e f
         wait 0",
        expect![[r#"
            eve <- published 3: Ok(Memory)
            ann <- deliver a#1 b#2
            eve <- published 3: Ok(Memory)
            ann <- deliver c#3
            ann/2 <- deliver d#1
            bob <- deliver e#1
            0 ms:
            ann/2 <- deliver f#2
        "#]],
    );
}

#[test]
fn a_pull_takes_what_is_there_in_as_many_turns_as_it_needs() {
    check(
        "turns 20
         queue orders
         eve: publish orders a b c d e
         ann: consume orders
         ann: pull 9
         wait 0
         eve: publish orders f
         ann: pause
         ann: pull 9 wait=10
         wait 20
         ann: resume
         wait 0",
        expect![[r#"
            eve <- published 5: Ok(Memory)
            ann <- deliver a#1 b#2
            0 ms:
            ann <- deliver c#3 d#4
            0 ms:
            ann <- deliver e#5
            ann <- Count { done: 5, unknown: 0 }
            eve <- published 1: Ok(Memory)
            ann <- deliver f#6
            ann <- Count { done: 1, unknown: 0 }
        "#]],
    );
}

#[test]
fn what_a_policy_chose_waits_for_the_line() {
    check(
        "bind hand chooser=0 hears=1,5,7,11 shows
         queue orders
         ann: consume orders credit=2
         bob: consume orders credit=2
         ann: pause
         eve: publish orders a b c
         wish hand dispatch consumer=1 message=1
         wish hand dispatch consumer=1 message=0
         wish hand dispatch consumer=1 message=2
         wish hand dispatch consumer=2 message=1
         wish hand retry message=0
         eve: publish orders d
         ann: resume
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ hand hears joined 1 credit 2
            ~ hand hears joined 2 credit 2
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 2 c tries 0
            eve <- published 3: Ok(Disk)
            ~ hand hears ready 3 d tries 0
            ~ hand hears refused code 4 kind 1 message 2
            ~ hand hears refused code 7 kind 1 message 1
            ~ hand hears refused code 7 kind 2 message 0
            eve <- published 1: Ok(Disk)
            ann <- deliver b#1 | a#2
            eve <- orders: 4 kept, 0..4, published 4 refused 0 removed 0
              [] hand g1 lag 4 ready 2 in flight 2 delayed 0 parked 0 | delivered 2 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 3
                ann credit 0 holds 2
                bob credit 2 holds 0
        "#]],
    );
}

#[test]
fn what_a_policy_chose_for_one_who_leaves_is_chosen_again() {
    check(
        "bind hand chooser=0 hears=1,6,7,11 shows
         queue orders
         ann: consume orders credit=3
         ann: pause
         eve: publish orders a b c
         wish hand dispatch consumer=1 message=0
         wish hand dispatch consumer=1 message=1
         eve: publish orders d
         ann: lost
         bob: consume orders credit=3
         wish hand dispatch consumer=2 message=1
         eve: publish orders e
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 2 c tries 0
            eve <- published 3: Ok(Disk)
            ~ hand hears ready 3 d tries 0
            eve <- published 1: Ok(Disk)
            ~ hand hears left 1 code 1
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 4 e tries 0
            eve <- published 1: Ok(Disk)
            bob <- deliver b#1
            eve <- orders: 5 kept, 0..5, published 5 refused 0 removed 0
              [] hand g1 lag 5 ready 4 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                bob credit 2 holds 1
        "#]],
    );
}

#[test]
fn what_a_policy_chose_and_an_operator_removed_gives_its_credit_back() {
    check(
        "bind hand chooser=0 hears=1,7,11,13 shows
         queue orders
         ann: consume orders credit=2
         ann: pause
         eve: publish orders a b
         wish hand dispatch consumer=1 message=0
         wish hand dispatch consumer=1 message=1
         eve: publish orders c
         eve: purge orders
         ann: resume
         eve: publish orders d
         wish hand dispatch consumer=1 message=3
         eve: publish orders e",
        expect![[r#"
            ~ hand opens orders
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            eve <- published 2: Ok(Disk)
            ~ hand hears ready 2 c tries 0
            eve <- published 1: Ok(Disk)
            ~ hand hears gone 2
            ~ hand hears gone 1
            ~ hand hears gone 0
            eve <- Count { done: 3, unknown: 0 }
            ~ hand hears credit 1 +1
            ~ hand hears credit 1 +1
            ~ hand hears ready 3 d tries 0
            eve <- published 1: Ok(Disk)
            ~ hand hears ready 4 e tries 0
            eve <- published 1: Ok(Disk)
            ann <- deliver d#1
        "#]],
    );
}

#[test]
fn what_a_policy_chose_goes_back_to_it_with_another_generation() {
    check(
        "bind hand chooser=0 hears=1,5,7,8,11,14 shows
         queue orders
         ann: consume orders credit=3
         ann: pause
         eve: publish orders a b c
         wish hand dispatch consumer=1 message=0
         wish hand dispatch consumer=1 message=2
         eve: publish orders d
         bind hand chooser=0 hears=1,5,7,8,11,14 shows
         ann: resume
         wish hand dispatch consumer=1 message=0
         eve: publish orders e
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ hand hears replayed
            ~ hand hears joined 1 credit 3
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 2 c tries 0
            eve <- published 3: Ok(Disk)
            ~ hand hears ready 3 d tries 0
            eve <- published 1: Ok(Disk)
            ~ hand opens orders with state of hand.1
            ~ hand hears joined 1 credit 3
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 2 c tries 0
            ~ hand hears ready 3 d tries 0
            ~ hand hears replayed
            ~ classify ["orders"]
            ~ hand hears ready 4 e tries 0
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            eve <- orders: 5 kept, 0..5, published 5 refused 0 removed 0
              [] hand g2 lag 5 ready 4 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 2 holds 1
        "#]],
    );
}

#[test]
fn nobody_waits_longer_than_a_lease_for_a_consumer_that_is_deaf() {
    check(
        "bind hand chooser=0 hears=1,7,11 lease=100 shows
         queue orders
         ann: consume orders credit=2
         bob: consume orders credit=2
         ann: pause
         eve: publish orders a b
         wish hand dispatch consumer=1 message=0
         wish hand dispatch consumer=1 message=1
         eve: publish orders c
         wait 100
         wish hand dispatch consumer=2 message=0
         eve: publish orders d
         ann: resume",
        expect![[r#"
            ~ hand opens orders
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            eve <- published 2: Ok(Disk)
            ~ hand hears ready 2 c tries 0
            eve <- published 1: Ok(Disk)
            100 ms:
            ~ hand hears credit 1 +2
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 3 d tries 0
            eve <- published 1: Ok(Disk)
            bob <- deliver a#1
        "#]],
    );
}

#[test]
fn what_is_promised_takes_no_place_in_the_window() {
    check(
        "bind hand chooser=0 hears=1,7,11 window=2 shows
         queue orders
         ann: consume orders credit=9
         bob: consume orders credit=9
         ann: pause
         eve: publish orders a b c d e
         wish hand dispatch consumer=1 message=0
         wish hand dispatch consumer=1 message=1
         bob: credit 1
         wish hand dispatch consumer=2 message=2
         bob: credit 1",
        expect![[r#"
            ~ hand opens orders
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            eve <- published 5: Ok(Disk)
            ~ hand hears credit 2 +1
            ~ hand hears ready 2 c tries 0
            ~ hand hears ready 3 d tries 0
            ~ hand hears credit 2 +1
            ~ hand hears ready 4 e tries 0
            bob <- deliver c#1
        "#]],
    );
}

#[test]
fn what_a_pull_was_to_pay_for_is_given_back_when_it_ends() {
    check(
        "bind hand chooser=0 hears=1,7,11 bytes=1 shows
         queue orders
         ann: consume orders
         ann: pull 3 wait=10
         eve: publish orders a b c
         wish hand dispatch consumer=1 message=0
         wish hand dispatch consumer=1 message=1
         wish hand dispatch consumer=1 message=2
         eve: publish orders d
         wait 20
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ hand hears credit 1 +3
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 2 c tries 0
            eve <- published 3: Ok(Disk)
            ~ hand hears ready 3 d tries 0
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            10 ms:
            ~ hand hears ready 1 b tries 0
            ~ hand hears ready 2 c tries 0
            ann <- Count { done: 1, unknown: 0 }
            eve <- orders: 4 kept, 0..4, published 4 refused 0 removed 0
              [] hand g1 lag 4 ready 3 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 1
        "#]],
    );
}

#[test]
fn room_that_a_filter_gives_back_is_for_the_next_promise() {
    check(
        "bind hand chooser=0 hears=1,7,11 bytes=1 shows
         queue orders
         filter letters queues=orders
         ann: consume orders credit=3
         eve: publish orders a drop c
         wish hand dispatch consumer=1 message=0
         wish hand dispatch consumer=1 message=1
         wish hand dispatch consumer=1 message=2
         eve: publish orders d
         ann: ack 1",
        expect![[r#"
            ~ hand opens orders
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 drop tries 0
            ~ hand hears ready 2 c tries 0
            eve <- published 3: Ok(Disk)
            ~ hand hears ready 3 d tries 0
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            ~ hand hears credit 1 +1
            ~ hand hears credit 1 +1
            ann <- deliver c#2
            broker makes orders/dead
        "#]],
    );
}

#[test]
fn a_policy_may_choose_beside_the_broker_and_the_message_comes_once() {
    check(
        "bind hand chooser=1 hears=7,11 retry=10 shows
         queue orders
         ann: consume orders credit=2
         eve: publish orders a
         ann: pause
         ann: nack 1
         wait 10
         wish hand dispatch consumer=1 message=0
         ann: credit 1
         bob: consume orders credit=2
         ann: resume
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            ~ hand hears credit 1 +1
            ~ hand hears credit 1 +1
            ann <- deliver a#2 (try 2)
            eve <- orders: 1 kept, 0..1, published 1 refused 0 removed 0
              [] hand g1 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 2 again 1 acked 0 nacked 1 expired 0 dead 0 dropped 0 refused 0
                ann credit 2 holds 1
                bob credit 2 holds 0
        "#]],
    );
}

#[test]
fn every_consumer_of_a_spread_group_gets_what_a_pause_kept_from_it() {
    check(
        "bind all spread=1
         queue orders
         ann: consume orders credit=9
         bob: consume orders credit=9
         ann: pause
         eve: publish orders a b
         ann: resume
         ann: pause
         ann: lost
         bob: ack 1-2
         eve: info orders",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 2: Ok(Disk)
            bob <- deliver a#1 b#2
            ann <- deliver a#1 b#2
            eve <- orders: 0 kept, 2..2, published 2 refused 0 removed 0
              [] all g1 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 4 again 0 acked 2 nacked 0 expired 0 dead 0 dropped 0 refused 0
                bob credit 9 holds 0
        "#]],
    );
}

#[test]
fn a_copy_that_waited_is_no_second_try_because_another_consumer_failed() {
    check(
        "bind all spread=1 attempts=2 retry=10
         queue orders
         ann: consume orders credit=1
         bob: consume orders
         eve: publish orders a
         ann: nack 1
         bob: credit 1
         bob: nack 1
         wait 10",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            bob <- deliver a#1
            10 ms:
            ann <- deliver a#2 (try 2)
            bob <- deliver a#2 (try 2)
        "#]],
    );
}

#[test]
fn tries_from_before_every_consumer_got_a_copy_count_for_each_copy() {
    check(
        "bind all attempts=3 retry=10
         queue orders
         ann: consume orders credit=1
         eve: publish orders a
         ann: nack 1
         bind all spread=1 attempts=3 retry=10
         bob: consume orders credit=1
         wait 10",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            10 ms:
            ann <- deliver a#2 (try 2)
            bob <- deliver a#1 (try 2)
        "#]],
    );
}

#[test]
fn what_a_pull_was_to_pay_for_is_told_when_it_ends_in_its_own_turn() {
    check(
        "bind hand chooser=0 hears=1,7,11 bytes=1 shows
         queue orders
         bob: consume orders credit=2
         ann: consume orders
         eve: publish orders a b
         wish hand dispatch consumer=2 message=0
         wish hand dispatch consumer=2 message=1
         ann: pull 2 wait=0
         wait 5
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            eve <- published 2: Ok(Disk)
            ~ hand hears credit 2 +2
            ann <- deliver a#1
            ann <- Count { done: 1, unknown: 0 }
            1 ms:
            ~ hand hears ready 1 b tries 0
            eve <- orders: 2 kept, 0..2, published 2 refused 0 removed 0
              [] hand g1 lag 2 ready 1 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                bob credit 2 holds 0
                ann credit 0 holds 1
        "#]],
    );
}
