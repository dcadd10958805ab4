//! Why a component or a binding cannot be used: for operators, one sentence each.
//! What goes wrong at run time never leaves as an error; see [`crate::judge`].

use crate::setup::Role;

/// Why a component, or a binding of it, was not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The engine could not be set up on this machine.
    #[error("the WebAssembly engine could not be started: {0}")]
    Engine(String),
    /// The file is larger than a component may be.
    #[error("the component is {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Its size, bytes.
        bytes: usize,
        /// The bound, bytes.
        bytes_max: usize,
    },
    /// The bytes are not WebAssembly at all.
    #[error("not a WebAssembly component: the file does not start with the wasm header")]
    NotWasm,
    /// A core module, not a component.
    #[error(
        "a core WebAssembly module, not a component: build it with `weir policy build`, \
         or wrap it with wasm-tools"
    )]
    CoreModule,
    /// It does not validate or compile.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It imports what the broker does not offer: the first names, and how many more.
    #[error("the component needs what this broker does not offer: {}", .0.join(", "))]
    Imports(Vec<String>),
    /// It does not export what a policy must.
    #[error("{0}")]
    Exports(String),
    /// `describe` failed.
    #[error("the component could not describe itself: {0}")]
    Describe(String),
    /// What `describe` answered is not acceptable.
    #[error("the component's manifest is not acceptable: {0}")]
    Manifest(String),
    /// The binding asks for a role the component does not have.
    #[error("the component is no {wanted}: it is {has}")]
    Role {
        /// What the binding wants.
        wanted: Role,
        /// What the component is.
        has: String,
    },
    /// The policy refused its configuration.
    #[error("the policy refused its configuration: {0}")]
    Init(String),
    /// The policy's own check failed.
    #[error("the policy's own check failed: {0}")]
    Check(String),
}
