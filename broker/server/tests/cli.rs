//! The command line against a broker in a process of its own: results on standard
//! output, JSON where asked for, exit codes that scripts can tell apart.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Instant;

use clap::CommandFactory;
use program::{Broker, DEADLINE, Ran, signal, wait, weir};
use serde_json::{Value, json};

/// The error of a command that was asked for JSON.
#[track_caller]
fn error(ran: &Ran) -> Value {
    assert!(ran.out.is_empty(), "an error is no result: {ran:?}");
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    let error = error["error"].clone();
    assert!(!error["message"].as_str().unwrap().is_empty(), "{ran:?}");
    assert!(!error["hint"].as_str().unwrap().is_empty(), "{ran:?}");
    error
}

#[test]
fn queues_from_creation_to_deletion() {
    let broker = Broker::start("cli-queues");
    let create = ["queue", "create", "orders", "--subject", "orders.>", "--messages-max", "3"];
    assert_eq!(broker.run(&create).ok().out, "queue orders is there\n");
    broker.run(&create).ok();
    let published =
        broker.run(&["pub", "orders.new", "first", "--key", "k", "--header", "a=b", "--json"]);
    let receipt = published.ok().json();
    assert_eq!((&receipt["messages"], &receipt["stored"]), (&json!(1), &json!(1)));
    assert_eq!((&receipt["level"], &receipt["unrouted"]), (&json!("disk"), &json!(0)));
    // More than it holds: the rest is refused, by number, with exit code 4.
    let ran = broker.run_with(&["pub", "orders.new", "--lines"], "second\nthird\nfourth\n");
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("message 3: queue_full"), "{ran:?}");
    assert!(ran.err.contains("error[queue_full]") && ran.err.contains("hint: "), "{ran:?}");
    let info = broker.run(&["queue", "info", "orders", "--json"]).ok().json();
    assert_eq!((&info["messages"], &info["refused"]), (&json!(3), &json!(1)));
    broker.run(&["queue", "alter", "orders", "--messages-max", "100"]).ok();
    let list = broker.run(&["queue", "list", "--json"]).ok().json_lines();
    assert_eq!((list.len(), &list[0]["name"]), (1, &json!("orders")));
    let info = broker.run(&["queue", "info", "orders", "--json"]).ok().json();
    assert_eq!((&list[0]["messages"], &list[0]["bytes"]), (&json!(3), &info["bytes"]));
    broker.run(&["stream", "create", "flights"]).ok();
    broker.run(&["pub", "flights", "text"]).ok();
    let list = broker.run(&["stream", "list", "--json"]).ok().json_lines();
    assert_eq!((&list[0]["name"], &list[0]["messages"]), (&json!("flights"), &json!(1)));
    broker.run(&["stream", "delete", "flights"]).ok();
    let took =
        broker.run(&["queue", "consume", "orders", "--count", "2", "--wait", "20s", "--json"]);
    let messages = took.ok().json_lines();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["payload"], "first");
    assert_eq!((&messages[0]["key"], &messages[0]["attempt"]), (&json!("k"), &json!(1)));
    assert_eq!(messages[0]["subject"], "orders.new");
    let rest =
        broker.run(&["queue", "consume", "orders", "--count", "1", "--wait", "20s", "--raw"]);
    assert_eq!(rest.ok().out, "third\n");
    let nothing =
        broker.run(&["queue", "consume", "orders", "--count", "1", "--wait", "50ms", "--json"]);
    assert_eq!(nothing.code, 6, "{nothing:?}");
    broker.run(&["pub", "orders.new", "x", "--count", "5"]).ok();
    assert_eq!(broker.run(&["queue", "purge", "orders", "--json"]).ok().json_lines().len(), 1);
    let info = broker.run(&["queue", "info", "orders", "--json"]).ok().json();
    assert_eq!(info["messages"], json!(0));
    broker.run(&["queue", "delete", "orders"]).ok();
    assert_eq!(broker.run(&["queue", "info", "orders"]).code, 3);
    assert_eq!(broker.stop(), 0, "a signal to stop is no failure");
}

