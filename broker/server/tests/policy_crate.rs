//! Policies of one's own from the command line, without a broker: starting one,
//! and checking a component.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![cfg(unix)]

mod program;

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use program::{Ran, folder, weir};
use serde_json::Value;

#[test]
fn a_policy_is_started_in_a_folder_of_any_name() {
    let project = folder("policy-new").join(OsStr::from_bytes(b"of-\xff"));
    let mut command = weir(&["policy", "new", "my-router", "--json", "--folder"]);
    let ran = Ran::of(command.arg(&project).output().unwrap()).ok();
    assert_eq!(ran.json()["policy"], "my-router");
    assert!(project.join("src/lib.rs").is_file());
}

#[test]
fn a_component_is_checked_and_told_of() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/prebuilt/json-filter.wasm");
    let ran = Ran::of(weir(&["policy", "check", "--json", shipped]).output().unwrap()).ok();
    let told = ran.json();
    assert_eq!(told["name"], "json-filter");
    assert_eq!(told["bytes"], std::fs::metadata(shipped).unwrap().len());
}

/// More than there is memory for, and nothing of it on the disk.
#[test]
fn a_file_that_no_component_can_be_is_not_read() {
    let path = folder("policy-check").join("large.wasm");
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let ran = weir(&["policy", "check", "--json", path.to_str().unwrap()]).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    let ran = Ran::of(ran);
    assert_eq!(ran.code, 4, "{ran:?}");
    let told: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(told["error"]["code"], "bad_component");
    assert!(told["error"]["message"].as_str().unwrap().contains("1099511627776 bytes"), "{told}");
}
