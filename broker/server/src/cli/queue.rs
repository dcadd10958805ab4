//! `weir queue`: make, change, look at, empty and consume queues.

use clap::{Args, Subcommand};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use weir_client::{
    Alter, AlterQueue, Client, Create, CreateQueue, Error, ErrorCode, GroupFigures, Kind, ListItem,
    QueueInfo, WireError,
};

use super::Common;
use super::consume::{self, ConsumeArgs, Source};
use super::failure::Failure;
use super::output::Output;
use super::values::{self, LevelArg, OrderArg};

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Make a queue
    #[command(after_help = "Examples:\n  \
        weir queue create orders                       keeps what is published to `orders`\n  \
        weir queue create mail --subject 'mail.>' --subject 'letters.*'\n  \
        weir queue create jobs --messages-max 100000 --bytes-max 64MiB --order key")]
    Create(CreateArgs),
    /// Change a queue; what is not said stays as it is
    #[command(after_help = "Example:\n  weir queue alter jobs --messages-max 500000")]
    Alter(AlterArgs),
    /// Delete a queue with its messages
    #[command(after_help = "Example:\n  weir queue delete orders")]
    Delete(NameArg),
    /// List queues
    #[command(visible_alias = "ls")]
    #[command(after_help = "Examples:\n  weir queue list\n  weir queue list --json | jq -r .name")]
    List,
    /// Show settings, figures and consumers
    #[command(after_help = "Examples:\n  \
        weir queue info orders\n  weir queue info orders --json | jq .messages")]
    Info(NameArg),
    /// Remove what waits; what is with consumers stays
    #[command(after_help = "Example:\n  weir queue purge orders")]
    Purge(NameArg),
    /// Take messages: write them, then ack them
    #[command(after_help = "Examples:\n  \
        weir queue consume orders                      until Ctrl-C\n  \
        weir queue consume orders --count 1 --wait 5s  one, or exit code 6\n  \
        weir queue consume orders --wait 1s --json     what there is, as JSON\n  \
        weir queue consume orders --no-ack --wait 1s   look without taking\n  \
        weir queue consume orders --nack-every 20      give 5 % back, once each time")]
    Consume(QueueConsumeArgs),
}

#[derive(Debug, Args)]
pub struct NameArg {
    /// Name of the queue
    name: String,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the queue
    name: String,
    /// Pattern of subjects that it keeps; may be repeated [default: its name]
    #[arg(long = "subject", value_name = "PATTERN")]
    subjects: Vec<String>,
    /// Most messages; beyond it publishing is refused [default: no bound]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    messages_max: u64,
    /// Most bytes, e.g. 64MiB [default: no bound]
    #[arg(long, value_name = "SIZE", value_parser = values::bytes, default_value = "0")]
    #[arg(hide_default_value = true)]
    bytes_max: u64,
    /// Keep messages at least as safely as this [default: as safely as the broker can]
    #[arg(long, value_enum)]
    level: Option<LevelArg>,
    /// Deliver at least in this order
    #[arg(long, value_enum, default_value = "none")]
    order: OrderArg,
    /// Do nothing if it exists, whatever its settings
    #[arg(long)]
    if_absent: bool,
}

#[derive(Debug, Args)]
pub struct AlterArgs {
    /// Name of the queue
    name: String,
    /// Pattern of subjects that it keeps from now on; may be repeated
    #[arg(long = "subject", value_name = "PATTERN")]
    subjects: Vec<String>,
    /// Most messages; 0 for no bound
    #[arg(long, value_name = "N")]
    messages_max: Option<u64>,
    /// Most bytes, e.g. 64MiB; 0 for no bound
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    bytes_max: Option<u64>,
    /// Keep messages at least as safely as this
    #[arg(long, value_enum)]
    level: Option<LevelArg>,
    /// Deliver at least in this order
    #[arg(long, value_enum)]
    order: Option<OrderArg>,
}

#[derive(Debug, Args)]
pub struct QueueConsumeArgs {
    /// Name of the queue
    name: String,
    #[command(flatten)]
    how: ConsumeArgs,
}

