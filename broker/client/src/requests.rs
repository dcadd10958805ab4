//! Everything that is asked and answered once: making, changing and looking at
//! queues, streams, groups and policies.

use weir_protocol::{
    Alter, BindingStatus, Create, CreateGroup, CreateQueue, CreateStream, DoneCount, Empty,
    GroupInfo, Kind, List, ListItem, PolicyItem, PolicyListAnswer, PolicyRollback, PolicyStatus,
    PolicyStatusAnswer, Purge, QueueInfo, Read, Request, Seek, Start, StreamInfo, Target,
};

use crate::pending::Reply;
use crate::{Client, DeliveryBatch, Error};

/// A range of a stream's partition.
#[derive(Debug)]
pub struct RecordRange {
    /// First offset kept.
    pub start: u64,
    /// One past the last offset.
    pub end: u64,
    /// Where to read on.
    pub next: u64,
    /// The messages; settling them does nothing.
    pub records: DeliveryBatch,
}

/// All calls fail with [`Error::Refused`] when the broker says no, with
/// [`Error::ConnectionLost`] when the connection broke before the answer, and with
/// [`Error::Timeout`].
#[allow(clippy::missing_errors_doc, reason = "said once for all of them")]
impl Client {
    /// Makes a queue, stream or group. Making it again with the same settings is ok.
    pub async fn create(&self, what: Create) -> Result<(), Error> {
        self.call("create", Request::Create(what)).await.map(|Empty {}| ())
    }

    /// Makes a queue that keeps what is published to its own name, unless it exists.
    pub async fn create_queue(&self, name: &str) -> Result<(), Error> {
        let queue =
            CreateQueue { name: name.to_owned(), if_absent: true, ..CreateQueue::default() };
        self.create(Create::Queue(queue)).await
    }

    /// Makes a stream of `partitions` that keeps what matches `subjects` (its own
    /// name if there are none), unless it exists.
    pub async fn create_stream(
        &self,
        name: &str,
        partitions: u16,
        subjects: &[&str],
    ) -> Result<(), Error> {
        self.create(Create::Stream(CreateStream {
            name: name.to_owned(),
            subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
            if_absent: true,
            partitions,
            ..CreateStream::default()
        }))
        .await
    }

    /// Makes a group of a stream that reads from `start`, unless it exists.
    pub async fn create_group(&self, stream: &str, name: &str, start: Start) -> Result<(), Error> {
        self.create(Create::Group(CreateGroup {
            stream: stream.to_owned(),
            name: name.to_owned(),
            if_absent: true,
            start,
            ..CreateGroup::default()
        }))
        .await
    }

    /// Changes a queue, stream or group; what is not said stays.
    pub async fn alter(&self, what: Alter) -> Result<(), Error> {
        self.call("alter", Request::Alter(what)).await.map(|Empty {}| ())
    }

    /// Deletes a queue with its messages.
    pub async fn delete_queue(&self, name: &str) -> Result<(), Error> {
        self.delete(Kind::Queue, name, None).await
    }

    /// Deletes a stream with its messages and groups.
    pub async fn delete_stream(&self, name: &str) -> Result<(), Error> {
        self.delete(Kind::Stream, name, None).await
    }

    /// Deletes a group; the stream keeps its messages.
    pub async fn delete_group(&self, stream: &str, name: &str) -> Result<(), Error> {
        self.delete(Kind::Group, name, Some(stream)).await
    }

