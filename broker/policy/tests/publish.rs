//! The publish stage with the shipped components: routing, remembering, counting.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Bench, Messages, TestClock, counts, shown};
use weir_core::env::Clock;
use weir_core::name::Pattern;
use weir_core::policy::Powers;
use weir_policy::chain::{PublishChain, SubjectVerdict};
use weir_policy::judge::Judged;
use weir_policy::router::RouterBinding;
use weir_policy::setup::{FailureRule, Role};

const TABLE: &str = r#"{"rules": [
    {"pattern": "orders.*.created", "to": ["billing.{1}", "{$subject}"]},
    {"pattern": "orders.>", "to": "archive.{>}"},
    {"pattern": "noise.>", "to": []}
]}"#;

fn judge(chain: &PublishChain, clock: &TestClock, messages: &[(&str, &str)]) -> Vec<String> {
    let messages = Messages::of(messages);
    let mut judged = Judged::default();
    chain.judge(messages.input(clock.now()), &mut judged);
    assert_eq!(judged.generation(), chain.generation());
    shown(&judged)
}

#[test]
fn a_chain_of_nothing_leaves_everything_as_it_is() {
    let chain = PublishChain::default();
    let clock = TestClock::manual(0);
    assert_eq!(judge(&chain, &clock, &[("a", "1"), ("b.c", "2")]), ["same", "same"]);
}

#[test]
fn a_router_sends_copies_under_their_new_subjects() {
    let bench = Bench::new(TestClock::manual(0));
    let router = bench.router(&bench.shipped("subject-router"), TABLE);
    let chain = PublishChain::new(Vec::new(), vec![router.clone()], 3);
    let batch = [
        ("orders.eu.created", "1"),
        ("orders.eu.paid", "2"),
        ("noise.x", "3"),
        ("other", "4"),
        ("orders.eu.created", "5"),
        ("_inbox.7.x", "6"),
    ];
    let expected = [
        "billing.eu [billing.eu=1], orders.eu.created [as published]",
        "archive.eu.paid [archive.eu.paid=2]",
        "",
        "same",
        "billing.eu [billing.eu=5], orders.eu.created [as published]",
        "same",
    ];
    for _ in 0..3 {
        assert_eq!(judge(&chain, &bench.clock, &batch), expected);
    }
    let counts = counts(router.setup());
    assert_eq!(counts.calls, 1, "asked once per subject, all in one call");
    assert_eq!(counts.rows, 15, "replies are nobody's business");
    assert_eq!(counts.memo_hits, 15 - 4);
}

#[test]
fn copies_for_one_target_lie_in_one_run() {
    let bench = Bench::new(TestClock::manual(0));
    let table = r#"{"rules": [{"pattern": "a.>", "to": "x"}, {"pattern": "b.>", "to": "y"}]}"#;
    let router = bench.router(&bench.shipped("subject-router"), table);
    let chain = PublishChain::new(Vec::new(), vec![router], 1);
    let messages = Messages::of(&[("a.1", "1"), ("b.1", "2"), ("a.2", "3"), ("b.2", "4")]);
    let mut judged = Judged::default();
    chain.judge(messages.input(bench.clock.now()), &mut judged);
    let subjects: Vec<String> = {
        let batch = weir_message::Batch::from_bytes(judged.rewritten().to_vec().into()).unwrap();
        (0..batch.len()).map(|row| batch.view(row).subject.to_owned()).collect()
    };
    assert_eq!(subjects, ["x", "x", "y", "y"]);
    assert_eq!(shown(&judged), ["x [x=1]", "y [y=2]", "x [x=3]", "y [y=4]"]);
}

