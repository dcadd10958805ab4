//! A policy of every role that uses all the broker offers, steered by what it is
//! given: the first word of a payload says what to do with the message. Written
//! against the raw interfaces, so that nothing stands between it and the broker.

// Only the component calls most of this.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

use std::cell::Cell;
use weir_plugin_sdk::bindings::exports::weir::policy::{
    dispatching, filtering, lifecycle, routing,
};
use weir_plugin_sdk::bindings::weir::policy::types::{
    Batch, Blobs, Cells, Column, Context, Manifest,
};
use weir_plugin_sdk::bindings::weir::policy::{clock, kv, log, metrics};

/// The last byte is overwritten in the built component: "1" asks for answers that
/// are remembered by subject.
static MEMO: [u8; 16] = *b"weir-probe-memo0";

thread_local! {
    static CONSUMER: Cell<u32> = const { Cell::new(0) };
    static METRIC: Cell<u32> = const { Cell::new(0) };
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static SAVES_TOO_MUCH: Cell<bool> = const { Cell::new(false) };
}

struct Probe;

fn remembers() -> bool {
    std::hint::black_box(&MEMO)[15] == b'1'
}

fn blobs<T: AsRef<str>>(values: &[T]) -> Blobs {
    let mut all = Blobs { bytes: Vec::new(), ends: Vec::new() };
    for value in values {
        all.bytes.extend_from_slice(value.as_ref().as_bytes());
        all.ends.push(all.bytes.len() as u32);
    }
    all
}

fn column(batch: &Batch, id: u16) -> Vec<String> {
    let found = batch.columns.iter().find(|column| column.id == id);
    let Some(Column { cells: Cells::Blobs(blobs), .. }) = found else {
        return vec![String::new(); batch.rows as usize];
    };
    let mut start = 0;
    let value = |&end: &u32| {
        let value = &blobs.bytes[start..end as usize];
        start = end as usize;
        String::from_utf8_lossy(value).into_owned()
    };
    blobs.ends.iter().map(value).collect()
}

/// Counts the rows everywhere it can, then does what payloads ask of a call.
fn work(batch: &Batch, payloads: &[String]) {
    CALLS.set(CALLS.get() + 1);
    if remembers() {
        return;
    }
    kv::add("rows", i64::from(batch.rows), 0);
    metrics::add(METRIC.get(), u64::from(batch.rows));
    for payload in payloads {
        match payload.as_str() {
            "flood" => (0..1_000).for_each(|n| log::write(3, &format!("line {n}"))),
            "panic" => {
                log::write(1, "panicked: no such thing");
                panic!("no such thing");
            }
            _ => {}
        }
    }
}

impl lifecycle::Guest for Probe {
    fn describe() -> Manifest {
        let powers = ["drop", "dead-letter", "rewrite", "retarget", "transient"];
        Manifest {
            name: "probe".to_owned(),
            version: "1.0.0".to_owned(),
            summary: "uses everything".to_owned(),
            config_schema: String::new(),
            columns: if remembers() { vec![1] } else { vec![1, 2] },
            header_columns: Vec::new(),
            memo_by: if remembers() { vec![1] } else { Vec::new() },
            state_version: 2,
            state_reads: 1,
            wants: powers.map(str::to_owned).to_vec(),
            settings: Vec::new(),
        }
    }

    fn init(context: Context) -> Result<(), String> {
        SAVES_TOO_MUCH.set(context.config.contains("too much"));
        METRIC.set(metrics::define(1, "rows", "rows seen"));
        Ok(())
    }

    fn check() -> Result<(), String> {
        Ok(())
    }

    fn save() -> Result<Vec<u8>, String> {
        if SAVES_TOO_MUCH.get() {
            return Ok(vec![0; (4 << 20) + 1]);
        }
        Ok(CALLS.get().to_le_bytes().to_vec())
    }

    fn load(version: u32, state: Vec<u8>) -> Result<(), String> {
        let state = state.try_into().map_err(|_| "state is not eight bytes".to_owned())?;
        CALLS.set(u64::from_le_bytes(state) + u64::from(version == 1));
        Ok(())
    }
}

