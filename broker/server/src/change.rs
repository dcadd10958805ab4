//! Requests that make, change and remove queues, streams and groups.
//!
//! They take turns on the catalogue. What is made or changed is in the catalogue,
//! safe on disk, before the directory and the shard learn of it, and what is removed
//! is out of it before they do: whoever was answered finds it so after a crash. A
//! new thing enters the directory while a place in its shard's inbox is held, so
//! nobody can publish to it before its shard knows of it.

use weir_core::command::{Command, DestinationId, GroupConfig, Level, QueueConfig, StreamConfig};
use weir_core::directory::{self, Settings};
use weir_core::name::{Name, NameError, Pattern};
use weir_core::rejection::Rejection;
use weir_protocol::{
    Alter, AlterGroup, Create, CreateGroup, CreateQueue, CreateStream, ErrorCode, Kind, Target,
    WireError,
};

use crate::books::Turn;
use crate::broker::Broker;
use crate::control::{Answer, Answered, find, gone};
use crate::kept::{Kept, is_made_by_broker};
use crate::shards::{Place, Stopping};
use crate::wire;

/// A change that a session waits for: the broker may stop meanwhile, or the client
/// be refused.
type Changed = Result<Result<(), WireError>, Stopping>;

fn answered(changed: Result<(), WireError>) -> Answered {
    changed.map(|()| Answer::Empty)
}

/// Makes something.
///
/// # Errors
/// [`Stopping`]; what the client is told is the inner one.
pub(crate) async fn create(broker: &Broker, body: Create) -> Result<Answered, Stopping> {
    let turn = broker.books.turn().await;
    let created = match body {
        Create::Queue(queue) => {
            let (if_absent, asked) = (queue.if_absent, queue_asked(broker, &queue));
            create_destination(broker, &turn, asked, if_absent).await?
        }
        Create::Stream(stream) => {
            let (if_absent, asked) = (stream.if_absent, stream_asked(broker, &stream));
            create_destination(broker, &turn, asked, if_absent).await?
        }
        Create::Group(group) => create_group(broker, &turn, &group).await?,
    };
    Ok(answered(created))
}

/// A queue or stream that is asked for.
struct Asked {
    name: Name,
    subjects: Vec<Pattern>,
    settings: Settings,
}

fn queue_asked(broker: &Broker, body: &CreateQueue) -> Result<Asked, WireError> {
    let level = level(broker, body.level)?;
    let (name, subjects) = checked(&body.name, &body.subjects)?;
    let settings = Settings::Queue(QueueConfig {
        messages_max: body.messages_max,
        bytes_max: body.bytes_max,
        level,
        order: body.order as u8,
    });
    Ok(Asked { name, subjects, settings })
}

fn stream_asked(broker: &Broker, body: &CreateStream) -> Result<Asked, WireError> {
    let partitions_max = weir_core::limits::PARTITIONS_MAX;
    if !(1..=partitions_max).contains(&body.partitions) {
        let text = format!("partitions: {} is not 1 to {partitions_max}", body.partitions);
        return Err(WireError::new(ErrorCode::LimitReached, text));
    }
    let level = level(broker, body.level)?;
    let (name, subjects) = checked(&body.name, &body.subjects)?;
    let settings = Settings::Stream(StreamConfig {
        partitions: body.partitions,
        messages_max: body.messages_max,
        bytes_max: body.bytes_max,
        age_ms_max: body.age_ms_max,
        level,
        compact: body.compact,
        tombstone_ms: body.tombstone_ms.unwrap_or(weir_core::limits::TOMBSTONE_MS),
    });
    Ok(Asked { name, subjects, settings })
}

