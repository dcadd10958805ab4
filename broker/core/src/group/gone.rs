//! Messages that leave a group without a word of a consumer: retention, an operator or
//! damage takes them away.

use std::ops::Range;

use super::Group;
use super::slot::{MessageId, State, message_id, offset_of, partition_of};
use crate::policy::{Event, event};
use crate::store::Store;

impl Group {
    /// Retention or an operator took the message away. What a consumer holds of
    /// it stays in its hands; its settlement finds nothing and is harmless.
    pub(super) fn gone(&mut self, now_ms: u64, message: MessageId) {
        self.strike_out(message);
        self.tell_gone(message);
        self.finish(now_ms, message);
    }

    /// The message cannot be read. It goes in this process only: it may be put back, and
    /// giving it up is the operator's.
    pub(super) fn leave_out(&mut self, now_ms: u64, message: MessageId) {
        self.strike_out(message);
        self.tell_gone(message);
        self.parts[partition_of(message)].note_damage(offset_of(message));
        self.take_out(now_ms, message);
    }

    fn tell_gone(&mut self, message: MessageId) {
        self.tell(Event { kind: event::GONE, message, ..Event::default() });
    }

    /// Takes the message, which goes, out of the lists that its state may have it in. All
    /// of a list is gone through for it: not for those that are not there.
    fn strike_out(&mut self, message: MessageId) {
        match self.slot(message).map(|slot| slot.state) {
            Some(State::Dying) => self.dying.retain(|dying| dying.message != message),
            Some(State::InFlight) => self.forget_all_tries(message..message + 1),
            _ => {}
        }
    }

    /// Nobody tries these messages again.
    fn forget_all_tries(&mut self, messages: Range<MessageId>) {
        if self.plan.spread == 1 {
            for consumer in self.consumers.values_mut() {
                consumer.tries.extract_if(messages.clone(), |_, _| true).for_each(drop);
            }
        }
    }

    /// Retention has removed what lies below `start` of a partition.
    pub(crate) fn trimmed(&mut self, now_ms: u64, store: &dyn Store, partition: u16, start: u64) {
        let slots = &self.parts[usize::from(partition)].slots;
        if slots.first() >= start {
            return;
        }
        let below: Vec<u64> = slots.range(0, start - 1).map(|(offset, _)| offset).collect();
        // All at once: one by one, each would have all of the dying gone through.
        let messages = message_id(partition, 0)..message_id(partition, start);
        self.dying.retain(|dying| !messages.contains(&dying.message));
        self.forget_all_tries(messages);
        for offset in below {
            let message = message_id(partition, offset);
            self.tell_gone(message);
            self.finish(now_ms, message);
        }
        self.parts[usize::from(partition)].skip_to(store, start);
    }
}
