//! What the durable store makes of a disk, seen by a client of the release binary,
//! beside what the disk and the loopback can do by themselves: both in one run, in
//! turns.
//!
//! ```sh
//! cargo build --release -p weir-server
//! cargo run --release -p weir-tests --bin durable-load -- target/release/weir DIR [PART ...]
//! ```
//!
//! DIR must lie on the disk to be measured, with some 20 GiB free beside what the broker
//! leaves alone. Parts: `one`, `window`, `spread`, `stream` or `stream=GIB`, `restart`,
//! `memory`, `open` or `open=GIB`; all of them when none is named. Each ends with a line
//! that says whether what is wanted holds; the process ends with 1 when it does not
//! somewhere. Needs root to drop the page cache, and `perf` and `strace` to count syncs.

#![allow(clippy::print_stdout, reason = "a report for people")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]

mod broker;
mod files;
mod load;
mod machine;
mod memory;
mod one;
mod open;
mod raw;
mod restart;
mod spread;
mod stream;
mod syncs;
mod verdict;
mod window;

use std::path::Path;
use std::process::ExitCode;

use broker::Place;
use verdict::verdict;

const USAGE: &str =
    "durable-load WEIR DIR [one|window|spread|stream[=GIB]|restart|memory|open[=GIB] ...]";
/// Of `stream` when nothing is said.
const STREAM_GIB: u64 = 1;
/// More than the page cache takes before writers wait for the disk, on many machines.
const LONG_STREAM_GIB: u64 = 12;
/// Of `open` when nothing is said.
const OPEN_GIB: u64 = 4;

/// What can be asked for.
#[derive(Clone, Copy, Debug)]
enum Part {
    One,
    Window,
    Spread,
    Stream { gib: u64 },
    Restart,
    Memory,
    Open { gib: u64 },
}

impl Part {
    const ALL: [Self; 8] = [
        Self::One,
        Self::Window,
        Self::Spread,
        Self::Stream { gib: STREAM_GIB },
        Self::Stream { gib: LONG_STREAM_GIB },
        Self::Restart,
        Self::Memory,
        Self::Open { gib: OPEN_GIB },
    ];

    fn named(text: &str) -> Option<Self> {
        Some(match text {
            "one" => Self::One,
            "window" => Self::Window,
            "spread" => Self::Spread,
            "stream" => Self::Stream { gib: STREAM_GIB },
            "restart" => Self::Restart,
            "memory" => Self::Memory,
            "open" => Self::Open { gib: OPEN_GIB },
            other => match other.split_once('=')? {
                ("stream", gib) => Self::Stream { gib: gib.parse().ok().filter(|gib| *gib > 0)? },
                ("open", gib) => Self::Open { gib: gib.parse().ok()? },
                _ => return None,
            },
        })
    }

    /// Whether all of it holds. In a task, as the work of a service is: what `main`
    /// itself awaits runs on a thread of its own, and every answer would change threads.
    async fn measured(self, place: Place) -> bool {
        let measuring = match self {
            Self::One => tokio::spawn(one::run(place)),
            Self::Window => tokio::spawn(window::run(place)),
            Self::Spread => tokio::spawn(spread::run(place)),
            Self::Stream { gib } => tokio::spawn(stream::run(place, gib)),
            Self::Restart => tokio::spawn(restart::run(place)),
            Self::Memory => tokio::spawn(memory::run(place)),
            Self::Open { gib } => tokio::spawn(open::run(place, gib)),
        };
        match measuring.await {
            Ok(holds) => holds,
            // The others are measured all the same.
            Err(why) => verdict(false, &format!("{self:?}"), why, "a measurement to its end"),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, folder, parts @ ..] = &arguments[..] else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    let parts: Option<Vec<Part>> = match parts {
        [] => Some(Part::ALL.to_vec()),
        named => named.iter().map(|text| Part::named(text)).collect(),
    };
    let Some(parts) = parts else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    let (program, folder) = (Path::new(program), Path::new(folder));
    machine::tell(program, folder);
    let folder = folder.join(format!("weir-load-{}", std::process::id()));
    let mut all_hold = true;
    for part in parts {
        println!("\n{part:?}");
        std::fs::create_dir_all(&folder).unwrap();
        let place = Place { program: program.to_owned(), folder: folder.clone() };
        all_hold &= part.measured(place).await;
        std::fs::remove_dir_all(&folder).unwrap();
        // So that what was removed costs the next part nothing.
        machine::rest();
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
