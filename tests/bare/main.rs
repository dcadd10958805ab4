//! The core builds for bare WebAssembly: no operating system, no clock, no
//! threads. Whatever bound to a platform creeps into it or its dependencies
//! breaks this build.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

#[test]
fn the_core_builds_without_an_operating_system() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let toolchain = weir_toolchain::find(&|_| {}).unwrap();
    let built = toolchain
        .cargo_command("check")
        .args(["--package", "weir-core", "--lib", "--target-dir"])
        // Beside the outer build, whose lock this test would wait for.
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare"))
        .current_dir(root)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}