/// The level asked for, when the broker's store reaches it, or that of whoever asks
/// for none.
fn level(broker: &Broker, asked: Option<weir_protocol::Level>) -> Result<Level, WireError> {
    let Some(asked) = asked else { return Ok(broker.level_default) };
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
        lost: None,
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

async fn create_destination(
    broker: &Broker,
    turn: &Turn<'_>,
    asked: Result<Asked, WireError>,
    if_absent: bool,
) -> Changed {
    let Asked { name, subjects, settings } = match asked {
        Err(error) => return Ok(Err(error)),
        Ok(asked) => asked,
    };
    let found = broker.directory().find(name.as_str()).cloned();
    if let Some(found) = found {
        if !(if_absent && found.kind() == settings.kind()) {
            let kind = kind(&settings);
            let same = broker.change(|directory| directory.create(&name, subjects, settings));
            if let Err(error) = same {
                return Ok(Err(exists(error, kind, name.as_str())));
            }
        }
        return Ok(make_sure(turn, &found).await);
    }
    let shard = broker.directory().shard_of(name.as_str());
    let place = broker.shards.reserve(shard).await?;
    let kept = Kept::destination(name.as_str(), &subjects, &settings);
    if let Err(error) = turn.put(&kept.key(), Some(kept.encode())).await {
        return Ok(Err(error));
    }
    let made = enter(broker, &name, subjects, settings, place);
    if made.is_err() {
        // Nothing came of it; a crash before this leaves one that nobody was told of.
        if let Err(error) = turn.put(&kept.key(), None).await {
            return Ok(Err(error));
        }
    }
    Ok(made)
}

/// Makes sure that a queue or stream that is there has its entry: one that the
/// broker made by itself may not have had its turn yet.
async fn make_sure(turn: &Turn<'_>, found: &directory::Destination) -> Result<(), WireError> {
    let kept = Kept::destination(&found.name, &found.subjects, &found.settings);
    if turn.get(&kept.key()).await.is_some() {
        return Ok(());
    }
    turn.put(&kept.key(), Some(kept.encode())).await
}

fn enter(
    broker: &Broker,
    name: &Name,
    subjects: Vec<Pattern>,
    settings: Settings,
    place: Place<'_>,
) -> Result<(), WireError> {
    broker.change(|directory| {
        let created = directory.create(name, subjects, settings.clone());
        let created = created.map_err(|error| exists(error, kind(&settings), name.as_str()))?;
        if created.is_new {
            let (id, name) = (created.id, name.as_str().to_owned());
            place.send(match settings {
                Settings::Queue(config) => Command::CreateQueue { id, name, config },
                Settings::Stream(config) => Command::CreateStream { id, name, config },
            });
        }
        Ok(())
    })
}

async fn create_group(broker: &Broker, turn: &Turn<'_>, body: &CreateGroup) -> Changed {
    let group = match Name::parse_group(&body.name) {
        Err(error) => return Ok(Err(bad_name(&body.name, &error))),
        Ok(group) => group,
    };
    let (stream, shard) = match broker.find_stream(&body.stream) {
        Err(error) => return Ok(Err(error)),
        Ok(found) => found,
    };
    let options = wire::json_text(&body.options);
    let config = GroupConfig { start: wire::start(body.start), order: body.order as u8, options };
    let enter = |place: Option<Place<'_>>| {
        broker.change(|directory| {
            let created = directory.create_group(&body.stream, &group, config.clone());
            let created = created.map_err(|error| exists(error, Kind::Group, &body.name))?;
            if let (true, Some(place)) = (created.is_new, place) {
                let (group, config) = (body.name.clone(), config.clone());
                place.send(Command::PutGroup { stream, group, config });
            }
            Ok(())
        })
    };
    // Turns are taken, so it is not made or removed meanwhile.
    if broker.find_group(&body.stream, &body.name).is_ok() {
        return Ok(if body.if_absent { Ok(()) } else { enter(None) });
    }
    let place = broker.shards.reserve(shard).await?;
    let kept = Kept::group(&body.stream, &body.name, &config);
    if let Err(error) = turn.put(&kept.key(), Some(kept.encode())).await {
        return Ok(Err(error));
    }
    let made = enter(Some(place));
    if made.is_err()
        && let Err(error) = turn.put(&kept.key(), None).await
    {
        return Ok(Err(error));
    }
    Ok(made)
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
        lost: None,
    }
}

fn bad_name(name: &str, error: &NameError) -> WireError {
    WireError::new(ErrorCode::BadRequest, format!("`{name}` {error}"))
}

