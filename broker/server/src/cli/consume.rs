//! Consuming a queue or a group from the command line. What was written to
//! standard output is acked, in batches; what was not goes back.

use std::time::{Duration, Instant};

use clap::Args;
use weir_client::{Client, ConsumeOptions, Consumer, DeliveryBatch, Error, Lost};

use super::failure::{Exit, Failure};
use super::interrupt::Interrupt;
use super::output::{Output, note};
use super::payload::{self, Form};
use super::values;

/// Longest time until somebody who waits hears of what is lost.
const LOOK: Duration = Duration::from_secs(1);

/// Credit where nothing is said, deliveries.
const CREDIT: u32 = 1000;

/// Options of consuming.
#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// End after so many messages
    #[arg(long)]
    count: Option<u64>,
    /// End when nothing came for so long, e.g. 500ms, 10s
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    wait: Option<Duration>,
    /// Settle nothing: look, and give everything back at the end
    #[arg(long)]
    no_ack: bool,
    /// Give every Nth message back instead of acking it, to see redeliveries
    #[arg(long, value_name = "N", conflicts_with = "no_ack")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    nack_every: Option<u64>,
    /// Most deliveries in flight
    #[arg(long, conflicts_with = "count", value_parser = clap::value_parser!(u32).range(1..65_537))]
    credit: Option<u32>,
    /// Name of this consumer, for lists and policies
    #[arg(long)]
    name: Option<String>,
    /// A label for the delivery policy; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = values::header)]
    labels: Vec<(String, String)>,
    /// Write payloads only, one a line
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// What is consumed.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Queue(&'a str),
    Group(&'a str, &'a str),
}

#[derive(Default)]
struct Tally {
    interrupted: bool,
    seen: u64,
    nacked: u64,
    redelivered: u64,
}

/// Consumes until enough came, nothing came for long enough, or a signal asks to end.
pub(crate) async fn run(
    client: &Client,
    source: Source<'_>,
    args: &ConsumeArgs,
    mut out: Output,
) -> Result<(), Failure> {
    let form = Form::of(out.json, args.raw, true);
    let wanted = args.count.unwrap_or(u64::MAX);
    // A counted number is pulled: credit would bring more than is wanted.
    let credit = if args.count.is_some() { 0 } else { args.credit.unwrap_or(CREDIT) };
    let options = ConsumeOptions {
        credit,
        name: args.name.clone(),
        labels: args.labels.clone(),
        auto_ack: false,
    };
    let mut consumer = match source {
        Source::Queue(queue) => client.consume_with(queue, options).await?,
        Source::Group(stream, group) => client.consume_group(stream, group, options).await?,
    };
    let mut interrupt = Interrupt::listen()?;
    if args.wait.is_none() && args.count.is_none() {
        note(out.json, "consuming; Ctrl-C ends");
    }
    let mut tally = Tally::default();
    while tally.seen < wanted {
        let left = args.count.map(|count| count - tally.seen);
        let next = next_batch(&mut consumer, source, left, args.wait);
        let batch = interrupt.before(next).await.transpose()?;
        tally.interrupted = batch.is_none();
        tell_lost(&mut consumer, source);
        let Some(batch) = batch.flatten() else { break };
        handle(batch, args, wanted, form, &mut out, &mut tally)?;
    }
    if !args.no_ack {
        flush(&mut consumer, out.json).await?;
    }
    drop(consumer);
    finish(args, &tally, out.json)
}

/// Waits until the broker has done what was settled.
async fn flush(consumer: &mut Consumer, json: bool) -> Result<(), Failure> {
    let before = consumer.interruptions();
    match consumer.flush().await {
        // One that was lost before: what had not arrived has come again since.
        Err(Error::ConnectionLost { .. }) if consumer.interruptions() == before => {
            note(json, "a connection was lost: what was settled on it may have come again");
            Ok(consumer.flush().await.map(drop)?)
        }
        flushed => Ok(flushed.map(drop)?),
    }
}

/// Says what will not come because it is damaged.
fn tell_lost(consumer: &mut Consumer, source: Source<'_>) {
    for Lost { partition, from, to, messages, .. } in consumer.take_lost() {
        let plural = if messages == 1 { "" } else { "s" };
        let place = match to.saturating_sub(1) {
            last if last > from => format!("offsets {from} to {last}"),
            _ => format!("offset {from}"),
        };
        let place = match source {
            Source::Queue(_) => place,
            Source::Group(..) => format!("{place} of partition {partition}"),
        };
        let text = format!(
            "note: {messages} message{plural} lost at {place}: the broker's files are damaged, \
             see weir store check"
        );
        note(false, &text);
    }
}

/// The next deliveries, at most `left`: what is there at once, else the next one; `None`
/// when nothing came for `wait`. What is lost meanwhile is said.
async fn next_batch(
    consumer: &mut Consumer,
    source: Source<'_>,
    left: Option<u64>,
    wait: Option<Duration>,
) -> Result<Option<DeliveryBatch>, Failure> {
    let begun = Instant::now();
    loop {
        let slice = wait.map_or(LOOK, |wait| wait.saturating_sub(begun.elapsed()).min(LOOK));
        let batch = match left {
            // A counted number is pulled.
            Some(left) => consumer.pull(left.min(u64::from(CREDIT)) as u32, slice).await?,
            None => match tokio::time::timeout(slice, consumer.next_batch()).await {
                // Also where nothing more will come.
                Ok(batch) => return Ok(batch?),
                Err(_) => None,
            },
        };
        if batch.is_some() || wait.is_some_and(|wait| begun.elapsed() >= wait) {
            return Ok(batch);
        }
        tell_lost(consumer, source);
    }
}

fn handle(
    batch: DeliveryBatch,
    args: &ConsumeArgs,
    wanted: u64,
    form: Form,
    out: &mut Output,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut written = Vec::with_capacity(batch.len());
    for delivery in batch {
        if tally.seen == wanted {
            break;
        }
        payload::write(out, form, &delivery)?;
        tally.seen += 1;
        tally.redelivered += u64::from(delivery.attempt > 1);
        written.push((tally.seen, delivery));
    }
    // Acked only when it is out of this process.
    out.flush()?;
    if args.no_ack {
        return Ok(());
    }
    for (number, delivery) in written {
        match args.nack_every {
            Some(every) if number.is_multiple_of(every) => {
                tally.nacked += 1;
                delivery.nack(0);
            }
            _ => delivery.ack(),
        }
    }
    Ok(())
}

fn finish(args: &ConsumeArgs, tally: &Tally, json: bool) -> Result<(), Failure> {
    let plural = if tally.seen == 1 { "" } else { "s" };
    let mut text = format!("{} message{plural}", tally.seen);
    if tally.redelivered > 0 {
        text += &format!(", {} of them redelivered", tally.redelivered);
    }
    if tally.nacked > 0 {
        text += &format!(", {} given back", tally.nacked);
    }
    if args.no_ack {
        text += ", none of them settled";
    }
    note(json || args.raw, &text);
    match args.count {
        Some(count) if tally.seen < count && !tally.interrupted => Err(Failure::new(
            Exit::TimedOut,
            "too_few",
            format!("{} of {count} messages came", tally.seen),
            "wait longer with --wait, or look what there is: weir queue info, weir group info",
        )),
        _ => Ok(()),
    }
}
