//! The data folder as an operator meets it: a broker that was killed starts again
//! over it, a second one does not, and what cannot be read is told with a code of its
//! own and can be given up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod program;

use std::path::{Path, PathBuf};

use program::{Broker, Ran, folder, serve, weir};
use serde_json::{Value, json};

fn error(ran: &Ran) -> Value {
    let error: Value = serde_json::from_str(&ran.err).unwrap_or_else(|_| panic!("{ran:?}"));
    error["error"].clone()
}

fn store(arguments: &[&str], data: &Path) -> Ran {
    let data = data.to_str().unwrap();
    let mut all = vec!["store", arguments[0], data];
    all.extend(&arguments[1..]);
    Ran::of(weir(&all).output().unwrap())
}

/// A start that must fail.
fn refused(data: &Path, arguments: &[&str]) -> Ran {
    let ran =
        Ran::of(serve(data, arguments).arg("--json").arg("--log").arg("off").output().unwrap());
    assert!(!ran.err.is_empty(), "{ran:?}");
    ran
}

fn lines(broker: &Broker, subject: &str, numbers: std::ops::Range<usize>) {
    let text: String = numbers.map(|number| format!("message {number}\n")).collect();
    broker.run_with(&["pub", subject, "--lines"], &text).ok();
}

fn payloads(ran: &Ran) -> Vec<String> {
    let text = |line: &Value| line["payload"].as_str().unwrap().to_owned();
    ran.json_lines().iter().map(text).collect()
}

#[test]
fn a_broker_that_was_killed_starts_again_with_everything() {
    let broker = Broker::start("store-killed");
    broker.run(&["queue", "create", "orders"]).ok();
    lines(&broker, "orders", 0..100);
    let taken = ["queue", "consume", "orders", "--count", "40", "--wait", "10s"];
    broker.run(&taken).ok();
    let data = broker.kill();
    let broker = Broker::over(&data, &[]);
    let info = broker.run(&["queue", "info", "orders", "--json"]).ok().json();
    assert_eq!((&info["messages"], &info["level"]), (&json!(60), &json!("disk")));
    let rest =
        broker.run(&["queue", "consume", "orders", "--count", "60", "--wait", "10s", "--json"]);
    let expected: Vec<String> = (40..100).map(|number| format!("message {number}")).collect();
    assert_eq!(payloads(&rest.ok()), expected);
    // One folder, one broker; the one that has it is not disturbed.
    let second = refused(&data, &[]);
    assert_eq!((second.code, &error(&second)["code"]), (75, &json!("locked")), "{second:?}");
    let looked = store(&["check", "--json"], &data);
    assert_eq!((looked.code, &error(&looked)["code"]), (75, &json!("locked")), "{looked:?}");
    assert!(error(&looked)["hint"].as_str().unwrap().contains("stop the broker"), "{looked:?}");
    let given_up = store(&["accept-loss", "queue/orders", "--json"], &data);
    assert_eq!((given_up.code, &error(&given_up)["code"]), (75, &json!("locked")), "{given_up:?}");
    let told = doctor(&data, &["--json"]).ok().json();
    assert_eq!((&told["running"], &told["last_start"]["clean"]), (&json!(true), &json!(false)));
    assert_eq!(told["advice"], json!([]));
    broker.run(&["queue", "info", "orders"]).ok();
    assert_eq!(broker.stop(), 0);
}

#[test]
fn a_folder_can_be_looked_at_written_out_and_read_in() {
    let broker = Broker::start("store-tools");
    broker.run(&["queue", "create", "orders"]).ok();
    broker.run(&["stream", "create", "flights", "--partitions", "2"]).ok();
    broker.run(&["group", "create", "flights", "audit"]).ok();
    lines(&broker, "orders", 0..20);
    lines(&broker, "flights", 0..10);
    broker.run(&["queue", "consume", "orders", "--count", "5", "--wait", "10s"]).ok();
    let data = broker.stop_and_keep();
    let checked = store(&["check", "--json"], &data).ok().json();
    assert_eq!((&checked["sound"], &checked["clean"]), (&json!(true), &json!(true)));
    assert_eq!(checked["messages"], 25);
    let stats = store(&["stats", "--json"], &data).ok().json_lines();
    let orders = stats.iter().find(|log| log["log"] == "queue/orders").unwrap();
    assert_eq!((&orders["end"], &orders["messages"]), (&json!(20), &json!(15)));
    assert!(store(&["stats"], &data).ok().out.contains("group/flights/audit/1"));
    let dumped = store(&["dump", "queue/orders", "--json"], &data).ok();
    assert_eq!(payloads(&dumped), (5..20).map(|it| format!("message {it}")).collect::<Vec<_>>());
    let catalogue = store(&["dump", "--catalogue", "--json"], &data).ok().json_lines();
    let keys: Vec<&str> = catalogue.iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["group/flights/audit", "queue/orders", "stream/flights"]);
    assert_eq!(store(&["dump", "queue/nothing"], &data).code, 3);
    assert_eq!(store(&["check"], Path::new("/nowhere/at/all")).code, 3);
    // Out and in again: the copy serves the same.
    let exported = store(&["export"], &data).ok().out;
    let place = folder("store-tools-copy");
    let (copy, file) = (place.join("data"), place.join("everything.jsonl"));
    std::fs::write(&file, &exported).unwrap();
    store(&["import", file.to_str().unwrap()], &copy).ok();
    let broker = Broker::over(&copy, &["--config", place.join("weir.toml").to_str().unwrap()]);
    let info = broker.run(&["queue", "info", "orders", "--json"]).ok().json();
    assert_eq!(info["messages"], 15);
    let info = broker.run(&["stream", "info", "flights", "--json"]).ok().json();
    assert_eq!((&info["messages"], &info["groups"][0]["name"]), (&json!(10), &json!("audit")));
    assert_eq!(broker.stop(), 0);
    // What looked has changed nothing.
    let broker = Broker::over(&data, &[]);
    let info = broker.run(&["queue", "info", "orders", "--json"]).ok().json();
    assert_eq!(info["messages"], 15);
    assert_eq!(broker.stop(), 0);
}

