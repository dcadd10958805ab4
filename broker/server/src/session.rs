//! What the protocol knows about one connection: login state, subscriptions,
//! requests turned into commands.
//!
//! Owned by the connection's read task. The only place where wire types become
//! core types (the way back is `wire.rs`). Publishes of one read are handed over
//! together; any other request first hands over what came before it, so order on
//! a connection is the order of effects.

mod flood;
mod gathering;
mod hand_over;
pub mod publish;
pub mod route;
mod run;
mod settle;
mod stranger;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use weir_core::command::{Command, RequestId, Source, SubscriptionId};
use weir_protocol::{
    Consume, DecodeError, ErrorCode, Op, Request, Subscribe, WireError, decode_request, limits,
};

use crate::broker::Broker;
use crate::connection::cut;
use crate::control::{self, Answer};
use crate::limits::{PUBLISH_ROWS_MAX, READ_FRAMES_MAX, SETTLE_STEPS_MAX};
use crate::outbox::{Freed, ListenerId, Outbox, Pending};
use crate::session::publish::Publisher;
use crate::shards::Stopping;
use crate::wire;

/// The connection must end, and why.
#[derive(Clone, Copy, Debug)]
pub struct Ended(pub &'static str);

impl From<Stopping> for Ended {
    fn from(_: Stopping) -> Self {
        Self("the broker stops")
    }
}

#[derive(Clone, Copy, Debug)]
enum Subscribed {
    Channel {
        listener: ListenerId,
    },
    Consumer {
        shard: u32,
    },
    /// A consumer that was asked to leave: its shard may still have something to
    /// say of it, so its number is taken until the shard has answered.
    Leaving,
}

/// One client's session.
pub struct Session {
    broker: Arc<Broker>,
    outbox: Arc<Outbox>,
    open: bool,
    subscriptions: HashMap<SubscriptionId, Subscribed, RandomState>,
    /// Shards that know of a consumer of ours.
    shards_used: HashSet<u32, RandomState>,
    /// Shards in which this client makes room, by consuming or by a purge.
    makes_room: HashSet<u32, RandomState>,
    publisher: Publisher,
    /// Commands of the read at hand, per shard, in order.
    commands: Vec<(u32, Vec<Command>)>,
    /// What the settlements among them cost a shard at most: see [`SETTLE_STEPS_MAX`].
    steps: u64,
    /// Scratch: where frames lie in a chunk.
    frames: Vec<(usize, usize)>,
}

impl Session {
    /// A session that waits for its hello.
    #[must_use]
    pub fn new(broker: Arc<Broker>, outbox: Arc<Outbox>) -> Self {
        Self {
            broker,
            outbox,
            open: false,
            subscriptions: HashMap::default(),
            shards_used: HashSet::default(),
            makes_room: HashSet::default(),
            publisher: Publisher::default(),
            commands: Vec::new(),
            steps: 0,
            frames: Vec::new(),
        }
    }

    /// Whether the hello was said.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Answers a client that has not said hello in time.
    pub fn refuse_late_hello(&self) {
        let error = WireError::new(ErrorCode::HelloFirst, "no hello came in time");
        self.error(0, &error);
    }

    /// Tells the client that the broker stops.
    pub fn say_goodbye(&self) {
        let error = WireError::new(ErrorCode::ShuttingDown, "the broker stops");
        self.answer(|out| wire::goodbye(out, &error));
    }

    /// Takes every whole frame out of `buffer` and acts on it.
    ///
    /// # Errors
    /// [`Ended`] when the connection must be closed; the client was told.
    pub async fn receive(&mut self, buffer: &mut BytesMut) -> Result<(), Ended> {
        for freed in self.outbox.take_freed() {
            self.free(freed);
        }
        loop {
            let limit = if self.open {
                limits::FRAME_BYTES_MAX
            } else {
                limits::FRAME_BYTES_BEFORE_HELLO_MAX
            };
            let mut frames = std::mem::take(&mut self.frames);
            frames.clear();
            // Before the hello one frame at a time: it changes the limit.
            let frames_max = if self.open { READ_FRAMES_MAX } else { 1 };
            let scanned =
                weir_protocol::frame::whole_frames(buffer, limit, frames_max, &mut frames);
            let used = frames.last().map_or(0, |&(_, end)| end);
            let chunk = cut(buffer, used);
            for &(start, end) in &frames {
                self.frame(&chunk, start, end).await?;
            }
            let done = frames.is_empty();
            self.frames = frames;
            self.flush(&chunk).await?;
            scanned.map_err(|error| self.refuse_rest(&error))?;
            if done {
                return Ok(());
            }
        }
    }

    async fn frame(&mut self, chunk: &Bytes, start: usize, end: usize) -> Result<(), Ended> {
        let op = weir_protocol::peek_op(&chunk[start..end]);
        if self.open && op == Some(Op::Publish) {
            // Behind settlements it must find what they have done.
            if self.publisher.rows() >= PUBLISH_ROWS_MAX || !self.commands.is_empty() {
                self.flush(chunk).await?;
            }
            let published = self.publish(chunk, start, end);
            return self.or_end(chunk, published).await;
        }
        // Settlements and credit are gathered; whatever else is asked sees the
        // effects of all that came before it.
        if !matches!(op, Some(Op::Settle | Op::Credit)) || self.steps > SETTLE_STEPS_MAX {
            self.flush(chunk).await?;
            // One read may hold thousands of questions, each with a long answer.
            self.outbox.wait_room().await;
        }
        match decode_request(&chunk.slice(start..end)) {
            Ok((id, request)) => self.request(id.0, request).await,
            Err(error) => {
                let refused = self.refuse_frame(&error);
                self.or_end(chunk, refused).await?;
                // A hello that failed ends the connection, whoever waits for that.
                if self.open { Ok(()) } else { Err(Ended("no hello that can be read")) }
            }
        }
    }

    /// Hands over what came before a frame that ends the connection: it was right.
    async fn or_end(&mut self, chunk: &Bytes, frame: Result<(), Ended>) -> Result<(), Ended> {
        if frame.is_err() {
            self.flush(chunk).await?;
        }
        frame
    }

    fn publish(&mut self, chunk: &Bytes, start: usize, end: usize) -> Result<(), Ended> {
        let parts = self.publisher.parts();
        let first_row = parts.len();
        match weir_protocol::decode_publish_into(chunk, start..end, parts) {
            Ok(head) => {
                self.publisher.add(RequestId(head.id.0), head.delay_ms, first_row);
                Ok(())
            }
            Err(error) => {
                self.publisher.parts().truncate(first_row);
                self.refuse_frame(&error)
            }
        }
    }

    /// Hands over what the read at hand has gathered so far.
    async fn flush(&mut self, chunk: &Bytes) -> Result<(), Ended> {
        let now = self.broker.clock.now();
        let Self { broker, outbox, publisher, makes_room, .. } = self;
        publisher.hand_over(broker, outbox, makes_room, chunk, now).await?;
        for listener in self.publisher.take_cut_off() {
            self.broker.cut_off(&listener.outbox, listener.id);
        }
        let is_long = std::mem::take(&mut self.steps) > SETTLE_STEPS_MAX;
        for (shard, commands) in self.commands.drain(..) {
            if is_long {
                self.broker.shards.send_and_wait(shard, commands).await?;
            } else {
                self.broker.shards.send(shard, commands).await?;
            }
        }
        Ok(())
    }

    fn refuse_frame(&mut self, error: &DecodeError) -> Result<(), Ended> {
        match error.answers() {
            Some(id) => {
                self.error(id.0, &error.wire());
                Ok(())
            }
            None => {
                self.error(0, &error.wire());
                Err(Ended("the client broke the protocol"))
            }
        }
    }

    fn error(&self, id: u32, error: &WireError) {
        self.answer(|out| wire::error(out, id, error));
    }

    fn answer(&self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.outbox.push(|pen| write(pen.buffer())) {
            self.outbox.ring();
        }
    }

    async fn request(&mut self, id: u32, request: Request) -> Result<(), Ended> {
        if !self.open {
            let Request::Hello(hello) = request else {
                let error =
                    WireError::new(ErrorCode::HelloFirst, "the first frame must be a hello");
                self.error(0, &error);
                return Err(Ended("no hello"));
            };
            return self.hello(id, &hello);
        }
        let answered = match request {
            Request::Subscribe(body) => self.subscribe(&body),
            Request::Consume(body) => self.consume(id, body),
            Request::Unsubscribe(body) => self.unsubscribe(id, body.sub.0),
            Request::Settle(body) => return self.settle(id, &body),
            Request::Credit(body) => {
                let command = |connection, subscription| Command::Credit {
                    connection,
                    subscription,
                    amount: body.amount,
                };
                // Asks for no answer; a number that is gone is a race the
                // client cannot avoid.
                let _ = self.ask_consumer(body.sub.0, command);
                return Ok(());
            }
            Request::Pull(body) => {
                let sent =
                    self.ask_consumer(body.sub.0, |connection, subscription| Command::Pull {
                        connection,
                        subscription,
                        request: RequestId(id),
                        max: body.messages_max,
                        wait_ms: body.wait_ms,
                    });
                match sent {
                    Ok(()) => {
                        self.expect(id, Pending::Pull);
                        return Ok(());
                    }
                    Err(error) => Err(error),
                }
            }
            Request::Ping => Ok(Answer::Empty),
            Request::Hello(_) => {
                Err(WireError::new(ErrorCode::BadRequest, "hello was said already"))
            }
            // Publish frames take the short way above.
            Request::Publish(_) => Err(WireError::new(ErrorCode::Internal, "misplaced publish")),
            other => {
                if let Request::Purge(body) = &other
                    && let Ok((_, shard)) = self.broker.find_queue(&body.queue)
                {
                    self.makes_room.insert(shard);
                }
                control::perform(&self.broker, &self.outbox, RequestId(id), other).await?
            }
        };
        match answered {
            Ok(Answer::Later) => self.outbox.owe(),
            Ok(answer) => self.answer(|out| answer.encode(out, id)),
            Err(error) => self.error(id, &error),
        }
        Ok(())
    }

    fn hello(&mut self, id: u32, hello: &weir_protocol::Hello) -> Result<(), Ended> {
        if !hello.version.contains(&1) {
            let text = format!("this broker speaks version 1, the client {:?}", hello.version);
            self.error(id, &WireError::new(ErrorCode::UnsupportedVersion, text));
            return Err(Ended("no version in common"));
        }
        self.open = true;
        let answer = self.broker.hello_answer(self.outbox.connection);
        self.answer(|out| wire::ok(out, id, &answer));
        Ok(())
    }

    /// Notes what a shard's answer will need; before the command is sent.
    fn expect(&self, id: u32, pending: Pending) {
        self.outbox.push(|pen| pen.expect(RequestId(id), pending));
    }

    /// Gives a number back, when what was said is about the present use of it.
    fn free(&mut self, freed: Freed) {
        let (number, is_free) = match freed {
            Freed::Ended(number) => {
                let held = self.subscriptions.get(&number);
                (number, matches!(held, Some(Subscribed::Consumer { .. })))
            }
            Freed::Left(number) => {
                (number, matches!(self.subscriptions.get(&number), Some(Subscribed::Leaving)))
            }
            Freed::CutOff(number, cut) => {
                let held = self.subscriptions.get(&number);
                (number, matches!(held, Some(Subscribed::Channel { listener }) if *listener == cut))
            }
        };
        if is_free {
            self.subscriptions.remove(&number);
        }
    }

    fn free_number(&self, subscription: SubscriptionId) -> Result<(), WireError> {
        if self.subscriptions.contains_key(&subscription) {
            let text = format!("subscription {} is in use on this connection", subscription.0);
            return Err(WireError::new(ErrorCode::SubscriptionTaken, text));
        }
        if self.subscriptions.len() >= limits::SUBSCRIPTIONS_MAX as usize {
            let text = format!(
                "subscriptions of one connection: at most {} (the limit subscriptions)",
                limits::SUBSCRIPTIONS_MAX
            );
            return Err(WireError::new(ErrorCode::LimitReached, text));
        }
        Ok(())
    }

    fn subscribe(&mut self, body: &Subscribe) -> Result<Answer, WireError> {
        let subscription = SubscriptionId(body.sub.0);
        self.free_number(subscription)?;
        // Before the directory names it: a publisher may find it there at once.
        let listener = self.outbox.open_channel(subscription);
        let connection = self.outbox.connection;
        let share = body.share.as_deref();
        if let Err(error) = self.broker.subscribe(connection, listener, &body.pattern, share) {
            self.outbox.close_channel(listener);
            return Err(error);
        }
        self.subscriptions.insert(subscription, Subscribed::Channel { listener });
        Ok(Answer::Empty)
    }

    fn consume(&mut self, id: u32, body: Consume) -> Result<Answer, WireError> {
        let subscription = SubscriptionId(body.sub.0);
        self.free_number(subscription)?;
        let (source, shard) = match (&body.queue, &body.stream, body.group) {
            (Some(queue), None, None) => {
                let (id, shard) = self.broker.find_queue(queue)?;
                (Source::Queue(id), shard)
            }
            (None, Some(stream), Some(group)) => {
                let (id, shard) = self.broker.find_group(stream, &group)?;
                (Source::Group(id, group), shard)
            }
            _ => {
                let text = "name either `queue`, or `stream` and `group`";
                return Err(WireError::new(ErrorCode::BadRequest, text));
            }
        };
        let labels = if body.labels.is_empty() {
            String::new()
        } else {
            serde_json::Value::Object(body.labels).to_string()
        };
        self.subscriptions.insert(subscription, Subscribed::Consumer { shard });
        self.expect(id, Pending::Attach(subscription));
        self.shards_used.insert(shard);
        self.makes_room.insert(shard);
        self.command(
            shard,
            Command::Attach {
                connection: self.outbox.connection,
                subscription,
                request: RequestId(id),
                source,
                credit: body.credit,
                name: body.name,
                labels,
            },
        );
        Ok(Answer::Later)
    }

    fn unsubscribe(&mut self, id: u32, number: u32) -> Result<Answer, WireError> {
        let subscription = SubscriptionId(number);
        match self.subscriptions.get(&subscription).copied() {
            None | Some(Subscribed::Leaving) => Err(no_subscription(number)),
            Some(Subscribed::Channel { listener }) => {
                self.subscriptions.remove(&subscription);
                self.broker.unsubscribe(&self.outbox, listener);
                Ok(Answer::Empty)
            }
            Some(Subscribed::Consumer { shard }) => {
                self.subscriptions.insert(subscription, Subscribed::Leaving);
                self.expect(id, Pending::Detach(subscription));
                let connection = self.outbox.connection;
                let request = RequestId(id);
                self.command(shard, Command::Detach { connection, subscription, request });
                Ok(Answer::Later)
            }
        }
    }

    fn ask_consumer(
        &mut self,
        number: u32,
        command: impl FnOnce(weir_core::command::ConnectionId, SubscriptionId) -> Command,
    ) -> Result<(), WireError> {
        let subscription = SubscriptionId(number);
        match self.subscriptions.get(&subscription) {
            Some(Subscribed::Consumer { shard }) => {
                let shard = *shard;
                self.command(shard, command(self.outbox.connection, subscription));
                Ok(())
            }
            Some(Subscribed::Channel { .. }) => {
                let text =
                    format!("subscription {number} is of a channel, nothing is settled there");
                Err(WireError::new(ErrorCode::WrongKind, text))
            }
            None | Some(Subscribed::Leaving) => Err(no_subscription(number)),
        }
    }

    fn command(&mut self, shard: u32, command: Command) {
        match self.commands.iter_mut().find(|(number, _)| *number == shard) {
            Some((_, commands)) => commands.push(command),
            None => self.commands.push((shard, vec![command])),
        }
    }

    /// Ends everything this client had. What it held is given to others.
    pub async fn close(&mut self) {
        let connection = self.outbox.connection;
        self.broker.disconnect(connection);
        for &shard in &self.shards_used {
            let commands = vec![Command::Disconnect { connection }];
            if self.broker.shards.send(shard, commands).await.is_err() {
                return;
            }
        }
    }
}

fn no_subscription(number: u32) -> WireError {
    let text = format!("this connection has no subscription {number}");
    WireError::new(ErrorCode::NoSubscription, text)
}
