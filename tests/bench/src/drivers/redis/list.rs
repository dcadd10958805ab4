//! Queues as lists: the pattern that the documentation of `LMOVE` gives for
//! reliable queues. What a consumer has taken stands in a list of its own until it
//! is done; cutting that list is the acknowledgement.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value, cmd};

use super::InFlight;
use crate::driver::{Answer, Pace, Produce, Receive};
use crate::stamp::Batch;
use crate::tally::Tally;

pub(super) struct Producer {
    connection: MultiplexedConnection,
    queue: String,
    pace: Pace,
    in_flight: InFlight,
}

impl Producer {
    pub(super) fn new(connection: MultiplexedConnection, queue: String, pace: Pace) -> Self {
        Self { connection, queue, pace, in_flight: InFlight::default() }
    }
}

impl Produce for Producer {
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut pipeline = Pipeline::with_capacity(1);
            let command = pipeline.cmd("LPUSH").arg(&self.queue);
            for payload in batch.payloads() {
                command.arg(payload);
            }
            command.ignore();
            let window = self.pace.window;
            self.in_flight.send(&self.connection, pipeline, batch.len(), window).await
        })
    }

    fn settle(&mut self) -> Answer<'_, ()> {
        Box::pin(self.in_flight.finish())
    }
}

pub(super) struct Consumer {
    connection: MultiplexedConnection,
    queue: String,
    working: String,
    credit: usize,
    /// How many to ask for next: as many as lately came, and some more.
    ask: usize,
}

impl Consumer {
    pub(super) fn new(connection: MultiplexedConnection, queue: String, credit: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let working = format!("{queue}.working.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { connection, queue, working, credit, ask: 1 }
    }

    /// Acknowledges what was shown.
    async fn done(&mut self, count: usize) -> Result<()> {
        let mut command = cmd("LTRIM");
        // Newest first: the oldest are at the end.
        command.arg(&self.working).arg(0).arg(-1 - count as i64);
        Ok(command.exec_async(&mut self.connection).await?)
    }
}

impl Receive for Consumer {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut pipeline = Pipeline::with_capacity(self.ask);
            for _ in 0..self.ask {
                pipeline.cmd("LMOVE").arg(&self.queue).arg(&self.working).arg("RIGHT").arg("LEFT");
            }
            let values: Vec<Value> = pipeline.query_async(&mut self.connection).await?;
            let mut count = 0;
            for value in &values {
                if let Value::BulkString(payload) = value {
                    tally.see(payload);
                    count += 1;
                }
            }
            self.ask = (count * 2).clamp(1, self.credit);
            if count == 0 {
                let mut wait = cmd("BLMOVE");
                wait.arg(&self.queue).arg(&self.working).arg("RIGHT").arg("LEFT").arg("0.1");
                if let Value::BulkString(payload) = wait.query_async(&mut self.connection).await? {
                    tally.see(&payload);
                    count = 1;
                }
            }
            if count > 0 {
                self.done(count).await?;
            }
            Ok(())
        })
    }
}
