//! `memory`: 4 GiB of backlog, once in a queue and once in a stream, in a broker that is
//! told to keep little in memory; then all of it is consumed.

use std::time::Instant;

use weir_client::{Client, Level};

use crate::broker::{Broker, Place};
use crate::load::{drain, fill, make_queue, make_stream, queue_reader, stream_reader};
use crate::verdict::verdict;

const CONFIG: &str = "[store]\nmemory-mib = 32\n";
const BYTES: u64 = 4 << 30;
/// Most memory that the broker may ever have had, MiB.
const WANTED_MIB: f64 = 256.0;

/// Where the backlog is.
#[derive(Clone, Copy, Debug)]
enum Backlog {
    Queue,
    Stream,
}

impl Backlog {
    fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Stream => "stream",
        }
    }

    async fn make(self, client: &Client) {
        match self {
            Self::Queue => make_queue(client, self.name(), Level::Os).await,
            Self::Stream => make_stream(client, self.name()).await,
        }
    }
}

pub(crate) async fn run(place: Place) -> bool {
    let queue = backlog(&place, Backlog::Queue).await;
    queue & backlog(&place, Backlog::Stream).await
}

async fn backlog(place: &Place, what: Backlog) -> bool {
    let name = what.name();
    let broker = Broker::start(place, name, CONFIG);
    let client = broker.client().await;
    what.make(&client).await;
    let started = Instant::now();
    let messages = fill(&client, name, BYTES).await;
    let (took, full) = (started.elapsed(), broker.status_mib("VmHWM"));
    let mut consumer = match what {
        Backlog::Queue => queue_reader(&client, name).await,
        Backlog::Stream => stream_reader(&client, name).await,
    };
    let drained = drain(&mut consumer, messages).await;
    let peak = broker.status_mib("VmHWM");
    println!(
        "  {name}: {messages} messages in {took:.1?}, {full:.0} MiB at most; consumed in {:.1?}, \
         {peak:.0} MiB at most, {:.0} MiB at the end; {} missing, {} came again",
        drained.took,
        broker.status_mib("VmRSS"),
        drained.missing,
        drained.again
    );
    drop(consumer);
    client.close().await;
    broker.stop();
    place.clear(name);
    let wanted = format!("<= {WANTED_MIB} MiB");
    let holds = [
        verdict(
            full <= WANTED_MIB,
            &format!("VmHWM behind 4 GiB of backlog in a {name}"),
            format!("{full:.1} MiB"),
            &wanted,
        ),
        verdict(
            peak <= WANTED_MIB,
            &format!("VmHWM when the {name} was consumed"),
            format!("{peak:.1} MiB"),
            &wanted,
        ),
        verdict(
            drained.missing == 0,
            &format!("messages consumed from the {name}"),
            messages - drained.missing,
            messages,
        ),
    ];
    holds.into_iter().all(|holds| holds)
}
