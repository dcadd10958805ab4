//! `weir pub`: one message from the arguments, or many from a file or a pipe.
//!
//! With confirmation (the default) messages are sent in batches with one receipt
//! each; a few receipts are on their way at any time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::de::IgnoredAny;
use serde_json::Value;
use weir_client::{Client, Confirmation, Message, Publisher};

use super::Common;
use super::failure::{Exit, Failure};
use super::input::{Framing, Portion, cut_on_thread};
use super::output::{Output, note};
use super::progress::Progress;
use super::summary::Summary;
use super::values;

/// Messages of one receipt.
const RECEIPT_MESSAGES: u64 = 8192;
/// Receipts on their way.
const RECEIPTS: usize = 4;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    weir pub greetings.en hello\n  \
    weir pub orders --key customer-7 --header source=web '{\"total\": 12}'\n  \
    echo 'any bytes' | weir pub orders\n  \
    weir pub flights --lines < flights.txt             each line a message\n  \
    weir pub flights --ndjson --key-field origin < flights.ndjson\n  \
    weir pub flights --json-array --file flights-200k.json\n  \
    weir pub ping tick --count 100000 --no-confirm     as fast as it goes\n\n\
    Lines with a field for the subject: SUBJECT is taken where it is absent.\n  \
    weir pub other --ndjson --subject-field topic < events.ndjson")]
#[command(group = clap::ArgGroup::new("framing").args(["lines", "ndjson", "json_array"]))]
pub struct PubArgs {
    /// Where to: tokens separated by dots
    subject: String,
    /// Payload; standard input if it is left out
    #[arg(conflicts_with_all = ["framing", "file"])]
    payload: Option<String>,
    /// Each line of the input is a message
    #[arg(long)]
    lines: bool,
    /// Each line of the input is a message, and must be JSON
    #[arg(long)]
    ndjson: bool,
    /// The input is one JSON array, each element is a message
    #[arg(long)]
    json_array: bool,
    /// Read this file instead of standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Key: messages of one key keep their order
    #[arg(long)]
    key: Option<String>,
    /// Take the key from this field of each JSON message, e.g. origin or customer.id
    #[arg(long, value_name = "FIELD", conflicts_with = "key")]
    key_field: Option<String>,
    /// Take the subject from this field of each JSON message
    #[arg(long, value_name = "FIELD")]
    subject_field: Option<String>,
    /// Add a header; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::header)]
    headers: Vec<(String, String)>,
    /// Queues show the messages only after this time, e.g. 30s
    #[arg(long, value_name = "TIME", value_parser = values::duration_ms, default_value = "0ms")]
    #[arg(hide_default_value = true)]
    delay: u32,
    /// Publish the payload so many times
    #[arg(long, default_value_t = 1, conflicts_with = "framing")]
    count: u64,
    /// Wait until the broker has answered for every message (the default)
    #[arg(long, overrides_with = "no_confirm")]
    confirm: bool,
    /// Do not ask for confirmations
    #[arg(long, overrides_with = "confirm")]
    no_confirm: bool,
}

pub(super) async fn run(common: &Common, args: PubArgs, mut out: Output) -> Result<(), Failure> {
    let framing = match (args.lines || args.ndjson, args.json_array) {
        (true, _) => Some(Framing::Lines),
        (_, true) => Some(Framing::JsonArray),
        _ => None,
    };
    let wants_fields = args.key_field.is_some() || args.subject_field.is_some();
    if wants_fields && !(args.ndjson || args.json_array) {
        return Err(Failure::usage(
            "--key-field and --subject-field need JSON messages",
            "add --ndjson (one message a line) or --json-array",
        ));
    }
    let client = common.connect_once().await?;
    let mut sender = Sender::new(&client, !args.no_confirm);
    let started = Instant::now();
    let sent = match framing {
        Some(framing) => publish_items(&args, framing, &mut sender, out.json).await,
        None => publish_payload(&args, &mut sender, out.json).await,
    };
    // What was sent before a failure is sent: its outcome is told all the same.
    let finished = sender.finish().await;
    let told = match sent.is_ok() || sender.summary.messages > 0 {
        true => sender.summary.finish(&mut out, started.elapsed()),
        false => Ok(()),
    };
    client.close().await;
    // Why it stopped comes before what was refused: the summary has told that.
    sent.and(finished).and(told)
}

/// Sends messages and gathers what became of them.
struct Sender<'a> {
    client: &'a Client,
    publisher: Option<Publisher>,
    /// Messages sent.
    sent: u64,
    /// Receipts on their way, with the number of their first message.
    receipts: VecDeque<(u64, Confirmation)>,
    summary: Summary,
}

impl<'a> Sender<'a> {
    fn new(client: &'a Client, confirm: bool) -> Self {
        let publisher = confirm.then(|| client.publisher());
        let (receipts, summary) = (VecDeque::new(), Summary::default());
        Self { client, publisher, sent: 0, receipts, summary }
    }

    async fn send(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        match &mut self.publisher {
            None => self.client.publish_message(message).await?,
            Some(publisher) => {
                publisher.send(message).await?;
                if publisher.len() >= RECEIPT_MESSAGES {
                    self.take_receipt();
                    if self.receipts.len() > RECEIPTS {
                        self.gather_one().await?;
                    }
                }
            }
        }
        self.sent += 1;
        Ok(())
    }

    fn take_receipt(&mut self) {
        if let Some(publisher) = &mut self.publisher
            && !publisher.is_empty()
        {
            let confirmation = publisher.take();
            let first = self
                .receipts
                .back()
                .map_or(self.summary.messages, |(first, _)| first + RECEIPT_MESSAGES);
            self.receipts.push_back((first, confirmation));
        }
    }

