//! Writing requests, for clients.

use serde::Serialize;

use crate::publish::PublishBuilder;
use crate::{Op, Request, RequestId, encode_credit, encode_settle, wire};

/// Appends the frame of `request`. The hot ones have functions of their own that
/// need no [`Request`]: [`PublishBuilder`], [`encode_settle`], [`encode_credit`].
pub fn encode_request(out: &mut Vec<u8>, id: RequestId, request: &Request) {
    let op = request.op();
    match request {
        Request::Publish(publish) => {
            let mut builder = PublishBuilder::start(out, publish.delay_ms);
            for parts in &publish.messages {
                builder.push(out, &publish.frame[parts.start as usize..parts.end as usize]);
            }
            builder.finish(out, id);
        }
        Request::Settle(settle) => encode_settle(out, id, settle.sub, settle.verb, &settle.ranges),
        Request::Credit(credit) => encode_credit(out, credit.sub, credit.amount),
        Request::Ping => wire::frame(out, |out| {
            wire::put_array(out, 2);
            wire::put_uint(out, op as u64);
            wire::put_uint(out, u64::from(id.0));
        }),
        Request::PolicyList => control(out, op, id, &crate::Empty {}),
        Request::Hello(body) => control(out, op, id, body),
        Request::Subscribe(body) => control(out, op, id, body),
        Request::Unsubscribe(body) => control(out, op, id, body),
        Request::Consume(body) => control(out, op, id, body),
        Request::Pull(body) => control(out, op, id, body),
        Request::Create(body) => control(out, op, id, body),
        Request::Alter(body) => control(out, op, id, body),
        Request::Delete(body) | Request::Info(body) => control(out, op, id, body),
        Request::List(body) => control(out, op, id, body),
        Request::Read(body) => control(out, op, id, body),
        Request::Seek(body) => control(out, op, id, body),
        Request::Purge(body) => control(out, op, id, body),
        Request::PolicyStatus(body) => control(out, op, id, body),
        Request::PolicyRollback(body) => control(out, op, id, body),
    }
}

fn control(out: &mut Vec<u8>, op: Op, id: RequestId, body: &impl Serialize) {
    wire::frame(out, |out| {
        wire::put_array(out, 3);
        wire::put_uint(out, op as u64);
        wire::put_uint(out, u64::from(id.0));
        wire::put_body(out, body);
    });
}
