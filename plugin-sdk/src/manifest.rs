//! What a policy says about itself: name, version, and what it wants to see.
//! Built once by [`Policy::manifest`](crate::Policy::manifest); the broker reads
//! it before the policy has a configuration.

use crate::bindings::weir::policy::types;

/// Columns of a batch: the parts of a message that a policy can ask for. Fewer
/// columns make cheaper calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Column {
    /// Dot-separated subject.
    Subject = 1,
    /// Payload as published.
    Payload = 2,
    /// Ordering and partition key.
    Key = 3,
    /// All headers; prefer [`Manifest::header`] when the names are known.
    Headers = 4,
    /// Connection the message came in on.
    Publisher = 5,
    /// When the broker took it, ms since the epoch.
    PublishedAt = 6,
    /// Length of the payload, bytes.
    Size = 7,
    /// Position in its stream, 0 before it is stored.
    Sequence = 8,
    /// Stable 32-bit hash of the key.
    KeyHash = 9,
    /// First bytes of the payload; see [`Manifest::payload_head`].
    PayloadHead = 10,
}

/// Something only the operator can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Let a message end without having been delivered.
    Drop,
    /// Move a message to the dead-letter queue.
    DeadLetter,
    /// Change payload, key or headers.
    Rewrite,
    /// Send to subjects outside the binding's own scope.
    Retarget,
    /// Keep messages in memory only.
    Transient,
}

impl Power {
    /// Its name in manifests and binding files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::DeadLetter => "dead-letter",
            Self::Rewrite => "rewrite",
            Self::Retarget => "retarget",
            Self::Transient => "transient",
        }
    }
}

/// What a policy says about itself. Start with [`Manifest::new`] or the macro
/// [`manifest!`](crate::manifest!), which takes name and version from Cargo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) summary: String,
    pub(crate) columns: Vec<u16>,
    pub(crate) header_columns: Vec<String>,
    pub(crate) memo_by: Vec<u16>,
    pub(crate) state_version: u32,
    pub(crate) state_reads: u32,
    pub(crate) wants: Vec<String>,
    pub(crate) settings: Vec<(u16, u64)>,
}

impl Manifest {
    /// `name` is `[a-z0-9-]{1,64}`, `version` semver, `summary` one line.
    #[must_use]
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            summary: summary.to_owned(),
            ..Self::default()
        }
    }

    /// Asks for these columns.
    #[must_use]
    pub fn columns(mut self, columns: &[Column]) -> Self {
        for &column in columns {
            push_new(&mut self.columns, column as u16);
        }
        self
    }

    /// Asks for one header by name; much cheaper than [`Column::Headers`].
    #[must_use]
    pub fn header(mut self, name: &str) -> Self {
        push_new(&mut self.header_columns, name.to_owned());
        let column = 255 + self.header_columns.len() as u16;
        push_new(&mut self.columns, column);
        self
    }

    /// Lets the broker remember answers: these columns alone decide. Also asks
    /// for them. The kv store and the clock trap in such a policy.
    #[must_use]
    pub fn memo_by(mut self, columns: &[Column]) -> Self {
        for &column in columns {
            push_new(&mut self.columns, column as u16);
            push_new(&mut self.memo_by, column as u16);
        }
        self
    }

    /// Asks for the first `bytes` bytes of each payload.
    #[must_use]
    pub fn payload_head(mut self, bytes: u32) -> Self {
        push_new(&mut self.columns, Column::PayloadHead as u16);
        set(&mut self.settings, 1, u64::from(bytes));
        self
    }

    /// Asks the operator for a power. What was granted is in the
    /// [`Context`](crate::Context).
    #[must_use]
    pub fn wants(mut self, power: Power) -> Self {
        push_new(&mut self.wants, power.name().to_owned());
        self
    }

    /// The policy carries state from one generation to the next: `version` is the
    /// format that `save` writes, `reads` the oldest that `load` understands.
    #[must_use]
    pub fn state(mut self, version: u32, reads: u32) -> Self {
        (self.state_version, self.state_reads) = (version, reads);
        self
    }

    /// Asks for this much memory, bytes.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        set(&mut self.settings, 2, bytes);
        self
    }

    /// Asks for batches of at most this many messages.
    #[must_use]
    pub fn batch_rows_max(mut self, rows: u64) -> Self {
        set(&mut self.settings, 3, rows);
        self
    }

    pub(crate) fn into_wire(self, config_schema: String) -> types::Manifest {
        types::Manifest {
            name: self.name,
            version: self.version,
            summary: self.summary,
            config_schema,
            columns: self.columns,
            header_columns: self.header_columns,
            memo_by: self.memo_by,
            state_version: self.state_version,
            state_reads: self.state_reads,
            wants: self.wants,
            settings: self
                .settings
                .into_iter()
                .map(|(id, value)| types::Setting { id, value })
                .collect(),
        }
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

/// Gives a setting its value, in place of one that it had: the broker takes the first.
pub(crate) fn set(settings: &mut Vec<(u16, u64)>, id: u16, value: u64) {
    settings.retain(|&(known, _)| known != id);
    settings.push((id, value));
}

/// A [`Manifest`] named and versioned like the crate it is used in:
/// `manifest!("routes by tenant")`.
#[macro_export]
macro_rules! manifest {
    ($summary:expr) => {
        $crate::Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), $summary)
    };
}