/// Changes something.
///
/// # Errors
/// [`Stopping`]; what the client is told is the inner one.
pub(crate) async fn alter(broker: &Broker, body: Alter) -> Result<Answered, Stopping> {
    let turn = broker.books.turn().await;
    let altered = match body {
        Alter::Queue(body) => {
            let found = broker.find_queue(&body.name);
            let change = |settings: &mut Settings| {
                if let Settings::Queue(config) = settings {
                    config.messages_max = body.messages_max.unwrap_or(config.messages_max);
                    config.bytes_max = body.bytes_max.unwrap_or(config.bytes_max);
                    config.order = body.order.map_or(config.order, |order| order as u8);
                    if body.level.is_some() {
                        config.level = level(broker, body.level)?;
                    }
                }
                Ok(())
            };
            let subjects = body.subjects.as_deref();
            alter_destination(broker, &turn, found, (&body.name, subjects), change).await?
        }
        Alter::Stream(body) => {
            let found = broker.find_stream(&body.name);
            let change = |settings: &mut Settings| {
                if let Settings::Stream(config) = settings {
                    config.messages_max = body.messages_max.unwrap_or(config.messages_max);
                    config.bytes_max = body.bytes_max.unwrap_or(config.bytes_max);
                    config.age_ms_max = body.age_ms_max.unwrap_or(config.age_ms_max);
                    config.compact = body.compact.unwrap_or(config.compact);
                    config.tombstone_ms = body.tombstone_ms.unwrap_or(config.tombstone_ms);
                    if body.level.is_some() {
                        config.level = level(broker, body.level)?;
                    }
                }
                Ok(())
            };
            let subjects = body.subjects.as_deref();
            alter_destination(broker, &turn, found, (&body.name, subjects), change).await?
        }
        Alter::Group(body) => alter_group(broker, &turn, &body).await?,
    };
    Ok(answered(altered))
}

async fn alter_destination(
    broker: &Broker,
    turn: &Turn<'_>,
    found: Result<(DestinationId, u32), WireError>,
    (name, subjects): (&str, Option<&[String]>),
    change: impl FnOnce(&mut Settings) -> Result<(), WireError>,
) -> Changed {
    let patterns = subjects.map(|subjects| checked(name, subjects)).transpose();
    let shard_and_patterns = found.and_then(|(_, shard)| Ok((shard, patterns?)));
    let (shard, patterns) = match shard_and_patterns {
        Err(error) => return Ok(Err(error)),
        Ok(checked) => checked,
    };
    let place = broker.shards.reserve(shard).await?;
    let Some(before) = broker.directory().find(name).cloned() else { return Ok(Err(gone(name))) };
    let mut settings = before.settings.clone();
    if let Err(error) = change(&mut settings) {
        return Ok(Err(error));
    }
    let patterns = patterns.map(|(_, patterns)| patterns);
    let kept = Kept::destination(name, patterns.as_ref().unwrap_or(&before.subjects), &settings);
    if let Err(error) = turn.put(&kept.key(), Some(kept.encode())).await {
        return Ok(Err(error));
    }
    let altered = broker.change(|directory| {
        let altered = directory
            .alter(name, patterns, settings.clone())
            .map_err(|error| wire::rejected(error, name))?;
        // By the number it has now: a shard may have made it anew since.
        let id = altered.id;
        Ok(place.send_told(match settings {
            Settings::Queue(config) => Command::AlterQueue { id, config },
            Settings::Stream(config) => Command::AlterStream { id, config },
        }))
    });
    match altered {
        // Whoever hears that a queue is larger finds the room.
        Ok(done) => done.await.map(Ok).map_err(|_| Stopping),
        Err(refused) => {
            let kept = Kept::destination(name, &before.subjects, &before.settings);
            let put = turn.put(&kept.key(), Some(kept.encode())).await;
            Ok(Err(put.err().unwrap_or(refused)))
        }
    }
}

