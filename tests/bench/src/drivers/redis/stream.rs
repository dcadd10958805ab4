//! Streams, and queues as streams with one group.
//!
//! Replies are walked as they come: the crate's typed ones build a map per entry.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value, cmd};

use super::InFlight;
use crate::driver::{Answer, Pace, Produce, Receive};
use crate::stamp::Batch;
use crate::tally::Tally;

/// Entries a queue keeps: Redis 7.0 does not drop what is acked, so producers cut.
/// Far more than can wait in a workload.
const QUEUE_ENTRIES_MAX: usize = 200_000;
/// Entries of one page of a replay.
const PAGE: usize = 1_000;

pub(super) async fn make_group(connection: &mut MultiplexedConnection, queue: &str) -> Result<()> {
    let mut command = cmd("XGROUP");
    command.arg("CREATE").arg(queue).arg("workers").arg("0").arg("MKSTREAM");
    Ok(command.exec_async(connection).await?)
}

pub(super) struct Producer {
    connection: MultiplexedConnection,
    stream: String,
    pace: Pace,
    cut: bool,
    in_flight: InFlight,
}

impl Producer {
    pub(super) fn new(
        connection: MultiplexedConnection,
        stream: String,
        pace: Pace,
        cut: bool,
    ) -> Self {
        Self { connection, stream, pace, cut, in_flight: InFlight::default() }
    }
}

impl Produce for Producer {
    fn produce<'a>(&'a mut self, batch: &'a Batch) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            for (index, payload) in batch.payloads().enumerate() {
                let command = pipeline.cmd("XADD").arg(&self.stream);
                if self.cut && index == 0 {
                    command.arg("MAXLEN").arg("~").arg(QUEUE_ENTRIES_MAX);
                }
                command.arg("*").arg("d").arg(payload).ignore();
            }
            let window = self.pace.window;
            self.in_flight.send(&self.connection, pipeline, batch.len(), window).await
        })
    }

    fn settle(&mut self) -> Answer<'_, ()> {
        Box::pin(self.in_flight.finish())
    }
}

/// Shows each entry of `[[id, [field, value]], ..]`, and hands out its id.
fn show(entries: &[Value], tally: &mut Tally, mut each: impl FnMut(&[u8])) -> Result<()> {
    for entry in entries {
        let Value::Array(entry) = entry else { bail!("an entry that is none") };
        let [Value::BulkString(id), Value::Array(fields)] = &entry[..] else {
            bail!("an entry without fields")
        };
        let Some(Value::BulkString(payload)) = fields.get(1) else { bail!("no payload") };
        tally.see(payload);
        each(id);
    }
    Ok(())
}

pub(super) struct Member {
    connection: MultiplexedConnection,
    queue: String,
    name: String,
    credit: usize,
    acks: InFlight,
}

impl Member {
    pub(super) fn new(connection: MultiplexedConnection, queue: String, credit: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("member-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { connection, queue, name, credit, acks: InFlight::default() }
    }
}

impl Receive for Member {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut command = cmd("XREADGROUP");
            command.arg("GROUP").arg("workers").arg(&self.name);
            command.arg("COUNT").arg(self.credit).arg("BLOCK").arg(100);
            command.arg("STREAMS").arg(&self.queue).arg(">");
            // [[stream, entries]], or nil when the wait was for nothing.
            let Value::Array(streams) = command.query_async(&mut self.connection).await? else {
                return Ok(());
            };
            let (mut ack, mut count) = (cmd("XACK"), 0);
            ack.arg(&self.queue).arg("workers");
            for stream in &streams {
                let Value::Array(stream) = stream else { bail!("a stream that is none") };
                let Some(Value::Array(entries)) = stream.get(1) else { bail!("no entries") };
                show(entries, tally, |id| {
                    ack.arg(id);
                    count += 1;
                })?;
            }
            // On its way before the next read: nobody waits for its answer, as nobody does
            // elsewhere.
            let mut pipeline = Pipeline::with_capacity(1);
            pipeline.add_command(ack).ignore();
            self.acks.send(&self.connection, pipeline, count, self.credit).await
        })
    }
}

pub(super) struct Reader {
    connection: MultiplexedConnection,
    stream: String,
    after: Vec<u8>,
}

impl Reader {
    pub(super) fn new(connection: MultiplexedConnection, stream: String) -> Self {
        Self { connection, stream, after: b"-".to_vec() }
    }
}

impl Receive for Reader {
    fn receive<'a>(&'a mut self, tally: &'a mut Tally) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut command = cmd("XRANGE");
            command.arg(&self.stream).arg(&self.after).arg("+").arg("COUNT").arg(PAGE);
            let Value::Array(entries) = command.query_async(&mut self.connection).await? else {
                bail!("no entries")
            };
            let after = &mut self.after;
            show(&entries, tally, |id| {
                after.clear();
                after.push(b'(');
                after.extend_from_slice(id);
            })
        })
    }
}
