//! The shipped policies as components, for the broker to embed: running it needs
//! no WebAssembly toolchain. `cargo run -p weir-toolchain --bin weir-prebuild`
//! refreshes the copies; a test fails while one is older than its sources.

/// Every shipped policy: its name and its component.
pub const SHIPPED: &[(&str, &[u8])] = &[
    ("at-least-once", include_bytes!("../at-least-once.wasm")),
    ("at-most-once", include_bytes!("../at-most-once.wasm")),
    ("header-filter", include_bytes!("../header-filter.wasm")),
    ("headers-router", include_bytes!("../headers-router.wasm")),
    ("json-filter", include_bytes!("../json-filter.wasm")),
    ("json-router", include_bytes!("../json-router.wasm")),
    ("per-group", include_bytes!("../per-group.wasm")),
    ("split-router", include_bytes!("../split-router.wasm")),
    ("subject-router", include_bytes!("../subject-router.wasm")),
];
