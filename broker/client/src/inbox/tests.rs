//! Settlements: what is joined, cut and void before the writer takes it.

use super::*;

fn ranges(pairs: &[(u64, u64)]) -> Vec<TagRange> {
    pairs.iter().map(|&(first, last)| TagRange { first, last }).collect()
}

fn consumer() -> Arc<Inbox> {
    let shared = Arc::new(Shared::new(crate::ConnectOptions::default()));
    let source = Source::Consumer(Consume::default());
    Arc::new(Inbox::new(SubscriptionId(1), source, 0, &shared))
}

#[test]
fn acks_in_any_order_become_few_ranges() {
    let inbox = consumer();
    for tag in (1..=1000).rev().filter(|tag| tag % 500 != 0) {
        inbox.settle(0, Verb::Ack, [TagRun { first: tag, count: 1 }]);
    }
    inbox.settle(0, Verb::Nack { delay_ms: 5 }, [TagRun { first: 500, count: 1 }]);
    assert_eq!(
        inbox.take_settlements(),
        vec![
            (Verb::Ack, ranges(&[(1, 499), (501, 999)])),
            (Verb::Nack { delay_ms: 5 }, ranges(&[(500, 500)])),
        ]
    );
    assert!(inbox.take_settlements().is_empty());
}

#[test]
fn settlements_of_a_lost_connection_are_void() {
    let inbox = consumer();
    inbox.settle(0, Verb::Ack, [TagRun { first: 1, count: 4 }]);
    inbox.connection_lost();
    assert!(inbox.take_settlements().is_empty());
    inbox.settle(0, Verb::Ack, [TagRun { first: 5, count: 1 }]);
    assert!(inbox.take_settlements().is_empty());
    inbox.settle(1, Verb::Ack, [TagRun { first: 1, count: 1 }]);
    assert_eq!(inbox.take_settlements(), vec![(Verb::Ack, ranges(&[(1, 1)]))]);
}

#[test]
fn what_the_broker_would_hang_up_over_is_cut_to_the_protocols_limits() {
    let inbox = consumer();
    inbox.settle(0, Verb::Nack { delay_ms: u32::MAX }, [TagRun { first: 1, count: 1 }]);
    inbox.settle(0, Verb::Extend { by_ms: u32::MAX }, [TagRun { first: 2, count: 1 }]);
    assert_eq!(
        inbox.take_settlements(),
        vec![
            (Verb::Nack { delay_ms: DELAY_MS_MAX }, ranges(&[(1, 1)])),
            (Verb::Extend { by_ms: DELAY_MS_MAX }, ranges(&[(2, 2)])),
        ]
    );
}

#[test]
fn tag_zero_is_never_settled() {
    let inbox = consumer();
    inbox.settle(0, Verb::Ack, [TagRun { first: 0, count: 3 }]);
    assert!(inbox.take_settlements().is_empty());
}

#[test]
fn many_ranges_are_split_into_frames() {
    let inbox = consumer();
    for index in 0..SETTLE_RANGES_MAX as u64 + 1 {
        inbox.settle(0, Verb::Ack, [TagRun { first: 1 + 2 * index, count: 1 }]);
    }
    let lengths: Vec<_> = inbox.take_settlements().iter().map(|(_, ranges)| ranges.len()).collect();
    assert_eq!(lengths, vec![SETTLE_RANGES_MAX, 1]);
}

#[test]
fn an_extension_leaves_in_its_place() {
    let inbox = consumer();
    let extend = Verb::Extend { by_ms: 0 };
    let settlements =
        [(Verb::Ack, 1), (extend, 2), (extend, 3), (Verb::Ack, 2), (Verb::Ack, 1), (extend, 4)];
    for (verb, first) in settlements {
        inbox.settle(0, verb, [TagRun { first, count: 1 }]);
    }
    assert_eq!(
        inbox.take_settlements(),
        vec![
            (Verb::Ack, ranges(&[(1, 1)])),
            (extend, ranges(&[(2, 3)])),
            (Verb::Ack, ranges(&[(1, 2)])),
            (extend, ranges(&[(4, 4)])),
        ]
    );
}
