//! What wit-bindgen makes of `wit/`. The only place in the SDK with generated,
//! unsafe code; everything else goes through plain Rust.
//!
//! One world holds every role, so that all roles share one set of types. Which
//! of them a component really exports, the role macros decide: each expands the
//! export macros of its own interfaces only.
#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    reason = "generated code"
)]

wit_bindgen::generate!({
    path: "../wit",
    inline: "
        package weir:plugin-sdk;
        world every-role {
            include weir:policy/gate@0.1.0;
            export weir:policy/dispatching@0.1.0;
        }
    ",
    world: "weir:plugin-sdk/every-role",
    pub_export_macro: true,
    default_bindings_module: "weir_plugin_sdk::bindings",
    disable_custom_section_link_helpers: true,
    generate_all,
});