    /// What there is, of one kind or of all.
    pub async fn list(&self, kind: Option<Kind>) -> Result<Vec<ListItem>, Error> {
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let request = Request::List(List { kind, after, items_max: None });
            let answer: weir_protocol::ListAnswer = self.call("list", request).await?;
            let empty = answer.items.is_empty();
            items.extend(answer.items);
            match answer.next {
                Some(next) if !empty => after = Some(next),
                _ => return Ok(items),
            }
        }
    }

    /// A queue's settings and figures.
    pub async fn queue_info(&self, name: &str) -> Result<QueueInfo, Error> {
        self.call("info", Request::Info(target(Kind::Queue, name, None))).await
    }

    /// A stream's settings, figures and groups.
    pub async fn stream_info(&self, name: &str) -> Result<StreamInfo, Error> {
        self.call("info", Request::Info(target(Kind::Stream, name, None))).await
    }

    /// A group's settings and figures.
    pub async fn group_info(&self, stream: &str, name: &str) -> Result<GroupInfo, Error> {
        self.call("info", Request::Info(target(Kind::Group, name, Some(stream)))).await
    }

    /// Reads a range of a stream, without a group and without moving anything.
    pub async fn read(&self, what: Read) -> Result<RecordRange, Error> {
        let request = Request::Read(what);
        match self.handle.request_for("read", &request, None).await? {
            Reply::Records(records) => Ok(RecordRange {
                start: records.start,
                end: records.end,
                next: records.next,
                records: DeliveryBatch { inbox: None, epoch: 0, runs: records.runs },
            }),
            Reply::Ok(_) => Err(Error::Protocol("a read is answered without records".into())),
        }
    }

    /// Moves a group's cursor, in one partition or in all.
    pub async fn seek(
        &self,
        stream: &str,
        group: &str,
        partition: Option<u16>,
        to: Start,
    ) -> Result<(), Error> {
        let (stream, group) = (stream.to_owned(), group.to_owned());
        let request = Request::Seek(Seek { stream, group, partition, to });
        self.call("seek", request).await.map(|Empty {}| ())
    }

    /// Removes what waits in a queue. Returns how many messages.
    pub async fn purge(&self, queue: &str) -> Result<u64, Error> {
        let request = Request::Purge(Purge { queue: queue.to_owned() });
        self.call("purge", request).await.map(|count: DoneCount| count.done)
    }

    /// Asks whether the broker lives. Everything published before is in its hands
    /// when this returns.
    pub async fn ping(&self) -> Result<(), Error> {
        self.call("ping", Request::Ping).await.map(|Empty {}| ())
    }

    /// The policies that bindings can name.
    pub async fn policies(&self) -> Result<Vec<PolicyItem>, Error> {
        let answer: PolicyListAnswer = self.call("policy list", Request::PolicyList).await?;
        Ok(answer.policies)
    }

    /// What bindings do and did; of one binding, or of all.
    pub async fn policy_status(&self, binding: Option<&str>) -> Result<Vec<BindingStatus>, Error> {
        Ok(self.policy_report(binding).await?.bindings)
    }

    /// As [`Client::policy_status`], with what became of the policies' files.
    pub async fn policy_report(&self, binding: Option<&str>) -> Result<PolicyStatusAnswer, Error> {
        let binding = binding.map(str::to_owned);
        let request = Request::PolicyStatus(PolicyStatus { binding });
        self.call("policy status", request).await
    }

    /// Sends a binding back to its last generation.
    pub async fn policy_rollback(&self, binding: &str) -> Result<BindingStatus, Error> {
        let binding = binding.to_owned();
        self.call("policy rollback", Request::PolicyRollback(PolicyRollback { binding })).await
    }

    async fn delete(&self, kind: Kind, name: &str, stream: Option<&str>) -> Result<(), Error> {
        let request = Request::Delete(target(kind, name, stream));
        self.call("delete", request).await.map(|Empty {}| ())
    }

    async fn call<T: for<'de> serde::Deserialize<'de>>(
        &self,
        what: &'static str,
        request: Request,
    ) -> Result<T, Error> {
        match self.handle.request_for(what, &request, None).await? {
            Reply::Ok(body) => Ok(body.decode()?),
            Reply::Records(_) => Err(Error::Protocol(format!("records answer a {what}"))),
        }
    }
}

fn target(kind: Kind, name: &str, stream: Option<&str>) -> Target {
    Target { kind, name: name.to_owned(), stream: stream.map(str::to_owned) }
}