/// What the doctor says, with the marks for free space of the folder's configuration.
fn doctor(data: &Path, arguments: &[&str]) -> Ran {
    let config = data.join("weir.toml");
    let mut command = weir(&["doctor", data.to_str().unwrap()]);
    Ran::of(command.arg("--config").arg(config).args(arguments).output().unwrap())
}

/// Names and contents of everything below a folder.
fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn looking_makes_nothing_not_even_a_lock() {
    let broker = Broker::start("store-looked-at");
    broker.run(&["queue", "create", "orders"]).ok();
    broker.run(&["pub", "orders", "kept"]).ok();
    let data = broker.kill();
    // As a copy or a read-only mount may be.
    std::fs::remove_file(data.join("lock")).unwrap();
    let before = contents(&data);
    for command in ["check", "dump", "stats", "export"] {
        store(&[command], &data).ok();
    }
    doctor(&data, &[]).ok();
    assert!(contents(&data) == before, "something was made or changed");
}

#[test]
fn what_no_broker_has_written_to_is_not_called_sound() {
    let place = folder("store-foreign");
    let empty = place.join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::create_dir_all(place.join("journal/0123456789abcdef")).unwrap();
    for data in [&place, &empty] {
        for command in ["check", "stats", "dump", "export"] {
            let ran = store(&[command, "--json"], data);
            assert_eq!((ran.code, &error(&ran)["code"]), (65, &json!("bad_data")), "{ran:?}");
            assert!(ran.err.contains("no data folder of Weir's"), "{ran:?}");
        }
        let ran = store(&["accept-loss", "queue/orders", "--json"], data);
        assert_eq!(ran.code, 65, "{ran:?}");
    }
    assert_eq!(doctor(&place, &[]).code, 65);
    assert!(std::fs::read_dir(&empty).unwrap().next().is_none(), "nothing was made");
}

#[test]
fn what_fails_on_its_way_in_or_out_leaves_nothing_behind() {
    let broker = Broker::start("store-transfer");
    broker.run(&["queue", "create", "orders"]).ok();
    lines(&broker, "orders", 0..10);
    let data = broker.stop_and_keep();
    let place = folder("store-transfer-copy");
    let file = place.join("everything.jsonl");
    let name = file.to_str().unwrap();
    store(&["export", name], &data).ok();
    let again = store(&["export", name, "--json"], &data);
    assert_eq!((again.code, &error(&again)["code"]), (2, &json!("exists")), "{again:?}");
    assert!(error(&again)["hint"].as_str().unwrap().contains(name), "{again:?}");
    let whole = std::fs::read_to_string(&file).unwrap();
    let (most, _) = whole.trim_end().rsplit_once('\n').unwrap();
    let cut = place.join("cut.jsonl");
    let before = contents(&place).len() + 1;
    let (target, empty) = (place.join("new"), place.join("empty"));
    for wrong in [most, &whole[..whole.len() / 2], &whole.replace("queue/orders", "queue/../etc")] {
        std::fs::write(&cut, wrong).unwrap();
        let ran = store(&["import", cut.to_str().unwrap(), "--json"], &target);
        assert_eq!((ran.code, &error(&ran)["code"]), (65, &json!("bad_input")), "{ran:?}");
        assert!(error(&ran)["hint"].as_str().unwrap().contains("weir store export"), "{ran:?}");
        assert_eq!(contents(&place).len(), before, "{:?}", contents(&place));
    }
    std::fs::create_dir(&empty).unwrap();
    for target in [&target, &empty] {
        store(&["import", name], target).ok();
        assert_eq!(store(&["check", "--json"], target).ok().json()["messages"], 10);
        let again = store(&["import", name, "--json"], target);
        assert_eq!((again.code, &error(&again)["code"]), (2, &json!("exists")), "{again:?}");
    }
}