#[test]
fn streams_and_groups() {
    let broker = Broker::start("cli-streams");
    broker
        .run(&["stream", "create", "flights", "--partitions", "2", "--subject", "flights.>"])
        .ok();
    broker.run(&["group", "create", "flights", "audit", "--order", "key"]).ok();
    let lines = (0..20).map(|n| format!("{{\"n\":{n},\"origin\":\"o{}\"}}\n", n % 4));
    let input: String = lines.collect();
    let arguments = ["pub", "flights.new", "--ndjson", "--key-field", "origin", "--json"];
    let receipt = broker.run_with(&arguments, &input).ok().json();
    assert_eq!((&receipt["messages"], &receipt["stored"]), (&json!(20), &json!(20)));
    let info = broker.run(&["stream", "info", "flights", "--json"]).ok().json();
    assert_eq!((&info["messages"], &info["partitions"]), (&json!(20), &json!(2)));
    let records = broker.run(&["stream", "read", "flights", "--json"]).ok().json_lines();
    assert_eq!(records.len(), 20);
    assert!(records.iter().all(|record| record["offset"].is_u64() && record["key"].is_string()));
    // What no partition has is said, what one of them may have is not.
    for arguments in [&["--from", "1000"][..], &["--from", "1000", "--partition", "0"]] {
        let ran = broker.run(&[&["stream", "read", "flights", "--json"], arguments].concat());
        assert_eq!(error(&ran)["code"], "offset_out_of_range", "{ran:?}");
    }
    let ends = &info["ends"];
    let longest = ends[0].as_u64().max(ends[1].as_u64()).unwrap().to_string();
    broker.run(&["stream", "read", "flights", "--from", &longest]).ok();
    let consume =
        ["group", "consume", "flights", "audit", "--count", "20", "--wait", "20s", "--json"];
    assert_eq!(broker.run(&consume).ok().json_lines().len(), 20);
    let info = broker.run(&["group", "info", "flights", "audit", "--json"]).ok().json();
    assert_eq!((&info["delivery"]["acked"], &info["delivery"]["lag"]), (&json!(20), &json!(0)));
    broker.run(&["group", "seek", "flights", "audit", "--to", "earliest"]).ok();
    assert_eq!(broker.run(&consume).ok().json_lines().len(), 20, "everything again");
    let groups = broker.run(&["group", "list", "flights", "--json"]).ok().json_lines();
    assert_eq!((groups.len(), &groups[0]["name"]), (1, &json!("audit")));
    broker.run(&["group", "delete", "flights", "audit"]).ok();
    assert_eq!(broker.run(&consume).code, 3);
    broker.run(&["stream", "alter", "flights", "--messages-max", "2"]).ok();
    broker.run(&["stream", "delete", "flights"]).ok();
    assert!(broker.run(&["stream", "list", "--json"]).ok().out.is_empty());
}

/// A command that goes on, when it says that it does.
fn going_on(broker: &Broker, arguments: &[&str], says: &str) -> Child {
    let mut command = broker.command(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with(says), "{line}");
    child
}

/// Reads one line of what a command writes, sends it a signal while it waits for its reader,
/// and reads the rest; it must end well. How many lines it wrote.
fn ended_by(name: &str, mut child: Child) -> usize {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    signal(&child, name);
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).count());
    assert_eq!(wait(&mut child), 0, "SIG{name} is a way to end it");
    1 + rest.join().unwrap()
}

#[test]
fn a_signal_ends_what_writes_message_after_message() {
    let broker = Broker::start("cli-signals");
    broker.run(&["queue", "create", "orders"]).ok();
    let payload = "x".repeat(99);
    // Far more than a pipe holds.
    let mut left = 50_000;
    broker.run(&["pub", "orders", &payload, "--count", "50000"]).ok();
    for name in ["INT", "TERM"] {
        let consumer = going_on(&broker, &["queue", "consume", "orders", "--raw"], "consuming");
        let written = ended_by(name, consumer);
        assert!(written < left, "SIG{name}: it went on to the end");
        left -= written;
        let info = broker.run(&["queue", "info", "orders", "--json"]).ok().json();
        assert_eq!(info["messages"], json!(left), "what was written is acked");
        let listener = going_on(&broker, &["sub", "news", "--raw"], "listening on");
        broker.run(&["pub", "news", &payload, "--count", "20000"]).ok();
        ended_by(name, listener);
    }
}

