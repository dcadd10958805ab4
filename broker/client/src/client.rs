//! The client: a handle on one connection that comes back by itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use weir_protocol::{Consume, HelloAnswer, Request, RequestId, Subscribe, encode_request};

use crate::driver::random;
use crate::inbox::{Inbox, Source};
use crate::pending::{Asked, Pending, Reply};
use crate::shared::{ConnectionState, Shared};
use crate::subscription::open_inbox;
use crate::{
    ConnectOptions, ConsumeOptions, Consumer, Delivery, Error, Message, Publisher,
    PublisherOptions, Receipt, SubscribeOptions, Subscription, connection, driver, limits,
};

/// Header that tells a responder where to publish its answer.
pub const REPLY_TO: &str = "reply-to";

/// A connection to a broker. Cloning is cheap, and clones share the connection;
/// it closes when the last clone, subscription, consumer and publisher is gone.
///
/// ```no_run
/// # async fn example() -> Result<(), weir_client::Error> {
/// use weir_client::{Client, Message};
///
/// let client = Client::connect("127.0.0.1:7117").await?;
/// client.publish("greetings", "hello").await?;
/// let receipt = client
///     .publish_confirmed(&[Message::new("orders").key("customer-7").payload("12 apples")])
///     .await?;
/// println!("kept {} times, at level {:?}", receipt.stored, receipt.level);
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) handle: Arc<Handle>,
}

/// What clones of a client and everything made from it share. Its end closes the
/// connection.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    driver: Mutex<Option<JoinHandle<()>>>,
    hello: HelloAnswer,
    /// Held across the wait for the broker, so that it is asked once.
    replies: tokio::sync::Mutex<Option<Arc<Replies>>>,
}

/// The one subscription on which answers to requests arrive.
#[derive(Debug)]
struct Replies {
    prefix: String,
    inbox: Arc<Inbox>,
    next: AtomicU64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
    }
}

impl Handle {
    fn new(shared: Arc<Shared>, driver: Option<JoinHandle<()>>, hello: HelloAnswer) -> Self {
        Self { shared, driver: Mutex::new(driver), hello, replies: tokio::sync::Mutex::default() }
    }

    /// For tests that are the driver themselves.
    #[cfg(test)]
    pub(crate) fn without_driver(shared: Arc<Shared>) -> Self {
        Self::new(shared, None, HelloAnswer::default())
    }

    /// Sends a request and waits for its answer. Dropping the call forgets the request.
    pub(crate) async fn ask(
        &self,
        what: &'static str,
        encode: impl FnOnce(&mut Vec<u8>, u32),
        establishes: Option<Arc<Inbox>>,
    ) -> Result<Reply, Error> {
        let (caller, answer) = oneshot::channel();
        let id = {
            let mut state = self.shared.lock();
            if state.closing {
                return Err(Error::Closed);
            }
            let id = state.ask(Pending::Caller(caller, establishes), encode);
            self.shared.wake_writer(state);
            id
        };
        Asked::new(self.shared.clone(), id, answer).answer(what).await
    }

    pub(crate) async fn request_for(
        &self,
        what: &'static str,
        request: &Request,
        establishes: Option<Arc<Inbox>>,
    ) -> Result<Reply, Error> {
        let encode = |out: &mut Vec<u8>, id| encode_request(out, RequestId(id), request);
        self.ask(what, encode, establishes).await
    }
}

impl Client {
    /// Connects to `address` (`host`, `host:port` or `weir://host:port`; the port is
    /// 7117 if left out) with default options.
    ///
    /// # Errors
    /// [`Error::Connect`] when there is no broker, [`Error::Refused`] when it turns
    /// the client away. Later losses are healed, see [`ConnectOptions::reconnect`].
    pub async fn connect(address: &str) -> Result<Self, Error> {
        Self::connect_with(address, ConnectOptions::default()).await
    }

