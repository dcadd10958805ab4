//! A policy of every role that misbehaves as it is told, either by a mark that the
//! test writes into its bytes or by the configuration `{"do": "panic"}`. Written
//! against the raw interfaces: the SDK would not let it answer nonsense.

// Only the component calls most of this.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]

use std::cell::RefCell;
use weir_plugin_sdk::bindings::exports::weir::policy::{
    dispatching, filtering, lifecycle, routing,
};
use weir_plugin_sdk::bindings::weir::policy::types::{
    Batch, Blobs, Cells, Column, Context, Manifest,
};
use weir_plugin_sdk::serde_json;

/// Overwritten in the built component; spaces mean: look into the configuration.
static MARK: [u8; 64] = *b"weir-hostile=                                                   ";

thread_local! {
    static TOLD: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Hostile;

fn marked() -> String {
    let mark = std::hint::black_box(&MARK);
    String::from_utf8_lossy(&mark[13..]).trim_end().to_owned()
}

/// Whether its answers hang on the subject alone, by the mark `memo-...`.
fn remembers() -> bool {
    marked().starts_with("memo-")
}

/// What it was told: the behaviour, and the text that subjects must contain.
fn told() -> (String, String) {
    let marked = marked();
    let marked = marked.strip_prefix("memo-").unwrap_or(&marked).to_owned();
    let told = if marked.is_empty() { TOLD.with_borrow(String::clone) } else { marked };
    match told.split_once('@') {
        Some((behaviour, text)) => (behaviour.to_owned(), text.to_owned()),
        None => (told, String::new()),
    }
}

/// The misbehaviours that need no answer; returns for the others.
fn misbehave(behaviour: &str) {
    match behaviour {
        "loop" => spin(),
        "panic" => panic!("hostile by order"),
        "recurse" => {
            std::hint::black_box(recurse(0));
        }
        "eat-memory" => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![1; 1 << 20]);
                std::hint::black_box(&eaten);
            }
        }
        _ => {}
    }
}

fn spin() {
    let mut count = 0_u64;
    while std::hint::black_box(count) < u64::MAX {
        count += 1;
    }
}

#[allow(unconditional_recursion, reason = "until the stack ends")]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box(recurse(std::hint::black_box(depth) + 1)) + 1
}

fn is_meant(input: &Batch, text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    input.columns.iter().any(|column| match &column.cells {
        Cells::Blobs(blobs) if column.id == 1 => {
            blobs.bytes.windows(text.len()).any(|window| window == text.as_bytes())
        }
        _ => false,
    })
}

/// Every message to its subject behind a prefix: tells whose decision it was.
fn prefixed(prefix: &str, subjects: &Blobs) -> routing::Routes {
    let mut targets = Blobs { bytes: Vec::new(), ends: Vec::new() };
    let mut start = 0;
    for &end in &subjects.ends {
        targets.bytes.extend_from_slice(prefix.as_bytes());
        targets.bytes.push(b'.');
        targets.bytes.extend_from_slice(&subjects.bytes[start..end as usize]);
        targets.ends.push(targets.bytes.len() as u32);
        start = end as usize;
    }
    let picks = (0..subjects.ends.len() as u32).collect();
    routing::Routes { targets, picks, ends: Vec::new(), extras: Vec::new() }
}

impl lifecycle::Guest for Hostile {
    fn describe() -> Manifest {
        let (behaviour, _) = told();
        if behaviour == "loop-describe" {
            spin();
        }
        let name = if behaviour == "bad-manifest" { "Not A Name!" } else { "hostile" };
        let powers = ["drop", "dead-letter", "rewrite", "retarget", "transient"];
        Manifest {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            summary: "misbehaves as it is told".to_owned(),
            config_schema: String::new(),
            columns: vec![1],
            header_columns: Vec::new(),
            memo_by: if remembers() { vec![1] } else { Vec::new() },
            state_version: 0,
            state_reads: 0,
            wants: powers.map(str::to_owned).to_vec(),
            settings: Vec::new(),
        }
    }

