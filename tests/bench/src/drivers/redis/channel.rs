//! Publish and subscribe.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::stream::ReadyChunks;
use redis::aio::{MultiplexedConnection, PubSubStream};
use redis::{Client, Pipeline};

use super::InFlight;
use crate::driver::{Answer, Publish, Receive};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Messages on their way to the server: four pipelines of the usual 128.
const WINDOW: usize = 512;

pub(super) struct Publisher {
    connection: MultiplexedConnection,
    subject: String,
    in_flight: InFlight,
}

impl Publisher {
    pub(super) fn new(connection: MultiplexedConnection, subject: String) -> Self {
        Self { connection, subject, in_flight: InFlight::default() }
    }
}

impl Publish for Publisher {
    fn publish<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for payload in batch.payloads() {
                pipeline.cmd("PUBLISH").arg(&self.subject).arg(payload).ignore();
            }
            self.in_flight.send(&self.connection, pipeline, batch.len(), WINDOW).await
        })
    }

    fn flush(&mut self) -> Answer<'_, ()> {
        Box::pin(self.in_flight.finish())
    }
}

pub(super) struct Listener {
    messages: ReadyChunks<PubSubStream>,
}

impl Listener {
    pub(super) async fn open(client: &Client, subject: &str) -> Result<Self> {
        let mut connection = client.get_async_pubsub().await?;
        connection.subscribe(subject).await?;
        Ok(Self { messages: connection.into_on_message().ready_chunks(1_024) })
    }
}

impl Receive for Listener {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let wait = Duration::from_millis(100);
            let Ok(chunk) = tokio::time::timeout(wait, self.messages.next()).await else {
                return Ok(());
            };
            for message in chunk.context("the subscription has ended")? {
                tally.see(message.get_payload_bytes());
            }
            Ok(())
        })
    }
}
