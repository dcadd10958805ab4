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
fn a_policy_hears_when_a_line_takes_what_it_chose() {
    check(
        "bind hand chooser=0 hears=1,5,7,11,12 shows
         queue orders
         ann: consume orders credit=2
         ann: pause
         wish hand dispatch consumer=1 message=0
         eve: publish orders a
         wish hand dispatch consumer=1 message=0
         ann: resume
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ hand hears joined 1 credit 2
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears refused code 4 kind 1 message 0
            eve <- published 1: Ok(Disk)
            ~ hand hears credit 1 +1
            ann <- deliver a#1
            eve <- orders: 1 kept, 0..1, published 1 refused 0 removed 0
              [] hand g1 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 1
                ann credit 1 holds 1
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