pub(super) async fn run(
    common: &Common,
    command: QueueCommand,
    mut out: Output,
) -> Result<(), Failure> {
    if let QueueCommand::Consume(args) = command {
        let client = common.connect_and_stay().await?;
        let result = consume::run(&client, Source::Queue(&args.name), &args.how, out).await;
        client.close().await;
        return result;
    }
    let client = common.connect_once().await?;
    match command {
        QueueCommand::Create(args) => {
            let name = args.name.clone();
            client.create(Create::Queue(args.into())).await?;
            out.done(&format!("queue {name} is there"), &json!({ "created": name }))
        }
        QueueCommand::Alter(args) => {
            let name = args.name.clone();
            client.alter(Alter::Queue(args.into())).await?;
            out.done(&format!("queue {name} is changed"), &json!({ "altered": name }))
        }
        QueueCommand::Delete(NameArg { name }) => {
            client.delete_queue(&name).await?;
            out.done(&format!("queue {name} is deleted"), &json!({ "deleted": name }))
        }
        QueueCommand::List => {
            let items = client.list(Some(Kind::Queue)).await?;
            let items = with_figures(&client, items).await?;
            list(&mut out, &items)
        }
        QueueCommand::Info(NameArg { name }) => {
            let info = client.queue_info(&name).await?;
            if out.json { out.value(&info) } else { show(&mut out, &info) }
        }
        QueueCommand::Purge(NameArg { name }) => {
            let done = client.purge(&name).await?;
            out.done(&format!("{done} messages removed from {name}"), &json!({ "removed": done }))
        }
        QueueCommand::Consume(_) => unreachable!("handled above"),
    }
}

impl From<CreateArgs> for CreateQueue {
    fn from(args: CreateArgs) -> Self {
        Self {
            name: args.name,
            subjects: args.subjects,
            if_absent: args.if_absent,
            messages_max: args.messages_max,
            bytes_max: args.bytes_max,
            level: args.level.map(Into::into),
            order: args.order.into(),
        }
    }
}

impl From<AlterArgs> for AlterQueue {
    fn from(args: AlterArgs) -> Self {
        Self {
            name: args.name,
            subjects: (!args.subjects.is_empty()).then_some(args.subjects),
            messages_max: args.messages_max,
            bytes_max: args.bytes_max,
            level: args.level.map(Into::into),
            order: args.order.map(Into::into),
        }
    }
}

/// Asked about at once: what a list does not know, each shard knows of its own.
const INFOS_AT_ONCE: usize = 64;

