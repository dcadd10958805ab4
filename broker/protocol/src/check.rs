//! Lengths and ranges of control bodies that their types do not bound.

use crate::body::{
    AlterGroup, AlterQueue, AlterStream, Consume, CreateGroup, CreateQueue, CreateStream, Hello,
    Kind, List, PolicyRollback, PolicyStatus, Pull, Purge, Read, Seek, Subscribe, Target,
    Unsubscribe,
};
use crate::{DecodeError, Op, RequestId, limits};

/// What is wrong with a body.
pub(crate) enum Fault {
    /// A value is over its limit.
    Over(&'static str, u64, u64),
    /// Anything else, as a sentence.
    Text(&'static str),
}

impl Fault {
    pub(crate) fn error(self, id: RequestId, op: Op) -> DecodeError {
        match self {
            Self::Over(what, value, limit) => DecodeError::over(id, what, value, limit),
            Self::Text(text) => DecodeError::field(id, format!("{}: {text}", op.name())),
        }
    }
}

/// A body that is checked after it was read.
pub(crate) trait Check {
    /// Checks lengths and ranges.
    fn check(&self) -> Result<(), Fault> {
        Ok(())
    }
}

fn at_most(what: &'static str, value: u64, limit: u64) -> Result<(), Fault> {
    if value > limit { Err(Fault::Over(what, value, limit)) } else { Ok(()) }
}

fn name(what: &'static str, value: &str) -> Result<(), Fault> {
    at_most(what, value.len() as u64, limits::NAME_BYTES_MAX as u64)?;
    if value.is_empty() { Err(Fault::Text("a name must not be empty")) } else { Ok(()) }
}

fn optional_name(what: &'static str, value: Option<&String>) -> Result<(), Fault> {
    value.map_or(Ok(()), |value| name(what, value))
}

fn pattern(value: &str) -> Result<(), Fault> {
    at_most("pattern, bytes", value.len() as u64, limits::PATTERN_BYTES_MAX as u64)
}

fn subjects(values: &[String]) -> Result<(), Fault> {
    at_most("patterns in `subjects`", values.len() as u64, limits::SUBJECTS_MAX as u64)?;
    values.iter().try_for_each(|value| pattern(value))
}

fn json(
    what: &'static str,
    value: &serde_json::Map<String, serde_json::Value>,
) -> Result<(), Fault> {
    let text = serde_json::to_string(value).expect("a map with text keys is JSON");
    at_most(what, text.len() as u64, limits::LABELS_BYTES_MAX as u64)?;
    let depth = 1 + value.values().map(depth).max().unwrap_or(0);
    at_most("depth of labels or options", depth, limits::LABELS_DEPTH_MAX)
}

/// Arrays and maps in one another. The walk before has bounded it.
fn depth(value: &serde_json::Value) -> u64 {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

impl Check for Hello {
    fn check(&self) -> Result<(), Fault> {
        at_most("versions", self.version.len() as u64, limits::VERSIONS_MAX as u64)?;
        at_most("`client`, bytes", self.client.len() as u64, limits::CLIENT_BYTES_MAX as u64)?;
        let token = self.token.as_ref().map_or(0, String::len);
        at_most("`token`, bytes", token as u64, limits::TOKEN_BYTES_MAX as u64)
    }
}

impl Check for Subscribe {
    fn check(&self) -> Result<(), Fault> {
        pattern(&self.pattern)?;
        optional_name("`share`, bytes", self.share.as_ref())
    }
}

impl Check for Unsubscribe {}

impl Check for Consume {
    fn check(&self) -> Result<(), Fault> {
        match (&self.queue, &self.stream, &self.group) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            _ => return Err(Fault::Text("give either `queue`, or `stream` and `group`")),
        }
        optional_name("`queue`, bytes", self.queue.as_ref())?;
        optional_name("`stream`, bytes", self.stream.as_ref())?;
        optional_name("`group`, bytes", self.group.as_ref())?;
        at_most("`credit`", u64::from(self.credit), u64::from(limits::CREDIT_MAX))?;
        at_most("`name`, bytes", self.name.len() as u64, limits::NAME_BYTES_MAX as u64)?;
        json("`labels`, bytes", &self.labels)
    }
}

impl Check for Pull {
    fn check(&self) -> Result<(), Fault> {
        let (messages, wait) = (limits::PULL_MESSAGES_MAX, limits::PULL_WAIT_MS_MAX);
        at_most("`messages_max`", u64::from(self.messages_max), u64::from(messages))?;
        at_most("`wait_ms`", u64::from(self.wait_ms), u64::from(wait))?;
        match self.messages_max {
            0 => Err(Fault::Text("`messages_max` must be 1 or more")),
            _ => Ok(()),
        }
    }
}

impl Check for CreateQueue {
    fn check(&self) -> Result<(), Fault> {
        name("`name`, bytes", &self.name)?;
        subjects(&self.subjects)
    }
}

impl Check for CreateStream {
    fn check(&self) -> Result<(), Fault> {
        name("`name`, bytes", &self.name)?;
        subjects(&self.subjects)?;
        match self.partitions {
            0 => Err(Fault::Text("`partitions` must be 1 or more")),
            _ => Ok(()),
        }
    }
}

impl Check for CreateGroup {
    fn check(&self) -> Result<(), Fault> {
        name("`stream`, bytes", &self.stream)?;
        name("`name`, bytes", &self.name)?;
        json("`options`, bytes", &self.options)
    }
}

impl Check for AlterQueue {
    fn check(&self) -> Result<(), Fault> {
        name("`name`, bytes", &self.name)?;
        self.subjects.as_ref().map_or(Ok(()), |values| subjects(values))
    }
}

impl Check for AlterStream {
    fn check(&self) -> Result<(), Fault> {
        name("`name`, bytes", &self.name)?;
        self.subjects.as_ref().map_or(Ok(()), |values| subjects(values))
    }
}

impl Check for AlterGroup {
    fn check(&self) -> Result<(), Fault> {
        name("`stream`, bytes", &self.stream)?;
        name("`name`, bytes", &self.name)?;
        self.options.as_ref().map_or(Ok(()), |options| json("`options`, bytes", options))
    }
}

impl Check for Target {
    fn check(&self) -> Result<(), Fault> {
        name("`name`, bytes", &self.name)?;
        optional_name("`stream`, bytes", self.stream.as_ref())?;
        match self.stream.is_some() == (self.kind == Kind::Group) {
            true => Ok(()),
            false => Err(Fault::Text("`stream` goes with kind group, and only with it")),
        }
    }
}

impl Check for List {
    fn check(&self) -> Result<(), Fault> {
        let after = self.after.as_ref().map_or(0, String::len);
        at_most("`after`, bytes", after as u64, 4 * limits::NAME_BYTES_MAX as u64)?;
        match self.items_max {
            Some(0) => Err(Fault::Text("`items_max` must be 1 or more")),
            items => {
                let items = items.unwrap_or_default();
                at_most("`items_max`", u64::from(items), u64::from(limits::LIST_ITEMS_MAX))
            }
        }
    }
}

impl Check for Read {
    fn check(&self) -> Result<(), Fault> {
        name("`stream`, bytes", &self.stream)?;
        if self.messages_max == Some(0) {
            return Err(Fault::Text("`messages_max` must be 1 or more"));
        }
        let (messages, bytes) = (self.messages_max.unwrap_or(1), self.bytes_max.unwrap_or(1));
        at_most("`messages_max`", u64::from(messages), limits::READ_MESSAGES_MAX.into())?;
        at_most("`bytes_max`", u64::from(bytes), limits::READ_BYTES_MAX.into())
    }
}

impl Check for Seek {
    fn check(&self) -> Result<(), Fault> {
        name("`stream`, bytes", &self.stream)?;
        name("`group`, bytes", &self.group)
    }
}

impl Check for Purge {
    fn check(&self) -> Result<(), Fault> {
        name("`queue`, bytes", &self.queue)
    }
}

impl Check for PolicyStatus {
    fn check(&self) -> Result<(), Fault> {
        optional_name("`binding`, bytes", self.binding.as_ref())
    }
}

impl Check for PolicyRollback {
    fn check(&self) -> Result<(), Fault> {
        name("`binding`, bytes", &self.binding)
    }
}
