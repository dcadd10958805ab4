//! Handing over: picked messages become runs in the hands of consumers.
//!
//! Deliver-stage filters are asked here, last, so that they judge what a
//! consumer is about to get and nothing else.

use bytes::Bytes;

use super::consumer::{ConsumerId, Delivery};
use super::slot::{Fate, MessageId, offset_of, partition_of};
use super::{Group, Io, Pick};
use crate::effect::{Effect, Reply, Run};
use crate::limits;
use crate::policy::{ReadyMessage, Verdict};

/// How long a message waits that a filter wants to be asked about again, ms.
const HOLD_MS: u64 = 1_000;

/// A picked message with its body.
struct Judged {
    pick: Pick,
    time_ms: u64,
    bytes: Bytes,
    verdict: Verdict,
}

impl Group {
    /// Hands over what was picked, in that order.
    pub(super) fn deliver(&mut self, io: &mut Io<'_>, picks: &[Pick]) {
        if self.filters.is_empty() {
            self.deliver_all(io, picks);
        } else {
            for some in picks.chunks(limits::POLICY_BATCH_ROWS) {
                self.deliver_judged(io, some);
            }
        }
        self.send(io);
    }

    fn deliver_all(&mut self, io: &mut Io<'_>, picks: &[Pick]) {
        let mut at = 0;
        while at < picks.len() {
            let pick = picks[at];
            let part = &self.parts[partition_of(pick.message)];
            let found = match io.reader.find(io.store, part.log, offset_of(pick.message)) {
                Ok(Some(found)) => found,
                Ok(None) | Err(_) => {
                    self.lose_picked(io.now.steady_ms, pick);
                    at += 1;
                    continue;
                }
            };
            let records = io.reader.piece(found);
            let left = records.batch.len() - found.row;
            let rest = picks[at + 1..].iter().zip(1..left as u64);
            let count = 1 + rest.take_while(|(next, k)| follows(&pick, next, *k)).count();
            let from = records.batch.start(found.row);
            let to = records.batch.ends[found.row + count - 1] as usize;
            let bytes = records.batch.bytes.slice(from..to);
            let time_ms = records.time_ms;
            self.hand_over(io.now.steady_ms, &picks[at..at + count], time_ms, bytes);
            at += count;
        }
    }

    /// Hands neighbours to one consumer, as one run.
    fn hand_over(&mut self, now_ms: u64, picks: &[Pick], time_ms: u64, bytes: Bytes) {
        let first = picks[0];
        let settles = self.plan.ack == 0;
        let expires_ms = match first.lease_ms {
            _ if settles => u64::MAX,
            lease_ms => now_ms + u64::from(lease_ms).min(limits::TIMER_MS_MAX),
        };
        let consumer = self.consumers.get_mut(&first.consumer).expect("a picked consumer exists");
        if consumer.outgoing.is_empty() {
            self.touched.push(first.consumer);
        }
        let tag = consumer.deliveries.next();
        for pick in picks {
            let Pick { message, bytes, attempts, pulled, .. } = *pick;
            consumer.hand_over(Delivery { message, expires_ms, bytes, attempts, pulled });
        }
        consumer.outgoing.push(Run {
            tag,
            partition: partition_of(first.message) as u16,
            offset: offset_of(first.message),
            time_ms,
            attempt: first.attempts.saturating_add(1),
            count: picks.len() as u32,
            bytes,
        });
        if !settles && expires_ms < consumer.check_ms {
            self.lease_checks.remove(&(consumer.check_ms, first.consumer));
            consumer.check_ms = expires_ms;
            self.lease_checks.insert((expires_ms, first.consumer));
        }
        self.counters.delivered += picks.len() as u64;
        if first.attempts > 0 {
            self.counters.redelivered += picks.len() as u64;
        }
        if settles {
            for pick in picks {
                self.counters.acked += 1;
                self.end_copy(now_ms, pick.message, Fate::Settled, "");
            }
        }
    }

    /// Asks the filters, hands over what they let pass.
    fn deliver_judged(&mut self, io: &mut Io<'_>, picks: &[Pick]) {
        let judged = self.judge(io, picks);
        let now_ms = io.now.steady_ms;
        let mut at = 0;
        while at < judged.len() {
            let Judged { pick, time_ms, verdict, .. } = &judged[at];
            match verdict {
                Verdict::Keep => {
                    let rest = judged[at + 1..].iter().zip(1..);
                    let together = rest.take_while(|(next, k)| {
                        matches!(next.verdict, Verdict::Keep)
                            && next.time_ms == *time_ms
                            && follows(pick, &next.pick, *k)
                            && lies_behind(&judged[at + *k as usize - 1].bytes, &next.bytes)
                    });
                    let count = 1 + together.count();
                    let run: Vec<Pick> = judged[at..at + count].iter().map(|j| j.pick).collect();
                    let bytes = joined(&judged[at..at + count]);
                    self.hand_over(now_ms, &run, *time_ms, bytes);
                    at += count;
                    continue;
                }
                Verdict::Rewrite(changed) => {
                    let changed = Bytes::copy_from_slice(changed);
                    let grown = (changed.len() as u64).saturating_sub(u64::from(pick.bytes));
                    if let Some(consumer) = self.consumers.get(&pick.consumer) {
                        consumer.line.take(grown);
                    }
                    self.hand_over(now_ms, &[*pick], *time_ms, changed);
                }
                Verdict::Drop => {
                    self.withdraw(now_ms, pick);
                    self.counters.dropped += 1;
                    self.end_copy(now_ms, pick.message, Fate::Settled, "");
                }
                Verdict::Divert(reason) => {
                    self.withdraw(now_ms, pick);
                    self.end_copy(now_ms, pick.message, Fate::Dead, reason);
                }
                Verdict::Hold => {
                    self.withdraw(now_ms, pick);
                    self.try_later(now_ms, pick.message, pick.consumer, HOLD_MS);
                }
            }
            at += 1;
        }
    }

