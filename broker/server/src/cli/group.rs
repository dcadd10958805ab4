//! `weir group`: readers of a stream that keep their place.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use weir_client::{Alter, AlterGroup, Create, CreateGroup, GroupInfo, Kind, Start};

use super::Common;
use super::consume::{self, ConsumeArgs, Source};
use super::failure::Failure;
use super::output::Output;
use super::queue::{consumers, figures, word};
use super::values::{self, OrderArg};

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Make a group
    #[command(after_help = "Examples:\n  \
        weir group create flights audit\n  \
        weir group create flights live --from latest --order key")]
    Create(CreateArgs),
    /// Change a group; what is not said stays as it is
    #[command(after_help = "Example:\n  weir group alter flights audit --order all")]
    Alter(AlterArgs),
    /// Delete a group; the stream keeps its messages
    #[command(after_help = "Example:\n  weir group delete flights audit")]
    Delete(NameArgs),
    /// List the groups of a stream, or of all
    #[command(visible_alias = "ls")]
    #[command(after_help = "Examples:\n  weir group list\n  weir group list flights")]
    List {
        /// Only groups of this stream
        stream: Option<String>,
    },
    /// Show cursors, figures and consumers
    #[command(after_help = "Example:\n  weir group info flights audit")]
    Info(NameArgs),
    /// Move a group: read again, or skip
    #[command(after_help = "Examples:\n  \
        weir group seek flights audit --to earliest           everything again\n  \
        weir group seek flights audit --to ago:1h\n  \
        weir group seek flights audit --partition 2 --to 4096\n  \
        weir group seek flights audit --to latest             skip what is there")]
    Seek(SeekArgs),
    /// Take messages as a member of the group: write them, then ack them
    #[command(after_help = "Examples:\n  \
        weir group consume flights audit\n  \
        weir group consume flights audit --wait 1s --raw > flights.ndjson")]
    Consume(GroupConsumeArgs),
}

#[derive(Debug, Args)]
pub struct NameArgs {
    /// Name of the stream
    stream: String,
    /// Name of the group
    name: String,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    target: NameArgs,
    /// Where it starts: earliest, latest, an offset, time:MOMENT, ago:TIME
    #[arg(long, value_parser = values::start, default_value = "earliest")]
    from: Start,
    /// Deliver at least in this order
    #[arg(long, value_enum, default_value = "none")]
    order: OrderArg,
    /// Options for the delivery policy, a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    options: Option<Map<String, Value>>,
    /// Do nothing if it exists, whatever its settings
    #[arg(long)]
    if_absent: bool,
}

#[derive(Debug, Args)]
pub struct AlterArgs {
    #[command(flatten)]
    target: NameArgs,
    /// Deliver at least in this order
    #[arg(long, value_enum)]
    order: Option<OrderArg>,
    /// Options for the delivery policy, a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    options: Option<Map<String, Value>>,
}

#[derive(Debug, Args)]
pub struct SeekArgs {
    #[command(flatten)]
    target: NameArgs,
    /// Where to: earliest, latest, an offset, time:MOMENT, ago:TIME
    #[arg(long, value_parser = values::start)]
    to: Start,
    /// Only this partition [default: all]
    #[arg(long)]
    partition: Option<u16>,
}

#[derive(Debug, Args)]
pub struct GroupConsumeArgs {
    #[command(flatten)]
    target: NameArgs,
    #[command(flatten)]
    how: ConsumeArgs,
}

pub(super) async fn run(
    common: &Common,
    command: GroupCommand,
    mut out: Output,
) -> Result<(), Failure> {
    if let GroupCommand::Consume(args) = command {
        let client = common.connect_and_stay().await?;
        let source = Source::Group(&args.target.stream, &args.target.name);
        let result = consume::run(&client, source, &args.how, out).await;
        client.close().await;
        return result;
    }
    let client = common.connect_once().await?;
    match command {
        GroupCommand::Create(args) => {
            let (stream, name) = (args.target.stream.clone(), args.target.name.clone());
            client.create(Create::Group(args.into())).await?;
            let value = json!({ "stream": stream, "created": name });
            out.done(&format!("group {name} of {stream} is there"), &value)
        }
        GroupCommand::Alter(args) => {
            let (stream, name) = (args.target.stream.clone(), args.target.name.clone());
            client.alter(Alter::Group(args.into())).await?;
            let value = json!({ "stream": stream, "altered": name });
            out.done(&format!("group {name} of {stream} is changed"), &value)
        }
        GroupCommand::Delete(NameArgs { stream, name }) => {
            client.delete_group(&stream, &name).await?;
            let value = json!({ "stream": stream, "deleted": name });
            out.done(&format!("group {name} of {stream} is deleted"), &value)
        }
        GroupCommand::List { stream } => {
            let mut items = client.list(Some(Kind::Group)).await?;
            items.retain(|item| stream.is_none() || item.stream == stream);
            list(&mut out, &items)
        }
        GroupCommand::Info(NameArgs { stream, name }) => {
            let info = client.group_info(&stream, &name).await?;
            if out.json { out.value(&info) } else { show(&mut out, &info) }
        }
        GroupCommand::Seek(args) => {
            let NameArgs { stream, name } = args.target;
            client.seek(&stream, &name, args.partition, args.to).await?;
            let value = json!({ "stream": stream, "group": name, "to": args.to });
            out.done(&format!("group {name} of {stream} is moved"), &value)
        }
        GroupCommand::Consume(_) => unreachable!("handled above"),
    }
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("write a JSON object: {error}"))
}

impl From<CreateArgs> for CreateGroup {
    fn from(args: CreateArgs) -> Self {
        Self {
            stream: args.target.stream,
            name: args.target.name,
            if_absent: args.if_absent,
            start: args.from,
            order: args.order.into(),
            options: args.options.unwrap_or_default(),
        }
    }
}

impl From<AlterArgs> for AlterGroup {
    fn from(args: AlterArgs) -> Self {
        Self {
            stream: args.target.stream,
            name: args.target.name,
            order: args.order.map(Into::into),
            options: args.options,
        }
    }
}

fn list(out: &mut Output, items: &[weir_client::ListItem]) -> Result<(), Failure> {
    if out.json {
        for item in items {
            out.json_line(item)?;
        }
        return out.flush();
    }
    let row = |item: &weir_client::ListItem| {
        vec![item.stream.clone().unwrap_or_default(), item.name.clone()]
    };
    let rows: Vec<_> = items.iter().map(row).collect();
    out.table(&["STREAM", "GROUP"], &rows)
}

fn show(out: &mut Output, info: &GroupInfo) -> Result<(), Failure> {
    let options = match info.options.is_empty() {
        true => String::new(),
        false => Value::from(info.options.clone()).to_string(),
    };
    let cursors: Vec<_> = info.cursors.iter().map(u64::to_string).collect();
    let mut pairs = vec![
        ("stream", info.stream.clone()),
        ("name", info.name.clone()),
        ("order", word(&info.order)),
        ("options", options),
        ("cursors", cursors.join(" ")),
    ];
    pairs.extend(figures(&info.delivery));
    out.pairs(&pairs)?;
    consumers(out, &info.delivery)
}
