//! Queues as lists: the pattern that the documentation of `LMOVE` gives for
//! reliable queues, or for small messages a script that does many of them at once. What a
//! consumer has taken stands in a list of its own until it is done; cutting that list is
//! the acknowledgement.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Script, Value, cmd};

use super::InFlight;
use crate::driver::{Answer, Pace, Produce, Receive};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Payloads up to which [`TAKE`] is quicker than `LMOVE`s, bytes: 1.3 times at 128, and 1.4
/// times slower at 1,024, because values go through the script's memory.
const SMALL_BYTES: usize = 256;
/// As many `LMOVE`s as there are messages, ARGV[1] at most, in one step.
const TAKE: &str = r"
local taken = redis.call('LRANGE', KEYS[1], -tonumber(ARGV[1]), -1)
if #taken > 0 then
    redis.call('LTRIM', KEYS[1], 0, -1 - #taken)
    local moved = {}
    for at = #taken, 1, -1 do moved[#moved + 1] = taken[at] end
    redis.call('LPUSH', KEYS[2], unpack(moved))
end
return taken";

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
    /// The last payload was.
    is_small: bool,
    script: Script,
    acks: InFlight,
}

impl Consumer {
    pub(super) fn new(connection: MultiplexedConnection, queue: String, credit: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let working = format!("{queue}.working.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (script, acks) = (Script::new(TAKE), InFlight::default());
        Self { connection, queue, working, credit, ask: 1, is_small: false, script, acks }
    }

    /// What is there, oldest first; it is in the list of its own then.
    async fn take(&mut self) -> Result<Vec<Value>> {
        let Self { connection, queue, working, .. } = self;
        if self.is_small {
            let mut call = self.script.key(&*queue);
            call.key(&*working).arg(self.credit);
            let mut values: Vec<Value> = call.invoke_async(connection).await?;
            values.reverse();
            return Ok(values);
        }
        let mut pipeline = Pipeline::with_capacity(self.ask);
        for _ in 0..self.ask {
            pipeline.cmd("LMOVE").arg(&*queue).arg(&*working).arg("RIGHT").arg("LEFT");
        }
        Ok(pipeline.query_async(connection).await?)
    }

    /// Acknowledges what was shown: on its way before the next is taken, and nobody waits
    /// for its answer, as nobody does elsewhere.
    async fn done(&mut self, count: usize) -> Result<()> {
        let mut pipeline = Pipeline::with_capacity(1);
        // Newest first: the oldest are at the end.
        pipeline.cmd("LTRIM").arg(&self.working).arg(0).arg(-1 - count as i64).ignore();
        self.acks.send(&self.connection, pipeline, count, self.credit).await
    }
}

impl Receive for Consumer {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut count = 0;
            for value in &self.take().await? {
                if let Value::BulkString(payload) = value {
                    tally.see(payload);
                    self.is_small = payload.len() <= SMALL_BYTES;
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
