//! One connection: hello, a task that reads, a task that writes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use tokio::time::timeout;
use weir_protocol::limits::ANSWER_SLACK_BYTES;
use weir_protocol::{
    Hello, HelloAnswer, LostRange, Request, RequestId, Response, VERSION, decode_response,
    encode_request, next_frame,
};

use crate::inbox::Inbox;
use crate::limits::READ_BYTES;
use crate::line::{self, Line};
use crate::pending::{Pending, Reply};
use crate::shared::{Shared, Taken};
use crate::{ConnectOptions, Error, Lost};

/// Port where none is named.
const PORT: u16 = 7117;
/// How long a closing client waits for the broker to read what was written.
const LINGER: Duration = Duration::from_secs(2);
/// A write buffer larger than this is given back when it is empty, bytes.
const SPARE_BYTES_MAX: usize = 4 << 20;

/// A socket whose hello was answered.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    /// Read beyond the hello's answer.
    buffer: BytesMut,
    /// What the broker said.
    pub(crate) hello: HelloAnswer,
}

/// `host:port` of an address that may begin with `weir://` and leave out the port.
fn host_and_port(address: &str) -> String {
    let rest = address.strip_prefix("weir://").unwrap_or(address).trim_end_matches('/');
    let has_port = match rest.rfind(']') {
        Some(end) => rest[end..].contains(':'),
        None => rest.matches(':').count() == 1,
    };
    if has_port {
        rest.to_owned()
    } else if rest.contains(':') && !rest.starts_with('[') {
        format!("[{rest}]:{PORT}")
    } else {
        format!("{rest}:{PORT}")
    }
}

