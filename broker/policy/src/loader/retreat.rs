//! Going back: on the operator's word, or because a generation failed at work.

use std::sync::Arc;

use super::Loader;
use crate::binding::Origin;
use crate::generation::{BindingState, Failing, GenerationState, Record, Running};
use crate::loader::report::{announce, announce_failing};
use crate::setup::Trouble;

/// Why a rollback was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// No such binding runs.
    #[error("no binding `{0}` is running; `weir policy status` lists them")]
    NoBinding(String),
    /// There is nothing to go back to.
    #[error("binding `{0}` has no earlier generation to go back to")]
    NothingBefore(String),
    /// The earlier generation could not be started.
    #[error("the earlier generation of `{binding}` could not be started: {reason}")]
    Failed {
        /// The binding.
        binding: String,
        /// One sentence.
        reason: String,
    },
    /// The host is shutting down.
    #[error("the broker is shutting down")]
    Stopped,
}

impl Loader {
    /// Goes back to the generation before, on the operator's word. What lies on
    /// disk is not taken again until it changes.
    ///
    /// # Errors
    /// Nothing to go back to, or it does not start.
    pub(crate) fn rollback(&mut self, name: &str) -> Result<(), RollbackError> {
        let mut record = match self.records.remove(name) {
            Some(record) if record.active.is_some() => record,
            other => {
                other.map(|record| self.records.insert(Arc::clone(&record.name), record));
                return Err(RollbackError::NoBinding(name.to_owned()));
            }
        };
        let reason = "rolled back by the operator";
        let done = self.go_back(&mut record, GenerationState::RolledBack, reason);
        let done = match done {
            None => Err(RollbackError::NothingBefore(name.to_owned())),
            Some(Err(reason)) => Err(RollbackError::Failed { binding: name.to_owned(), reason }),
            Some(Ok(())) => Ok(()),
        };
        self.records.insert(Arc::clone(&record.name), record);
        self.finish();
        done
    }

    /// A generation failed at work: back to the last good one, once.
    pub(crate) fn trouble(&mut self, trouble: &Trouble) {
        self.counters.troubles += 1;
        let Some(mut record) = self.records.remove(&trouble.binding) else { return };
        let now = record.active.as_ref().map(|active| (active.number, active.last_resort));
        if let Some((number, last_resort)) = now.filter(|(number, _)| *number == trouble.generation)
        {
            let went_back = !last_resort
                && matches!(
                    self.go_back(&mut record, GenerationState::Failed, &trouble.reason),
                    Some(Ok(()))
                );
            if !went_back {
                self.nothing_to_go_back_to(&mut record, number, trouble);
            }
        }
        self.records.insert(Arc::clone(&record.name), record);
        self.finish();
    }

    /// `None` when nothing is kept to go back to.
    fn go_back(
        &mut self,
        record: &mut Record,
        ended: GenerationState,
        reason: &str,
    ) -> Option<Result<(), String>> {
        let kept = record.take_kept(ended == GenerationState::RolledBack)?;
        let active = record.active.as_ref().expect("callers ask for a running binding");
        let (number, withdrawn) = (active.number, active.good.key.clone());
        if let Err(why) = self.start(record, kept.good.clone(), Some((ended, reason))) {
            record.keep(kept, true);
            return Some(Err(why));
        }
        self.counters.rollbacks += 1;
        // The second one in a row takes away what the first one brought, which is not
        // what lies on disk.
        record.withdrawn.get_or_insert(withdrawn);
        let running = record.numbers_used;
        let error = match ended {
            GenerationState::Failed => format!(
                "generation {number} failed and generation {running} took over: {reason}; \
                 the files are not loaded again until they change"
            ),
            _ => format!(
                "generation {number} was {reason}, generation {running} runs; \
                 the files are not loaded again until they change"
            ),
        };
        let wall_ms = self.workshop.clock.now().wall_ms;
        record.note(wall_ms, BindingState::RolledBack, Some(error));
        announce(record);
        Some(Ok(()))
    }

    /// A component that was merely dropped in and never worked is taken away:
    /// nobody asked for it by name. Any other binding keeps its failure rule.
    fn nothing_to_go_back_to(&mut self, record: &mut Record, number: u64, trouble: &Trouble) {
        let wall_ms = self.workshop.clock.now().wall_ms;
        let active = record.active.as_ref().expect("callers ask for a running binding");
        let reason = &trouble.reason;
        if active.good.binding.origin == Origin::Automatic {
            let active = record.retire(wall_ms, GenerationState::Failed, Some(reason));
            let active = active.expect("seen above");
            self.uninstall(record, &active);
            let error = format!("generation {number} failed and was taken out: {reason}");
            record.refused.push((active.good.key, error.clone()));
            record.failing = None;
            if record.note(wall_ms, BindingState::Failed, Some(error)) {
                announce(record);
            }
        } else {
            let rule = active.good.binding.on_failure.as_str();
            let what = if matches!(active.running, Running::Delivery) {
                "the built-in at-least-once plan applies".to_owned()
            } else {
                format!("its failure rule applies ({rule})")
            };
            let error = format!("generation {number} fails, {what}: {reason}");
            let before = record.failing.as_ref();
            let since_ms = before.map_or(wall_ms, |failing| failing.since_ms);
            if before.is_none_or(|failing| failing.error != error) {
                announce_failing(record, &error);
                record.failing = Some(Failing { error, since_ms });
            }
        }
    }
}
