//! Policies that loop, eat memory, panic or answer nonsense: what they cost, whom
//! they harm, and what is said about them.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Bench, Messages, TestClock, counts, shown};
use weir_core::env::Clock;
use weir_core::policy::{DeliveryPolicy, Failure, GroupInfo, ReadyMessage, Verdict};
use weir_guests::Guests;
use weir_policy::chain::{PublishChain, SubjectVerdict};
use weir_policy::component::Component;
use weir_policy::deliver_filter::WasmDeliveryFilter;
use weir_policy::delivery::WasmDelivery;
use weir_policy::error::LoadError;
use weir_policy::filter::FilterBinding;
use weir_policy::judge::Judged;
use weir_policy::router::RouterBinding;
use weir_policy::setup::{FailureRule, Role, Setup, Stage};

fn load(bench: &Bench, behaviour: &str) -> Result<Arc<Component>, LoadError> {
    Component::load(&bench.engine, &Guests::get().behaving(behaviour))
}

fn router(bench: &Bench, behaviour: &str, setup: Setup) -> Arc<RouterBinding> {
    Arc::new(RouterBinding::new(load(bench, behaviour).unwrap(), setup, None).unwrap())
}

/// Judges messages with these subjects through one router.
fn route(bench: &Bench, router: &Arc<RouterBinding>, subjects: &[&str]) -> Vec<String> {
    let chain = PublishChain::new(Vec::new(), vec![router.clone()], 1);
    let rows: Vec<(&str, &str)> = subjects.iter().map(|subject| (*subject, "x")).collect();
    let messages = Messages::of(&rows);
    let mut judged = Judged::default();
    chain.judge(messages.input(bench.clock.now()), &mut judged);
    shown(&judged)
}

#[test]
fn what_is_no_policy_is_refused_with_its_reason() {
    let bench = Bench::new(TestClock::running());
    let load = |bytes: &[u8]| Component::load(&bench.engine, bytes).unwrap_err();
    assert_eq!(load(b"hello"), LoadError::NotWasm);
    assert_eq!(load(b""), LoadError::NotWasm);
    assert_eq!(load(b"\0asm\x01\0\0\0"), LoadError::CoreModule);
    let good = Guests::get().behaving("identity");
    assert!(matches!(load(&good[..good.len() / 2]), LoadError::Compile(_)));
    let too_large = vec![0; weir_policy::limits::COMPONENT_BYTES_MAX + 1];
    assert!(matches!(load(&too_large), LoadError::TooLarge { .. }));
    let LoadError::Imports(offenders) = load(&Guests::get().wrong_import) else { panic!() };
    assert_eq!(offenders, ["secret"], "named, and nothing else is");
    let LoadError::Manifest(why) = super_load(&bench, "bad-manifest") else { panic!() };
    assert!(why.contains("Not A Name!"), "{why}");
    let LoadError::Describe(why) = super_load(&bench, "loop-describe") else { panic!() };
    assert!(why.contains("50 ms"), "{why}");
}

fn super_load(bench: &Bench, behaviour: &str) -> LoadError {
    load(bench, behaviour).unwrap_err()
}