#[test]
fn listeners_hear_and_end_in_good_order() {
    let broker = Broker::start("cli-listen");
    let listen = |arguments: &[&str]| going_on(&broker, arguments, "listening on");
    let counted = listen(&["sub", "news.*", "--count", "2", "--raw"]);
    let mut endless = listen(&["sub", "news.>"]);
    let receipt = broker.run(&["pub", "news.de", "eins", "--json"]).ok().json();
    assert_eq!((&receipt["reached"], &receipt["stored"]), (&json!(2), &json!(0)));
    broker.run(&["pub", "news.de", "zwei"]).ok();
    assert_eq!(Ran::of(counted.wait_with_output().unwrap()).ok().out, "eins\nzwei\n");
    signal(&endless, "INT");
    assert_eq!(wait(&mut endless), 0, "Ctrl-C is the way to end it");
    // Nobody is there any more.
    let since = Instant::now();
    loop {
        let receipt = broker.run(&["pub", "news.de", "drei", "--json"]).ok().json();
        if receipt["unrouted"] == json!(1) {
            break;
        }
        assert!(since.elapsed() < DEADLINE, "{receipt}");
    }
}

#[test]
fn publishing_that_stops_says_why_and_what_came_of_the_rest() {
    let broker = Broker::start("cli-stops");
    broker.run(&["queue", "create", "orders", "--messages-max", "1"]).ok();
    let ran = broker.run_with(&["pub", "orders", "--ndjson"], "1\n2\nno JSON\n4\n");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("message 2: queue_full"), "{ran:?}");
    assert!(ran.err.contains("error[bad_input]: message 3 of the input: "), "{ran:?}");
    assert!(ran.out.starts_with("published 2 messages, 1 kept"), "{ran:?}");
    broker.run(&["queue", "create", "items"]).ok();
    let ran = broker.run_with(&["pub", "items", "--json-array", "--json"], "[1,2,3,,5]");
    assert_eq!(ran.code, 1, "{ran:?}");
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    let told = "message 4 of the input: an element of the JSON array is missing";
    assert_eq!(error["error"]["message"], told);
    assert_eq!((&ran.json()["messages"], &ran.json()["stored"]), (&json!(3), &json!(3)));
}

#[test]
fn what_others_wrote_does_not_drive_the_terminal() {
    let broker = Broker::start("cli-terminal");
    broker.run(&["queue", "create", "orders"]).ok();
    broker.run(&["pub", "orders", "p\u{9b}2J\x1b[2J", "--key", "k\u{9b}2J\x1b[2J"]).ok();
    let consume = ["queue", "consume", "orders", "--count", "1", "--wait", "20s"];
    assert_eq!(broker.run(&consume).ok().out, "orders (k.2J.[2J)  p.2J.[2J\n");
}

#[test]
fn failures_have_a_code_a_sentence_a_hint_and_an_exit_code() {
    let broker = Broker::start("cli-failures");
    for (arguments, code, text) in [
        (&["queue", "info", "nothing"][..], 3, "not_found"),
        (&["queue", "consume", "nothing", "--count", "1"], 3, "not_found"),
        (&["stream", "read", "nothing"], 3, "not_found"),
        (&["group", "info", "nothing", "nobody"], 3, "not_found"),
        (&["group", "create", "nothing", "nobody"], 3, "not_found"),
        (&["policy", "status", "nothing"], 3, "not_found"),
        (&["queue", "create", "No Name"], 4, "bad_request"),
        (&["sub", "a..b"], 4, "bad_request"),
    ] {
        let ran = broker.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        assert_eq!(error(&ran)["code"], text, "{arguments:?}");
        let ran = broker.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(&format!("error[{text}]: ")), "{ran:?}");
        assert!(ran.err.contains("\nhint: "), "{ran:?}");
    }
    for arguments in [
        &["queue", "create"][..],
        &["frobnicate"],
        &["pub", "a", "b", "--delay", "soon"],
        &["pub", "a", "--lines", "--key-field", "x"],
        &["serve", "--config", "no-such-file.toml"],
        &["serve", "--listen", "nowhere"],
    ] {
        let ran = broker.run_with(arguments, "");
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{ran:?}");
    }
}

