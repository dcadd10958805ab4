//! `weir stream`: make, change, look at and read streams.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use weir_client::{
    Alter, AlterStream, Client, Create, CreateStream, Error, ErrorCode, Kind, Read, Start,
    StreamInfo,
};

use super::Common;
use super::failure::Failure;
use super::output::Output;
use super::payload::{self, Form};
use super::queue::{list, of_most, with_figures, word};
use super::values::{self, LevelArg};

#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Make a stream
    #[command(after_help = "Examples:\n  \
        weir stream create flights --partitions 4 --subject 'flights.>'\n  \
        weir stream create audit --age-max 7d --bytes-max 1GiB\n  \
        weir stream create prices --compact             the last message of each key")]
    Create(CreateArgs),
    /// Change a stream; what is not said stays as it is
    #[command(after_help = "Examples:\n  \
        weir stream alter audit --age-max 30d\n  \
        weir stream alter prices --compact true")]
    Alter(AlterArgs),
    /// Delete a stream with its messages and groups
    #[command(after_help = "Example:\n  weir stream delete audit")]
    Delete(NameArg),
    /// List streams
    #[command(visible_alias = "ls")]
    #[command(after_help = "Example:\n  weir stream list")]
    List,
    /// Show settings, partitions and groups
    #[command(after_help = "Example:\n  weir stream info flights")]
    Info(NameArg),
    /// Read what is kept, without a group and without moving anything
    #[command(after_help = "Examples:\n  \
        weir stream read flights                              everything that is kept\n  \
        weir stream read flights --from ago:10m --json\n  \
        weir stream read flights --from time:2026-11-21T12:00:00Z --count 100\n  \
        weir stream read flights --partition 2 --from 4096 --raw")]
    Read(ReadArgs),
}

#[derive(Debug, Args)]
pub struct NameArg {
    /// Name of the stream
    name: String,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the stream
    name: String,
    /// Number of partitions; fixed for ever
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    partitions: u16,
    /// Pattern of subjects that it keeps; may be repeated [default: its name]
    #[arg(long = "subject", value_name = "PATTERN")]
    subjects: Vec<String>,
    /// Most messages per partition; older ones go [default: no bound]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    messages_max: u64,
    /// Most bytes per partition, e.g. 1GiB [default: no bound]
    #[arg(long, value_name = "SIZE", value_parser = values::bytes, default_value = "0")]
    #[arg(hide_default_value = true)]
    bytes_max: u64,
    /// Longest a message is kept, e.g. 7d [default: no bound]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    age_max: Option<Duration>,
    /// Keep messages at least as safely as this [default: as safely as the broker can]
    #[arg(long, value_enum)]
    level: Option<LevelArg>,
    /// Keep the last message of each key; older ones go some time after. Messages
    /// without a key stay
    #[arg(long)]
    compact: bool,
    /// With --compact: keep the last message of a key for so long when it has no
    /// payload [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    tombstone_time: Option<Duration>,
    /// Do nothing if it exists, whatever its settings
    #[arg(long)]
    if_absent: bool,
}

