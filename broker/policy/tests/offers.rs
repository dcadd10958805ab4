//! What policies are offered, used by one that uses it all: verdicts and edits,
//! delays, kv, metrics, log, the frozen clock, state and dispatching.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, OnceLock};

use common::{Bench, Messages, TestClock, counts, shown};
use weir_core::env::{Clock, Now};
use weir_core::policy::{
    Event, Failure, GroupInfo, Joining, Powers, ReadyMessage, Verdict, action, event,
};
use weir_policy::chain::PublishChain;
use weir_policy::component::Component;
use weir_policy::deliver_filter::WasmDeliveryFilter;
use weir_policy::delivery::WasmDelivery;
use weir_policy::filter::FilterBinding;
use weir_policy::judge::Judged;
use weir_policy::router::RouterBinding;
use weir_policy::setup::{FailureRule, Role, Setup, Stage};

/// Bytes in the component that choose whether answers are remembered.
const MEMO: &[u8] = b"weir-probe-memo";

fn built() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| common::guest_bytes("probe"))
}

fn probe(bench: &Bench, remembers: bool) -> Arc<Component> {
    let mut bytes = built().to_vec();
    let at = bytes.windows(MEMO.len()).position(|window| window == MEMO).unwrap();
    bytes[at + MEMO.len()] = if remembers { b'1' } else { b'0' };
    Component::load(&bench.engine, &bytes).unwrap()
}

fn route(
    bench: &Bench,
    setup: &Setup,
    remembers: bool,
    batches: &[&[(&str, &str)]],
) -> Vec<String> {
    let router = RouterBinding::new(probe(bench, remembers), setup.clone(), None).unwrap();
    let chain = PublishChain::new(Vec::new(), vec![Arc::new(router)], 1);
    let mut judged = Judged::default();
    let mut rows = Vec::new();
    for batch in batches {
        chain.judge(Messages::of(batch).input(bench.clock.now()), &mut judged);
        rows.extend(shown(&judged));
    }
    rows
}

fn filter(bench: &Bench, setup: &Setup, batch: &[(&str, &str)]) -> Vec<String> {
    let filter = FilterBinding::new(probe(bench, false), setup.clone(), None).unwrap();
    let chain = PublishChain::new(vec![Arc::new(filter)], Vec::new(), 1);
    let mut judged = Judged::default();
    chain.judge(Messages::of(batch).input(bench.clock.now()), &mut judged);
    shown(&judged)
}

#[test]
fn routes_fan_out_end_nowhere_and_come_later() {
    let bench = Bench::new(TestClock::manual(5));
    let setup = bench.setup(Role::Router, 1, "{}");
    let rows = route(
        &bench,
        &setup,
        false,
        &[&[("a", "to b a c"), ("a", "nowhere"), ("a", "later"), ("a", "to x..y"), ("a", "time")]],
    );
    assert_eq!(rows[0], "b [b=to b a c], a [as published], c [c=to b a c]");
    assert_eq!(rows[1], "");
    assert_eq!(rows[2], "a [as published] after 1500");
    assert!(rows[3].starts_with("refused PolicyFailed") && rows[3].contains("x..y"), "{}", rows[3]);
    assert_eq!(rows[4], "time.1700000000005.5000 [time.1700000000005.5000=time]");
}

#[test]
fn what_a_failed_call_wrote_is_forgotten() {
    let bench = Bench::new(TestClock::manual(0));
    let setup = bench.setup(Role::Router, 1, "{}");
    let rows =
        route(&bench, &setup, false, &[&[("a", "x"), ("a", "panic"), ("a", "y")], &[("a", "kv")]]);
    assert!(rows[1].contains("panicked: no such thing"), "the hook's line explains: {rows:?}");
    // Two rows got through one by one, and the asking row itself.
    assert_eq!(rows[3], "kv.3 [kv.3=kv]");
    assert_eq!(setup.metrics.snapshot()[0].value, 3.0);
    let counts = counts(&setup);
    assert_eq!((counts.rows, counts.failed_rows), (4, 1));
}

