//! A deliver-stage filter's instance of one shard: asked about messages before
//! they are handed to consumers. There is always an answer; the failure rule is
//! applied here.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwapOption;
use weir_core::env::Now;
use weir_core::policy::{DeliveryFilter, Generation, ReadyMessage, Verdict};
use weir_message::Parts;

use crate::asking::ask;
use crate::bindings::weir::policy::types::Batch;
use crate::caller::{Asked, Caller};
use crate::columns::ColumnBuffers;
use crate::component::Component;
use crate::delivery::ready_row;
use crate::error::LoadError;
use crate::filter::{missing_power, needs_power};
use crate::instance::Instance;
use crate::setup::{FailureRule, Setup};
use crate::verdicts::{SoundVerdicts, code};

/// One generation of a deliver-stage filter binding in one shard.
pub struct WasmDeliveryFilter {
    /// Shared with the loader, which looks at its breaker.
    caller: Arc<Caller>,
    columns: ColumnBuffers,
    parts: Vec<Parts>,
}

impl WasmDeliveryFilter {
    /// An instance that is ready for its shard.
    ///
    /// # Errors
    /// The component is no filter, or does not start.
    pub fn start(component: Arc<Component>, setup: Setup) -> Result<Self, LoadError> {
        let caller = Arc::new(Caller::new(component, setup)?);
        Ok(Self { caller, columns: ColumnBuffers::default(), parts: Vec::new() })
    }

    /// As [`WasmDeliveryFilter::start`], as the core takes it.
    ///
    /// # Errors
    /// As there.
    #[allow(clippy::new_ret_no_self, reason = "the core owns filters as trait objects")]
    pub fn new(
        component: Arc<Component>,
        setup: Setup,
    ) -> Result<Box<dyn DeliveryFilter>, LoadError> {
        Ok(Box::new(Self::start(component, setup)?))
    }

    /// What it asks.
    pub(crate) fn caller(&self) -> Arc<Caller> {
        Arc::clone(&self.caller)
    }

    fn chunk(&mut self, now: Now, messages: &[ReadyMessage<'_>], verdicts: &mut Vec<Verdict>) {
        let Self { caller, columns, parts } = self;
        let parts = &*parts;
        let mut call = |instance: &mut Instance, start: usize, end: usize| {
            let rows = end - start;
            columns.fill(caller.columns(), rows, |at| {
                ready_row(&messages[start + at], &parts[start + at])
            });
            let input = Batch {
                rows: rows as u32,
                now_ms: now.wall_ms,
                columns: &columns.columns(caller.columns()),
            };
            instance.filter(now, input, |answer| SoundVerdicts::check(answer, rows))
        };
        // The old generation is gone when a shard has taken the new one.
        let no_fallback = ArcSwapOption::<()>::empty();
        let start = verdicts.len();
        let mut sink = |asked| match asked {
            Asked::Answer { start, end, answer } => {
                take(caller, &answer, &messages[start..end], &parts[start..end], verdicts);
            }
            Asked::Failed { start, end, .. } => {
                caller.counters().failed_rows.fetch_add((end - start) as u64, Relaxed);
                verdicts.extend((start..end).map(|_| failed(caller.setup())));
            }
        };
        ask(caller, now, messages.len(), &no_fallback, &mut call, &mut sink);
        debug_assert_eq!(verdicts.len() - start, messages.len());
        caller.counters().rows.fetch_add(messages.len() as u64, Relaxed);
    }
}

impl DeliveryFilter for WasmDeliveryFilter {
    fn generation(&self) -> Generation {
        self.caller.setup().generation.clone()
    }

    fn filter(&mut self, now_ms: u64, messages: &[ReadyMessage<'_>], verdicts: &mut Vec<Verdict>) {
        let now = Now { wall_ms: now_ms, ..self.caller.setup().clock.now() };
        for chunk in messages.chunks(self.caller.batch_rows()) {
            self.parts.clear();
            self.parts.extend(chunk.iter().map(|message| {
                weir_message::parse(message.bytes, 0)
                    .expect("kept messages were checked when taken")
            }));
            self.chunk(now, chunk, verdicts);
        }
    }
}

impl std::fmt::Debug for WasmDeliveryFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasmDeliveryFilter")
            .field("setup", self.caller.setup())
            .finish_non_exhaustive()
    }
}

/// Turns a sound answer into verdicts, within the powers granted.
fn take(
    caller: &Caller,
    answer: &SoundVerdicts,
    messages: &[ReadyMessage<'_>],
    parts: &[Parts],
    verdicts: &mut Vec<Verdict>,
) {
    let (setup, counters) = (caller.setup(), caller.counters());
    for (at, message) in messages.iter().enumerate() {
        // A refusal has nobody to be told to here: it ends the message as a drop.
        let code = if answer.codes[at] == code::REFUSE { code::DROP } else { answer.codes[at] };
        if let Some(power) = missing_power(setup.powers, code) {
            counters.note_failure(setup.clock.now().wall_ms, &needs_power(power));
            counters.denied_rows.fetch_add(1, Relaxed);
            counters.failed_rows.fetch_add(1, Relaxed);
            verdicts.push(failed(setup));
            continue;
        }
        verdicts.push(match code {
            code::DROP => {
                counters.dropped_rows.fetch_add(1, Relaxed);
                Verdict::Drop
            }
            code::DIVERT => {
                counters.diverted_rows.fetch_add(1, Relaxed);
                let reason = answer.reason(at).filter(|reason| !reason.is_empty());
                Verdict::Divert(reason.map_or_else(
                    || format!("diverted by {}", setup.binding),
                    |reason| reason.to_string(),
                ))
            }
            code::EDIT => {
                let mut bytes = Vec::new();
                match answer.encode(at, ready_row(message, &parts[at]), &mut bytes) {
                    Ok(_) => Verdict::Rewrite(bytes),
                    Err(what) => {
                        let reason = format!("answered with {what}");
                        counters.note_failure(setup.clock.now().wall_ms, &reason);
                        counters.failed_rows.fetch_add(1, Relaxed);
                        failed(setup)
                    }
                }
            }
            _ => Verdict::Keep,
        });
    }
}

/// What becomes of a message that could not be judged: delivered as it is, or
/// asked about again later.
fn failed(setup: &Setup) -> Verdict {
    match setup.on_failure {
        FailureRule::Pass => Verdict::Keep,
        FailureRule::Refuse | FailureRule::Hold => Verdict::Hold,
    }
}