    fn init(context: Context) -> Result<(), String> {
        let config: serde_json::Value = serde_json::from_str(&context.config).unwrap_or_default();
        if let Some(told) = config.get("do").and_then(|value| value.as_str()) {
            TOLD.set(told.to_owned());
        }
        match told().0.as_str() {
            "loop-init" => spin(),
            "panic-init" => panic!("hostile from the start"),
            "refuse-init" => return Err("refuses to start, by order".to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn check() -> Result<(), String> {
        match told().0.as_str() {
            "loop-check" => spin(),
            "panic-check" => panic!("hostile to itself"),
            "fail-check" => return Err("fails its own check, by order".to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn save() -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }

    fn load(_version: u32, _state: Vec<u8>) -> Result<(), String> {
        Ok(())
    }
}

impl routing::Guest for Hostile {
    fn route(input: Batch) -> Result<routing::Routes, String> {
        let (behaviour, text) = told();
        let rows = input.rows;
        let subjects = input.columns.iter().find(|column| column.id == 1);
        let Some(Column { cells: Cells::Blobs(subjects), .. }) = subjects else {
            return Err("no subjects".to_owned());
        };
        if behaviour == "prefix" {
            return Ok(prefixed(&text, subjects));
        }
        let mut routes = routing::Routes {
            targets: subjects.clone(),
            picks: (0..rows).collect(),
            ends: Vec::new(),
            extras: Vec::new(),
        };
        if !is_meant(&input, &text) {
            return Ok(routes);
        }
        misbehave(&behaviour);
        match behaviour.as_str() {
            "fail" => return Err("fails by order".to_owned()),
            "wrong-count" => routes.picks.push(0),
            "falling-ends" => routes.ends = (0..rows).map(|row| rows - row).collect(),
            "bad-index" => routes.picks.fill(rows + 7),
            "own" => {
                // Itself, and behind it the copy of row 0's subject, a second late.
                routes.picks = (0..rows).flat_map(|_| [u32::MAX - 1, 0]).collect();
                routes.ends = (1..=rows).map(|row| 2 * row).collect();
                let delays = (0..rows).flat_map(|_| [0, 1_000]).collect();
                routes.extras.push(Column { id: 64, cells: Cells::Words(delays) });
            }
            "bad-utf8" => routes.targets.bytes.fill(0xff),
            "huge-answer" => routes.targets.bytes = vec![b'a'; 32 << 20],
            "unknown-codes" => {
                let cells = Cells::Words(vec![1; rows as usize]);
                routes.extras.push(Column { id: 999, cells });
            }
            _ => {}
        }
        Ok(routes)
    }
}

impl filtering::Guest for Hostile {
    fn filter(input: Batch) -> Result<filtering::Verdicts, String> {
        let (behaviour, text) = told();
        let rows = input.rows as usize;
        let mut verdicts = filtering::Verdicts { codes: vec![0; rows], edits: None };
        if !is_meant(&input, &text) {
            return Ok(verdicts);
        }
        misbehave(&behaviour);
        let edits = |row: u32, values: Blobs| {
            let count = values.ends.len();
            Some(filtering::Edits { rows: vec![row; count], columns: vec![2; count], values })
        };
        match behaviour.as_str() {
            "fail" => return Err("fails by order".to_owned()),
            "wrong-count" => verdicts.codes.push(0),
            "falling-ends" => {
                verdicts.codes.fill(4);
                verdicts.edits = edits(0, Blobs { bytes: vec![0; 4], ends: vec![4, 2] });
            }
            "bad-index" => {
                verdicts.codes.fill(4);
                let values = Blobs { bytes: vec![0; 4], ends: vec![4] };
                verdicts.edits = edits(rows as u32 + 7, values);
            }
            "bad-utf8" => {
                verdicts.codes.fill(2);
                let values = Blobs { bytes: vec![0xff; 4], ends: vec![4] };
                let (rows, columns) = (vec![0], vec![0]);
                verdicts.edits = Some(filtering::Edits { rows, columns, values });
            }
            "huge-answer" => verdicts.codes = vec![0; 32 << 20],
            "unknown-codes" => verdicts.codes.fill(99),
            _ => {}
        }
        Ok(verdicts)
    }
}

impl dispatching::Guest for Hostile {
    fn classify(subjects: Blobs) -> Result<Vec<u8>, String> {
        let (behaviour, _) = told();
        misbehave(&behaviour);
        let count = subjects.ends.len();
        Ok(vec![if behaviour == "unknown-codes" { 99 } else { 2 }; count])
    }

    fn open(_group: dispatching::Group) -> Result<dispatching::Plan, String> {
        let (behaviour, _) = told();
        let odd = behaviour == "unknown-codes";
        // Hears of everything and hands over itself, so that every call counts.
        Ok(dispatching::Plan {
            interest: u32::MAX,
            chooser: if odd { 99 } else { 0 },
            spread: 0,
            ack: 1,
            order: 0,
            exhausted: 0,
            lease_ms: 30_000,
            attempts: 0,
            retry_first_ms: 100,
            retry_max_ms: 1_000,
            retry_growth: 200,
            window: 1_000,
            per_consumer: 0,
            tick_ms: 0,
            settings: Vec::new(),
        })
    }

    fn join(_consumer: dispatching::Consumer) -> Result<(), String> {
        Ok(())
    }

    fn close(_group: u32) {}

    fn step(
        _now_ms: u64,
        events: dispatching::Events,
        _ready: Vec<Column>,
    ) -> Result<dispatching::Actions, String> {
        let (behaviour, _) = told();
        misbehave(&behaviour);
        let group = events.groups.first().copied().unwrap_or(0);
        let actions = |count: usize, kind: u8, consumer: u32, message: u64| dispatching::Actions {
            kinds: vec![kind; count],
            codes: vec![0; count],
            groups: vec![group; count],
            consumers: vec![consumer; count],
            values: vec![0; count],
            messages: vec![message; count],
        };
        match behaviour.as_str() {
            "fail" => Err("fails by order".to_owned()),
            "huge-answer" => Ok(actions(1 << 20, 5, 0, 0)),
            "unknown-codes" => Ok(actions(1, 99, 0, 0)),
            "bad-index" => Ok(actions(1, 1, 4_000_000_000, u64::MAX)),
            // A kind without its message, which would be another's.
            "wrong-count" => {
                Ok(dispatching::Actions { messages: Vec::new(), ..actions(1, 5, 0, 0) })
            }
            _ => Ok(actions(0, 0, 0, 0)),
        }
    }
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "what the border needs, generated by wit-bindgen")]
const _: () = {
    weir_plugin_sdk::__export_weir_policy_lifecycle_0_1_0_cabi!(
        Hostile with_types_in weir_plugin_sdk::bindings::exports::weir::policy::lifecycle
    );
    weir_plugin_sdk::__export_weir_policy_routing_0_1_0_cabi!(
        Hostile with_types_in weir_plugin_sdk::bindings::exports::weir::policy::routing
    );
    weir_plugin_sdk::__export_weir_policy_filtering_0_1_0_cabi!(
        Hostile with_types_in weir_plugin_sdk::bindings::exports::weir::policy::filtering
    );
    weir_plugin_sdk::__export_weir_policy_dispatching_0_1_0_cabi!(
        Hostile with_types_in weir_plugin_sdk::bindings::exports::weir::policy::dispatching
    );
};