/// Connects and says hello.
///
/// # Errors
/// [`Error::Connect`], [`Error::Refused`], [`Error::Protocol`].
pub(crate) async fn connect(address: &str, options: &ConnectOptions) -> Result<Connection, Error> {
    let address = host_and_port(address);
    let failed =
        |source: io::Error| Error::Connect { address: address.clone(), source: Arc::new(source) };
    let greeting = async {
        let socket = TcpStream::connect(&address).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        let (mut reader, mut writer) = socket.into_split();
        let hello = Hello {
            version: vec![VERSION],
            client: options.name.clone(),
            token: options.token.clone(),
        };
        let mut out = Vec::new();
        encode_request(&mut out, RequestId(1), &Request::Hello(hello));
        writer.write_all(&out).await.map_err(failed)?;
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let limit = weir_protocol::limits::ANSWER_BYTES_MAX;
        let frame = loop {
            if let Some(frame) = next_frame(&mut buffer, limit)? {
                break frame;
            }
            if reader.read_buf(&mut buffer).await.map_err(failed)? == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        };
        let hello = match decode_response(&frame)? {
            Response::Ok { body, .. } => body.decode()?,
            Response::Error { error, .. } | Response::Goodbye { error } => {
                return Err(Error::Refused(error));
            }
            _ => return Err(Error::Protocol("the first frame is no answer to hello".into())),
        };
        Ok(Connection { reader, writer, buffer, hello })
    };
    match timeout(options.connect_timeout, greeting).await {
        Ok(result) => result,
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

/// Reads and writes until the connection ends. Ok when the client was closed, and
/// everything was written.
pub(crate) async fn serve(shared: &Arc<Shared>, connection: Connection) -> Result<(), Error> {
    let limit = connection.hello.limits.answer_bytes.saturating_add(ANSWER_SLACK_BYTES);
    let limit = limit.min(weir_protocol::limits::FRAME_BYTES_CEILING);
    let mut tasks = JoinSet::new();
    tasks.spawn(read_loop(shared.clone(), connection.reader, connection.buffer, limit));
    let writer = Arc::new(connection.writer);
    shared.lock().line = Some(Line::new(writer.clone()));
    tasks.spawn(write_loop(shared.clone(), writer));
    let first = join(tasks.join_next().await);
    if first.is_err() {
        // From now on nobody writes to it: what is sent waits for the next connection.
        let mut state = shared.lock();
        (state.line, state.writer_idle) = (None, false);
    } else {
        // The writer is done and has closed its half. The broker closes the other
        // one when it has read everything.
        let _ = timeout(LINGER, tasks.join_next()).await;
    }
    tasks.shutdown().await;
    first
}

fn join(ended: Option<Result<Result<(), Error>, tokio::task::JoinError>>) -> Result<(), Error> {
    match ended {
        Some(Ok(result)) => result,
        _ => Err(Error::Protocol("a task of the connection failed".into())),
    }
}

async fn write_loop(shared: Arc<Shared>, writer: Arc<OwnedWriteHalf>) -> Result<(), Error> {
    let mut buffer = Vec::new();
    loop {
        match shared.take_outgoing(&mut buffer) {
            Taken::Bytes => {
                line::write_all(&writer, &buffer).await?;
                buffer.clear();
                buffer.shrink_to(SPARE_BYTES_MAX);
                shared.wrote();
                // A socket that takes everything must not keep the thread from others.
                tokio::task::consume_budget().await;
            }
            Taken::Nothing => shared.wake.notified().await,
            Taken::Closing => {
                // With its last owner the writing half closes.
                shared.lock().line = None;
                return Ok(());
            }
        }
    }
}

async fn read_loop(
    shared: Arc<Shared>,
    mut reader: OwnedReadHalf,
    mut buffer: BytesMut,
    limit: u32,
) -> Result<(), Error> {
    let keepalive = shared.options.keepalive;
    let mut asked = false;
    loop {
        while let Some(frame) = next_frame(&mut buffer, limit)? {
            if let Some(inbox) = dispatch(&shared, decode_response(&frame)?)? {
                inbox.keep_up().await;
            }
        }
        buffer.reserve(READ_BYTES);
        match timeout(keepalive, reader.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(Ok(_)) => asked = false,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if asked => return Err(Error::Timeout { what: "ping", after: keepalive }),
            Err(_) => {
                asked = true;
                let mut state = shared.lock();
                state.ask(Pending::Nobody, |out, id| {
                    encode_request(out, RequestId(id), &Request::Ping);
                });
                shared.wake_writer(state);
            }
        }
    }
}

/// Acts on what the broker says. The inbox that was delivered to, if any.
fn dispatch(shared: &Arc<Shared>, response: Response) -> Result<Option<Arc<Inbox>>, Error> {
    match response {
        Response::Deliver { sub, runs } => {
            // Deliveries that crossed an unsubscribe have no inbox any more.
            let inbox = shared.inbox(sub);
            if let Some(inbox) = &inbox {
                inbox.deliver(runs);
            }
            return Ok(inbox);
        }
        Response::Published { id, outcome } => shared.published(id.0, outcome),
        Response::Ok { id, body } => shared.answered(id.0, Ok(Reply::Ok(body))),
        Response::Records { id, records } => {
            shared.answered(id.0, Ok(Reply::Records(records)));
        }
        Response::Error { id: RequestId(0), error } => return Err(Error::Refused(error)),
        Response::Error { id, error } => shared.answered(id.0, Err(Error::Refused(error))),
        Response::Skipped { sub, count, lost: Some(LostRange { partition, from, to }) } => {
            if let Some(inbox) = shared.inbox(sub) {
                tracing::warn!(sub = sub.0, count, partition, from, to, "messages are lost");
                inbox.lose(Lost { partition, from, to, messages: count });
            }
        }
        Response::Skipped { sub, count, lost: None } => {
            if let Some(inbox) = shared.inbox(sub) {
                tracing::warn!(sub = sub.0, count, "too slow: messages were skipped");
                inbox.skip(count);
            }
        }
        Response::Ended { sub, error } => {
            let inbox = shared.lock().inboxes.remove(&sub.0);
            if let Some(inbox) = inbox {
                inbox.end(Error::Refused(error));
            }
        }
        Response::Goodbye { error } => {
            tracing::info!(reason = %error, "the broker says goodbye");
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn addresses_may_leave_out_scheme_and_port() {
        for (address, expected) in [
            ("localhost", "localhost:7117"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("weir://broker/", "broker:7117"),
            ("weir://broker:1", "broker:1"),
            ("::1", "[::1]:7117"),
            ("[::1]", "[::1]:7117"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(host_and_port(address), expected);
        }
    }
}