    async fn gather_one(&mut self) -> Result<(), Failure> {
        if let Some((first, confirmation)) = self.receipts.pop_front() {
            self.summary.add(first, confirmation.await?);
        }
        Ok(())
    }

    /// Waits until the broker has everything.
    async fn finish(&mut self) -> Result<(), Failure> {
        if self.publisher.is_none() {
            self.client.ping().await?;
            self.summary.messages = self.sent;
            return Ok(());
        }
        self.take_receipt();
        while !self.receipts.is_empty() {
            self.gather_one().await?;
        }
        Ok(())
    }
}

async fn publish_payload(
    args: &PubArgs,
    sender: &mut Sender<'_>,
    json: bool,
) -> Result<(), Failure> {
    let payload = match (&args.payload, &args.file) {
        (Some(payload), _) => payload.clone().into_bytes(),
        (None, Some(path)) => std::fs::read(path).map_err(|error| Failure::file(path, &error))?,
        (None, None) => read_standard_input().await?,
    };
    let mut progress = Progress::new(json || args.count < 1000, None);
    let message = message(args, &args.subject, args.key.as_deref(), &payload);
    for number in 1..=args.count {
        sender.send(&message).await?;
        if number % 1000 == 0 {
            progress.add(1000, 0);
            // Reader and writer share this thread's runtime.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

async fn read_standard_input() -> Result<Vec<u8>, Failure> {
    if io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no payload",
            "name one after the subject, or pipe one in: echo hello | weir pub SUBJECT",
        ));
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut payload = Vec::new();
        let limit = u64::from(weir_protocol::limits::FRAME_BYTES_CEILING);
        io::stdin().lock().take(limit + 1).read_to_end(&mut payload).map(|_| payload)
    });
    match read.await {
        Ok(Ok(payload)) => Ok(payload),
        Ok(Err(error)) => Err(Failure::failed(format!("cannot read standard input: {error}"))),
        Err(_) => Err(Failure::failed("cannot read standard input")),
    }
}

async fn publish_items(
    args: &PubArgs,
    framing: Framing,
    sender: &mut Sender<'_>,
    json: bool,
) -> Result<(), Failure> {
    let (reader, length) = open(args)?;
    if args.file.is_none() && io::stdin().is_terminal() {
        note(json, "reading from the terminal; Ctrl-D ends");
    }
    let mut progress = Progress::new(json, length);
    let mut portions = cut_on_thread(reader, framing);
    while let Some(portion) = portions.recv().await {
        let portion = portion.map_err(|error| bad_input(sender.sent + 1, &error.to_string()))?;
        let before = sender.sent;
        publish_portion(args, &portion, sender).await?;
        progress.add(sender.sent - before, portion.consumed);
    }
    Ok(())
}

fn open(args: &PubArgs) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    let file = match &args.file {
        Some(path) => File::open(path).map_err(|error| Failure::file(path, &error))?,
        None => {
            let handle = io::stdin().as_fd().try_clone_to_owned();
            let handle = handle
                .map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))?;
            File::from(handle)
        }
    };
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file);
    Ok((Box::new(file), metadata.map(|metadata| metadata.len())))
}

async fn publish_portion(
    args: &PubArgs,
    portion: &Portion,
    sender: &mut Sender<'_>,
) -> Result<(), Failure> {
    let wants_fields = args.key_field.is_some() || args.subject_field.is_some();
    for item in portion.items() {
        let blank = item.trim_ascii().is_empty();
        if blank && !args.lines {
            continue;
        }
        let bad = |error: serde_json::Error| bad_input(sender.sent + 1, &error.to_string());
        if wants_fields {
            let record: Value = serde_json::from_slice(item).map_err(bad)?;
            let subject = field_text(&record, args.subject_field.as_deref());
            let key = field_text(&record, args.key_field.as_deref());
            let subject = subject.as_deref().unwrap_or(&args.subject);
            let key = key.as_deref().or(args.key.as_deref());
            sender.send(&message(args, subject, key, item)).await?;
        } else {
            if !args.lines {
                serde_json::from_slice::<IgnoredAny>(item).map_err(bad)?;
            }
            sender.send(&message(args, &args.subject, args.key.as_deref(), item)).await?;
        }
    }
    Ok(())
}

fn message<'a>(
    args: &PubArgs,
    subject: &'a str,
    key: Option<&'a str>,
    payload: &'a [u8],
) -> Message<'a> {
    let message = Message::new(subject).key(key.unwrap_or("")).payload(payload);
    args.headers
        .iter()
        .fold(message.delay_ms(args.delay), |message, (name, value)| message.header(name, value))
}

fn bad_input(number: u64, error: &str) -> Failure {
    let hint = "the messages before it are published; correct the input and publish the rest";
    Failure::new(Exit::Failed, "bad_input", format!("message {number} of the input: {error}"), hint)
}

/// The field `path` (names separated by dots) of a record as text; `None` where it
/// is absent, null, or no simple value.
fn field_text(record: &Value, path: Option<&str>) -> Option<String> {
    let value = path?.split('.').try_fold(record, |value, name| value.get(name))?;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_records_become_text() {
        let record = serde_json::json!({
            "origin": "SFO", "delay": -3, "late": false, "none": null, "route": { "id": "a.b" }
        });
        let text = |path| field_text(&record, Some(path));
        assert_eq!(text("origin").as_deref(), Some("SFO"));
        assert_eq!(text("delay").as_deref(), Some("-3"));
        assert_eq!(text("late").as_deref(), Some("false"));
        assert_eq!(text("route.id").as_deref(), Some("a.b"));
        for absent in ["none", "route", "other", "origin.x", ""] {
            assert_eq!(text(absent), None, "{absent}");
        }
        assert_eq!(field_text(&record, None), None);
    }
}
