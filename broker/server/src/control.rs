//! Requests that change or show what exists: queues, streams, groups, policies.
//!
//! Changes take turns on the catalogue's lock. A new thing enters the directory
//! while a place in its shard's inbox is held, so nobody can publish to it before
//! its shard knows of it.

use std::sync::Arc;

use weir_core::command::{
    Command, DestinationId, GroupConfig, Level, QueueConfig, RequestId, Start, StreamConfig,
};
use weir_core::directory::{self, Settings};
use weir_core::name::{Name, NameError, Pattern};
use weir_core::rejection::Rejection;
use weir_protocol::{
    Alter, Create, CreateQueue, CreateStream, ErrorCode, Kind, ListAnswer, PolicyListAnswer,
    PolicyStatusAnswer, Request, Target, WireError, limits,
};

use crate::broker::Broker;
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

type Answered = Result<Answer, WireError>;

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
        Request::Create(body) => create(broker, body).await?,
        Request::Alter(body) => alter(broker, body).await?,
        Request::Delete(body) => delete(broker, &body).await?,
        Request::List(body) => Ok(Answer::List(list(broker, &body))),
        Request::Info(body) => info(broker, outbox, request, &body).await?,
        Request::Read(body) => match broker.find_stream(&body.stream) {
            Err(error) => Err(error),
            Ok((stream, shard)) => {
                let command = Command::Read {
                    connection,
                    request,
                    stream,
                    partition: body.partition,
                    from: start(body.from),
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
                    to: start(body.to),
                };
                later(broker, shard, command).await?
            }
        },
        Request::Purge(body) => match broker.find_queue(&body.queue) {
            Err(error) => Err(error),
            Ok((id, shard)) => {
                later(broker, shard, Command::Purge { connection, request, id }).await?
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
    broker.shards.send(shard, vec![command], 0).await?;
    Ok(Ok(Answer::Later))
}

fn start(start: weir_protocol::Start) -> Start {
    match start {
        weir_protocol::Start::Earliest => Start::Earliest,
        weir_protocol::Start::Latest => Start::Latest,
        weir_protocol::Start::Offset(offset) => Start::Offset(offset),
        weir_protocol::Start::TimeMs(time_ms) => Start::Time(time_ms),
    }
}

/// The level asked for, when the broker's store reaches it.
fn level(broker: &Broker, asked: weir_protocol::Level) -> Result<Level, WireError> {
    let level = wire::level_asked(asked);
    if level <= broker.level_max {
        return Ok(level);
    }
    let safest = wire::level(broker.level_max);
    Err(WireError {
        code: ErrorCode::LevelUnsupported,
        message: format!("this broker's store reaches level {safest:?}, {asked:?} is beyond it")
            .to_lowercase()
            .into(),
        hint: "leave `level` out for the safest there is".into(),
    })
}

fn checked(name: &str, subjects: &[String]) -> Result<(Name, Vec<Pattern>), WireError> {
    let parsed = Name::parse(name).map_err(|error| bad_name(name, &error))?;
    if subjects.is_empty() {
        let own = parsed.to_pattern();
        return Ok((parsed, vec![own]));
    }
    let parse = |text: &String| Pattern::parse(text).map_err(|error| bad_name(text, &error));
    Ok((parsed, subjects.iter().map(parse).collect::<Result<_, _>>()?))
}

async fn create(broker: &Broker, mut body: Create) -> Result<Answered, Stopping> {
    let mut catalogue = broker.catalogue.lock().await;
    // What is kept of it names its level, so that another store does not change it.
    if let Create::Queue(CreateQueue { level, .. }) | Create::Stream(CreateStream { level, .. }) =
        &mut body
    {
        level.get_or_insert(wire::level(broker.level_max));
    }
    let (key, value) = wire::catalogue_entry(&body);
    let created = match body {
        Create::Queue(queue) => create_queue(broker, &queue).await?,
        Create::Stream(stream) => create_stream(broker, &stream).await?,
        Create::Group(group) => create_group(broker, &group).await?,
    };
    if created.is_ok() {
        let revision = catalogue.get(&key).map_or(0, |entry| entry.revision);
        if let Err(failure) = catalogue.put(&key, Some(value), revision) {
            return Ok(Err(WireError::new(ErrorCode::Internal, failure.to_string())));
        }
    }
    Ok(created)
}

async fn create_queue(broker: &Broker, body: &CreateQueue) -> Result<Answered, Stopping> {
    let config = |level| QueueConfig {
        messages_max: body.messages_max,
        bytes_max: body.bytes_max,
        level,
        order: body.order as u8,
    };
    let settings = level(broker, body.level.unwrap_or_default());
    let settings = settings.map(|level| Settings::Queue(config(level)));
    create_destination(broker, &body.name, &body.subjects, body.if_absent, settings).await
}

async fn create_stream(broker: &Broker, body: &CreateStream) -> Result<Answered, Stopping> {
    let partitions_max = weir_core::limits::PARTITIONS_MAX;
    if !(1..=partitions_max).contains(&body.partitions) {
        let text = format!("partitions: {} is not 1 to {partitions_max}", body.partitions);
        return Ok(Err(WireError::new(ErrorCode::LimitReached, text)));
    }
    let config = |level| StreamConfig {
        partitions: body.partitions,
        messages_max: body.messages_max,
        bytes_max: body.bytes_max,
        age_ms_max: body.age_ms_max,
        level,
    };
    let settings = level(broker, body.level.unwrap_or_default());
    let settings = settings.map(|level| Settings::Stream(config(level)));
    create_destination(broker, &body.name, &body.subjects, body.if_absent, settings).await
}

async fn create_destination(
    broker: &Broker,
    name: &str,
    subjects: &[String],
    if_absent: bool,
    settings: Result<Settings, WireError>,
) -> Result<Answered, Stopping> {
    let checked = settings.and_then(|settings| Ok((settings, checked(name, subjects)?)));
    let (settings, (parsed, patterns)) = match checked {
        Err(error) => return Ok(Err(error)),
        Ok(checked) => checked,
    };
    let shard = broker.directory().shard_of(name);
    let place = broker.shards.reserve(shard).await?;
    Ok(broker.change(|directory| {
        let found = directory.find(name).map(|found| found.kind());
        if if_absent && found == Some(settings.kind()) {
            return Ok(Answer::Empty);
        }
        let created = directory.create(&parsed, patterns, settings.clone());
        let created = created.map_err(|error| exists(error, kind(&settings), name))?;
        if created.is_new {
            let (id, name) = (created.id, name.to_owned());
            place.send(match settings {
                Settings::Queue(config) => Command::CreateQueue { id, name, config },
                Settings::Stream(config) => Command::CreateStream { id, name, config },
            });
        }
        Ok(Answer::Empty)
    }))
}

async fn create_group(
    broker: &Broker,
    body: &weir_protocol::CreateGroup,
) -> Result<Answered, Stopping> {
    let group = match Name::parse_group(&body.name) {
        Err(error) => return Ok(Err(bad_name(&body.name, &error))),
        Ok(group) => group,
    };
    let (stream, shard) = match broker.find_stream(&body.stream) {
        Err(error) => return Ok(Err(error)),
        Ok(found) => found,
    };
    let options = wire::json_text(&body.options);
    let config = GroupConfig { start: start(body.start), order: body.order as u8, options };
    let place = broker.shards.reserve(shard).await?;
    Ok(broker.change(|directory| {
        let has = directory.find(&body.stream).is_some_and(|it| it.groups.contains_key(&body.name));
        if body.if_absent && has {
            return Ok(Answer::Empty);
        }
        let created = directory.create_group(&body.stream, &group, config.clone());
        let created = created.map_err(|error| exists(error, Kind::Group, &body.name))?;
        if created.is_new {
            place.send(Command::PutGroup { stream, group: body.name.clone(), config });
        }
        Ok(Answer::Empty)
    }))
}

fn kind(settings: &Settings) -> Kind {
    match settings {
        Settings::Queue(_) => Kind::Queue,
        Settings::Stream(_) => Kind::Stream,
    }
}

fn exists(rejection: Rejection, kind: Kind, name: &str) -> WireError {
    if rejection != Rejection::Exists {
        return wire::rejected(rejection, name);
    }
    let kind = wire::kind_word(kind);
    WireError {
        code: ErrorCode::Exists,
        message: format!("`{name}` exists already with other settings").into(),
        hint: format!("look: weir {kind} info {name}; change: weir {kind} alter {name}").into(),
    }
}

fn bad_name(name: &str, error: &NameError) -> WireError {
    WireError::new(ErrorCode::BadRequest, format!("`{name}` {error}"))
}

async fn alter(broker: &Broker, body: Alter) -> Result<Answered, Stopping> {
    let _turn = broker.catalogue.lock().await;
    match body {
        Alter::Queue(body) => {
            let found = broker.find_queue(&body.name);
            let change = |settings: &mut Settings| {
                if let Settings::Queue(config) = settings {
                    config.messages_max = body.messages_max.unwrap_or(config.messages_max);
                    config.bytes_max = body.bytes_max.unwrap_or(config.bytes_max);
                    config.order = body.order.map_or(config.order, |order| order as u8);
                    config.level =
                        body.level.map_or(Ok(config.level), |asked| level(broker, asked))?;
                }
                Ok(())
            };
            alter_destination(broker, found, &body.name, body.subjects.as_deref(), change).await
        }
        Alter::Stream(body) => {
            let found = broker.find_stream(&body.name);
            let change = |settings: &mut Settings| {
                if let Settings::Stream(config) = settings {
                    config.messages_max = body.messages_max.unwrap_or(config.messages_max);
                    config.bytes_max = body.bytes_max.unwrap_or(config.bytes_max);
                    config.age_ms_max = body.age_ms_max.unwrap_or(config.age_ms_max);
                    config.level =
                        body.level.map_or(Ok(config.level), |asked| level(broker, asked))?;
                }
                Ok(())
            };
            alter_destination(broker, found, &body.name, body.subjects.as_deref(), change).await
        }
        Alter::Group(body) => alter_group(broker, &body).await,
    }
}

async fn alter_destination(
    broker: &Broker,
    found: Result<(DestinationId, u32), WireError>,
    name: &str,
    subjects: Option<&[String]>,
    change: impl FnOnce(&mut Settings) -> Result<(), WireError>,
) -> Result<Answered, Stopping> {
    let patterns = subjects.map(|subjects| checked(name, subjects)).transpose();
    let ((id, shard), patterns) = match found.and_then(|found| Ok((found, patterns?))) {
        Err(error) => return Ok(Err(error)),
        Ok(checked) => checked,
    };
    let place = broker.shards.reserve(shard).await?;
    Ok(broker.change(|directory| {
        let found = directory.by_id(id).ok_or_else(|| gone(name))?;
        let mut settings = found.settings.clone();
        change(&mut settings)?;
        directory
            .alter(name, patterns.map(|(_, patterns)| patterns), settings.clone())
            .map_err(|error| wire::rejected(error, name))?;
        place.send(match settings {
            Settings::Queue(config) => Command::AlterQueue { id, config },
            Settings::Stream(config) => Command::AlterStream { id, config },
        });
        Ok(Answer::Empty)
    }))
}

async fn alter_group(
    broker: &Broker,
    body: &weir_protocol::AlterGroup,
) -> Result<Answered, Stopping> {
    let (stream, shard) = match broker.find_group(&body.stream, &body.name) {
        Err(error) => return Ok(Err(error)),
        Ok(found) => found,
    };
    let place = broker.shards.reserve(shard).await?;
    Ok(broker.change(|directory| {
        let found = directory.by_id(stream).and_then(|it| it.groups.get(&body.name));
        let mut config = found.ok_or_else(|| gone(&body.name))?.clone();
        config.order = body.order.map_or(config.order, |order| order as u8);
        if let Some(options) = &body.options {
            config.options = wire::json_text(options);
        }
        directory
            .alter_group(&body.stream, &body.name, config.clone())
            .map_err(|error| wire::rejected(error, &body.name))?;
        place.send(Command::PutGroup { stream, group: body.name.clone(), config });
        Ok(Answer::Empty)
    }))
}

fn gone(name: &str) -> WireError {
    WireError::new(ErrorCode::NotFound, format!("`{name}` was deleted meanwhile"))
}

async fn delete(broker: &Broker, body: &Target) -> Result<Answered, Stopping> {
    let mut catalogue = broker.catalogue.lock().await;
    let found = find(broker, body);
    let (id, shard) = match found {
        Err(error) => return Ok(Err(error)),
        Ok(found) => found,
    };
    let place = broker.shards.reserve(shard).await?;
    let deleted = broker.change(|directory| {
        let name = body.name.as_str();
        match body.kind {
            Kind::Group => {
                let stream = body.stream.as_deref().unwrap_or_default();
                directory.delete_group(stream, name)?;
                place.send(Command::DeleteGroup { stream: id, group: name.to_owned() });
            }
            Kind::Queue => {
                // By the number it has now: a shard may have made it anew since.
                let gone = directory.delete(name, directory::Kind::Queue)?;
                place.send(Command::Delete { id: gone.id });
            }
            Kind::Stream => {
                let gone = directory.delete(name, directory::Kind::Stream)?;
                place.send(Command::Delete { id: gone.id });
            }
        }
        Ok(())
    });
    if let Err(rejection) = deleted {
        return Ok(Err(wire::rejected(rejection, &body.name)));
    }
    let key = wire::catalogue_key(body.kind, body.stream.as_deref(), &body.name);
    if let Some(entry) = catalogue.get(&key)
        && let Err(failure) = catalogue.put(&key, None, entry.revision)
    {
        return Ok(Err(WireError::new(ErrorCode::Internal, failure.to_string())));
    }
    Ok(Ok(Answer::Empty))
}

fn find(broker: &Broker, target: &Target) -> Result<(DestinationId, u32), WireError> {
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
        Asked {
            group: (body.kind == Kind::Group).then(|| body.name.clone()),
            name: found.name.clone(),
            subjects: found.subjects.iter().map(ToString::to_string).collect(),
            settings: found.settings.clone(),
            groups: found.groups.clone(),
        }
    };
    outbox.push(|pen| pen.expect(request, Pending::Info(Box::new(asked))));
    later(broker, shard, Command::Info { connection: outbox.connection, request, id }).await
}

fn list(broker: &Broker, body: &weir_protocol::List) -> ListAnswer {
    let items_max =
        body.items_max.unwrap_or(limits::LIST_ITEMS_MAX).clamp(1, limits::LIST_ITEMS_MAX);
    let mut items = crate::info::list_items(&broker.directory());
    items.retain(|(key, item)| {
        body.kind.is_none_or(|kind| kind == item.kind)
            && body.after.as_ref().is_none_or(|after| key > after)
    });
    items.sort_by(|a, b| a.0.cmp(&b.0));
    let more = items.len() > items_max as usize;
    items.truncate(items_max as usize);
    let next = if more { items.last().map(|(key, _)| key.clone()) } else { None };
    ListAnswer { items: items.into_iter().map(|(_, item)| item).collect(), next }
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