    fn judge(&mut self, io: &mut Io<'_>, picks: &[Pick]) -> Vec<Judged> {
        let mut judged = Vec::with_capacity(picks.len());
        for pick in picks {
            let log = self.parts[partition_of(pick.message)].log;
            let Ok(Some(found)) = io.reader.find(io.store, log, offset_of(pick.message)) else {
                self.lose_picked(io.now.steady_ms, *pick);
                continue;
            };
            let records = io.reader.piece(found);
            let (from, to) = (records.batch.start(found.row), records.batch.ends[found.row]);
            let bytes = records.batch.bytes.slice(from..to as usize);
            let time_ms = records.time_ms;
            judged.push(Judged { pick: *pick, time_ms, bytes, verdict: Verdict::Keep });
        }
        for &filter in &self.filters {
            let open =
                |one: &&mut Judged| matches!(one.verdict, Verdict::Keep | Verdict::Rewrite(_));
            let rows: Vec<ReadyMessage<'_>> = judged
                .iter()
                .filter(|one| matches!(one.verdict, Verdict::Keep | Verdict::Rewrite(_)))
                .map(|one| ReadyMessage {
                    bytes: match &one.verdict {
                        Verdict::Rewrite(changed) => changed,
                        _ => &one.bytes,
                    },
                    offset: offset_of(one.pick.message),
                    time_ms: one.time_ms,
                })
                .collect();
            let verdicts = io.filters.ask(filter, io.now.wall_ms, &rows);
            for (one, verdict) in judged.iter_mut().filter(open).zip(verdicts) {
                if !matches!(verdict, Verdict::Keep) {
                    one.verdict = verdict;
                }
            }
        }
        judged
    }

    /// The consumer does not get it after all: its room is there again.
    fn withdraw(&mut self, now_ms: u64, pick: &Pick) {
        let id = pick.consumer;
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.release(pick.bytes, pick.pulled);
        self.tell_credit(id, u32::from(!pick.pulled));
        self.open(now_ms, id);
    }

    fn lose_picked(&mut self, now_ms: u64, pick: Pick) {
        self.withdraw(now_ms, &pick);
        self.lose(now_ms, pick.message);
    }

    /// The store has no such message any more: counted, and told to the policy.
    pub(crate) fn lose(&mut self, now_ms: u64, message: MessageId) {
        if let Some(slot) = self.slot(message) {
            // What compaction has released it has counted.
            self.lost += u64::from(!slot.released);
            self.gone(now_ms, message);
        }
    }

    /// Turns what was handed over into effects.
    fn send(&mut self, io: &mut Io<'_>) {
        for id in std::mem::take(&mut self.touched) {
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            io.effects.push(Effect::Deliver {
                connection: consumer.connection,
                subscription: consumer.subscription,
                runs: std::mem::take(&mut consumer.outgoing),
            });
            self.answer_pulls(io.now.steady_ms, id, false, io.effects);
        }
    }

    /// Answers the pulls of a consumer that are full or out of time.
    pub(super) fn answer_pulls(
        &mut self,
        now_ms: u64,
        id: ConsumerId,
        timed: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let connection = consumer.connection;
        let pull_ends = &mut self.pull_ends;
        consumer.pulls.retain(|pull| {
            let over = pull.left == 0 || timed && pull.until_ms <= now_ms;
            if over {
                pull_ends.remove(&(pull.until_ms, id));
                let done = u64::from(pull.max - pull.left);
                let reply = Reply::Count { done, unknown: 0 };
                effects.push(Effect::Reply { connection, request: pull.request, reply });
            }
            !over
        });
        for pull in &consumer.pulls {
            pull_ends.insert((pull.until_ms, id));
        }
    }
}

/// Whether `next` is the message `k` after `pick` for the same consumer, with
/// the same facts.
fn follows(pick: &Pick, next: &Pick, k: u64) -> bool {
    next.message == pick.message + k
        && next.consumer == pick.consumer
        && next.attempts == pick.attempts
        && next.lease_ms == pick.lease_ms
}

/// Whether `next` starts where `bytes` ends, in the same buffer.
fn lies_behind(bytes: &Bytes, next: &Bytes) -> bool {
    bytes.as_ptr_range().end == next.as_ptr()
}

/// Neighbouring bodies as one buffer.
fn joined(judged: &[Judged]) -> Bytes {
    if let [one] = judged {
        return one.bytes.clone();
    }
    let mut all = Vec::with_capacity(judged.iter().map(|one| one.bytes.len()).sum());
    judged.iter().for_each(|one| all.extend_from_slice(&one.bytes));
    all.into()
}
