//! How effects, events and figures look in a script's transcript.

use std::fmt::Write as _;

use weir_message::Headers;

use crate::effect::{Run, Stats};
use crate::policy::{Event, event};

pub(super) fn show_event(event: &Event, body: Option<&str>) -> String {
    let Event { code, attempt, consumer, value, message, .. } = *event;
    match event.kind {
        event::READY => format!("ready {message} {} tries {attempt}", body.unwrap()),
        event::ACKED => format!("acked {message} by {consumer}"),
        event::NACKED => format!("nacked {message} by {consumer} code {code} delay {value}"),
        event::EXPIRED => format!("expired {message} at {consumer} try {attempt}"),
        event::JOINED => format!("joined {consumer} credit {value}"),
        event::LEFT => format!("left {consumer} code {code}"),
        event::CREDIT => format!("credit {consumer} +{value}"),
        event::LEASED => format!("leased {message} to {consumer} try {attempt} left {value}"),
        event::WOKE => format!("woke {message}"),
        event::TICK => "tick".to_owned(),
        event::REFUSED => format!("refused code {code} kind {attempt} message {message}"),
        event::EXTENDED => format!("extended {message} at {consumer} left {value}"),
        event::GONE => format!("gone {message}"),
        event::REPLAYED => "replayed".to_owned(),
        other => format!("kind {other}"),
    }
}

pub(super) fn show_run(run: &Run) -> String {
    let mut text = String::new();
    let mut at = 0;
    for k in 0..u64::from(run.count) {
        let parts = weir_message::parse(&run.bytes, at).unwrap();
        at = parts.end as usize;
        let view = parts.view(&run.bytes);
        let payload = String::from_utf8_lossy(view.payload);
        if k > 0 {
            text.push(' ');
        }
        write!(text, "{payload}").unwrap();
        if run.tag > 0 {
            write!(text, "#{}", run.tag + k).unwrap();
        }
        let dead: Vec<String> = Headers::of(view.headers)
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
            .collect();
        if !dead.is_empty() {
            write!(text, " {{{}}}", dead.join(", ")).unwrap();
        }
    }
    assert_eq!(at, run.bytes.len(), "a run holds its messages and nothing else");
    if run.partition > 0 {
        write!(text, " in {}", run.partition).unwrap();
    }
    if run.attempt > 1 {
        write!(text, " (try {})", run.attempt).unwrap();
    }
    text
}

pub(super) fn show_stats(stats: &Stats) -> String {
    let mut text = format!(
        "{}: {} kept, {}..{}, published {} refused {} removed {}",
        stats.name,
        stats.messages,
        stats.starts.iter().map(u64::to_string).collect::<Vec<_>>().join("+"),
        stats.ends.iter().map(u64::to_string).collect::<Vec<_>>().join("+"),
        stats.published,
        stats.refused,
        stats.removed
    );
    if stats.compacted + stats.compaction_stops > 0 {
        write!(text, " compacted {} stops {}", stats.compacted, stats.compaction_stops).unwrap();
    }
    for group in &stats.groups {
        write!(
            text,
            "\n  [{}] {} g{} lag {} ready {} in flight {} delayed {} parked {} | delivered {} \
             again {} acked {} nacked {} expired {} dead {} dropped {} refused {}",
            group.name,
            group.binding,
            group.generation.number,
            group.lag,
            group.ready,
            group.in_flight,
            group.delayed,
            group.parked,
            group.delivered,
            group.redelivered,
            group.acked,
            group.nacked,
            group.expired,
            group.dead_lettered,
            group.dropped,
            group.refused_actions
        )
        .unwrap();
        for consumer in &group.consumers {
            write!(
                text,
                "\n    {} credit {} holds {}",
                consumer.name, consumer.credit, consumer.in_flight
            )
            .unwrap();
        }
    }
    text
}