#[test]
fn a_want_of_space_is_told_with_figures_and_keys() {
    let data = folder("store-no-space");
    let config = data.join("weir.toml");
    std::fs::write(&config, "[store]\njournal-file-mib = 4\nfree-mib-min = 1073741824\n").unwrap();
    let mut broker = Broker::over(&data, &[]);
    let line = broker.line_since_start("no space");
    let told = |text: &str| {
        for part in ["MiB are free", "below 1073741824 MiB", "store.free-mib-min"] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    };
    told(&line);
    let ran = broker.run(&["queue", "create", "orders"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    told(&ran.err);
    let doctor = doctor(&data, &["--json"]).ok().json();
    told(&doctor["advice"].to_string());
    assert_eq!(broker.stop_and_keep(), data);
    let roomy = data.join("roomy.toml");
    std::fs::write(&roomy, "[store]\njournal-file-mib = 4\nfree-mib-min = 0\n").unwrap();
    let broker = Broker::over(&data, &["--config", roomy.to_str().unwrap()]);
    broker.run(&["queue", "create", "orders"]).ok();
    assert_eq!(broker.stop_and_keep(), data);
    let mut broker = Broker::over(&data, &[]);
    broker.line_since_start("no space");
    let ran = broker.run(&["pub", "orders", "text"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    told(&ran.err);
    assert_eq!(broker.stop(), 0);
}

/// The journal file that holds `text`, and where.
fn find(data: &Path, text: &str) -> (PathBuf, usize) {
    for entry in std::fs::read_dir(data.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|it| it == text.as_bytes()) {
            return (path, at);
        }
    }
    panic!("{text:?} is in no journal file");
}

fn spoil(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_loss_is_named_and_can_be_given_up() {
    let broker = Broker::start("store-loss");
    for queue in ["orders", "mail"] {
        broker.run(&["queue", "create", queue]).ok();
        broker.run(&["pub", queue, "before"]).ok();
        broker.run(&["pub", queue, &format!("damaged {queue}")]).ok();
        broker.run(&["pub", queue, "behind"]).ok();
    }
    let data = broker.kill();
    let (path, at) = find(&data, "damaged orders");
    spoil(&path, at);
    let checked = store(&["check", "--json"], &data);
    assert_eq!(checked.code, 3, "{checked:?}");
    let told: Value = serde_json::from_str(checked.out.trim()).unwrap();
    assert_eq!(told["lost"], json!([{ "log": "queue/orders", "from": 1, "to": 2 }]));
    let strict = data.join("strict.toml");
    let text = std::fs::read_to_string(data.join("weir.toml")).unwrap();
    std::fs::write(&strict, format!("{text}strict = true\n")).unwrap();
    std::fs::write(data.join("journal/spare-00000001.tmp"), "half of one").unwrap();
    // But for what a doctor reads.
    let kept = || {
        let mut kept = contents(&data);
        kept.retain(|(path, _)| !path.ends_with("last-recovery.json"));
        kept
    };
    let before = kept();
    let strict = refused(&data, &["--config", strict.to_str().unwrap()]);
    assert_eq!((strict.code, &error(&strict)["code"]), (3, &json!("data_loss")), "{strict:?}");
    assert!(kept() == before, "what was refused was changed");
    // A broker that starts names the range, refuses what would hide it, and goes on.
    let broker = Broker::over(&data, &[]);
    let refused = broker.run(&["pub", "orders", "more", "--json"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.err.contains("data_loss") || refused.out.contains("data_loss"), "{refused:?}");
    for next in ["weir store check DIR", "weir store accept-loss DIR"] {
        assert!(refused.err.contains(next), "{refused:?}");
    }
    broker.run(&["pub", "mail", "more"]).ok();
    let look =
        ["queue", "consume", "orders", "--count", "2", "--wait", "10s", "--json", "--no-ack"];
    let looked = broker.run(&look).ok();
    assert_eq!(payloads(&looked), ["before", "behind"]);
    let told = "1 message lost at offset 1: the broker's files are damaged, see weir store check";
    assert!(looked.err.contains(told), "{looked:?}");
    assert_eq!(broker.stop_and_keep(), data);
    let advice = doctor(&data, &["--json"]).ok().json()["advice"].to_string();
    assert!(advice.contains("weir store accept-loss"), "{advice}");
    let nothing = store(&["accept-loss", "queue/mail"], &data);
    assert_eq!(nothing.code, 3, "{nothing:?}");
    let given_up = store(&["accept-loss", "queue/orders", "--json"], &data).ok().json();
    assert_eq!(given_up["given_up"], json!([[1, 2]]));
    let broker = Broker::over(&data, &[]);
    broker.run(&["pub", "orders", "more"]).ok();
    let taken = ["queue", "consume", "orders", "--count", "3", "--wait", "10s", "--json"];
    assert_eq!(payloads(&broker.run(&taken).ok()), ["before", "behind", "more"]);
    assert_eq!(broker.stop(), 0);
}

#[test]
fn a_folder_that_cannot_be_read_is_refused_and_left_alone() {
    let broker = Broker::start("store-unreadable");
    broker.run(&["queue", "create", "orders"]).ok();
    broker.run(&["pub", "orders", "kept"]).ok();
    let data = broker.stop_and_keep();
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(data.join("journal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|it| it == "wj"))
            .collect();
        files.sort();
        files
    };
    let before = files();
    let first = before.first().unwrap();
    let head = std::fs::read(first).unwrap();
    let mut spoiled = head.clone();
    spoiled[8] ^= 1;
    std::fs::write(first, &spoiled).unwrap();
    // It names the data folder as well as the head does.
    std::fs::remove_file(data.join("synced")).unwrap();
    let ran = refused(&data, &[]);
    assert_eq!((ran.code, &error(&ran)["code"]), (65, &json!("bad_data")), "{ran:?}");
    // Neither points at the other: both say what to put there.
    let advice = doctor(&data, &["--json"]).ok().json()["advice"].to_string();
    assert!(advice.contains("would not start"), "{advice}");
    let checked = store(&["check"], &data);
    assert_eq!(checked.code, 65, "{checked:?}");
    for text in [&checked.err, &advice] {
        assert!(text.contains("a whole copy") && text.contains("weir store import"), "{text}");
        assert!(!text.contains("weir doctor") && !text.contains("store check"), "{text}");
    }
    assert_eq!(std::fs::read(first).unwrap(), spoiled, "it was left alone");
    assert_eq!(files(), before);
    std::fs::write(first, head).unwrap();
    let broker = Broker::over(&data, &[]);
    let info = broker.run(&["queue", "info", "orders", "--json"]).ok().json();
    assert_eq!(info["messages"], 1);
    assert_eq!(broker.stop(), 0);
}

#[test]
fn in_memory_nothing_is_left() {
    let broker = Broker::over(&folder("store-memory"), &["--memory"]);
    broker.run(&["queue", "create", "orders"]).ok();
    broker.run(&["pub", "orders", "gone"]).ok();
    let info = broker.run(&["queue", "info", "orders", "--json"]).ok().json();
    assert_eq!((&info["messages"], &info["level"]), (&json!(1), &json!("memory")));
    let ran = broker.run(&["queue", "create", "safe", "--level", "disk", "--json"]);
    assert_eq!((ran.code, &error(&ran)["code"]), (4, &json!("level_unsupported")), "{ran:?}");
    let data = broker.stop_and_keep();
    assert!(!data.join("journal").exists());
    let broker = Broker::over(&data, &["--memory"]);
    assert_eq!(broker.run(&["queue", "info", "orders"]).code, 3);
    assert_eq!(broker.stop(), 0);
}

#[test]
fn a_file_cut_short_after_a_good_stop_is_a_loss_until_it_is_accepted() {
    let broker = Broker::start("store-cut-short");
    for queue in ["orders", "mail"] {
        broker.run(&["queue", "create", queue]).ok();
        lines(&broker, queue, 0..10);
    }
    let data = broker.stop_and_keep();
    let journal = std::fs::read_dir(data.join("journal")).unwrap();
    let mut files: Vec<_> = journal.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "wj"));
    files.sort();
    let whole = std::fs::read(&files[0]).unwrap();
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap();
    let cut = std::fs::OpenOptions::new().write(true).open(&files[0]).unwrap();
    cut.set_len(end as u64 & !511).unwrap();
    for _ in 0..2 {
        assert_eq!(store(&["check"], &data).code, 3);
        let broker = Broker::over(&data, &[]);
        assert_eq!(broker.run(&["pub", "mail", "more"]).code, 4);
        assert_eq!(broker.stop_and_keep(), data);
    }
    let given_up = store(&["accept-loss", "--all", "--json"], &data).ok().json();
    let logs: Vec<_> = given_up["given_up"].as_array().unwrap().iter().collect();
    assert_eq!(logs.len(), 2, "{given_up}");
    store(&["check"], &data).ok();
    assert_eq!(store(&["accept-loss", "--all"], &data).code, 3, "nothing is left to accept");
    let broker = Broker::over(&data, &[]);
    broker.run(&["pub", "mail", "more"]).ok();
    assert_eq!(broker.stop(), 0);
}
