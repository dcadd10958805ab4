//! `weir sub`: what is published to channels, as it comes.

use clap::Args;
use weir_client::SubscribeOptions;

use super::Common;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output::{Output, note};
use super::payload::{self, Form};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    weir sub 'orders.*.created'\n  \
    weir sub '>'                                  everything\n  \
    weir sub jobs --share workers                 each message to one of the workers\n  \
    weir sub 'orders.>' --count 10 --json | jq .payload\n  \
    weir sub metrics --raw >> metrics.ndjson\n\n\
    In a pattern `*` stands for any characters inside a token, and `>` at the end\n\
    for one or more tokens. Ctrl-C ends.")]
pub struct SubArgs {
    /// Which subjects
    pattern: String,
    /// Share group: each message goes to one of its members
    #[arg(long, value_name = "GROUP")]
    share: Option<String>,
    /// End after so many messages
    #[arg(long)]
    count: Option<u64>,
    /// Write payloads only, one a line
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub(super) async fn run(common: &Common, args: SubArgs, mut out: Output) -> Result<(), Failure> {
    let form = Form::of(out.json, args.raw, false);
    let client = common.connect_and_stay().await?;
    let options = SubscribeOptions { share: args.share, ..SubscribeOptions::default() };
    let mut subscription = client.subscribe_with(&args.pattern, options).await?;
    let mut interrupt = Interrupt::listen()?;
    note(out.json, &format!("listening on {}; Ctrl-C ends", args.pattern));
    let mut left = args.count.unwrap_or(u64::MAX);
    let (mut skipped, mut interruptions) = (0, 0);
    while left > 0 {
        let batch = interrupt.before(subscription.next_batch()).await.transpose()?;
        let Some(batch) = batch.flatten() else { break };
        for delivery in batch {
            if left == 0 {
                break;
            }
            payload::write(&mut out, form, &delivery)?;
            left -= 1;
        }
        out.flush()?;
        if subscription.skipped() > skipped {
            skipped = subscription.skipped();
            note(false, &format!("note: too slow: {skipped} messages missed so far"));
        }
        if subscription.interruptions() > interruptions {
            interruptions = subscription.interruptions();
            note(false, "note: the connection was lost and is back; messages may be missing");
        }
    }
    drop(subscription);
    client.close().await;
    Ok(())
}
