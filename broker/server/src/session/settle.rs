//! What a client says of its deliveries, on its way to the shard that gave them out.

use weir_core::command::{Command, RequestId, Settlement, Verb};
use weir_core::limits::PARTITIONS_MAX;
use weir_protocol::{self as wire, limits::CREDIT_MAX};

use super::{Ended, Session};

impl Session {
    pub(super) fn settle(&mut self, id: u32, body: &wire::Settle) -> Result<(), Ended> {
        let verb = match body.verb {
            wire::Verb::Ack => Verb::Ack,
            wire::Verb::Nack { delay_ms } => Verb::Nack { delay_ms, code: 0 },
            wire::Verb::Extend { by_ms } => Verb::Extend { by_ms },
            wire::Verb::Reject { code } => Verb::Reject { code },
        };
        let settlements = body
            .ranges
            .iter()
            .map(|range| Settlement { first: range.first, last: range.last, verb })
            .collect();
        self.steps += steps(body);
        let request = (id != 0).then_some(RequestId(id));
        let sent = self.ask_consumer(body.sub.0, |connection, subscription| Command::Settle {
            connection,
            subscription,
            request,
            settlements,
        });
        match sent {
            _ if id == 0 => {}
            Ok(()) => self.outbox.owe(),
            Err(error) => self.error(id, &error),
        }
        Ok(())
    }
}

/// What a settle frame costs a shard at most: see [`crate::limits::SETTLE_STEPS_MAX`].
fn steps(body: &wire::Settle) -> u64 {
    if body.ranges.is_empty() {
        return u64::from(PARTITIONS_MAX);
    }
    let wire::Verb::Extend { .. } = body.verb else { return 0 };
    let named = body.ranges.iter().map(|range| range.last.saturating_sub(range.first));
    let named = named.fold(body.ranges.len() as u64, u64::saturating_add);
    named.min(u64::from(CREDIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(verb: wire::Verb, ranges: &[(u64, u64)]) -> wire::Settle {
        let ranges = ranges.iter().map(|&(first, last)| wire::TagRange { first, last }).collect();
        wire::Settle { sub: wire::SubscriptionId(1), verb, ranges }
    }

    /// What can be said again and again counts as much as it may cost, whatever it names.
    #[test]
    fn only_what_costs_a_shard_again_is_a_step() {
        let extend = wire::Verb::Extend { by_ms: 1 };
        assert_eq!(steps(&frame(extend, &[(1, 1), (5, 9)])), 6);
        assert_eq!(steps(&frame(extend, &[(9, 5)])), 1, "nothing is named, and looked for");
        assert_eq!(steps(&frame(extend, &[(0, u64::MAX), (0, u64::MAX)])), u64::from(CREDIT_MAX));
        assert_eq!(steps(&frame(wire::Verb::Ack, &[(0, u64::MAX)])), 0);
        assert_eq!(steps(&frame(wire::Verb::Ack, &[])), u64::from(PARTITIONS_MAX));
    }
}
