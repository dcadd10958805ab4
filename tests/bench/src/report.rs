//! `docs/performance.md`, from the JSON file of a run. Everything in it but the
//! text below and the notes is measured; nothing is typed in by hand.

use crate::machine::TAKEN_CORES_MAX;
use crate::results::{Results, Sample};
use crate::table::{self, short};
use crate::targets;

const HEAD: &str = "# Performance

Weir and what a user would take instead, side by side in one run. This page is written by
`weir-bench report`; the samples are in [performance/results.json](performance/results.json). To
make it again:

```sh
tests/bench/install-peers.sh    # once: redis-server, rabbitmq-server, nats-server
export IGGY_SERVER=...          # Apache Iggy's server, which no registry has: left out without
tests/bench/bench.sh            # all, by `weir-bench run`; less with --only w1,w4 --peers weir,nats
```

How to read it: a cell is the median (least–most) of the repeats, then the ratio to the best
peer of its row (`×`; for times, less is better), and for Weir the share of what the raw relay
does. Every sample has a server of its own in a fresh folder, drivers take turns, clients and
server **share the cores** of the machine: a slow client hides its broker, so CPU per message
stands beside every rate. \"default\" means that the acknowledgement waits for no sync of its own
(for Weir that is its level `os`, although `disk` is what it does unless told otherwise);
\"synced\" means acknowledged when it is on the disk. What each broker promises is listed under
Configurations. NOISY: other programs and other machines (stolen: a processor had work and
was not given a core) took more than TAKEN_CORES_MAX cores in the median sample. Lost:
published, and not received when nothing had come for 2 s; told: the broker told the listener how
many it skipped. LOST and DAMAGED: so many in all repeats together; \"1 of 3 samples\": the others
have failed, and why stands at the end.
";

/// What was counted and profiled beside the run: written by hand, and dated.
const NOTES: &str = include_str!("../notes.md");

/// What a workload measures, for its heading.
fn title(workload: &str) -> &'static str {
    match workload {
        "limits" => "Physical limits of the same run",
        "W1" => "W1 fan-out, nothing kept: delivered messages per second",
        "W2" => "W2 work queue, at least once: messages per second end to end",
        "W3" => "W3 stream: append with acknowledgements, replay from the start",
        "W4" => "W4 latency at 5,000 messages a second, publish to receive",
        "W5" => "W5 synced before the acknowledgement",
        "W6" => "W6 policies, Weir only: ratios to (a)",
        _ => "W7 growth, Weir only",
    }
}

/// How it is measured.
fn method(workload: &str) -> &'static str {
    match workload {
        "limits" => {
            "Plain threads, no broker, once each before W1, W3 and W5. Synced writes go over zeros in a file of 64 MiB. The sequential write goes to the end of a new file and is not synced: it is what the page cache takes, and memory that nobody has used yet is several times as slow as memory that somebody has."
        }
        "W1" => {
            "Publishers hand over 128 messages at a time (256 KiB at most) and confirm nothing; 4→4 on subjects of their own. The relay copies whole reads and parses nothing: it bounds, it is no peer."
        }
        "W2" => {
            "Two producers with confirmations, 512 in flight each, handed over 64 at a time; four consumers, credit 256, explicit acknowledgements. Producers wait while more than 20,000 messages wait in the queue. Redis: a receipt per pipeline; RabbitMQ, `nats`: one per message; `nats-batch`: one per 64 where it syncs, else as often as the server says; Weir: one per 64."
        }
        "W3" => {
            "1,000,000 messages or six windows, whichever ends first (who ends before that has appended fewer; how many is in the samples); 1,000 messages a call, 4,000 in flight; then one reader from the start, at once: what was appended last is still in memory, Weir's last 256 MiB in its own, everybody's in the page cache. Weir: credit 8,192; Redis: pages of 1,000; NATS: an ordered push consumer (`nats-batch` appends in batches). Iggy's client takes one request at a time: `iggy` has one connection and polls of 1,000, `iggy-4` a connection for each request in flight, which keeps no order among them (hence reordered), and polls of 8,192, one at a time: four at once were slower."
        }
        "W4" => {
            "For nearly seven windows. Counted from the moment a message was meant to leave (corrected for coordinated omission), by a publisher that sleeps between messages. A broker that cannot keep the rate is cut off after a second more: its times are its backlog."
        }
        "W5" => {
            "One producer, messages of 128 B to a queue. The yardstick is the time of one raw sync of 512 bytes (the quickest of four ways) and one raw round trip over the loopback, each measured alone by plain threads. The synced echo is a round trip to a plain thread that syncs before it answers, in the quickest of these ways. Neither is an upper bound: they are measured at other moments than the brokers."
        }
        "W6" => {
            "JSON payloads in all four. (a) nothing bound; (b) `subject-router`, remembered per subject; (c) `json-router` and `json-filter`, which look into every payload; (d) `tests/bench/dispatcher`, a delivery policy that hands out every message itself (`chooser` 0), for queue and stream."
        }
        _ => {
            "Queues: written at random, 512 in flight, at level disk. Subscriptions (one in ten with a wildcard) and connections are idle beside a fan-out 1→1 of 128 B. Workers: `--shards` and `TOKIO_WORKER_THREADS`. Idle bytes: growth of resident memory, by the number."
        }
    }
}

