//! Requests that are not on the path of messages. What shows something, moves a
//! group or concerns policies is here; what changes queues, streams and groups is
//! in `change.rs`.

use std::sync::Arc;

use weir_core::command::{Command, DestinationId, RequestId};
use weir_protocol::{
    ErrorCode, Kind, ListAnswer, PolicyListAnswer, PolicyStatusAnswer, Request, Target, WireError,
    limits,
};

use crate::broker::Broker;
use crate::change;
use crate::outbox::{Outbox, Pending};
use crate::shards::Stopping;
use crate::wire::{self, Asked};

/// What a request is answered with now.
#[derive(Debug)]
pub enum Answer {
    /// Done.
    Empty,
    /// A list.
    List(ListAnswer),
    /// The policies.
    Policies(PolicyListAnswer),
    /// The bindings.
    Bindings(PolicyStatusAnswer),
    /// One binding.
    Binding(Box<weir_protocol::BindingStatus>),
    /// A shard answers.
    Later,
}

impl Answer {
    /// Writes the answer to request `id`.
    pub fn encode(&self, out: &mut Vec<u8>, id: u32) {
        match self {
            Self::Empty => wire::ok(out, id, &weir_protocol::Empty {}),
            Self::List(answer) => wire::ok(out, id, answer),
            Self::Policies(answer) => wire::ok(out, id, answer),
            Self::Bindings(answer) => wire::ok(out, id, answer),
            Self::Binding(answer) => wire::ok(out, id, answer),
            Self::Later => {}
        }
    }
}

pub(crate) type Answered = Result<Answer, WireError>;

/// Carries out one control request of a session.
///
/// # Errors
/// [`Stopping`] when the broker stops; what the client is told is the inner one.
pub async fn perform(
    broker: &Broker,
    outbox: &Arc<Outbox>,
    request: RequestId,
    what: Request,
) -> Result<Answered, Stopping> {
    let connection = outbox.connection;
    Ok(match what {
        Request::Create(body) => change::create(broker, body).await?,
        Request::Alter(body) => change::alter(broker, body).await?,
        Request::Delete(body) => change::delete(broker, &body).await?,
        Request::List(body) => {
            // It looks at all there is: others have their turn between two of them.
            tokio::task::yield_now().await;
            Ok(Answer::List(list(broker, &body)))
        }
        Request::Info(body) => info(broker, outbox, request, &body).await?,
        Request::Read(body) => match broker.find_stream(&body.stream) {
            Err(error) => Err(error),
            Ok((stream, shard)) => {
                let command = Command::Read {
                    connection,
                    request,
                    stream,
                    partition: body.partition,
                    from: wire::start(body.from),
                    messages_max: body.messages_max.unwrap_or(limits::READ_MESSAGES_DEFAULT),
                    bytes_max: body.bytes_max.unwrap_or(limits::READ_BYTES_MAX),
                };
                outbox.push(|pen| pen.expect(request, Pending::Read));
                later(broker, shard, command).await?
            }
        },
        Request::Seek(body) => match broker.find_group(&body.stream, &body.group) {
            Err(error) => Err(error),
            Ok((stream, shard)) => {
                let command = Command::Seek {
                    connection,
                    request,
                    stream,
                    group: body.group,
                    partition: body.partition,
                    to: wire::start(body.to),
                };
                alone(broker, shard, command).await?
            }
        },
        Request::Purge(body) => match broker.find_queue(&body.queue) {
            Err(error) => Err(error),
            Ok((id, shard)) => {
                alone(broker, shard, Command::Purge { connection, request, id }).await?
            }
        },
        Request::PolicyList => {
            Ok(Answer::Policies(crate::policy_info::list(&broker.policies.list())))
        }
        Request::PolicyStatus(body) => policy_status(broker, body.binding.as_deref()),
        Request::PolicyRollback(body) => policy_rollback(broker, body.binding).await,
        _ => Err(WireError::new(ErrorCode::Internal, "misplaced request")),
    })
}

async fn later(broker: &Broker, shard: u32, command: Command) -> Result<Answered, Stopping> {
    broker.shards.send(shard, vec![command]).await?;
    Ok(Ok(Answer::Later))
}

/// What a request says of a thing that is not there any more.
pub(crate) fn gone(name: &str) -> WireError {
    WireError::new(ErrorCode::NotFound, format!("`{name}` was deleted meanwhile"))
}

/// Number and shard of what a request names, or of a group's stream.
pub(crate) fn find(broker: &Broker, target: &Target) -> Result<(DestinationId, u32), WireError> {
    match target.kind {
        Kind::Queue => broker.find_queue(&target.name),
        Kind::Stream => broker.find_stream(&target.name),
        Kind::Group => match &target.stream {
            Some(stream) => broker.find_group(stream, &target.name),
            None => Err(WireError::new(ErrorCode::BadRequest, "a group needs its `stream`")),
        },
    }
}

async fn info(
    broker: &Broker,
    outbox: &Arc<Outbox>,
    request: RequestId,
    body: &Target,
) -> Result<Answered, Stopping> {
    let (id, shard) = match find(broker, body) {
        Err(error) => return Ok(Err(error)),
        Ok(found) => found,
    };
    let asked = {
        let directory = broker.directory();
        let Some(found) = directory.by_id(id) else { return Ok(Err(gone(&body.name))) };
        let group = (body.kind == Kind::Group).then(|| body.name.clone());
        let groups = found.groups.iter();
        let groups = groups.filter(|(name, _)| group.as_ref().is_none_or(|group| group == *name));
        Asked {
            groups: groups.map(|(name, config)| (name.clone(), config.clone())).collect(),
            group,
            name: found.name.to_string(),
            subjects: found.subjects.iter().map(ToString::to_string).collect(),
            settings: found.settings.clone(),
        }
    };
    outbox.push(|pen| pen.expect(request, Pending::Info(Box::new(asked))));
    alone(broker, shard, Command::Info { connection: outbox.connection, request, id }).await
}

/// As `later`, for what may look at all that a queue or stream holds: the next request of the
/// connection is not read before the shard has done that, and then others have their turn.
async fn alone(broker: &Broker, shard: u32, command: Command) -> Result<Answered, Stopping> {
    broker.shards.send_and_wait(shard, vec![command]).await?;
    Ok(Ok(Answer::Later))
}

fn list(broker: &Broker, body: &weir_protocol::List) -> ListAnswer {
    crate::list::list(&broker.directory(), body)
}

fn policy_status(broker: &Broker, binding: Option<&str>) -> Answered {
    let bindings = broker.policies.status(binding);
    if let (Some(binding), true) = (binding, bindings.is_empty()) {
        return Err(WireError::new(
            ErrorCode::NotFound,
            format!("there is no binding `{binding}`"),
        ));
    }
    let counters = broker.policies.counters();
    Ok(Answer::Bindings(crate::policy_info::status(&bindings, counters, binding.is_some())))
}

async fn policy_rollback(broker: &Broker, binding: String) -> Answered {
    // Waits for the loader's thread, which may be compiling something.
    let policies = broker.policies.clone();
    let done = tokio::task::spawn_blocking(move || policies.rollback(&binding)).await;
    match done {
        Ok(Ok(status)) => Ok(Answer::Binding(Box::new(crate::policy_info::binding(&status)))),
        Ok(Err(error)) => Err(crate::policy_info::rollback_refused(&error)),
        Err(failure) => Err(WireError::new(ErrorCode::Internal, failure.to_string())),
    }
}
