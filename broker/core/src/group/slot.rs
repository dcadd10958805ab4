//! What a group knows of one message it has taken from its log and that is not
//! settled. Small on purpose: there may be a million of them.

/// Number of a message in a group: partition in the upper 16 bits, offset below.
pub(crate) type MessageId = u64;

/// The number of the message at `offset` of `partition`.
pub(crate) fn message_id(partition: u16, offset: u64) -> MessageId {
    u64::from(partition) << 48 | offset
}

/// Partition of a message.
pub(crate) fn partition_of(message: MessageId) -> usize {
    (message >> 48) as usize
}

/// Offset of a message in its partition.
pub(crate) fn offset_of(message: MessageId) -> u64 {
    message & 0xffff_ffff_ffff
}

/// Where a message is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Waits for a consumer; the broker picks it.
    #[default]
    Ready,
    /// Waits for the policy to decide.
    Offered,
    /// The policy has chosen its consumer, who has no room now.
    Promised,
    /// Waits for an earlier message of its key.
    Blocked,
    /// With a consumer, or with several.
    InFlight,
    /// Waits for its time.
    Delayed,
    /// Held until an operator or the policy acts.
    Parked,
    /// On its way to the dead-letter queue.
    Dying,
}

/// Number of states, for counting.
pub(crate) const STATES: usize = 8;

/// What becomes of a message once nobody holds it any more. The worst wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// Ready again: nobody has settled it.
    #[default]
    Again,
    /// Settled.
    Settled,
    /// Parked.
    Parked,
    /// To the dead-letter queue.
    Dead,
}

/// See the file's head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    /// Where it is.
    pub(crate) state: State,
    /// Whether the message has a key, when keys were looked at.
    pub(crate) keyed: bool,
    /// What the consumers that are through with it made of it.
    pub(crate) fate: Fate,
    /// The log does not keep it any more: it goes when nobody holds it.
    pub(crate) released: bool,
    /// Tries that counted and failed.
    pub(crate) attempts: u16,
    /// Consumers that hold it or are owed it.
    pub(crate) holders: u16,
    /// Length, bytes.
    pub(crate) bytes: u32,
    /// Hash of its key, 0 when keys were not looked at.
    pub(crate) key_hash: u32,
    /// `Delayed`: when it is due; `Blocked`: not ready before; `Offered`: since
    /// when. Steady ms.
    pub(crate) mark_ms: u64,
}

impl Slot {
    /// A consumer gets it, and no other.
    pub(crate) fn go_to_one(&mut self) {
        (self.state, self.mark_ms, self.holders, self.fate) = (State::InFlight, 0, 1, Fate::Again);
    }

    /// With a single consumer, whose word decides.
    pub(crate) fn is_with_one(&self) -> bool {
        self.state == State::InFlight && self.holders == 1 && self.fate <= Fate::Settled
    }
}