/// The queues and streams of a list with their figures, as [`figured`] has them.
pub(super) async fn with_figures(
    client: &Client,
    items: Vec<ListItem>,
) -> Result<Vec<ListItem>, Error> {
    let ask = |item: ListItem| async move {
        let figures = match item.kind {
            Kind::Queue => client.queue_info(&item.name).await.map(|it| (it.messages, it.bytes)),
            Kind::Stream => client.stream_info(&item.name).await.map(|it| (it.messages, it.bytes)),
            Kind::Group => return Ok(Some(item)),
        };
        figured(item, figures)
    };
    let asked = stream::iter(items).map(ask).buffered(INFOS_AT_ONCE);
    let found: Vec<Option<ListItem>> = asked.try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// An item with its messages and bytes; `None` when it was deleted meanwhile. One whose
/// info is too long for an answer stays without: the others are told all the same.
fn figured(
    mut item: ListItem,
    figures: Result<(u64, u64), Error>,
) -> Result<Option<ListItem>, Error> {
    match figures {
        Ok((messages, bytes)) => {
            (item.messages, item.bytes) = (Some(messages), Some(bytes));
            Ok(Some(item))
        }
        Err(Error::Refused(WireError { code: ErrorCode::NotFound, .. })) => Ok(None),
        Err(Error::Refused(WireError { code: ErrorCode::TooLarge, .. })) => Ok(Some(item)),
        Err(error) => Err(error),
    }
}

/// Lists queues or streams.
pub(super) fn list(out: &mut Output, items: &[ListItem]) -> Result<(), Failure> {
    if out.json {
        for item in items {
            out.json_line(item)?;
        }
        return out.flush();
    }
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    let row = |item: &ListItem| {
        vec![
            item.name.clone(),
            number(item.messages),
            number(item.bytes),
            number(item.partitions.map(u64::from)),
            item.subjects.join(" "),
        ]
    };
    let rows: Vec<_> = items.iter().map(row).collect();
    out.table(&["NAME", "MESSAGES", "BYTES", "PARTITIONS", "SUBJECTS"], &rows)
}

fn show(out: &mut Output, info: &QueueInfo) -> Result<(), Failure> {
    let mut pairs = vec![
        ("name", info.name.clone()),
        ("subjects", info.subjects.join(" ")),
        ("level", word(&info.level)),
        ("order", word(&info.order)),
        ("messages", of_most(info.messages, info.messages_max)),
        ("bytes", of_most(info.bytes, info.bytes_max)),
        ("published", info.published.to_string()),
        ("refused", info.refused.to_string()),
        ("removed", info.removed.to_string()),
    ];
    pairs.extend(figures(&info.delivery));
    out.pairs(&pairs)?;
    consumers(out, &info.delivery)
}

/// A value of the wire by its name there.
pub(super) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// `3 of 100`, or `3` where there is no bound.
pub(super) fn of_most(value: u64, most: u64) -> String {
    if most == 0 { value.to_string() } else { format!("{value} of {most}") }
}

/// Figures of deliveries.
pub(super) fn figures(figures: &GroupFigures) -> Vec<(&'static str, String)> {
    let policy = format!("{} (generation {})", figures.binding, figures.generation);
    vec![
        ("policy", policy),
        ("lag", figures.lag.to_string()),
        ("waiting", figures.ready.to_string()),
        ("in flight", figures.in_flight.to_string()),
        ("delayed", figures.delayed.to_string()),
        ("parked", figures.parked.to_string()),
        ("delivered", figures.delivered.to_string()),
        ("redelivered", figures.redelivered.to_string()),
        ("acked", figures.acked.to_string()),
        ("nacked", figures.nacked.to_string()),
        ("expired", figures.expired.to_string()),
        ("dead-lettered", figures.dead_lettered.to_string()),
        ("dropped", figures.dropped.to_string()),
        ("refused actions", figures.refused_actions.to_string()),
        ("consumers", figures.consumers_total.to_string()),
    ]
}

/// The consumers, as a table below the figures.
pub(super) fn consumers(out: &mut Output, figures: &GroupFigures) -> Result<(), Failure> {
    if figures.consumers.is_empty() {
        return Ok(());
    }
    let row = |consumer: &weir_client::ConsumerInfo| {
        vec![
            consumer.connection.to_string(),
            consumer.sub.to_string(),
            consumer.credit.to_string(),
            consumer.in_flight.to_string(),
            consumer.name.clone(),
        ]
    };
    let rows: Vec<_> = figures.consumers.iter().map(row).collect();
    out.line("")?;
    out.table(&["CONNECTION", "SUB", "CREDIT", "IN FLIGHT", "NAME"], &rows)
}

#[cfg(test)]
mod tests {
    use weir_client::{ConsumerInfo, Level};

    use super::super::output::tests::Written;
    use super::*;

    #[test]
    fn a_list_goes_on_without_figures_that_cannot_be_had() {
        let item = ListItem {
            kind: Kind::Stream,
            name: "flights".into(),
            stream: None,
            subjects: Vec::new(),
            partitions: Some(4),
            messages: None,
            bytes: None,
        };
        let refused = |code| figured(item.clone(), Err(WireError::new(code, "text").into()));
        assert_eq!(refused(ErrorCode::TooLarge).expect("told"), Some(item.clone()));
        assert_eq!(refused(ErrorCode::NotFound).expect("told"), None);
        assert!(refused(ErrorCode::Internal).is_err());
        let whole = figured(item.clone(), Ok((3, 300))).expect("told").expect("it is there");
        assert_eq!((whole.messages, whole.bytes), (Some(3), Some(300)));
    }

    #[test]
    fn info_shows_bounds_policy_and_consumers() {
        let consumer =
            ConsumerInfo { connection: 4, sub: 1, credit: 9, in_flight: 3, name: "w1".into() };
        let info = QueueInfo {
            name: "orders".into(),
            subjects: vec!["orders".into(), "mail.>".into()],
            messages: 3,
            messages_max: 100,
            level: Level::Disk,
            delivery: GroupFigures {
                binding: "default-delivery".into(),
                generation: 2,
                consumers_total: 1,
                consumers: vec![consumer],
                ..GroupFigures::default()
            },
            ..QueueInfo::default()
        };
        let written = Written::default();
        show(&mut written.output(false), &info).expect("written");
        let text = written.text();
        for line in [
            " subjects         orders mail.>",
            " level            disk",
            " messages         3 of 100",
            " bytes            0",
            " policy           default-delivery (generation 2)",
            " CONNECTION  SUB  CREDIT  IN FLIGHT  NAME",
            "          4    1       9          3  w1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
    }
}