#[test]
fn kv_is_carried_over_generations() {
    let bench = Bench::new(TestClock::manual(0));
    let first = bench.setup(Role::Router, 1, "{}");
    route(&bench, &first, false, &[&[("a", "x"), ("a", "y")]]);
    let mut second = bench.setup(Role::Router, 2, "{}");
    second.kv = first.kv.clone();
    assert_eq!(route(&bench, &second, false, &[&[("a", "kv")]]), ["kv.3 [kv.3=kv]"]);
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let bench = Bench::new(TestClock::manual(0));
    let setup = bench.setup(Role::Router, 1, "{}");
    route(&bench, &setup, false, &[&[("a", "flood")]]);
    assert_eq!(setup.log.lines().len(), 50);
    assert_eq!(setup.log.dropped(), 950);
    assert_eq!(setup.log.lines()[0].message, "line 0");
    bench.clock.advance(1_000);
    route(&bench, &setup, false, &[&[("a", "flood")]]);
    assert_eq!(setup.log.lines().len(), 100, "the last ones are kept");
}

#[test]
fn the_last_failure_is_told_in_one_sentence() {
    let bench = Bench::new(TestClock::manual(0));
    let setup = bench.setup(Role::Router, 1, "{}");
    assert_eq!(setup.counters.last_failure(), None);
    route(&bench, &setup, false, &[&[("a", "panic")]]);
    let failure = setup.counters.last_failure().unwrap();
    assert!(failure.reason.starts_with("trapped: panicked: no such thing"), "{failure:?}");
    assert_eq!(failure.time_ms, bench.clock.now().wall_ms);

    // The call went well, and its answer could not be used.
    let mut setup = bench.setup(Role::Filter, 2, "{}");
    setup.powers.drop = false;
    filter(&bench, &setup, &[("a", "drop"), ("a", "keep")]);
    let failure = setup.counters.last_failure().unwrap();
    assert!(failure.reason.contains("needs the power \"drop\""), "{failure:?}");

    let mut setup = bench.setup(Role::Filter, 3, "{}");
    setup.powers.drop = false;
    let mut filter = WasmDeliveryFilter::new(probe(&bench, false), setup.clone()).unwrap();
    let messages = Messages::of(&[("a", "drop")]);
    filter.filter(0, &ready(&messages), &mut Vec::new());
    let failure = setup.counters.last_failure().unwrap();
    assert!(failure.reason.contains("needs the power \"drop\""), "{failure:?}");
}

#[test]
fn remembered_answers_may_not_look_at_the_clock() {
    let bench = Bench::new(TestClock::manual(0));
    let setup = bench.setup(Role::Router, 1, "{}");
    let batch: &[(&str, &str)] = &[("a", "1"), ("impure", "2"), ("a", "3")];
    let rows = route(&bench, &setup, true, &[batch, batch]);
    for (row, shown) in rows.iter().enumerate() {
        if row % 3 == 1 {
            assert!(shown.contains("memo-by"), "{rows:?}");
        } else {
            assert_eq!(shown, "same");
        }
    }
    let counts = counts(&setup);
    assert_eq!((counts.rows, counts.failed_rows), (6, 2));
    assert_eq!(counts.memo_hits, 3, "\"a\" was asked about once");
}

#[test]
fn filters_keep_drop_refuse_divert_and_edit() {
    let bench = Bench::new(TestClock::manual(0));
    let setup = bench.setup(Role::Filter, 6, "{}");
    let batch = [
        ("a", "keep"),
        ("a", "drop"),
        ("a", "refuse too heavy"),
        ("a", "refuse"),
        ("a", "divert too odd"),
        ("a", "edit changed"),
        ("a", "key k"),
        ("a", "headers nonsense"),
    ];
    let rows = filter(&bench, &setup, &batch);
    let expected = [
        "same",
        "dropped",
        "refused PolicyRefused by 6: too heavy",
        "refused PolicyRefused by 6: refused by tested",
        "to tested/dead: too odd [as published]",
        "a [a=changed]",
        "a [a=key k]",
    ];
    assert_eq!(rows[..7], expected);
    assert!(rows[7].starts_with("refused PolicyFailed by 6: answered with an edit"), "{}", rows[7]);
    let counts = counts(&setup);
    assert_eq!((counts.rows, counts.dropped_rows, counts.refused_rows), (8, 1, 2));
    assert_eq!((counts.diverted_rows, counts.failed_rows, counts.denied_rows), (1, 1, 0));
}