#[test]
fn without_a_broker_the_exit_code_says_so() {
    let broker = Broker::start("cli-nobody");
    let address = broker.address.clone();
    assert_eq!(broker.stop(), 0);
    let ran = Ran::of(weir(&["queue", "list", "--json", "--server", &address]).output().unwrap());
    assert_eq!(ran.code, 5, "{ran:?}");
    assert_eq!(error(&ran)["code"], "no_connection");
    let ran = Ran::of(weir(&["version", "--json", "--server", &address]).output().unwrap()).ok();
    assert_eq!(ran.json()["server"], Value::Null);
}

#[test]
fn a_second_broker_on_the_same_port_says_why_it_cannot() {
    let broker = Broker::start("cli-second");
    let data = concat!(env!("CARGO_TARGET_TMPDIR"), "/cli-second-other");
    let ran =
        Ran::of(weir(&["serve", "--listen", &broker.address, "--data", data]).output().unwrap());
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("another program listens there"), "{ran:?}");
    // An address for documentation: no machine has it.
    let elsewhere = weir(&["serve", "--listen", "192.0.2.1:7117", "--data", data]).output();
    let ran = Ran::of(elsewhere.unwrap());
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("this machine has no address 192.0.2.1"), "{ran:?}");
}

#[test]
fn a_word_that_is_no_level_does_not_silence_the_log() {
    let data = concat!(env!("CARGO_TARGET_TMPDIR"), "/cli-level");
    // An address that no machine has: the program ends whatever it makes of the word.
    let arguments = ["serve", "--log", "wran", "--listen", "192.0.2.1:7117", "--data", data];
    let ran = Ran::of(weir(&arguments).output().unwrap());
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("did you mean `warn`"), "{ran:?}");
}

#[test]
fn clients_of_other_protocols_are_told_by_name() {
    let mut broker = Broker::start("cli-strangers");
    for (bytes, name) in [(&b"GET / HTTP/1.1\r\n\r\n"[..], "HTTP"), (b"\x16\x03\x01\x02\0", "TLS")]
    {
        let mut socket = TcpStream::connect(&broker.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.contains(&format!("this looks like {name}")), "{text:?}");
        let line = broker.line("its own protocol");
        assert!(line.contains("INFO") && line.contains(name), "{line}");
    }
    assert_eq!(broker.stop(), 0);
}

#[test]
fn what_waits_for_its_time_is_not_called_ready() {
    let broker = Broker::start("cli-delayed");
    broker.run(&["queue", "create", "orders"]).ok();
    broker.run(&["pub", "orders", "later", "--delay", "1h"]).ok();
    let info = broker.run(&["queue", "info", "orders"]).ok().out;
    assert!(info.lines().any(|line| line.split_whitespace().eq(["waiting", "1"])), "{info}");
    assert!(!info.contains("ready"), "{info}");
    assert_eq!(broker.stop(), 0);
}

#[test]
fn policies_are_listed_and_told_of() {
    let broker = Broker::start("cli-policies");
    let policies = broker.run(&["policy", "list", "--json"]).ok().json_lines();
    assert!(policies.len() >= 9, "{policies:?}");
    let status = broker.run(&["policy", "status", "--json"]).ok().json_lines();
    let names: Vec<&str> = status.iter().filter_map(|it| it["binding"].as_str()).collect();
    assert!(names.contains(&"default-router") && names.contains(&"default-delivery"), "{names:?}");
    assert!(status.iter().all(|it| it["state"] == "active"), "{status:?}");
}

#[test]
fn the_page_of_the_command_line_names_every_command() {
    fn visit(command: &clap::Command, path: &str, page: &str, missing: &mut Vec<String>) {
        for inner in command.get_subcommands() {
            let path = format!("{path} {}", inner.get_name());
            visit(inner, &path, page, missing);
            if inner.get_subcommands().next().is_none() && !page.contains(path.trim()) {
                missing.push(path);
            }
        }
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut missing = Vec::new();
    visit(&weir_server::cli::Cli::command(), "weir", &page, &mut missing);
    assert!(missing.is_empty(), "docs/cli.md does not show: {missing:?}");
}
