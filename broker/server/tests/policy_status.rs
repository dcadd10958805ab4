//! What an operator learns of a policy at work: its figures, its last failure, its
//! metrics and its log, from the command line and the broker's log. The policy
//! does what payloads say.
#![allow(clippy::unwrap_used)]

mod program;

use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use program::{Broker, DEADLINE};
use serde_json::{Value, json};

fn probe() -> &'static [u8] {
    static PROBE: OnceLock<Vec<u8>> = OnceLock::new();
    PROBE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/probe");
        let target = weir_guests::target_folder();
        let toolchain = weir_guests::toolchain().unwrap();
        weir_toolchain::build(&folder, toolchain, &target, &target).unwrap().component
    })
}

/// Writes beside and renames, so that nobody sees half a file.
fn put(broker: &Broker, path: &str, bytes: &[u8]) {
    let path = broker.data().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let aside = path.with_extension("new");
    std::fs::write(&aside, bytes).unwrap();
    std::fs::rename(aside, path).unwrap();
}

fn status(broker: &Broker, binding: &str) -> Value {
    let ran = broker.run(&["policy", "status", binding, "--json"]);
    if ran.code == 0 { ran.json() } else { Value::Null }
}

/// Asks for the status of a binding until it is as it should be.
fn status_when(broker: &Broker, binding: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let status = status(broker, binding);
        if ready(&status) {
            return status;
        }
        assert!(since.elapsed() < DEADLINE, "{status}");
    }
}

#[test]
fn figures_failures_metrics_and_log_lines_reach_the_operator() {
    let mut broker = Broker::start("policy-status");
    for (binding, subject) in [("judge", "judged"), ("failing", "failed")] {
        let toml = format!(
            "policy = 'probe'\nrole = 'filter'\nsubjects = ['{subject}']\n\
             powers = ['drop', 'dead-letter']\n"
        );
        put(&broker, &format!("bindings/{binding}.toml"), toml.as_bytes());
    }
    put(&broker, "plugins/probe.wasm", probe());
    for binding in ["judge", "failing"] {
        status_when(&broker, binding, |status| status["state"] == "active");
    }
    for payload in ["fine", "drop", "divert", "refuse", "edit other", "flood"] {
        broker.run(&["pub", "judged", payload]);
    }
    let line = broker.line("line 0");
    assert!(line.contains(" INFO ") && line.contains("binding=\"judge\""), "{line}");
    assert!(line.contains("generation=1"), "{line}");

    let status = status(&broker, "judge");
    for (figure, count) in [
        ("rows", 6),
        ("dropped_rows", 1),
        ("diverted_rows", 1),
        ("refused_rows", 1),
        ("failed_rows", 1),
        ("denied_rows", 1),
        ("failures", 0),
        ("log_lines_dropped", 950),
    ] {
        assert_eq!(status[figure], json!(count), "{figure} of {status}");
    }
    assert_eq!(status["breaker"], "closed");
    let reason = status["last_failure"]["reason"].as_str().unwrap();
    assert!(reason.contains("needs the power \"rewrite\""), "{reason}");
    let metric = json!({"name": "rows", "kind": "counter", "help": "rows seen", "value": 6});
    assert_eq!(status["metrics"], json!([metric]));
    let last = &status["log"].as_array().unwrap()[19];
    assert_eq!((&last["message"], &last["level"]), (&json!("line 49"), &json!("info")));

    // A policy that fails for good: told by state, breaker and reason.
    for _ in 0..3 {
        broker.run(&["pub", "failed", "panic"]);
    }
    let line = broker.line("panicked: no such thing");
    assert!(line.contains("ERROR") && line.contains("binding=\"failing\""), "{line}");
    let failing = status_when(&broker, "failing", |status| status["state"] == "failing");
    assert!(["open", "half-open"].contains(&failing["breaker"].as_str().unwrap()), "{failing}");
    let text = broker.run(&["policy", "status", "failing"]).ok().out;
    for part in ["breaker", "last failure", "rows seen", "error generation 1: panicked"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert_eq!(broker.stop(), 0);
}

#[test]
fn a_file_that_cannot_be_used_is_told_once_and_counted() {
    let mut broker = Broker::start("policy-files");
    put(&broker, "plugins/lost/lost.wasm", b"no component");
    let line = broker.line("lost");
    assert!(line.contains(" WARN ") && line.contains("holds no plugin.toml"), "{line}");
    put(&broker, "bindings/in.toml", b"policy = ");
    status_when(&broker, "in", |status| status["state"] == "failed");
    // The next one: had the first been told again, its line would come before.
    let line = broker.line("WARN");
    assert!(line.contains("bindings/in.toml"), "{line}");
    assert_eq!(status(&broker, "in")["counters"]["file_problems"], 2);
    let table = broker.run(&["policy", "status"]).ok().out;
    assert!(table.contains("could not be used, since the broker started: 2\n"), "{table}");
    assert_eq!(broker.stop(), 0);
}