#[test]
fn the_first_router_that_applies_decides_alone() {
    let bench = Bench::new(TestClock::manual(0));
    let component = bench.shipped("subject-router");
    let router = |name: &str, order: i32, scope: &str, to: &str| {
        let config = format!(r#"{{"rules": [{{"pattern": ">", "to": "{to}"}}]}}"#);
        let mut setup = bench.setup(Role::Router, 1, &config);
        setup.binding = name.into();
        setup.order = order;
        setup.subjects = vec![Pattern::parse(scope).unwrap()];
        Arc::new(RouterBinding::new(component.clone(), setup, None).unwrap())
    };
    let routers = vec![
        router("rest", 1_000, ">", "rest"),
        router("b-orders", 5, "orders.>", "second"),
        router("a-orders", 5, "orders.>", "rest.x"),
    ];
    let chain = PublishChain::new(Vec::new(), routers.clone(), 1);
    let shown = judge(&chain, &bench.clock, &[("orders.1", "1"), ("mail", "2")]);
    assert_eq!(shown, ["rest.x [rest.x=1]", "rest [rest=2]"], "and its targets are final");
    assert_eq!(counts(routers[1].setup()).rows, 0);
}

#[test]
fn leaving_the_scope_needs_a_power() {
    let bench = Bench::new(TestClock::manual(0));
    let component = bench.shipped("subject-router");
    let table = r#"{"rules": [
        {"pattern": "flights.late", "to": "delayed.long"},
        {"pattern": "flights.early", "to": "flights.fast"}
    ]}"#;
    let batch = [("flights.late", "1"), ("flights.early", "2"), ("flights.x", "3")];
    let run = |retarget: bool, rule: FailureRule| {
        let mut setup = bench.setup(Role::Router, 4, table);
        setup.subjects = vec![Pattern::parse("flights.>").unwrap()];
        setup.powers = Powers { retarget, ..Powers::default() };
        setup.on_failure = rule;
        let router = Arc::new(RouterBinding::new(component.clone(), setup, None).unwrap());
        let chain = PublishChain::new(Vec::new(), vec![router.clone()], 1);
        (judge(&chain, &bench.clock, &batch), counts(router.setup()))
    };
    let (rows, counted) = run(true, FailureRule::Refuse);
    assert_eq!(rows[0], "delayed.long [delayed.long=1]");
    assert_eq!((counted.failed_rows, counted.denied_rows), (0, 0));
    let (rows, counted) = run(false, FailureRule::Refuse);
    assert!(rows[0].starts_with("refused PolicyFailed by 4"), "{rows:?}");
    assert!(rows[0].contains("\"delayed.long\"") && rows[0].contains("retarget"), "{rows:?}");
    assert_eq!(rows[1..], ["flights.fast [flights.fast=2]", "same"]);
    assert_eq!((counted.rows, counted.failed_rows, counted.denied_rows), (3, 1, 1));
    assert_eq!(run(false, FailureRule::Pass).0[0], "same");
    let held = &run(false, FailureRule::Hold).0[0];
    assert!(held.starts_with("to tested/held: ") && held.ends_with("[as published]"), "{held}");
}

/// What the SDK answers then has to be what this broker fails one message for.
#[test]
fn a_message_for_too_many_targets_fails_alone() {
    let bench = Bench::new(TestClock::manual(0));
    let many = vec![r#"{"pattern": "many", "to": "a"}"#; 257].join(", ");
    let table =
        format!(r#"{{"match": "all", "rules": [{many}, {{"pattern": "one", "to": "b"}}]}}"#);
    let router = bench.router(&bench.shipped("subject-router"), &table);
    let chain = PublishChain::new(Vec::new(), vec![router.clone()], 1);
    let batch = [("one", "1"), ("many", "2"), ("other", "3"), ("many", "4")];
    let rows = judge(&chain, &bench.clock, &batch);
    assert!(rows[1].starts_with("refused PolicyFailed by 1: "), "{rows:?}");
    assert!(rows[1].contains("more than 256 targets"), "{rows:?}");
    assert_eq!([&*rows[0], &*rows[2], &*rows[3]], ["b [b=1]", "same", &*rows[1]]);
    let counts = counts(router.setup());
    assert_eq!((counts.calls, counts.rows, counts.failed_rows), (1, 4, 2));
}

#[test]
fn a_session_may_keep_the_verdict_of_a_subject() {
    let bench = Bench::new(TestClock::manual(0));
    let router = bench.router(&bench.shipped("subject-router"), TABLE);
    let chain = PublishChain::new(Vec::new(), vec![router.clone()], 1);
    let verdict = |subject: &str| chain.verdict_for_subject(subject).verdict;
    assert_eq!(verdict("other"), SubjectVerdict::Identity);
    assert_eq!(verdict("_inbox.1"), SubjectVerdict::Identity);
    let SubjectVerdict::Targets(targets) = verdict("orders.eu.created") else { panic!() };
    assert_eq!(
        targets.iter().map(|t| &**t).collect::<Vec<_>>(),
        ["billing.eu", "orders.eu.created"]
    );
    assert_eq!(counts(router.setup()).rows, 0, "a question is no message");
    let calls = counts(router.setup()).calls;
    chain.verdict_for_subject("orders.eu.created").count(7);
    let counts = counts(router.setup());
    assert_eq!((counts.calls, counts.rows, counts.memo_hits), (calls, 7, 7));
}

#[test]
fn judging_from_many_threads_counts_every_row_once() {
    let bench = Bench::new(TestClock::manual(0));
    let router = bench.router(&bench.shipped("subject-router"), TABLE);
    let chain = PublishChain::new(Vec::new(), vec![router.clone()], 1);
    let clock = bench.clock.clone();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (chain, clock) = (&chain, &clock);
            scope.spawn(move || {
                for n in 0..100 {
                    let subject = format!("orders.{thread}.{n}");
                    let rows = judge(chain, clock, &[(&subject, "x"), ("noise.1", "y")]);
                    assert_eq!(
                        rows,
                        [format!("archive.{thread}.{n} [archive.{thread}.{n}=x]"), String::new()]
                    );
                }
            });
        }
    });
    assert_eq!(counts(router.setup()).rows, 800);
}
