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

/// Dependencies bring crates of many names, and a library may have one of its own.
#[test]
fn a_policy_may_be_called_like_a_dependency() {
    let toolchain = find(&|_| {}).expect("a WebAssembly toolchain");
    let folder = tempfile::tempdir().expect("folder");
    let project = folder.path();
    new_policy("log", Role::Filter, project).expect("written");
    let manifest = project.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).expect("read");
    let renamed = text.replace("[lib]\n", "[lib]\nname = \"judge\"\n");
    assert_ne!(text, renamed);
    std::fs::write(&manifest, renamed).expect("written");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/policies");
    let built = build(project, &toolchain, &target, project).expect("builds");
    assert_eq!(built.path, project.join("log.wasm"));
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
