//! Why a command was refused. Clients branch on it: one code per variant.

/// A bound that a request ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// What is counted, for people.
    pub what: &'static str,
    /// What the limit is called.
    pub name: &'static str,
    /// The most there may be.
    pub most: u64,
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejection {
    /// No such queue, stream or group.
    #[error("no such queue, stream or group")]
    NotFound,
    /// It exists already with other settings.
    #[error("exists already with other settings")]
    Exists,
    /// The queue is full.
    #[error("the queue is full")]
    QueueFull,
    /// The store has no room.
    #[error("no space left to keep the message")]
    NoSpace,
    /// The store cannot keep messages as safely as asked.
    #[error("the store cannot reach the level asked for")]
    LevelUnsupported,
    /// The consumer's number is in use.
    #[error("the subscription number is in use")]
    SubscriptionTaken,
    /// No consumer of that number.
    #[error("no such subscription")]
    NoSubscription,
    /// The policy turned the consumer away.
    #[error("the delivery policy turned the consumer away")]
    TurnedAway,
    /// The offset is below what is kept, or beyond the end.
    #[error("the offset is not kept")]
    OffsetOutOfRange,
    /// No such partition.
    #[error("no such partition")]
    NoPartition,
    /// It was deleted.
    #[error("it was deleted")]
    Deleted,
    /// A value is beyond its limit.
    #[error("a value is beyond its limit")]
    LimitReached,
    /// A value is beyond this limit.
    #[error("{}: at most {} (the limit {})", .0.what, .0.most, .0.name)]
    OverLimit(&'static Limit),
    /// It does not apply to this kind of thing.
    #[error("does not apply to this kind")]
    WrongKind,
    /// The policy failed, and its rule is to refuse.
    #[error("a policy failed and its rule is to refuse")]
    PolicyFailed,
    /// The policy refused the message.
    #[error("a policy refused the message")]
    PolicyRefused,
    /// The stored bytes are damaged.
    #[error(
        "messages of it are damaged: with the broker stopped, `weir store check DIR` names them, \
         and `weir store accept-loss DIR LOG` gives them up"
    )]
    DataLoss,
}