/// The text above all figures, with the bound that samples are judged by.
fn head() -> String {
    HEAD.replace("TAKEN_CORES_MAX", &TAKEN_CORES_MAX.to_string())
}

/// The whole page.
pub(crate) fn page(results: &Results, plots: &[(String, String)]) -> String {
    let mut out = head();
    out += &setting(results);
    out += &targets::table(results);
    for workload in ["limits", "W1", "W2", "W3", "W4", "W5", "W6", "W7"] {
        if results.rows(workload).is_empty() {
            continue;
        }
        out += &format!("\n## {}\n\n{}\n\n", title(workload), method(workload));
        out += &table::workload(results, workload);
        out += &unsynced(results, workload);
        for (of, file) in plots.iter().filter(|(of, _)| of.split('+').any(|it| it == workload)) {
            out += &format!("\n![{of}](performance/{file})\n");
        }
        out += &resources(results, workload);
    }
    out += &format!("\n{NOTES}");
    out += &list("Configurations", results.configurations.iter());
    out += &list("Left out", results.skipped.iter());
    if !results.failures.is_empty() {
        out += "\n## Failed samples\n\n";
        for failure in &results.failures {
            out += &format!("- {failure}\n");
        }
    }
    out
}

fn setting(results: &Results) -> String {
    let machine = &results.machine;
    let mut out = format!(
        "\n{}: {} cores ({}), {} MiB, Linux {}, {}. {} repeats, windows of {} s. Command: `weir-bench {}`.\n\nVersions: ",
        results.started,
        machine.cores,
        machine.processor,
        machine.memory_mib,
        machine.kernel,
        machine.file_system,
        results.repeats,
        results.seconds,
        results.command
    );
    let versions = results.versions.iter().map(|(name, version)| format!("{name} {version}"));
    out += &versions.collect::<Vec<_>>().join(", ");
    out += ".\n";
    out
}

fn list<'a>(title: &str, items: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let lines: String = items.map(|(name, text)| format!("- {name}: {text}\n")).collect();
    if lines.is_empty() { lines } else { format!("\n## {title}\n\n{lines}") }
}

/// Weir synced against the best peer that does not sync: what its user gives up.
fn unsynced(results: &Results, workload: &str) -> String {
    if !["W2", "W4"].contains(&workload) {
        return String::new();
    }
    let mut out = String::new();
    for (row, durability) in results.rows(workload) {
        if durability != "synced" {
            continue;
        }
        for (value, heading, lowest) in table::figures_of(workload) {
            let cells = results.cells(workload, &row, "default");
            let best = table::best_peer(&cells, value, *lowest);
            let weir = results.median((workload, &row, "synced"), "weir", value);
            if let (Some(best), Some(weir)) = (best, weir) {
                out += &format!(
                    "- {row}, {heading}: Weir synced {} to the best peer's unsynced {}: {:.2}×\n",
                    short(weir),
                    short(best),
                    weir / best
                );
            }
        }
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

/// CPU, memory and faults of every cell.
fn resources(results: &Results, workload: &str) -> String {
    let mut rows = Vec::new();
    for (row, durability) in results.rows(workload) {
        for cell in results.cells(workload, &row, &durability) {
            let Some(server) = cell.resource(|it| it.server_cores) else { continue };
            let of = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), short);
            let value = |name: &str| of(cell.value(name).map(|it| it.median));
            let faults = cell.faults();
            rows.push(vec![
                format!("{row}, {durability}").replace(", none", ""),
                cell.driver.to_owned(),
                value("server_us"),
                value("client_us"),
                short(server),
                of(cell.resource(|it| it.client_cores)),
                of(cell.resource(|it| it.other_cores)),
                of(cell.resource(|it| it.stolen_cores)),
                of(cell.resource(|it| it.rss_peak_mib)),
                faults.lost.to_string(),
                faults.told.to_string(),
                faults.reordered.to_string(),
                faults.duplicates.to_string(),
                faults.gaps.to_string(),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "cell",
        "driver",
        "server CPU µs/msg",
        "client CPU µs/msg",
        "server cores",
        "client cores",
        "other cores",
        "stolen cores",
        "peak RSS MiB",
        "lost",
        "of these told",
        "reordered",
        "duplicates",
        "gaps",
    ];
    let head: Vec<String> = head.iter().map(|it| (*it).to_owned()).collect();
    let table = table::markdown(&head, &rows);
    format!(
        "\n<details><summary>Resources (medians), faults (all repeats)</summary>\n\n{table}\n</details>\n"
    )
}

/// Samples whose payloads were damaged, of which a table tells the sum only.
pub(crate) fn damaged(results: &Results) -> impl Iterator<Item = &Sample> {
    results.samples.iter().filter(|it| it.faults.damaged > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_the_bound_of_noise() {
        assert!(head().contains(&format!("took more than {TAKEN_CORES_MAX} cores")), "{}", head());
    }
}