impl routing::Guest for Probe {
    fn route(input: Batch) -> Result<routing::Routes, String> {
        let (subjects, payloads) = (column(&input, 1), column(&input, 2));
        work(&input, &payloads);
        let (mut targets, mut picks, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut delays = Vec::new();
        for (subject, payload) in subjects.iter().zip(&payloads) {
            let (word, rest) = payload.split_once(' ').unwrap_or((payload, ""));
            let number = |value: Option<Vec<u8>>| {
                value.and_then(|value| value.try_into().ok()).map_or(0, i64::from_le_bytes)
            };
            let mut to = match word {
                "to" => rest.split(' ').map(str::to_owned).collect(),
                "kv" => vec![format!("kv.{}", number(kv::get("rows")))],
                "calls" => vec![format!("calls.{}", CALLS.get())],
                "time" => vec![format!("time.{}.{}", clock::wall_ms(), clock::steady_us())],
                "nowhere" => Vec::new(),
                _ if subject.starts_with("impure") => vec![clock::wall_ms().to_string()],
                _ => vec![subject.clone()],
            };
            if to.is_empty() {
                picks.push(u32::MAX);
                delays.push(0);
            }
            for target in to.drain(..) {
                picks.push(targets.len() as u32);
                delays.push(if word == "later" { 1_500 } else { 0 });
                targets.push(target);
            }
            ends.push(picks.len() as u32);
        }
        let extras = vec![Column { id: 64, cells: Cells::Words(delays) }];
        Ok(routing::Routes { targets: blobs(&targets), picks, ends, extras })
    }
}

impl filtering::Guest for Probe {
    fn filter(input: Batch) -> Result<filtering::Verdicts, String> {
        let payloads = column(&input, 2);
        work(&input, &payloads);
        let mut edits =
            filtering::Edits { rows: Vec::new(), columns: Vec::new(), values: blobs::<&str>(&[]) };
        let (mut codes, mut values) = (Vec::new(), Vec::new());
        for (row, payload) in payloads.iter().enumerate() {
            let (word, rest) = payload.split_once(' ').unwrap_or((payload, ""));
            let (code, column) = match word {
                "drop" => (1, None),
                "refuse" => (2, Some(0)),
                "divert" => (3, Some(0)),
                "edit" => (4, Some(2)),
                "key" => (4, Some(3)),
                "headers" => (4, Some(4)),
                _ => (0, None),
            };
            codes.push(code);
            if let Some(column) = column.filter(|_| !rest.is_empty()) {
                edits.rows.push(row as u32);
                edits.columns.push(column);
                values.push(rest);
            }
        }
        edits.values = blobs(&values);
        Ok(filtering::Verdicts { codes, edits: Some(edits) })
    }
}

impl dispatching::Guest for Probe {
    fn classify(subjects: Blobs) -> Result<Vec<u8>, String> {
        Ok(vec![0; subjects.ends.len()])
    }

    fn open(_group: dispatching::Group) -> Result<dispatching::Plan, String> {
        Ok(dispatching::Plan {
            interest: u32::MAX,
            chooser: 0,
            spread: 0,
            ack: 1,
            order: 0,
            exhausted: 2,
            lease_ms: 0,
            attempts: 3,
            retry_first_ms: 10,
            retry_max_ms: 5,
            retry_growth: 0,
            window: 0,
            per_consumer: 0,
            tick_ms: 0,
            settings: Vec::new(),
        })
    }

    fn join(consumer: dispatching::Consumer) -> Result<(), String> {
        if consumer.name == "unwelcome" {
            return Err("not you".to_owned());
        }
        CONSUMER.set(consumer.id);
        Ok(())
    }

    fn close(_group: u32) {}

    /// Every ready message goes to the consumer that joined last; the code is the
    /// length of its subject, as the columns show it.
    fn step(
        _now_ms: u64,
        events: dispatching::Events,
        ready: Vec<Column>,
    ) -> Result<dispatching::Actions, String> {
        CALLS.set(CALLS.get() + 1);
        let told = events.kinds.iter().zip(&events.groups).zip(&events.messages);
        let (groups, messages): (Vec<_>, Vec<_>) = told
            .filter(|((kind, _), _)| **kind == 1)
            .map(|((_, &group), &message)| (group, message))
            .unzip();
        let rows = messages.len();
        let input = Batch { rows: rows as u32, now_ms: 0, columns: ready };
        let codes = column(&input, 1).iter().map(|subject| subject.len() as u8).collect();
        Ok(dispatching::Actions {
            kinds: vec![1; rows],
            codes,
            groups,
            consumers: vec![CONSUMER.get(); rows],
            values: vec![CALLS.get() as u32; rows],
            messages,
        })
    }
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "what the border needs, generated by wit-bindgen")]
const _: () = {
    weir_plugin_sdk::__export_weir_policy_lifecycle_0_1_0_cabi!(
        Probe with_types_in weir_plugin_sdk::bindings::exports::weir::policy::lifecycle
    );
    weir_plugin_sdk::__export_weir_policy_routing_0_1_0_cabi!(
        Probe with_types_in weir_plugin_sdk::bindings::exports::weir::policy::routing
    );
    weir_plugin_sdk::__export_weir_policy_filtering_0_1_0_cabi!(
        Probe with_types_in weir_plugin_sdk::bindings::exports::weir::policy::filtering
    );
    weir_plugin_sdk::__export_weir_policy_dispatching_0_1_0_cabi!(
        Probe with_types_in weir_plugin_sdk::bindings::exports::weir::policy::dispatching
    );
};
