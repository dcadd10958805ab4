//! What a client asks, and reading it. Called by the server's session for every
//! frame that is not a publish (those go to [`decode_publish_into`] directly, so
//! that their offsets land in a buffer that is used again).

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::body::{
    Alter, Consume, Create, Credit, Hello, List, PolicyRollback, PolicyStatus, Pull, Purge, Read,
    Seek, Subscribe, Target, Unsubscribe,
};
use crate::check::Check;
use crate::error::shorten;
use crate::publish::{PublishFrame, decode_publish_into};
use crate::settle::{self, Settle};
use crate::wire::{self, Cursor};
use crate::{DecodeError, Op, RequestId, limits, walk};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/protocol.md has one section for each")]
pub enum Request {
    Hello(Hello),
    Publish(PublishFrame),
    Settle(Settle),
    Credit(Credit),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Consume(Consume),
    Pull(Pull),
    Ping,
    Create(Create),
    Alter(Alter),
    Delete(Target),
    List(List),
    Info(Target),
    Read(Read),
    Seek(Seek),
    Purge(Purge),
    PolicyList,
    PolicyStatus(PolicyStatus),
    PolicyRollback(PolicyRollback),
}

impl Request {
    /// Its operation.
    #[must_use]
    pub const fn op(&self) -> Op {
        match self {
            Self::Hello(_) => Op::Hello,
            Self::Publish(_) => Op::Publish,
            Self::Settle(_) => Op::Settle,
            Self::Credit(_) => Op::Credit,
            Self::Subscribe(_) => Op::Subscribe,
            Self::Unsubscribe(_) => Op::Unsubscribe,
            Self::Consume(_) => Op::Consume,
            Self::Pull(_) => Op::Pull,
            Self::Ping => Op::Ping,
            Self::Create(_) => Op::Create,
            Self::Alter(_) => Op::Alter,
            Self::Delete(_) => Op::Delete,
            Self::List(_) => Op::List,
            Self::Info(_) => Op::Info,
            Self::Read(_) => Op::Read,
            Self::Seek(_) => Op::Seek,
            Self::Purge(_) => Op::Purge,
            Self::PolicyList => Op::PolicyList,
            Self::PolicyStatus(_) => Op::PolicyStatus,
            Self::PolicyRollback(_) => Op::PolicyRollback,
        }
    }
}

/// Reads one request out of a whole frame. A publish frame is read too.
///
/// # Errors
/// See [`DecodeError`], which also tells whether the connection survives.
pub fn decode_request(frame: &Bytes) -> Result<(RequestId, Request), DecodeError> {
    let mut cursor = Cursor::new(frame);
    let items = cursor.array_len().ok_or(DecodeError::NoHead)?;
    let number = cursor.uint().ok_or(DecodeError::NoHead)?;
    let id = RequestId(cursor.u32().ok_or(DecodeError::NoHead)?);
    let op = Op::of(number).ok_or(DecodeError::UnknownOp { id, op: number })?;
    let request = match op {
        Op::Publish => {
            let mut messages = Vec::new();
            let head = decode_publish_into(frame, 0..frame.len(), &mut messages)?;
            let frame = frame.clone();
            Request::Publish(PublishFrame { id, delay_ms: head.delay_ms, frame, messages })
        }
        Op::Settle => Request::Settle(settle::decode_settle(cursor, items, id)?),
        Op::Credit => Request::Credit(settle::decode_credit(cursor, items, id)?),
        _ => {
            if frame.len() > limits::CONTROL_BYTES_MAX {
                let (length, limit) = (frame.len() as u64, limits::CONTROL_BYTES_MAX as u64);
                return Err(DecodeError::over(id, "bytes of a control frame", length, limit));
            }
            walk(frame, limits::REQUEST_NODES_MAX)
                .map_err(|error| DecodeError::Malformed { id, error })?;
            let control = Control { op, id, items, body: &frame[cursor.at..] };
            control.request(number)?
        }
    };
    Ok((id, request))
}

/// A control frame that was walked.
struct Control<'a> {
    op: Op,
    id: RequestId,
    items: u32,
    body: &'a [u8],
}

