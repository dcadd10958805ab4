//! The shipped policies as components, for the broker to embed: running it needs
//! no WebAssembly toolchain. `cargo run -p weir-toolchain --bin weir-prebuild`
//! refreshes the copies; a test fails while one is older than its sources.

/// Every shipped policy: its name and its component.
pub const SHIPPED: &[(&str, &[u8])] = &[
    ("at-least-once", include_bytes!("../at-least-once.wasm")),
    ("subject-router", include_bytes!("../subject-router.wasm")),
];