async fn alter_group(broker: &Broker, turn: &Turn<'_>, body: &AlterGroup) -> Changed {
    let (stream, shard) = match broker.find_group(&body.stream, &body.name) {
        Err(error) => return Ok(Err(error)),
        Ok(found) => found,
    };
    let place = broker.shards.reserve(shard).await?;
    let before = {
        let directory = broker.directory();
        directory.by_id(stream).and_then(|it| it.groups.get(&body.name)).cloned()
    };
    let Some(mut config) = before else { return Ok(Err(gone(&body.name))) };
    config.order = body.order.map_or(config.order, |order| order as u8);
    if let Some(options) = &body.options {
        config.options = wire::json_text(options);
    }
    let kept = Kept::group(&body.stream, &body.name, &config);
    if let Err(error) = turn.put(&kept.key(), Some(kept.encode())).await {
        return Ok(Err(error));
    }
    Ok(broker.change(|directory| {
        directory
            .alter_group(&body.stream, &body.name, config.clone())
            .map_err(|error| wire::rejected(error, &body.name))?;
        place.send(Command::PutGroup { stream, group: body.name.clone(), config });
        Ok(())
    }))
}

/// Removes something. Answered when it cannot come back.
///
/// # Errors
/// [`Stopping`]; what the client is told is the inner one.
pub(crate) async fn delete(broker: &Broker, body: &Target) -> Result<Answered, Stopping> {
    let turn = broker.books.turn().await;
    let shard = match find(broker, body) {
        Err(error) => return Ok(Err(error)),
        Ok((_, shard)) => shard,
    };
    let place = broker.shards.reserve(shard).await?;
    // A start makes anew a queue that the broker may have made and that it finds without
    // an entry. So the entry of one goes last: its removal is safe only when all before it is.
    let is_own = body.kind == Kind::Queue && is_made_by_broker(&body.name);
    if is_own {
        let found = broker.directory().find(&body.name).cloned();
        if let Some(found) = found
            && let Err(mut error) = make_sure(&turn, &found).await
        {
            if error.code == ErrorCode::NoSpace {
                // A purge needs no entry, and gives back what the queue takes: that may be little.
                error.hint = format!(
                    "free space on the broker's disk; where the queue holds much of it, a purge \
                     may be enough: weir queue purge {}",
                    body.name
                )
                .into();
            }
            return Ok(Err(error));
        }
    } else if let Err(error) = forget(&turn, body).await {
        return Ok(Err(error));
    }
    if let Err(error) = leave(broker, body, place).await? {
        return Ok(Err(error));
    }
    if is_own && let Err(error) = forget(&turn, body).await {
        return Ok(Err(error));
    }
    Ok(Ok(Answer::Empty))
}

/// Takes it out of the catalogue, a stream with its groups.
async fn forget(turn: &Turn<'_>, body: &Target) -> Result<(), WireError> {
    turn.put(&wire::catalogue_key(body.kind, body.stream.as_deref(), &body.name), None).await?;
    if body.kind == Kind::Stream {
        let prefix = wire::catalogue_key(Kind::Group, Some(&body.name), "");
        for key in turn.keys(&prefix).await {
            // A name behind a further slash belongs to a group of another stream.
            if !key[prefix.len()..].contains('/') {
                turn.put(&key, None).await?;
            }
        }
    }
    Ok(())
}

/// Takes it out of the directory and its shard. When that has dropped it, what it
/// held is gone in every order of events that the disk may come to know.
async fn leave(broker: &Broker, body: &Target, place: Place<'_>) -> Changed {
    let name = body.name.as_str();
    let left = broker.change(|directory| match body.kind {
        Kind::Group => {
            let stream = body.stream.as_deref().unwrap_or_default();
            let found = directory.delete_group(stream, name)?;
            let group = name.to_owned();
            Ok(place.send_told(Command::DeleteGroup { stream: found.id, group }))
        }
        Kind::Queue => {
            // By the number it has now: a shard may have made it anew since.
            let gone = directory.delete(name, directory::Kind::Queue)?;
            Ok(place.send_told(Command::Delete { id: gone.id }))
        }
        Kind::Stream => {
            let gone = directory.delete(name, directory::Kind::Stream)?;
            Ok(place.send_told(Command::Delete { id: gone.id }))
        }
    });
    match left {
        Err(rejection) => Ok(Err(wire::rejected(rejection, name))),
        Ok(done) => done.await.map(Ok).map_err(|_| Stopping),
    }
}
