//! Async client for Weir.
//!
//! A [`Client`] is a handle on one connection. It is cheap to clone, comes back by
//! itself when the connection breaks, and subscribes and consumes again what was
//! open.
//!
//! # Publish and subscribe
//! ```no_run
//! # async fn example() -> Result<(), weir_client::Error> {
//! use weir_client::Client;
//!
//! let client = Client::connect("127.0.0.1:7117").await?;
//! let mut subscription = client.subscribe("greetings.>").await?;
//! client.publish("greetings.en", "hello").await?;
//! if let Some(delivery) = subscription.next().await? {
//!     assert_eq!(delivery.payload(), b"hello");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Queues: publish with confirmation, consume, ack
//! ```no_run
//! # async fn example(client: weir_client::Client) -> Result<(), weir_client::Error> {
//! use weir_client::{ConsumeOptions, Message};
//!
//! client.create_queue("orders").await?;
//! let receipt = client.publish_confirmed(&[Message::new("orders").payload("one")]).await?;
//! assert_eq!(receipt.stored, 1);
//!
//! let mut consumer = client.consume_with("orders", ConsumeOptions::credit(1000)).await?;
//! while let Some(batch) = consumer.next_batch().await? {
//!     for delivery in &batch {
//!         println!("{} (attempt {})", delivery.view().subject, delivery.attempt());
//!     }
//!     batch.ack();
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Streams: groups, replay
//! ```no_run
//! # async fn example(client: weir_client::Client) -> Result<(), weir_client::Error> {
//! use weir_client::{ConsumeOptions, Start};
//!
//! client.create_stream("flights", 4, &["flights.>"]).await?;
//! client.create_group("flights", "audit", Start::Earliest).await?;
//! let options = ConsumeOptions { auto_ack: true, ..ConsumeOptions::default() };
//! let mut consumer = client.consume_group("flights", "audit", options).await?;
//! while let Some(delivery) = consumer.next().await? {
//!     println!("{}/{}", delivery.partition, delivery.offset);
//! }
//! client.seek("flights", "audit", None, Start::Earliest).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Request and reply
//! ```no_run
//! # async fn example(client: weir_client::Client) -> Result<(), weir_client::Error> {
//! use std::time::Duration;
//! use weir_client::Message;
//!
//! let mut questions = client.subscribe("time.now").await?;
//! let responder = client.clone();
//! tokio::spawn(async move {
//!     while let Ok(Some(question)) = questions.next().await {
//!         let _ = responder.respond(&question, "noon").await;
//!     }
//! });
//! let answer = client.request(&Message::new("time.now"), Duration::from_secs(1)).await?;
//! assert_eq!(answer.payload(), b"noon");
//! # Ok(())
//! # }
//! ```
//!
//! # What to know
//! - **Batches.** One task reads and one writes. Messages, acks and requests join
//!   the next write by themselves; a write takes what is there and waits for nothing.
//! - **Bounds.** Publishing waits while a fixed number of bytes is on its way.
//!   Consumers are bounded by their credit. A subscription to channels that is not
//!   read in time skips messages and [counts](Subscription::skipped) them.
//! - **Damage.** Messages that the broker cannot read any more are passed over: a consumer
//!   is [told which](Consumer::take_lost), a [read](Client::read) fails where they begin.
//! - **Loss of the connection.** Messages published with confirmation fail with
//!   [`Error::ConnectionLost`] when nobody can say whether they arrived; with
//!   [`ConnectOptions::resend_unconfirmed`] they are published again instead.
//!   Settlements of the old connection are void, and the broker hands those messages
//!   out again.
//! - **Errors** are codes: see [`Error`], and [`ErrorCode`] for the broker's.

mod client;
mod connection;
mod delivery;
mod driver;
mod error;
mod inbox;
pub mod limits;
mod line;
mod lost;
mod message;
mod options;
mod outgoing;
mod pending;
mod publisher;
mod requests;
mod shared;
mod subscription;

pub use client::{Client, REPLY_TO};
pub use delivery::{BatchIntoIter, BatchIter, Delivery, DeliveryBatch, DeliveryRef};
pub use error::Error;
pub use lost::Lost;
pub use message::Message;
pub use options::{ConnectOptions, ConsumeOptions, PublisherOptions, Reconnect, SubscribeOptions};
pub use publisher::{Confirmation, Publisher, Receipt, Refusal};
pub use requests::RecordRange;
pub use shared::ConnectionState;
pub use subscription::{Consumer, Subscription};
pub use weir_message::{Headers, View};
pub use weir_protocol::{
    Alter, AlterGroup, AlterQueue, AlterStream, BindingStatus, ConsumerInfo, Create, CreateGroup,
    CreateQueue, CreateStream, ErrorCode, GenerationStatus, GroupFigures, GroupInfo, HelloAnswer,
    HelloLimits, Kind, Level, ListItem, Order, PolicyCounters, PolicyFailure, PolicyItem,
    PolicyLogLine, PolicyMetric, PolicyStatusAnswer, QueueInfo, Read, SettleCount, Start,
    StreamInfo, WireError,
};