#[derive(Debug, Args)]
pub struct AlterArgs {
    /// Name of the stream
    name: String,
    /// Pattern of subjects that it keeps from now on; may be repeated
    #[arg(long = "subject", value_name = "PATTERN")]
    subjects: Vec<String>,
    /// Most messages per partition; 0 for no bound
    #[arg(long, value_name = "N")]
    messages_max: Option<u64>,
    /// Most bytes per partition, e.g. 1GiB; 0 for no bound
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    bytes_max: Option<u64>,
    /// Longest a message is kept, e.g. 7d; 0s for no bound
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    age_max: Option<Duration>,
    /// Keep messages at least as safely as this
    #[arg(long, value_enum)]
    level: Option<LevelArg>,
    /// Whether only the last message of each key is kept
    #[arg(long, value_name = "BOOL")]
    compact: Option<bool>,
    /// How long the last message of a key is kept when it has no payload, e.g. 24h
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    tombstone_time: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Name of the stream
    name: String,
    /// Where to start: earliest, latest, an offset, time:MOMENT, ago:TIME
    #[arg(long, value_parser = values::start, default_value = "earliest")]
    from: Start,
    /// Only this partition [default: one after the other]
    #[arg(long)]
    partition: Option<u16>,
    /// End after so many messages
    #[arg(long)]
    count: Option<u64>,
    /// Write payloads only, one a line
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub(super) async fn run(
    common: &Common,
    command: StreamCommand,
    mut out: Output,
) -> Result<(), Failure> {
    let client = common.connect_once().await?;
    match command {
        StreamCommand::Create(args) => {
            let name = args.name.clone();
            client.create(Create::Stream(args.into())).await?;
            out.done(&format!("stream {name} is there"), &json!({ "created": name }))
        }
        StreamCommand::Alter(args) => {
            let name = args.name.clone();
            client.alter(Alter::Stream(args.into())).await?;
            out.done(&format!("stream {name} is changed"), &json!({ "altered": name }))
        }
        StreamCommand::Delete(NameArg { name }) => {
            client.delete_stream(&name).await?;
            out.done(&format!("stream {name} is deleted"), &json!({ "deleted": name }))
        }
        StreamCommand::List => {
            let items = client.list(Some(Kind::Stream)).await?;
            let items = with_figures(&client, items).await?;
            list(&mut out, &items)
        }
        StreamCommand::Info(NameArg { name }) => {
            let info = client.stream_info(&name).await?;
            if out.json { out.value(&info) } else { show(&mut out, &info) }
        }
        StreamCommand::Read(args) => read(&client, &args, &mut out).await,
    }
}

impl From<CreateArgs> for CreateStream {
    fn from(args: CreateArgs) -> Self {
        Self {
            name: args.name,
            subjects: args.subjects,
            if_absent: args.if_absent,
            partitions: args.partitions,
            messages_max: args.messages_max,
            bytes_max: args.bytes_max,
            age_ms_max: args.age_max.map_or(0, whole_ms),
            level: args.level.map(Into::into),
            compact: args.compact,
            tombstone_ms: args.tombstone_time.map(whole_ms),
        }
    }
}

impl From<AlterArgs> for AlterStream {
    fn from(args: AlterArgs) -> Self {
        Self {
            name: args.name,
            subjects: (!args.subjects.is_empty()).then_some(args.subjects),
            messages_max: args.messages_max,
            bytes_max: args.bytes_max,
            age_ms_max: args.age_max.map(whole_ms),
            level: args.level.map(Into::into),
            compact: args.compact,
            tombstone_ms: args.tombstone_time.map(whole_ms),
        }
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn read(client: &Client, args: &ReadArgs, out: &mut Output) -> Result<(), Failure> {
    let form = Form::of(out.json, args.raw, true);
    let partitions = match args.partition {
        Some(partition) => partition..partition.saturating_add(1),
        None => 0..client.stream_info(&args.name).await?.partitions,
    };
    let mut left = args.count.unwrap_or(u64::MAX);
    let (mut out_of_range, mut is_in_range) = (None, false);
    for partition in partitions {
        let mut from = args.from;
        // What is published while we read is not waited for.
        let mut end = None;
        while left > 0 {
            let request = Read {
                stream: args.name.clone(),
                partition,
                from,
                messages_max: Some(left.min(1000) as u32),
                bytes_max: None,
            };
            let range = match client.read(request).await {
                // An offset that one partition has, another may not have.
                Err(error) if args.partition.is_none() && is_out_of_range(&error) => {
                    out_of_range = Some(error);
                    break;
                }
                range => range?,
            };
            is_in_range = true;
            let end = *end.get_or_insert(range.end);
            let empty = range.records.is_empty();
            for record in range.records {
                if left == 0 || record.offset >= end {
                    break;
                }
                payload::write(out, form, &record)?;
                left -= 1;
            }
            out.flush()?;
            if empty || range.next >= end {
                break;
            }
            from = Start::Offset(range.next);
        }
    }
    out.flush()?;
    match out_of_range {
        Some(error) if !is_in_range => Err(error.into()),
        _ => Ok(()),
    }
}

fn is_out_of_range(error: &Error) -> bool {
    error.refusal().is_some_and(|refusal| refusal.code == ErrorCode::OffsetOutOfRange)
}

fn show(out: &mut Output, info: &StreamInfo) -> Result<(), Failure> {
    let age = match info.age_ms_max {
        0 => String::new(),
        ms => format!("{} s", ms / 1000),
    };
    out.pairs(&[
        ("name", info.name.clone()),
        ("subjects", info.subjects.join(" ")),
        ("level", word(&info.level)),
        ("kept per partition", of_bounds(info)),
        ("kept at most for", age),
        ("compacted", compaction(info)),
        ("messages", info.messages.to_string()),
        ("bytes", info.bytes.to_string()),
        ("published", info.published.to_string()),
        ("refused", info.refused.to_string()),
        ("removed", info.removed.to_string()),
        ("removed by compaction", info.compacted.to_string()),
    ])?;
    out.line("")?;
    if info.compaction_stops > 0 {
        out.line(&format!(
            "compaction stopped {} times: a partition has too many gaps; \
             it goes on when retention has removed some, see: weir stream alter {} --age-max",
            info.compaction_stops, info.name
        ))?;
    }
    let rows: Vec<_> = info
        .starts
        .iter()
        .zip(&info.ends)
        .enumerate()
        .map(|(partition, (start, end))| {
            // An older broker does not say, and leaves no gaps.
            let kept = info.kept.get(partition).copied().unwrap_or(end - start);
            [partition as u64, *start, *end, kept].map(|number| number.to_string()).to_vec()
        })
        .collect();
    out.table(&["PARTITION", "START", "END", "MESSAGES"], &rows)?;
    if info.groups.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let row = |group: &weir_client::GroupInfo| {
        vec![
            group.name.clone(),
            group.delivery.lag.to_string(),
            group.delivery.in_flight.to_string(),
            group.delivery.acked.to_string(),
            group.delivery.consumers_total.to_string(),
            group.delivery.binding.clone(),
        ]
    };
    let rows: Vec<_> = info.groups.iter().map(row).collect();
    out.table(&["GROUP", "LAG", "IN FLIGHT", "ACKED", "CONSUMERS", "POLICY"], &rows)
}

fn compaction(info: &StreamInfo) -> String {
    if !info.compact {
        return String::new();
    }
    format!("to the last message of each key; without a payload {} s", info.tombstone_ms / 1000)
}

fn of_bounds(info: &StreamInfo) -> String {
    let mut bounds = Vec::new();
    if info.messages_max > 0 {
        bounds.push(format!("at most {} messages", info.messages_max));
    }
    if info.bytes_max > 0 {
        bounds.push(format!("at most {} bytes", of_most(info.bytes_max, 0)));
    }
    bounds.join(", ")
}
