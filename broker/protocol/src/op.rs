//! The operations: first item of every frame.

/// An operation and its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "docs/protocol.md has one section for each")]
pub enum Op {
    Hello = 1,
    Publish = 2,
    Settle = 3,
    Credit = 4,
    Subscribe = 5,
    Unsubscribe = 6,
    Consume = 7,
    Pull = 8,
    Ping = 9,
    Create = 16,
    Alter = 17,
    Delete = 18,
    List = 19,
    Info = 20,
    Read = 21,
    Seek = 22,
    Purge = 23,
    PolicyList = 32,
    PolicyStatus = 33,
    PolicyRollback = 34,
    Ok = 64,
    Error = 65,
    Published = 66,
    Deliver = 67,
    Records = 68,
    Skipped = 69,
    Ended = 70,
    Goodbye = 71,
}

impl Op {
    /// Every operation, in the order of its number.
    pub const ALL: [Self; 28] = [
        Self::Hello,
        Self::Publish,
        Self::Settle,
        Self::Credit,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Consume,
        Self::Pull,
        Self::Ping,
        Self::Create,
        Self::Alter,
        Self::Delete,
        Self::List,
        Self::Info,
        Self::Read,
        Self::Seek,
        Self::Purge,
        Self::PolicyList,
        Self::PolicyStatus,
        Self::PolicyRollback,
        Self::Ok,
        Self::Error,
        Self::Published,
        Self::Deliver,
        Self::Records,
        Self::Skipped,
        Self::Ended,
        Self::Goodbye,
    ];

    /// The operation of that number.
    #[must_use]
    pub fn of(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|op| *op as u64 == number)
    }

    /// Its name, as in `docs/protocol.md`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Publish => "publish",
            Self::Settle => "settle",
            Self::Credit => "credit",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Consume => "consume",
            Self::Pull => "pull",
            Self::Ping => "ping",
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Info => "info",
            Self::Read => "read",
            Self::Seek => "seek",
            Self::Purge => "purge",
            Self::PolicyList => "policy_list",
            Self::PolicyStatus => "policy_status",
            Self::PolicyRollback => "policy_rollback",
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Published => "published",
            Self::Deliver => "deliver",
            Self::Records => "records",
            Self::Skipped => "skipped",
            Self::Ended => "ended",
            Self::Goodbye => "goodbye",
        }
    }
}
