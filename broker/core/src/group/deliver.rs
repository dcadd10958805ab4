//! Handing over: picked messages become runs in the hands of consumers.
//!
//! Deliver-stage filters are asked here, last, so that they judge what a
//! consumer is about to get and nothing else.

use std::ops::Range;

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
            let mut singles = Vec::new();
            for &pick in picks {
                let mut next = Some(pick);
                while let Some(pick) = next {
                    singles.push(Pick { count: 1, ..pick });
                    next = self.rest_of(&pick, 1);
                }
            }
            for some in singles.chunks(limits::POLICY_BATCH_ROWS) {
                self.deliver_judged(io, some);
            }
        }
        self.send(io);
    }

    /// What is left of a pick behind its first `count` messages.
    fn rest_of(&self, pick: &Pick, count: u32) -> Option<Pick> {
        if count >= pick.count {
            return None;
        }
        let message = pick.message + u64::from(count);
        let bytes = self.slot(message).expect("a picked message is live").bytes;
        Some(Pick { message, count: pick.count - count, bytes, ..*pick })
    }

    fn deliver_all(&mut self, io: &mut Io<'_>, picks: &[Pick]) {
        let mut picks = picks.iter().copied().peekable();
        let mut left = None;
        while let Some(mut pick) = left.take().or_else(|| picks.next()) {
            let part = &self.parts[partition_of(pick.message)];
            let found = match io.reader.find(io.store, part.log, offset_of(pick.message)) {
                Ok(Some(found)) => found,
                Ok(None) | Err(_) => {
                    left = self.rest_of(&pick, 1);
                    self.lose_picked(io.now.steady_ms, Pick { count: 1, ..pick });
                    continue;
                }
            };
            let records = io.reader.piece(found);
            let here = (records.batch.len() - found.row) as u32;
            while pick.count < here
                && let Some(next) = picks.next_if(|next| follows(&pick, next))
            {
                pick.count += next.count;
            }
            left = self.rest_of(&pick, here);
            pick.count = pick.count.min(here);
            let rows = found.row..found.row + pick.count as usize;
            let to = records.batch.ends[rows.end - 1] as usize;
            let bytes = records.batch.bytes.slice(records.batch.start(rows.start)..to);
            let lengths = records.batch.lengths(rows);
            self.hand_over(io.now.steady_ms, pick, lengths, records.time_ms, bytes);
        }
    }

    /// Hands neighbours, of these lengths in bytes, to one consumer, as one run.
    fn hand_over(
        &mut self,
        now_ms: u64,
        pick: Pick,
        lengths: impl Iterator<Item = u32>,
        time_ms: u64,
        bytes: Bytes,
    ) {
        let Pick { message, attempts, pulled, consumer: id, .. } = pick;
        let settles = self.plan.ack == 0;
        let expires_ms = match pick.lease_ms {
            _ if settles => u64::MAX,
            lease_ms => now_ms + u64::from(lease_ms).min(limits::TIMER_MS_MAX),
        };
        let consumer = self.consumers.get_mut(&id).expect("a picked consumer exists");
        if consumer.outgoing.is_empty() {
            self.touched.push(id);
        }
        let deliveries = (message..).zip(lengths).map(|(message, bytes)| Delivery {
            message,
            expires_ms,
            bytes,
            attempts,
            pulled,
        });
        let (tag, count) = consumer.hand_over(expires_ms, deliveries);
        consumer.outgoing.push(Run {
            tag,
            partition: partition_of(message) as u16,
            offset: offset_of(message),
            time_ms,
            attempt: attempts.saturating_add(1),
            count,
            bytes,
        });
        if expires_ms < consumer.check_ms {
            self.timers.lease_checks.remove(&(consumer.check_ms, id));
            consumer.check_ms = expires_ms;
            self.timers.lease_checks.insert((expires_ms, id));
        }
        self.counters.delivered += u64::from(count);
        if attempts > 0 {
            self.counters.redelivered += u64::from(count);
        }
        if settles {
            let end = message + u64::from(count);
            self.counters.acked += u64::from(count);
            self.forget_tries(id, message..end);
            self.settle_copies(now_ms, message, end);
        }
    }

    /// Asks the filters, hands over what they let pass.
    fn deliver_judged(&mut self, io: &mut Io<'_>, picks: &[Pick]) {
        let judged = self.judge(io, picks);
        let now_ms = io.now.steady_ms;
        let mut at = 0;
        while at < judged.len() {
            let Judged { pick, time_ms, bytes, verdict } = &judged[at];
            match verdict {
                Verdict::Keep => {
                    let (mut pick, mut bytes) = (*pick, bytes.len());
                    let together = judged[at..].windows(2).take_while(|pair| {
                        // One frame must hold them.
                        let goes_on = matches!(pair[1].verdict, Verdict::Keep)
                            && pair[1].time_ms == *time_ms
                            && follows(&pick, &pair[1].pick)
                            && lies_behind(&pair[0].bytes, &pair[1].bytes)
                            && bytes + pair[1].bytes.len() <= limits::READ_BYTES_MAX as usize;
                        bytes += pair[1].bytes.len();
                        pick.count += u32::from(goes_on);
                        goes_on
                    });
                    let run = &judged[at..=at + together.count()];
                    let lengths = run.iter().map(|one| one.pick.bytes);
                    self.hand_over(now_ms, pick, lengths, *time_ms, joined(run));
                    at += run.len();
                    continue;
                }
                Verdict::Rewrite(changed) => {
                    let changed = Bytes::copy_from_slice(changed);
                    let grown = (changed.len() as u64).saturating_sub(u64::from(pick.bytes));
                    if let Some(consumer) = self.consumers.get(&pick.consumer) {
                        consumer.line.take(grown);
                    }
                    let length = std::iter::once(pick.bytes);
                    self.hand_over(now_ms, *pick, length, *time_ms, changed);
                }
                Verdict::Drop => {
                    self.withdraw(now_ms, pick);
                    self.forget_tries(pick.consumer, pick.message..pick.message + 1);
                    self.counters.dropped += 1;
                    self.end_copy(now_ms, pick.message, Fate::Settled, "");
                }
                Verdict::Divert(reason) => {
                    self.withdraw(now_ms, pick);
                    self.forget_tries(pick.consumer, pick.message..pick.message + 1);
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

    /// The consumer's copies of these messages are settled without its word.
    fn forget_tries(&mut self, id: ConsumerId, messages: Range<MessageId>) {
        if self.plan.spread == 1
            && let Some(consumer) = self.consumers.get_mut(&id)
        {
            consumer.tries.extract_if(messages, |_, _| true).for_each(drop);
        }
    }

    fn lose_picked(&mut self, now_ms: u64, pick: Pick) {
        self.withdraw(now_ms, &pick);
        self.lose(now_ms, pick.message);
    }

    /// Turns what was lost on the way, and what was handed over, into effects.
    fn send(&mut self, io: &mut Io<'_>) {
        self.tell_lost(io.effects);
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
        let pull_ends = &mut self.timers.pull_ends;
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
        if !consumer.promised.is_empty() {
            self.end_unpaid_promises(now_ms, id);
        }
    }
}

/// Whether `next` goes on where `pick` ends, for the same consumer, with the same
/// facts.
fn follows(pick: &Pick, next: &Pick) -> bool {
    next.message == pick.message + u64::from(pick.count)
        && next.consumer == pick.consumer
        && next.attempts == pick.attempts
        && next.lease_ms == pick.lease_ms
        && next.pulled == pick.pulled
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