#[test]
fn verdicts_beyond_the_powers_meet_the_failure_rule() {
    let bench = Bench::new(TestClock::manual(0));
    let mut setup = bench.setup(Role::Filter, 1, "{}");
    setup.powers = Powers::default();
    setup.on_failure = FailureRule::Pass;
    let batch = [("a", "drop"), ("a", "divert x"), ("a", "edit y"), ("a", "refuse z")];
    let rows = filter(&bench, &setup, &batch);
    assert_eq!(rows[..3], ["same"; 3]);
    assert!(rows[3].starts_with("refused PolicyRefused"), "refusing needs no power");
    let counts = counts(&setup);
    assert_eq!((counts.denied_rows, counts.failed_rows, counts.dropped_rows), (3, 3, 0));
}

#[test]
fn routers_see_what_filters_made_of_a_message() {
    let bench = Bench::new(TestClock::manual(0));
    let component = probe(&bench, false);
    let edits = bench.setup(Role::Filter, 1, "{}");
    let filters = vec![Arc::new(FilterBinding::new(component.clone(), edits, None).unwrap())];
    let routes = bench.setup(Role::Router, 1, "{}");
    let routers = vec![Arc::new(RouterBinding::new(component, routes, None).unwrap())];
    let chain = PublishChain::new(filters, routers.clone(), 1);
    let mut judged = Judged::default();
    let batch = [("a", "edit to b"), ("a", "edit x"), ("a", "drop"), ("a", "divert edit")];
    chain.judge(Messages::of(&batch).input(bench.clock.now()), &mut judged);
    let expected = ["b [b=to b]", "a [a=x]", "dropped", "to tested/dead: edit [as published]"];
    assert_eq!(shown(&judged), expected);
    assert_eq!(counts(routers[0].setup()).rows, 2, "what is gone is not routed");
}

#[test]
fn a_deliver_filter_rewrites_under_the_same_subject() {
    let bench = Bench::new(TestClock::manual(0));
    let mut setup = bench.setup(Role::Filter, 3, "{}");
    setup.stage = Stage::Deliver;
    let mut filter = WasmDeliveryFilter::new(probe(&bench, false), setup).unwrap();
    let messages =
        Messages::of(&[("a", "edit new"), ("a", "drop"), ("a", "refuse"), ("a", "divert why")]);
    let mut verdicts = Vec::new();
    filter.filter(1, &ready(&messages), &mut verdicts);
    let Verdict::Rewrite(bytes) = &verdicts[0] else { panic!("{verdicts:?}") };
    let view = weir_message::View::of(bytes).unwrap();
    assert_eq!((view.subject, view.payload), ("a", &b"new"[..]));
    assert_eq!(verdicts[1..], [Verdict::Drop, Verdict::Drop, Verdict::Divert("why".into())]);
    assert_eq!(filter.generation().number, 3);
}

fn ready(messages: &Messages) -> Vec<ReadyMessage<'_>> {
    let row = |(at, parts): (usize, &weir_message::Parts)| ReadyMessage {
        bytes: &messages.buffer[parts.start as usize..parts.end as usize],
        offset: at as u64,
        time_ms: 5,
    };
    messages.parts.iter().enumerate().map(row).collect()
}