impl Control<'_> {
    fn request(&self, number: u64) -> Result<Request, DecodeError> {
        if self.id.0 == 0 {
            return Err(self.refuse("its id must not be 0, because it has an answer"));
        }
        Ok(match self.op {
            Op::Hello => Request::Hello(self.map()?),
            Op::Subscribe => Request::Subscribe(self.map()?),
            Op::Unsubscribe => Request::Unsubscribe(self.map()?),
            Op::Consume => Request::Consume(self.map()?),
            Op::Pull => Request::Pull(self.map()?),
            Op::Ping if self.items == 2 => Request::Ping,
            Op::Ping => return Err(self.refuse("must be [9, id]")),
            Op::Create => Request::Create(self.create()?),
            Op::Alter => Request::Alter(self.alter()?),
            Op::Delete => Request::Delete(self.map()?),
            Op::List => Request::List(self.map()?),
            Op::Info => Request::Info(self.map()?),
            Op::Read => Request::Read(self.map()?),
            Op::Seek => Request::Seek(self.map()?),
            Op::Purge => Request::Purge(self.map()?),
            Op::PolicyList => {
                let PolicyListBody {} = self.map()?;
                Request::PolicyList
            }
            Op::PolicyStatus => Request::PolicyStatus(self.map()?),
            Op::PolicyRollback => Request::PolicyRollback(self.map()?),
            // Hot frames were taken before; the rest go from server to client.
            _ => return Err(DecodeError::UnknownOp { id: self.id, op: number }),
        })
    }

    fn refuse(&self, text: &str) -> DecodeError {
        DecodeError::field(self.id, format!("{}: {text}", self.op.name()))
    }

    /// The body as `T`, whose keys must be known and whose lengths within limits.
    fn map<T: DeserializeOwned + Check>(&self) -> Result<T, DecodeError> {
        self.is_map()?;
        self.typed(self.body)
    }

    fn is_map(&self) -> Result<(), DecodeError> {
        if self.items != 3 || Cursor::new(self.body).map_len().is_none() {
            let number = self.op as u8;
            return Err(self.refuse(&format!("must be [{number}, id, map]")));
        }
        Ok(())
    }

    fn typed<T: DeserializeOwned + Check>(&self, map: &[u8]) -> Result<T, DecodeError> {
        self.has_text_keys(map)?;
        let mut reader = rmp_serde::Deserializer::new(std::io::Cursor::new(map));
        let body = T::deserialize(&mut reader).map_err(|error| {
            let text = shorten(plain(&error));
            match key_at(map, reader.position() as usize) {
                Some(key) if !names_field(&text) => self.refuse(&format!("`{key}`: {text}")),
                _ => self.refuse(&text),
            }
        })?;
        body.check().map_err(|fault| fault.error(self.id, self.op))?;
        Ok(body)
    }

    /// A number would be taken for a key's place in the code.
    fn has_text_keys(&self, map: &[u8]) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(map);
        for _ in 0..cursor.map_len().expect("checked before") {
            cursor.text().ok_or_else(|| self.refuse("a key must be text"))?;
            cursor.skip().expect("the frame was walked");
        }
        Ok(())
    }

    fn create(&self) -> Result<Create, DecodeError> {
        let (kind, rest) = self.split_kind()?;
        Ok(match kind {
            "queue" => Create::Queue(self.typed(&rest)?),
            "stream" => Create::Stream(self.typed(&rest)?),
            "group" => Create::Group(self.typed(&rest)?),
            _ => return Err(self.refuse("`kind` must be queue, stream or group")),
        })
    }

    fn alter(&self) -> Result<Alter, DecodeError> {
        let (kind, rest) = self.split_kind()?;
        Ok(match kind {
            "queue" => Alter::Queue(self.typed(&rest)?),
            "stream" => Alter::Stream(self.typed(&rest)?),
            "group" => Alter::Group(self.typed(&rest)?),
            _ => return Err(self.refuse("`kind` must be queue, stream or group")),
        })
    }

    /// The value of `kind`, and the map without it: which keys are known depends
    /// on the kind, wherever in the map it stands.
    fn split_kind(&self) -> Result<(&str, Vec<u8>), DecodeError> {
        self.is_map()?;
        let mut cursor = Cursor::new(self.body);
        let pairs = cursor.map_len().expect("checked just now");
        let mut kind = None;
        let mut rest = Vec::with_capacity(self.body.len() + 5);
        wire::put_map_wide(&mut rest, pairs.saturating_sub(1));
        for _ in 0..pairs {
            let pair_at = cursor.at;
            let key = cursor.text().ok_or_else(|| self.refuse("a key must be text"))?;
            if key == "kind" && kind.is_none() {
                let value = cursor.text().ok_or_else(|| self.refuse("`kind` must be text"))?;
                kind = Some(value);
            } else {
                cursor.skip().expect("the frame was walked");
                rest.extend_from_slice(&self.body[pair_at..cursor.at]);
            }
        }
        Ok((kind.ok_or_else(|| self.refuse("missing field `kind`"))?, rest))
    }
}

/// Body of policy_list: no keys.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyListBody {}

impl Check for PolicyListBody {}

/// The error's own sentence, without what the decoder puts around it.
fn plain(error: &rmp_serde::decode::Error) -> String {
    use rmp_serde::decode::Error;
    match error {
        Error::Syntax(text) | Error::Uncategorized(text) => text.clone(),
        Error::Utf8Error(_) => "text is not UTF-8".into(),
        Error::OutOfRange => "number out of range".into(),
        Error::TypeMismatch(marker) => {
            format!("invalid type: {}, expected another", wire::type_name(marker.to_u8()))
        }
        other => other.to_string(),
    }
}

/// Whether the sentence is one about a field that it names itself.
fn names_field(text: &str) -> bool {
    ["unknown field", "missing field", "duplicate field"]
        .iter()
        .any(|start| text.starts_with(start))
}

/// The key of the map whose value the decoder had reached at byte `position`.
fn key_at(map: &[u8], position: usize) -> Option<String> {
    let mut cursor = Cursor::new(map);
    for _ in 0..cursor.map_len()? {
        let key = cursor.text()?;
        if position <= cursor.at {
            return None;
        }
        cursor.skip()?;
        if position <= cursor.at {
            return Some(key.escape_default().to_string());
        }
    }
    None
}