/// Built against a contract whose functions had the same names and other types.
#[test]
fn a_policy_of_another_contract_is_told_what_to_do() {
    let bench = Bench::new(TestClock::running());
    for functions in [&["describe"][..], &["describe", "init", "check", "save", "load"]] {
        let exports = functions.iter().map(|name| format!(r#"(export "{name}" (func $seven))"#));
        let exports: String = exports.collect();
        let component = wat::parse_str(format!(
            r#"(component
                (core module $code (func (export "seven") (result i32) i32.const 7))
                (core instance $running (instantiate $code))
                (func $seven (result u32) (canon lift (core func $running "seven")))
                (instance $exports {exports})
                (export "weir:policy/lifecycle@0.1.0" (instance $exports))
                (export "weir:policy/dispatching@0.1.0" (instance $exports)))"#,
        ));
        let component = component.unwrap_or_else(|error| panic!("{error}"));
        let refused = Component::load(&bench.engine, &component).unwrap_err().to_string();
        assert!(refused.contains("made for another version: build it again"), "{refused}");
    }
}

#[test]
fn of_many_foreign_imports_the_first_are_named() {
    let bench = Bench::new(TestClock::running());
    let long = "s".repeat(300);
    let imports: String = (0..20).map(|n| format!(r#"(import "{long}{n}" (instance))"#)).collect();
    let component = wat::parse_str(format!("(component {imports})"));
    let component = component.unwrap_or_else(|error| panic!("{error}"));
    let refused = Component::load(&bench.engine, &component).unwrap_err();
    let LoadError::Imports(offenders) = &refused else { panic!("{refused}") };
    assert_eq!((offenders.len(), &*offenders[8]), (9, "and 12 more"));
    assert!(refused.to_string().len() < 2_000, "{refused}");
}

#[test]
fn what_cannot_start_is_refused_before_traffic() {
    let bench = Bench::new(TestClock::running());
    let try_out = |behaviour: &str| {
        let setup = bench.setup(Role::Router, 1, "{}");
        load(&bench, behaviour).unwrap().try_out(&setup)
    };
    assert_eq!(try_out("identity"), Ok(()));
    let refused = LoadError::Init("refuses to start, by order".into());
    assert_eq!(try_out("refuse-init"), Err(refused));
    assert!(matches!(try_out("panic-init"), Err(LoadError::Init(why)) if why.contains("trapped")));
    assert!(matches!(try_out("loop-init"), Err(LoadError::Init(why)) if why.contains("ran past")));
    assert_eq!(
        try_out("fail-check"),
        Err(LoadError::Check("fails its own check, by order".into()))
    );
    assert!(matches!(try_out("loop-check"), Err(LoadError::Check(_))));
    assert!(matches!(try_out("panic-check"), Err(LoadError::Check(_))));
}

#[test]
fn only_the_offending_rows_meet_the_failure_rule() {
    let bench = Bench::new(TestClock::manual(0));
    for behaviour in ["panic", "wrong-count", "bad-index", "recurse", "huge-answer"] {
        let told = format!("{behaviour}@poison");
        let router = router(&bench, &told, bench.setup(Role::Router, 7, "{}"));
        let subjects = ["a", "b", "poison.1", "c", "d", "e", "poison.2", "f"];
        let rows = route(&bench, &router, &subjects);
        for (subject, row) in subjects.iter().zip(&rows) {
            if subject.starts_with("poison") {
                assert!(row.starts_with("refused PolicyFailed by 7"), "{behaviour}: {rows:?}");
            } else {
                assert_eq!(row, "same", "{behaviour}: {rows:?}");
            }
        }
        let counts = counts(router.setup());
        assert_eq!((counts.rows, counts.failed_rows), (8, 2), "{behaviour}");
        assert_eq!(counts.traps, counts.failures, "{behaviour}: each ended its instance");
    }
}

#[test]
fn what_fails_only_in_company_is_answered_alone() {
    let bench = Bench::new(TestClock::manual(0));
    // Of one row, these ends cannot fall.
    let router = router(&bench, "falling-ends", bench.setup(Role::Router, 1, "{}"));
    assert_eq!(route(&bench, &router, &["a", "b", "c"]), ["same"; 3]);
    let counts = counts(router.setup());
    assert_eq!((counts.rows, counts.failed_rows, counts.traps), (3, 0, 2));
}

#[test]
fn an_answer_that_is_an_error_fails_the_whole_batch_at_once() {
    let bench = Bench::new(TestClock::manual(0));
    let router = router(&bench, "fail@poison", bench.setup(Role::Router, 1, "{}"));
    let rows = route(&bench, &router, &["a", "poison"]);
    assert!(rows.iter().all(|row| row.contains("fails by order")), "{rows:?}");
    let counts = counts(router.setup());
    assert_eq!((counts.calls, counts.failures, counts.traps), (1, 1, 0));
    assert_eq!(route(&bench, &router, &["a", "b"]), ["same", "same"]);
}

#[test]
fn a_loop_and_a_memory_eater_end_within_their_bounds() {
    let bench = Bench::new(TestClock::running());
    // Touching 64 MiB takes a while, so the eater gets the time to come so far.
    let cases = [("loop@poison", 20, "ran past its 20 ms"), ("eat-memory@poison", 500, "64 MiB")];
    for (behaviour, budget_ms, reason) in cases {
        let mut setup = bench.setup(Role::Router, 1, "{}");
        setup.limits.budget_ms = budget_ms;
        let router = router(&bench, behaviour, setup);
        let mut subjects = vec!["good"; 200];
        subjects[100] = "poison";
        let started = Instant::now();
        let rows = route(&bench, &router, &subjects);
        let took = started.elapsed();
        assert!(rows[100].contains(reason), "{behaviour}: {}", rows[100]);
        // A few budgets, on a machine that may be busy with other tests.
        assert!(took < Duration::from_millis(5_000), "{behaviour} took {took:?}");
        let bytes = counts(router.setup()).memory_bytes;
        assert!(bytes <= 64 << 20, "{behaviour} has {bytes} bytes");
        let good = rows.iter().filter(|row| *row == "same").count();
        let counts = counts(router.setup());
        assert_eq!(counts.failed_rows as usize + good, 200, "{behaviour}");
        assert_eq!(counts.rows, 200, "{behaviour}");
        assert_eq!(route(&bench, &router, &["good"]), ["same"], "{behaviour}: a fresh instance");
    }
}

#[test]
fn bad_targets_fail_their_row_only() {
    let bench = Bench::new(TestClock::manual(0));
    let router = router(&bench, "bad-utf8", bench.setup(Role::Router, 1, "{}"));
    let rows = route(&bench, &router, &["a", "b"]);
    assert!(rows.iter().all(|row| row.contains("not UTF-8")), "{rows:?}");
    assert_eq!(counts(router.setup()).traps, 0, "the answer as such is sound");
}

#[test]
fn while_a_generation_is_on_trial_the_last_good_one_stands_in() {
    let bench = Bench::new(TestClock::manual(1_000));
    let good = router(&bench, "identity", bench.setup(Role::Router, 1, "{}"));
    let bad = load(&bench, "panic@poison").unwrap();
    let setup = bench.setup(Role::Router, 2, "{}");
    let bad = Arc::new(RouterBinding::new(bad, setup, Some(good.clone())).unwrap());
    assert_eq!(route(&bench, &bad, &["a", "b"]), ["same", "same"]);
    for round in 1..=4u64 {
        assert_eq!(route(&bench, &bad, &["a", "poison"]), ["same", "same"], "no row is lost");
        assert_eq!(counts(good.setup()).rows, 2 * round, "all of the batch, by one generation");
        assert_eq!(counts(bad.setup()).rows, 2, "and it is counted there only");
    }
    let troubles = bench.troubles.lock().unwrap().clone();
    assert_eq!(troubles.len(), 1, "told once: {troubles:?}");
    assert!(troubles[0].probation && troubles[0].generation == 2);
    assert!(troubles[0].reason.contains("trapped"), "{}", troubles[0].reason);
    assert_eq!(counts(bad.setup()).calls, 4, "the fourth batch was not put before it");
}

#[test]
fn many_messages_of_one_bad_subject_are_one_failure() {
    let bench = Bench::new(TestClock::manual(1_000));
    let bad = load(&bench, "memo-panic@poison").unwrap();
    let router = RouterBinding::new(bad, bench.setup(Role::Router, 2, "{}"), None).unwrap();
    let router = Arc::new(router);
    let rows = route(&bench, &router, &["poison", "a", "poison", "a", "poison"]);
    assert_eq!((&*rows[1], &*rows[3]), ("same", "same"));
    for row in [0, 2, 4] {
        assert!(rows[row].starts_with("refused PolicyFailed by 2"), "{rows:?}");
    }
    let counts = counts(router.setup());
    assert_eq!((counts.rows, counts.failed_rows, counts.memo_hits), (5, 3, 1));
    assert_eq!(counts.calls, 3, "both subjects, then each alone; nobody asked again");
    assert!(bench.troubles.lock().unwrap().is_empty(), "one batch, one failure");

    let good = router_of(&bench, "memo-prefix@good");
    let bad = load(&bench, "memo-panic").unwrap();
    let setup = bench.setup(Role::Router, 2, "{}");
    let bad = Arc::new(RouterBinding::new(bad, setup, Some(good.clone())).unwrap());
    let rows = route(&bench, &bad, &["a", "a", "a"]);
    assert!(rows.iter().all(|row| row.starts_with("good.a")), "{rows:?}");
    let (good, bad) = (common::counts(good.setup()), common::counts(bad.setup()));
    assert_eq!((good.rows, bad.rows, bad.calls), (3, 0, 1), "counted where they were judged");

    let chain = PublishChain::new(Vec::new(), vec![router.clone()], 1);
    for _ in 0..5 {
        let route = chain.verdict_for_subject("poison");
        assert_eq!(route.verdict, SubjectVerdict::PerMessage);
    }
    assert!(bench.troubles.lock().unwrap().is_empty(), "questions are not weighed");
}

#[test]
fn a_stand_in_that_remembers_nothing_is_asked_about_each_row() {
    let bench = Bench::new(TestClock::manual(1_000));
    let on_trial = |good: Arc<RouterBinding>| {
        let bad = load(&bench, "memo-panic").unwrap();
        let setup = bench.setup(Role::Router, 2, "{}");
        Arc::new(RouterBinding::new(bad, setup, Some(good)).unwrap())
    };
    // Answers that a row keeps its subject leave nothing to be shared.
    let good = bench.router(&bench.guest("lean"), "{}");
    let bad = on_trial(good.clone());
    assert_eq!(route(&bench, &bad, &["a", "a", "b", "a"]), ["same"; 4]);
    assert_eq!((counts(good.setup()).rows, counts(bad.setup()).rows), (4, 0));
    assert_eq!(counts(bad.setup()).calls, 1, "what fails is not asked again");
    let chain = PublishChain::new(Vec::new(), vec![bad], 1);
    assert_eq!(chain.verdict_for_subject("a").verdict, SubjectVerdict::PerMessage);

    // And what it says of one row need not hold for the next of the same subject.
    let good = bench.router(&bench.guest("probe"), "{}");
    let chain = PublishChain::new(Vec::new(), vec![on_trial(good.clone())], 1);
    let messages = Messages::of(&[("a", "to b"), ("a", "to c"), ("a", "x"), ("a", "nowhere")]);
    let mut judged = Judged::default();
    chain.judge(messages.input(bench.clock.now()), &mut judged);
    assert_eq!(shown(&judged), ["b [b=to b]", "c [c=to c]", "same", ""]);
    assert_eq!(counts(good.setup()).rows, 4);
}

fn router_of(bench: &Bench, behaviour: &str) -> Arc<RouterBinding> {
    router(bench, behaviour, bench.setup(Role::Router, 1, "{}"))
}

#[test]
fn a_rows_own_subject_needs_no_name() {
    let bench = Bench::new(TestClock::manual(0));
    let router = router_of(&bench, "own");
    let rows = route(&bench, &router, &["a", "b"]);
    let late = "a [as published] after 1000";
    assert_eq!(rows[0], format!("a [as published], {late}"));
    assert_eq!(rows[1], "b [as published], a [a=x] after 1000");
}

#[test]
fn after_the_trial_the_breaker_keeps_calls_away_and_lets_them_in_again() {
    let bench = Bench::new(TestClock::manual(1_000));
    let good = router(&bench, "identity", bench.setup(Role::Router, 1, "{}"));
    let setup = bench.setup(Role::Router, 2, "{}");
    let component = load(&bench, "panic@poison").unwrap();
    let router = Arc::new(RouterBinding::new(component, setup, Some(good.clone())).unwrap());
    bench.clock.advance(10_000);
    for _ in 0..3 {
        let rows = route(&bench, &router, &["a", "poison"]);
        assert_eq!(rows[0], "same");
        assert!(rows[1].starts_with("refused"), "{rows:?}");
    }
    assert_eq!(counts(good.setup()).rows, 0, "its time is over");
    assert!(router.is_open(bench.clock.now().steady_ms));
    let calls = counts(router.setup()).calls;
    let rows = route(&bench, &router, &["a"]);
    assert!(rows[0].contains("not called for a while"), "{rows:?}");
    assert_eq!(counts(router.setup()).calls, calls);
    assert_eq!(bench.troubles.lock().unwrap().len(), 1);
    bench.clock.advance(1_000);
    assert_eq!(route(&bench, &router, &["a"]), ["same"]);
}

#[test]
fn filters_are_halved_as_routers_are() {
    let bench = Bench::new(TestClock::manual(0));
    for behaviour in ["panic", "wrong-count", "unknown-codes", "bad-index", "falling-ends"] {
        for (rule, expected) in [(FailureRule::Refuse, "refused"), (FailureRule::Pass, "same")] {
            let component = load(&bench, &format!("{behaviour}@poison")).unwrap();
            let mut setup = bench.setup(Role::Filter, 1, "{}");
            setup.on_failure = rule;
            let filter = Arc::new(FilterBinding::new(component, setup, None).unwrap());
            let chain = PublishChain::new(vec![filter.clone()], Vec::new(), 1);
            let messages = Messages::of(&[("a", ""), ("poison", ""), ("b", ""), ("c", "")]);
            let mut judged = Judged::default();
            chain.judge(messages.input(bench.clock.now()), &mut judged);
            let rows = shown(&judged);
            assert!(rows[1].starts_with(expected), "{behaviour}: {rows:?}");
            assert_eq!([&rows[0], &rows[2], &rows[3]], ["same"; 3], "{behaviour}");
            assert_eq!(counts(filter.setup()).rows, 4, "{behaviour}");
        }
    }
}

#[test]
fn a_deliver_filter_that_fails_holds_the_message_and_passes_the_others() {
    let bench = Bench::new(TestClock::manual(0));
    let messages = Messages::of(&[("a", "1"), ("poison", "2"), ("b", "3")]);
    let ready: Vec<ReadyMessage<'_>> = messages
        .parts
        .iter()
        .enumerate()
        .map(|(at, parts)| ReadyMessage {
            bytes: &messages.buffer[parts.start as usize..parts.end as usize],
            offset: at as u64,
            time_ms: 5,
        })
        .collect();
    for (rule, expected) in [(FailureRule::Hold, Verdict::Hold), (FailureRule::Pass, Verdict::Keep)]
    {
        let mut setup = bench.setup(Role::Filter, 1, "{}");
        setup.stage = Stage::Deliver;
        setup.on_failure = rule;
        let component = load(&bench, "panic@poison").unwrap();
        let mut filter = WasmDeliveryFilter::new(component, setup).unwrap();
        let mut verdicts = Vec::new();
        filter.filter(1, &ready, &mut verdicts);
        assert_eq!(verdicts, [Verdict::Keep, expected, Verdict::Keep]);
    }
}

#[test]
fn a_delivery_policy_is_restarted_and_then_given_up() {
    let clock = TestClock::manual(0);
    let bench = Bench::new(clock.clone());
    let start = |behaviour: &str| -> Box<dyn DeliveryPolicy> {
        let component = load(&bench, behaviour).unwrap();
        WasmDelivery::new(component, bench.setup(Role::Delivery, 1, "{}")).unwrap()
    };
    let group = GroupInfo { id: 1, name: "q", subject: "q", options: "" };
    let mut policy = start("panic");
    assert!(policy.open(0, &group).is_ok());
    let mut actions = Vec::new();
    let mut step = |policy: &mut dyn DeliveryPolicy| policy.step(0, &[], &[], &mut actions);
    assert!(matches!(step(&mut *policy), Err(Failure::Restarted(why)) if why.contains("trapped")));
    assert!(matches!(step(&mut *policy), Err(Failure::Restarted(_))));
    clock.advance(10_001);
    assert!(matches!(step(&mut *policy), Err(Failure::Restarted(_))), "failures grow old");
    assert!(policy.open(0, &group).is_ok(), "a fresh instance stands ready");
    assert!(matches!(step(&mut *policy), Err(Failure::Restarted(_))));
    assert!(matches!(step(&mut *policy), Err(Failure::Broken(_))));
    assert!(matches!(step(&mut *policy), Err(Failure::Broken(_))));

    let mut policy = start("fail");
    for _ in 0..5 {
        assert_eq!(step(&mut *policy), Err(Failure::Refused("fails by order".into())));
    }
    let mut policy = start("huge-answer");
    assert!(matches!(step(&mut *policy), Err(Failure::Restarted(_))), "past its output");
    let mut policy = start("wrong-count");
    assert!(
        matches!(step(&mut *policy), Err(Failure::Restarted(why)) if why.contains("0 messages"))
    );
    assert!(actions.is_empty(), "no wish of a call that failed counts");
    let mut policy = start("unknown-codes");
    assert!(
        matches!(policy.open(0, &group), Err(Failure::Restarted(why)) if why.contains("chooser"))
    );
    assert!(matches!(policy.classify(0, &["a"]), Err(Failure::Restarted(_))));
}