#[test]
fn a_delivery_policy_dispatches_and_hands_its_state_on() {
    let bench = Bench::new(TestClock::manual(0));
    let setup = bench.setup(Role::Delivery, 1, "{}");
    let mut policy = WasmDelivery::new(probe(&bench, false), setup).unwrap();
    let group = GroupInfo { id: 7, name: "q", subject: "q", options: "" };
    let plan = policy.open(0, &group).unwrap();
    assert_eq!((plan.chooser, plan.exhausted, plan.attempts), (0, 2, 3));
    assert!(plan.lease_ms > 0 && plan.window > 0, "0 means the broker's own");
    assert!(plan.retry_max_ms >= plan.retry_first_ms && plan.retry_growth >= 100);
    let consumer = |name| Joining { group: 7, id: 4, name, labels: "" };
    assert_eq!(policy.join(0, &consumer("unwelcome")), Err(Failure::Refused("not you".into())));
    policy.join(0, &consumer("welcome")).unwrap();
    let messages = Messages::of(&[("ab", "1"), ("abcd", "2")]);
    let events =
        [0, 1].map(|message| Event { kind: event::READY, group: 7, message, ..Event::default() });
    let mut actions = Vec::new();
    policy.step(0, &events, &ready(&messages), &mut actions).unwrap();
    let seen: Vec<_> = actions.iter().map(|a| (a.kind, a.consumer, a.message, a.code)).collect();
    assert_eq!(seen, [(action::DISPATCH, 4, 0, 2), (action::DISPATCH, 4, 1, 4)]);
    let (version, state) = policy.save(0).unwrap();
    let setup = bench.setup(Role::Delivery, 2, "{}");
    let counters = setup.counters.clone();
    let mut next = WasmDelivery::new(probe(&bench, false), setup).unwrap();
    assert!(matches!(next.load(0, 9, &state), Err(Failure::Refused(_))), "a format of the future");
    let failure = counters.last_failure().unwrap();
    assert!(failure.reason.contains("format 9 is not read, only 1 to 2"), "{failure:?}");
    next.load(0, version, &state).unwrap();
    actions.clear();
    next.step(0, &events[..1], &ready(&messages)[..1], &mut actions).unwrap();
    assert_eq!(actions[0].value, 2, "one call before, one now");
}

#[test]
fn state_that_is_not_handed_on_is_told() {
    let bench = Bench::new(TestClock::manual(0));
    let setup = bench.setup(Role::Delivery, 1, r#"{"save": "too much"}"#);
    let mut policy = WasmDelivery::new(probe(&bench, false), setup.clone()).unwrap();
    assert_eq!(policy.save(0), None);
    let failure = setup.counters.last_failure().unwrap();
    assert!(failure.reason.contains("4194305 bytes, at most 4194304"), "{failure:?}");
    assert_eq!((counts(&setup).failures, counts(&setup).traps), (1, 0));

    let setup = bench.setup(Role::Delivery, 2, "{}");
    let mut policy = WasmDelivery::new(probe(&bench, false), setup.clone()).unwrap();
    let refused = policy.load(0, 2, b"odd");
    assert!(matches!(refused, Err(Failure::Restarted(_))), "half of it may have been taken");
    let failure = setup.counters.last_failure().unwrap();
    assert!(failure.reason.contains("state is not eight bytes"), "{failure:?}");
    assert_eq!((counts(&setup).failures, counts(&setup).traps), (1, 0), "to refuse is no trap");
    assert_eq!(policy.classify(0, &["a"]).unwrap(), [0], "it goes on without");
}

#[test]
fn keeping_in_memory_needs_a_power_and_so_does_dropping() {
    let bench = Bench::new(TestClock::manual(0));
    let mut setup = bench.setup(Role::Delivery, 1, "{}");
    let component = probe(&bench, false);
    let mut granted = WasmDelivery::new(component.clone(), setup.clone()).unwrap();
    assert_eq!(granted.classify(0, &["a", "b"]).unwrap(), [0, 0]);
    setup.powers = Powers::default();
    let mut bare = WasmDelivery::new(component, setup).unwrap();
    assert_eq!(bare.classify(0, &["a", "b"]).unwrap(), [1, 1]);
    let group = GroupInfo { id: 1, name: "q", subject: "q", options: "" };
    assert_eq!(bare.open(0, &group).unwrap().exhausted, 0, "parked instead");
}

#[test]
fn time_is_the_callers() {
    let bench = Bench::new(TestClock::manual(0));
    let setup = bench.setup(Role::Router, 1, "{}");
    let router = RouterBinding::new(probe(&bench, false), setup, None).unwrap();
    let chain = PublishChain::new(Vec::new(), vec![Arc::new(router)], 1);
    let mut judged = Judged::default();
    let now = Now { steady_ms: 42, wall_ms: 99 };
    chain.judge(Messages::of(&[("a", "time")]).input(now), &mut judged);
    assert_eq!(shown(&judged), ["time.99.42000 [time.99.42000=time]"]);
}