    /// Connects with these options.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(address: &str, options: ConnectOptions) -> Result<Self, Error> {
        let connection = connection::connect(address, &options).await?;
        let hello = connection.hello.clone();
        let shared = Arc::new(Shared::new(options));
        let driver = driver::drive(shared.clone(), address.to_owned(), connection);
        let handle = Handle::new(shared, Some(tokio::spawn(driver)), hello);
        Ok(Self { handle: Arc::new(handle) })
    }

    /// What the broker said when the client first connected: its name, limits and
    /// levels.
    #[must_use]
    pub fn hello(&self) -> &HelloAnswer {
        &self.handle.hello
    }

    /// Where the connection stands, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.handle.shared.status.subscribe()
    }

    /// Messages published without confirmation that were being written when a
    /// connection broke: they may be lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.handle.shared.lost.load(Ordering::Relaxed)
    }

    /// Publishes without confirmation. The message goes out with whatever else
    /// waits; this call waits only while the line to the socket is full.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::InvalidMessage`], [`Error::MessageTooLarge`].
    pub async fn publish(&self, subject: &str, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.publish_message(&Message::new(subject).payload(&payload)).await
    }

    /// Publishes a message with key, headers or delay, without confirmation.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn publish_message(&self, message: &Message<'_>) -> Result<(), Error> {
        self.publish_all(std::slice::from_ref(message)).await
    }

    /// Publishes messages in order, without confirmation: for many at once cheaper
    /// than one call for each.
    ///
    /// # Errors
    /// As [`Client::publish`]. With [`Error::InvalidMessage`] nothing was sent; with
    /// [`Error::MessageTooLarge`] the messages before that one were.
    pub async fn publish_all(&self, messages: &[Message<'_>]) -> Result<(), Error> {
        let mut left = messages;
        while !left.is_empty() {
            let pushed = self.handle.shared.push_waiting(left, None).await?;
            left = &left[pushed.messages..];
        }
        Ok(())
    }

    /// Publishes messages and waits until the broker has answered for all of them.
    /// For a continuous flow use a [`Publisher`].
    ///
    /// # Errors
    /// As [`Publisher::send`] and [`Publisher::flush`]. Refused messages are no
    /// error of the call: see [`Receipt::refusals`].
    pub async fn publish_confirmed(&self, messages: &[Message<'_>]) -> Result<Receipt, Error> {
        let mut publisher = self.publisher();
        publisher.send_all(messages).await?;
        publisher.flush().await
    }

    /// A publisher with confirmations.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.publisher_with(PublisherOptions::default())
    }

    /// A publisher with these options.
    #[must_use]
    pub fn publisher_with(&self, options: PublisherOptions) -> Publisher {
        Publisher::new(self.handle.clone(), options)
    }

    /// Listens to the channels whose subject matches `pattern`: `*` stands for any
    /// characters inside a token, a final `>` for one or more tokens.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::ConnectionLost`], [`Error::Timeout`].
    pub async fn subscribe(&self, pattern: &str) -> Result<Subscription, Error> {
        self.subscribe_with(pattern, SubscribeOptions::default()).await
    }

    /// Listens with these options, for example as member of a share group.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn subscribe_with(
        &self,
        pattern: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, Error> {
        Subscription::open(&self.handle, pattern, options).await
    }

    /// Consumes a queue.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::ConnectionLost`], [`Error::Timeout`].
    pub async fn consume(&self, queue: &str) -> Result<Consumer, Error> {
        self.consume_with(queue, ConsumeOptions::default()).await
    }

    /// Consumes a queue with these options.
    ///
    /// # Errors
    /// As [`Client::consume`].
    pub async fn consume_with(
        &self,
        queue: &str,
        options: ConsumeOptions,
    ) -> Result<Consumer, Error> {
        let body = Consume { queue: Some(queue.to_owned()), ..Consume::default() };
        Consumer::open(&self.handle, body, options).await
    }

    /// Consumes a stream as member of a group.
    ///
    /// # Errors
    /// As [`Client::consume`].
    pub async fn consume_group(
        &self,
        stream: &str,
        group: &str,
        options: ConsumeOptions,
    ) -> Result<Consumer, Error> {
        let body = Consume {
            stream: Some(stream.to_owned()),
            group: Some(group.to_owned()),
            ..Consume::default()
        };
        Consumer::open(&self.handle, body, options).await
    }

    /// Publishes a request and waits for the first answer to it. The responder
    /// finds where to answer in the header [`REPLY_TO`]; see [`Client::respond`].
    ///
    /// Nothing is taken back when the wait is over, or the call is dropped: the message
    /// may still be published, and answered.
    ///
    /// # Errors
    /// [`Error::NoResponders`] when nobody listens, [`Error::Refused`] when a policy
    /// refused the request, or the broker ended the subscription for the answers,
    /// [`Error::Timeout`], [`Error::ConnectionLost`].
    pub async fn request(&self, message: &Message<'_>, wait: Duration) -> Result<Delivery, Error> {
        tokio::time::timeout(wait, self.exchange(message))
            .await
            .unwrap_or(Err(Error::Timeout { what: "request", after: wait }))
    }

    /// Answers a request that was delivered. Returns false when it does not say
    /// where to answer.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn respond(
        &self,
        request: &Delivery,
        payload: impl AsRef<[u8]>,
    ) -> Result<bool, Error> {
        let reply_to = request.header(REPLY_TO).and_then(|value| std::str::from_utf8(value).ok());
        match reply_to {
            Some(subject) => self.publish(subject, payload).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Writes what waits, tells the broker, and waits until the connection is
    /// closed. Further calls, of all clones, fail with [`Error::Closed`].
    pub async fn close(&self) {
        self.handle.shared.lock().closing = true;
        self.handle.shared.wake.notify_one();
        let driver = self.handle.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver {
            // A driver that panicked has closed the socket as well.
            let _ = driver.await;
        }
    }

    /// Publishes a request and waits for the first answer, however long that takes.
    async fn exchange(&self, message: &Message<'_>) -> Result<Delivery, Error> {
        let replies = self.replies().await?;
        let token = replies.next.fetch_add(1, Ordering::Relaxed);
        let (caller, answer) = oneshot::channel();
        replies.inbox.replies().expect("made for replies").insert(token, caller);
        let _forget = ForgetReply { inbox: &replies.inbox, token };
        // An end that came before has not seen this caller.
        if let Some(reason) = replies.inbox.ended() {
            return Err(reason);
        }
        let reply_to = format!("{}.{token}", replies.prefix);
        let request = message.clone().header(REPLY_TO, &reply_to);
        let receipt = self.publish_confirmed(&[request]).await?;
        if let Some(refusal) = receipt.refusals.into_iter().next() {
            let error = weir_protocol::WireError::new(refusal.code, refusal.message);
            return Err(Error::Refused(error));
        }
        if receipt.reached + receipt.stored == 0 {
            return Err(Error::NoResponders { subject: message.subject().to_owned() });
        }
        answer.await.map_err(|_| replies.inbox.ended().unwrap_or(Error::Closed))
    }

    /// Where answers arrive: asked for by the first request, and again by the first one
    /// after the broker has ended it.
    async fn replies(&self) -> Result<Arc<Replies>, Error> {
        let mut place = self.handle.replies.lock().await;
        if let Some(replies) = place.as_ref().filter(|replies| replies.inbox.ended().is_none()) {
            return Ok(replies.clone());
        }
        let replies = Arc::new(self.open_replies().await?);
        *place = Some(replies.clone());
        Ok(replies)
    }

    async fn open_replies(&self) -> Result<Replies, Error> {
        let prefix = format!("_inbox.{:016x}", random());
        let pattern = format!("{prefix}.>");
        let source =
            |sub| Source::Replies(Subscribe { sub, pattern, share: None }, Mutex::default());
        let inbox = open_inbox(&self.handle, "subscribe", limits::INBOX_BYTES_MAX, source).await?;
        Ok(Replies { prefix, inbox, next: AtomicU64::new(1) })
    }
}

struct ForgetReply<'a> {
    inbox: &'a Inbox,
    token: u64,
}

impl Drop for ForgetReply<'_> {
    fn drop(&mut self) {
        if let Some(mut waiting) = self.inbox.replies() {
            waiting.remove(&self.token);
        }
    }
}
