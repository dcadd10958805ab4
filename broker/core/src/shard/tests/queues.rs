//! Queues on the built-in plan.

use expect_test::expect;

use super::script::check;

#[test]
fn messages_come_in_order_and_within_credit() {
    check(
        "queue orders
         ann: consume orders credit=2
         bob: publish orders a b c d
         ann: ack 1
         ann: ack 2-3
         eve: info orders
         ann: ack 4
         eve: info orders",
        expect![[r#"
            bob <- published 4: Ok(Memory)
            ann <- deliver a#1 b#2
            ann <- deliver c#3
            ann <- deliver d#4
            eve <- orders: 1 kept, 3..4, published 4 refused 0 removed 0
              [] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 4 again 0 acked 3 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 1 holds 1
            eve <- orders: 0 kept, 4..4, published 4 refused 0 removed 0
              [] built-in g0 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 4 again 0 acked 4 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 2 holds 0
        "#]],
    );
}

#[test]
fn consumers_compete_in_turn() {
    check(
        "queue orders
         ann: consume orders credit=2
         bob: consume orders credit=9
         eve: publish orders a b c d e f
         ann: ack 1-2
         eve: publish orders g h i j",
        expect![[r#"
            eve <- published 6: Ok(Memory)
            ann <- deliver a#1 b#2
            bob <- deliver c#1 d#2 e#3 f#4
            eve <- published 4: Ok(Memory)
            bob <- deliver g#5 h#6 | j#7
            ann <- deliver i#3
        "#]],
    );
}

#[test]
fn credit_is_given_back_by_every_settlement() {
    check(
        "queue orders
         ann: consume orders credit=1
         eve: publish orders a b c d e
         ann: ack 1
         ann: nack 2 delay=50
         ann: reject 3
         ann: credit 2
         wait 60",
        expect![[r#"
            eve <- published 5: Ok(Memory)
            ann <- deliver a#1
            ann <- deliver b#2
            ann <- deliver c#3
            ann <- deliver d#4
            broker makes orders/dead
            ann <- deliver e#5
            50 ms:
            ann <- deliver b#6 (try 2)
        "#]],
    );
}

#[test]
fn unknown_settlements_are_counted() {
    check(
        "queue orders
         ann: consume orders credit=3
         eve: publish orders a b
         ann: ack 1-5 asks
         ann: ack 1-1 asks
         ann: ack 7-3 asks
         ann: ack 0-18446744073709551615 asks
         joe: ack 1 asks",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1 b#2
            ann <- Count { done: 2, unknown: 3 }
            ann <- Count { done: 0, unknown: 1 }
            ann <- Count { done: 0, unknown: 0 }
            ann <- Count { done: 0, unknown: 18446744073709551615 }
            joe <- Rejected(NoSubscription)
        "#]],
    );
}

#[test]
fn a_flush_tells_of_what_was_settled_without_asking() {
    check(
        "queue orders
         ann: consume orders credit=4
         eve: publish orders a b c d
         ann: flush
         ann: ack 1-2
         ann: reject 3
         ann: ack 1
         ann: ack 9-18446744073709551615
         ann: ack 9-18446744073709551615
         ann: ack 4 asks
         hold stable
         ann: flush
         ann: flush
         free stable
         joe: flush",
        expect![[r#"
            eve <- published 4: Ok(Memory)
            ann <- deliver a#1 b#2 c#3 d#4
            ann <- Count { done: 0, unknown: 0 }
            broker makes orders/dead
            ann <- Count { done: 1, unknown: 0 }
            ann <- Count { done: 3, unknown: 18446744073709551615 }
            ann <- Count { done: 0, unknown: 0 }
            joe <- Rejected(NoSubscription)
        "#]],
    );
}

#[test]
fn a_nack_backs_off_and_its_own_delay_wins() {
    check(
        "queue orders
         ann: consume orders credit=1
         eve: publish orders a
         ann: nack 1
         wait 999
         wait 1
         ann: nack 2
         wait 2000
         ann: nack 3 delay=10
         wait 10
         ann: nack 4
         wait 20000",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            ann <- deliver a#1
            1000 ms:
            ann <- deliver a#2 (try 2)
            3000 ms:
            ann <- deliver a#3 (try 3)
            3010 ms:
            ann <- deliver a#4 (try 4)
            11010 ms:
            ann <- deliver a#5 (try 5)
        "#]],
    );
}

#[test]
fn a_lease_runs_out_unless_extended() {
    check(
        "queue orders
         ann: consume orders credit=3
         eve: publish orders a b c
         wait 29000
         ann: extend 2 by=5000
         ann: ack 3
         wait 1000
         wait 1000
         wait 5000
         ann: ack 1 asks
         eve: info orders",
        expect![[r#"
            eve <- published 3: Ok(Memory)
            ann <- deliver a#1 b#2 c#3
            31000 ms:
            ann <- deliver a#4 (try 2)
            35000 ms:
            ann <- deliver b#5 (try 2)
            ann <- Count { done: 0, unknown: 1 }
            eve <- orders: 2 kept, 0..3, published 3 refused 0 removed 0
              [] built-in g0 lag 2 ready 0 in flight 2 delayed 0 parked 0 | delivered 5 again 2 acked 1 nacked 0 expired 2 dead 0 dropped 0 refused 0
                ann credit 1 holds 2
        "#]],
    );
}

#[test]
fn a_shortened_lease_ends_early() {
    check(
        "queue orders
         ann: consume orders credit=3
         eve: publish orders a b
         ann: extend 1 by=10
         wait 10
         wait 1000",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1 b#2
            1010 ms:
            ann <- deliver a#3 (try 2)
        "#]],
    );
}

#[test]
fn detach_returns_at_once_and_a_lost_connection_counts_as_a_try() {
    check(
        "queue orders
         ann: consume orders credit=2
         joe: consume orders credit=0
         eve: publish orders a b
         joe: credit 5
         ann: detach
         joe: lost
         zoe: consume orders credit=5
         wait 1000
         joe: ack 1 asks",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1 b#2
            joe <- deliver a#1 b#2
            1000 ms:
            zoe <- deliver a#1 b#2 (try 2)
            joe <- Rejected(NoSubscription)
        "#]],
    );
}

#[test]
fn delayed_messages_wait_and_hold_up_nobody() {
    check(
        "queue orders
         ann: consume orders credit=5
         eve: publish orders a b delay=100
         eve: publish orders c
         eve: info orders
         wait 99
         wait 1
         eve: publish orders d delay=50
         ann: detach
         zoe: consume orders credit=5
         wait 50",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            eve <- published 1: Ok(Memory)
            ann <- deliver c#1
            eve <- orders: 3 kept, 0..3, published 3 refused 0 removed 0
              [] built-in g0 lag 3 ready 0 in flight 1 delayed 2 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 4 holds 1
            100 ms:
            ann <- deliver a#2 b#3
            eve <- published 1: Ok(Memory)
            zoe <- deliver a#1 b#2 | c#3
            150 ms:
            zoe <- deliver d#4
        "#]],
    );
}

#[test]
fn a_full_queue_refuses_the_rows_that_do_not_fit() {
    check(
        "queue orders messages_max=3
         eve: publish orders a b
         eve: publish orders c d e
         eve: publish orders f
         ann: consume orders credit=5
         ann: ack 1
         eve: publish orders g h
         eve: info orders
         alter orders bytes_max=40
         ann: ack 2-4
         eve: publish orders 12345678 12345678 12345678",
        expect![[r#"
            eve <- published 2: Ok(Memory)
            eve <- published 2 rows [1, 2]: Err(QueueFull)
            eve <- published 1: Ok(Memory)
            orders has 0 free
            eve <- published 1 rows [0]: Err(QueueFull)
            orders has 0 free
            ann <- deliver a#1 b#2 | c#3
            orders has 1 free
            eve <- published 1 rows [1]: Err(QueueFull)
            eve <- published 1: Ok(Memory)
            ann <- deliver g#4
            orders has 0 free
            eve <- orders: 3 kept, 1..4, published 4 refused 4 removed 0
              [] built-in g0 lag 3 ready 0 in flight 3 delayed 0 parked 0 | delivered 4 again 0 acked 1 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 2 holds 3
            orders has 1 bytes free
            orders is pressed no more
            eve <- published 1 rows [2]: Err(QueueFull)
            eve <- published 2: Ok(Memory)
            ann <- deliver 12345678#5 12345678#6
            orders has 0 bytes free
        "#]],
    );
}

#[test]
fn a_publish_is_answered_when_the_store_is_stable() {
    check(
        "queue orders
         ann: consume orders credit=5
         hold stable
         eve: publish orders a
         eve: publish orders b
         free stable
         full store
         eve: publish orders c
         eve: publish nowhere d",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            eve <- published 1: Ok(Memory)
            ann <- deliver a#1 | b#2
            eve <- published 1: Err(NoSpace)
            eve <- published 1: Err(NotFound)
        "#]],
    );
}

#[test]
fn a_pull_takes_what_comes_within_its_time() {
    check(
        "queue orders
         ann: consume orders credit=0
         eve: publish orders a b c
         ann: pull 2
         ann: pull 2 wait=100
         wait 50
         eve: publish orders d
         ann: ack 1-2
         ann: pull 2 wait=100
         wait 99
         wait 1
         ann: pull 0
         ann: pull 5 wait=100
         ann: detach",
        expect![[r#"
            eve <- published 3: Ok(Memory)
            ann <- deliver a#1 b#2
            ann <- Count { done: 2, unknown: 0 }
            ann <- deliver c#3
            eve <- published 1: Ok(Memory)
            ann <- deliver d#4
            ann <- Count { done: 2, unknown: 0 }
            150 ms:
            ann <- Count { done: 0, unknown: 0 }
            ann <- Count { done: 0, unknown: 0 }
            ann <- Count { done: 0, unknown: 0 }
        "#]],
    );
}

#[test]
fn purge_removes_what_waits_and_nothing_else() {
    check(
        "queue orders
         ann: consume orders credit=1
         eve: publish orders a b c
         eve: publish orders d delay=1000
         eve: purge orders
         eve: info orders
         ann: ack 1
         eve: publish orders e
         wait 2000",
        expect![[r#"
            eve <- published 3: Ok(Memory)
            ann <- deliver a#1
            eve <- published 1: Ok(Memory)
            eve <- Count { done: 3, unknown: 0 }
            eve <- orders: 1 kept, 0..4, published 4 refused 0 removed 3
              [] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 1
            eve <- published 1: Ok(Memory)
            ann <- deliver e#2
        "#]],
    );
}

#[test]
fn a_purge_beside_a_publish_frees_the_bytes() {
    check(
        "queue orders bytes_max=70
         eve: publish orders 0123456789012345678901234567890123456789
         hold stable
         eve: publish orders a && eve: purge orders
         free stable
         ann: consume orders credit=5
         ann: ack 1
         eve: publish orders 0123456789012345678901234567890123456789",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            eve <- Count { done: 1, unknown: 0 }
            eve <- published 1: Ok(Memory)
            ann <- deliver a#1
            eve <- published 1: Ok(Memory)
            ann <- deliver 0123456789012345678901234567890123456789#2
        "#]],
    );
}

#[test]
fn what_a_purge_beside_a_publish_leaves_is_all_that_counts() {
    check(
        "queue orders bytes_max=140
         eve: publish orders 0123456789012345678901234567890123456789
         eve: publish orders 0123456789012345678901234567890123456789
         hold stable
         eve: publish orders a && eve: purge orders
         free stable
         eve: publish orders 0123456789012345678901234567890123456789
         eve: publish orders b && eve: purge orders && eve: publish orders c
         eve: info orders",
        expect![[r#"
            eve <- published 1: Ok(Memory)
            eve <- published 1: Ok(Memory)
            eve <- Count { done: 2, unknown: 0 }
            eve <- published 1: Ok(Memory)
            eve <- published 1: Ok(Memory)
            eve <- Count { done: 3, unknown: 0 }
            eve <- published 2 rows [0, 0]: Ok(Memory)
            eve <- orders: 1 kept, 5..6, published 6 refused 0 removed 5
              [] built-in g0 lag 1 ready 1 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
        "#]],
    );
}

#[test]
fn deleting_ends_consumers_and_pulls() {
    check(
        "queue orders
         ann: consume orders credit=0
         ann: pull 1 wait=1000
         hold stable
         eve: publish orders a
         delete orders
         free stable
         ann: ack 1 asks
         wait 2000",
        expect![[r#"
            ann <- Rejected(Deleted)
            ann <- ended Deleted
            eve <- published 1 rows [0]: Err(Deleted)
            ann <- Rejected(NoSubscription)
        "#]],
    );
}

#[test]
fn a_consumer_number_is_taken_once() {
    check(
        "queue orders
         stream flights
         ann: consume orders credit=1
         ann: consume orders credit=1
         ann/2: consume orders credit=1
         ann: consume flights/none credit=1
         eve: publish orders a b",
        expect![[r#"
            ann <- Rejected(SubscriptionTaken)
            ann <- Rejected(SubscriptionTaken)
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1
            ann/2 <- deliver b#1
        "#]],
    );
}

#[test]
fn one_message_held_for_long_does_not_stop_the_rest() {
    let mut script =
        "queue orders\nann: consume orders credit=2\neve: publish orders old\n".to_owned();
    for k in 0..3000 {
        script += &format!("eve: publish orders m\nann: ack {}\n", k + 2);
    }
    let mut world = super::script::World::new();
    script.lines().for_each(|line| world.line(line));
    world.seen.clear();
    world.line("eve: info orders");
    world.line("ann: ack 1 asks");
    world.line("eve: info orders");
    expect![[r#"
        eve <- orders: 1 kept, 0..3001, published 3001 refused 0 removed 0
          [] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 3001 again 0 acked 3000 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ann credit 1 holds 1
        ann <- Count { done: 1, unknown: 0 }
        eve <- orders: 0 kept, 3001..3001, published 3001 refused 0 removed 0
          [] built-in g0 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 3001 again 0 acked 3001 nacked 0 expired 0 dead 0 dropped 0 refused 0
            ann credit 2 holds 0
    "#]].assert_eq(&world.seen);
}

#[test]
fn a_level_the_store_cannot_reach_is_refused() {
    let mut world = super::script::World::in_memory();
    for line in [
        "queue orders level=disk",
        "eve: publish orders a",
        "alter orders",
        "eve: publish orders b",
    ] {
        world.line(line);
    }
    expect![[r#"
        eve <- published 1: Err(LevelUnsupported)
        eve <- published 1: Ok(Memory)
    "#]]
    .assert_eq(&world.seen);
}
