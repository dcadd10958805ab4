//! What an author does first: start a policy, build it, have a component.

use std::path::Path;
use weir_toolchain::{Role, build, build_project, find, new_policy};

/// Slow where the target's library has to be built first.
#[test]
fn a_new_policy_builds_into_a_component() {
    let toolchain = find(&|_| {}).expect("a WebAssembly toolchain");
    let folder = tempfile::tempdir().expect("folder");
    let project = folder.path().join("my-router");
    new_policy("my-router", Role::Router, &project).expect("written");
    // The shipped policies' target folder: most of the work is done there already.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/policies");
    let built = build(&project, &toolchain, &target, &project).expect("builds");
    assert_eq!(built.path, project.join("my-router.wasm"));
    assert_eq!(built.component[..8], *b"\0asm\x0d\0\x01\0");
    assert!(wasmparser::validate(&built.component).is_ok());
}

/// The error an author sees is the compiler's.
#[test]
fn a_mistake_is_shown_as_the_compiler_says_it() {
    let toolchain = find(&|_| {}).expect("a WebAssembly toolchain");
    let folder = tempfile::tempdir().expect("folder");
    new_policy("broken", Role::Filter, folder.path()).expect("written");
    std::fs::write(folder.path().join("Cargo.toml"), "[package]\nname = 7\n").expect("written");
    let error = build_project(folder.path(), &toolchain).expect_err("no name");
    assert!(error.to_string().contains("package name"), "{error}");
}
