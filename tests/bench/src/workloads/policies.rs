//! W6: what policies cost. W1 to W3 on Weir only, under four sets of bindings, in
//! turns. All of them publish the same messages: JSON payloads.
//!
//! (a) nothing bound; (b) a router that is remembered per subject; (c) a router and
//! a filter that look into every payload; (d) a delivery policy that is asked about
//! every message of a queue or group (`chooser` 0).

use std::path::PathBuf;

use super::{Bench, SIZES, fanout, queue, stream};
use crate::driver::{Driver, Sync};
use crate::drivers::{Weir, WeirConfig};
use crate::stamp::Layout;

const ROUTER_REMEMBERED: &str = r#"
policy = "subject-router"
subjects = ["bench", "bench.>"]
[[config.rules]]
pattern = "bench.>"
to = "{$subject}"
[[config.rules]]
pattern = "bench"
to = "{$subject}"
"#;

const ROUTER_BY_PAYLOAD: &str = r#"
policy = "json-router"
subjects = ["bench", "bench.>"]
[[config.rules]]
when = { field = "s", op = "exists" }
to = "{$subject}"
"#;

const FILTER_BY_PAYLOAD: &str = r#"
policy = "json-filter"
subjects = ["bench", "bench.>"]
[config]
keep = { field = "p", op = "prefix", value = "00" }
"#;

const DISPATCHER: &str = r#"
policy = "bench-dispatcher"
role = "delivery"
queues = ["bench"]
groups = ["bench/*"]
"#;

/// Where the component of (d) is, once it is built.
fn dispatcher() -> PathBuf {
    std::env::var_os("WEIR_BENCH_DISPATCHER").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/dispatcher/bench-dispatcher.wasm")),
        PathBuf::from,
    )
}

/// All of them, and why the last is left out where it is.
fn variants() -> (Vec<WeirConfig>, Option<String>) {
    let named = |name: &str, bindings: &[(&str, &str)]| WeirConfig {
        name: Some(format!("weir {name}")),
        bindings: bindings.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
        ..WeirConfig::default()
    };
    let mut all = vec![
        named("(a) default", &[]),
        named("(b) remembered", &[("router", ROUTER_REMEMBERED)]),
        named("(c) payload", &[("router", ROUTER_BY_PAYLOAD), ("filter", FILTER_BY_PAYLOAD)]),
    ];
    let component = dispatcher();
    if component.is_file() {
        let mut last = named("(d) dispatcher", &[("dispatcher", DISPATCHER)]);
        last.plugins = vec![("bench-dispatcher".to_owned(), component)];
        all.push(last);
        return (all, None);
    }
    (all, Some("run `weir policy build` in tests/bench/dispatcher".to_owned()))
}

/// The whole workload.
pub(crate) async fn run(bench: &mut Bench) {
    let mut drivers: Vec<Box<dyn Driver>> = Vec::new();
    let (variants, left_out) = variants();
    if let Some(reason) = left_out {
        crate::say(&format!("SKIPPED weir (d): {reason}"));
        bench.results.skipped.insert("weir (d)".to_owned(), reason);
    }
    for config in variants {
        match Weir::find(&bench.weir, config) {
            Ok(driver) => drivers.push(Box::new(driver)),
            Err(error) => return crate::say(&format!("SKIPPED W6: {error:#}")),
        }
    }
    for size in SIZES {
        // Channels have no delivery policy: (d) is left out.
        for shape in fanout::SHAPES {
            let three = &drivers[..3];
            fanout::rows(bench, three, "W6", shape, size, Layout::Json).await;
        }
        queue::rows(bench, &drivers, "W6", Sync::Synced, size, Layout::Json).await;
        stream::rows(bench, &drivers, "W6", Sync::Default, size, Layout::Json).await;
    }
}
