//! Policies that fail cost latency, never a message.

use std::sync::{Arc, Mutex};

use expect_test::expect;

use super::super::policies::Policies;
use super::hands::{Hand, TestPolicy};
use super::script::check;
use crate::limits::{POLICY_BATCH_EVENTS, POLICY_BATCH_ROWS};
use crate::policy::{Failure, Scope};

#[test]
fn a_restarted_policy_is_told_everything_again() {
    check(
        "queue orders
         bind hand chooser=0 hears=all deals shows
         ann: consume orders credit=2
         eve: publish orders a b
         fail hand restarted
         eve: publish orders c d
         ann: ack 1
         eve: info orders",
        expect![[r#"
            ~ hand opens orders
            ~ hand hears replayed
            ~ hand hears joined 1 credit 2
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            ~ hand hears ready 1 b tries 0
            eve <- published 2: Ok(Disk)
            ann <- deliver a#1 b#2
            ~ hand opens orders
            ~ hand hears joined 1 credit 0
            ~ hand hears leased 0 to 1 try 1 left 1000
            ~ hand hears leased 1 to 1 try 1 left 1000
            ~ hand hears ready 2 c tries 0
            ~ hand hears ready 3 d tries 0
            ~ hand hears replayed
            eve <- published 2: Ok(Disk)
            ~ hand hears acked 0 by 1
            ~ hand hears credit 1 +1
            eve <- orders: 3 kept, 1..4, published 4 refused 0 removed 0
              [] hand g1 lag 3 ready 2 in flight 1 delayed 0 parked 0 | delivered 2 again 0 acked 1 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 1 holds 1
        "#]],
    );
}

#[test]
fn a_broken_policy_leaves_its_groups_to_the_built_in_plan() {
    check(
        "queue orders order=1
         bind hand chooser=0 hears=all deals
         ann: consume orders credit=2
         eve: publish orders x/a x/b y/c
         fail hand broken
         eve: publish orders x/d
         ann: ack 1
         ann: ack 2-3
         eve: info orders
         bind hand chooser=0 hears=all deals
         eve: publish orders y/e
         ann: ack 4-5
         ann: ack 1-9
         eve: info orders",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 3: Ok(Disk)
            ann <- deliver a#1 | c#2
            eve <- published 1: Ok(Disk)
            policy hand.1 failed: it trapped
            ann <- deliver b#3
            ann <- deliver d#4
            eve <- orders: 1 kept, 3..4, published 4 refused 0 removed 0
              [] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 4 again 0 acked 3 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 1 holds 1
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            ann <- deliver e#5
            eve <- orders: 0 kept, 5..5, published 5 refused 0 removed 0
              [] hand g2 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 5 again 0 acked 5 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 2 holds 0
        "#]],
    );
}

#[test]
fn after_a_refused_step_the_policy_is_told_anew() {
    check(
        "queue orders
         bind hand chooser=0 hears=all deals shows
         ann: consume orders credit=2
         eve: publish orders a
         fail hand refused
         eve: publish orders b
         ann: ack 1-2",
        expect![[r#"
            ~ hand opens orders
            ~ hand hears replayed
            ~ hand hears joined 1 credit 2
            ~ classify ["orders"]
            ~ hand hears ready 0 a tries 0
            eve <- published 1: Ok(Disk)
            ann <- deliver a#1
            ~ hand closes 1
            ~ hand opens orders
            ~ hand hears joined 1 credit 1
            ~ hand hears leased 0 to 1 try 1 left 1000
            ~ hand hears ready 1 b tries 0
            ~ hand hears replayed
            eve <- published 1: Ok(Disk)
            ann <- deliver b#2
            ~ hand hears acked 0 by 1
            ~ hand hears acked 1 by 1
            ~ hand hears credit 1 +2
        "#]],
    );
}

#[test]
fn an_undecided_message_is_delivered_after_all() {
    check(
        "queue orders
         bind hand chooser=0 hears=1
         eve: publish orders a
         wait 20000
         ann: consume orders credit=1
         wait 4999
         wait 1
         eve: info orders",
        expect![[r#"
            ~ classify ["orders"]
            eve <- published 1: Ok(Disk)
            25000 ms:
            policy hand.1 failed: left a ready message of orders undecided for too long
            ann <- deliver a#1
            eve <- orders: 1 kept, 0..1, published 1 refused 0 removed 0
              [] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 1
        "#]],
    );
}

#[test]
fn a_policy_that_cannot_open_a_group_is_named() {
    check(
        "queue orders
         ann: consume orders credit=1
         bind odd chooser=7
         eve: publish orders a
         eve: info orders
         bind fine
         eve: info orders
         queue more
         eve: info more",
        expect![[r#"
            policy odd.1 failed: orders: the plan's chooser is 7; this broker knows 0 to 3
            eve <- published 1: Ok(Memory)
            ann <- deliver a#1
            eve <- orders: 1 kept, 0..1, published 1 refused 0 removed 0
              [] built-in g0 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 1
            eve <- orders: 1 kept, 0..1, published 1 refused 0 removed 0
              [] fine g2 lag 1 ready 0 in flight 1 delayed 0 parked 0 | delivered 1 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
                ann credit 0 holds 1
            eve <- more: 0 kept, 0..0, published 0 refused 0 removed 0
              [] fine g2 lag 0 ready 0 in flight 0 delayed 0 parked 0 | delivered 0 again 0 acked 0 nacked 0 expired 0 dead 0 dropped 0 refused 0
        "#]],
    );
}

#[test]
fn a_policy_that_fails_at_join_is_asked_again() {
    check(
        "queue orders
         bind hand chooser=0 hears=all deals shows
         fail hand restarted
         ann: consume orders credit=1
         fail hand broken
         bob: consume orders credit=1
         eve: publish orders a b",
        expect![[r#"
            ~ hand opens orders
            ~ hand hears replayed
            ~ hand opens orders
            ~ hand hears replayed
            ~ hand hears joined 1 credit 1
            policy hand.1 failed: it trapped
            eve <- published 2: Ok(Memory)
            ann <- deliver a#1
            bob <- deliver b#1
        "#]],
    );
}

#[test]
fn a_policy_that_never_stops_wishing_does_not_hold_the_shard() {
    use crate::policy::*;

    /// Answers every event with a wish that is refused.
    struct Stubborn(u64);

    impl DeliveryPolicy for Stubborn {
        fn generation(&self) -> Generation {
            Generation { number: 1, digest: "s".into() }
        }
        fn powers(&self) -> Powers {
            Powers::default()
        }
        fn reads_messages(&self) -> bool {
            true
        }

        fn classify(&mut self, _: u64, subjects: &[&str]) -> Result<Vec<u8>, Failure> {
            Ok(vec![0; subjects.len()])
        }
        fn open(&mut self, _: u64, _: &GroupInfo<'_>) -> Result<Plan, Failure> {
            Ok(Plan { interest: 1 << event::REFUSED | 1 << event::JOINED, ..Plan::AT_LEAST_ONCE })
        }
        fn join(&mut self, _: u64, _: &Joining<'_>) -> Result<(), Failure> {
            Ok(())
        }
        fn close(&mut self, _: u64, _: u32) {}
        fn step(
            &mut self,
            _: u64,
            events: &[Event],
            _: &[ReadyMessage<'_>],
            actions: &mut Vec<Action>,
        ) -> Result<(), Failure> {
            self.0 += 1;
            assert!(self.0 <= 100, "asked again and again in one moment");
            let (kind, message) = (action::RETRY, 77);
            actions.extend(events.iter().map(|event| Action {
                kind,
                message,
                group: event.group,
                ..Action::default()
            }));
            Ok(())
        }
        fn save(&mut self, _: u64) -> Option<(u32, Vec<u8>)> {
            None
        }
        fn load(&mut self, _: u64, _: u32, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
    }

    let mut world = super::script::World::new();
    world.line("queue orders");
    world.bind_policy("stubborn", Box::new(Stubborn(0)));
    world.line("ann: consume orders credit=1");
    world.line("eve: publish orders a");
    world.line("wait 2");
    world.line("ann: ack 1 asks");
    expect![[r#"
        eve <- published 1: Ok(Memory)
        ann <- deliver a#1
        ann <- Count { done: 1, unknown: 0 }
    "#]]
    .assert_eq(&world.seen);
}

#[test]
fn after_a_failed_call_a_policy_is_told_less_at_once() {
    let hand = Arc::new(Mutex::new(Hand::default()));
    let policy = |number| Box::new(TestPolicy::new("slow", number, hand.clone()));
    let mut policies = Policies::default();
    let bind = |policies: &mut Policies, number| {
        policies.bind(0, "slow".to_owned(), Scope::default(), policy(number))
    };
    let id = bind(&mut policies, 1);
    hand.lock().unwrap().failure = Some(Failure::Refused("not this one".to_owned()));
    assert!(policies.step(id, 0, &[], &[], &mut Vec::new()).is_err());
    assert_eq!(policies.events_max(id), POLICY_BATCH_EVENTS, "a no takes no time");
    hand.lock().unwrap().failure = Some(Failure::Restarted("out of time".to_owned()));
    assert!(policies.step(id, 0, &[], &[], &mut Vec::new()).is_err());
    assert_eq!(policies.events_max(id), POLICY_BATCH_ROWS);
    policies.step(id, 0, &[], &[], &mut Vec::new()).unwrap();
    assert_eq!(policies.events_max(id), POLICY_BATCH_ROWS, "it does not grow again");
    assert_eq!(bind(&mut policies, 2), id);
    assert_eq!(policies.events_max(id), POLICY_BATCH_EVENTS, "another generation is another");
}

#[test]
fn groups_of_a_busy_policy_take_turns() {
    let mut policies = Policies::default();
    let policy = Box::new(TestPolicy::new("busy", 1, Arc::new(Mutex::new(Hand::default()))));
    let id = policies.bind(0, "busy".to_owned(), Scope::default(), policy);
    let told = |policies: &Policies| {
        let mut groups = [2, 5, 7];
        policies.take_turns(id, &mut groups);
        groups
    };
    assert_eq!(told(&policies), [2, 5, 7]);
    policies.note_served(id, 2);
    assert_eq!(told(&policies), [5, 7, 2], "it filled a call, the others come first");
    policies.note_served(id, 7);
    assert_eq!(told(&policies), [2, 5, 7]);
    policies.note_served(id, 6);
    assert_eq!(told(&policies), [7, 2, 5], "one that is gone by now");
}

/// One group fills call after call to the last place: the other is told all the same.
#[test]
fn a_group_that_fills_each_call_exactly_does_not_keep_the_other_waiting() {
    let mut world = super::script::World::new();
    world.line("queue orders");
    world.line("queue mail");
    world.line(&format!("bind hand chooser=0 hears=all deals ack=0 window={POLICY_BATCH_ROWS}"));
    world.line("ann: consume orders credit=100000");
    world.line("bob: consume mail credit=100000");
    let many = " a".repeat(6 * POLICY_BATCH_ROWS);
    world.line("hold stable");
    world.line(&format!("eve: publish orders{many}"));
    world.line("eve: publish mail b");
    world.seen.clear();
    world.line("free stable");
    let turns = world.seen.lines().filter(|line| line.contains("<- deliver"));
    let turns: Vec<&str> = turns.map(|line| &line[..3]).collect();
    let mail = turns.iter().position(|who| *who == "bob");
    assert!(mail.is_some_and(|at| at <= 2), "{turns:?}");
}
