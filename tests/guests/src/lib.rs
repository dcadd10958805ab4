//! Policies that misbehave, for tests: built from source once per process, then
//! told what to do by a mark in their bytes, so that each behaviour is a component
//! of its own that needs no configuration.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use weir_toolchain::{
    WasmToolchain, build, build_module, componentize_with_imports, find, write_whole,
};

/// Where the mark starts in a hostile component.
const MARK: &[u8] = b"weir-hostile=";
/// Length of the mark and of the behaviour's name behind it, bytes.
const MARK_BYTES: usize = 64;

/// What a hostile component can be told to do. Each acts in every role it has;
/// with `@text` behind it, only on batches with a subject that contains the text.
/// `prefix` does no harm: it routes each message to `text.` and its subject.
pub const BEHAVIOURS: [&str; 22] = [
    "bad-index",
    "bad-manifest",
    "bad-utf8",
    "eat-memory",
    "fail",
    "fail-check",
    "falling-ends",
    "huge-answer",
    "identity",
    "loop",
    "loop-check",
    "loop-describe",
    "loop-init",
    "own",
    "panic",
    "panic-check",
    "panic-init",
    "prefix",
    "recurse",
    "refuse-init",
    "unknown-codes",
    "wrong-count",
];

/// The built components.
#[derive(Clone, Debug)]
pub struct Guests {
    hostile: Vec<u8>,
    /// Imports an instance named `secret`, which no broker has.
    pub wrong_import: Vec<u8>,
}

impl Guests {
    /// The guests, built by the first caller of this process.
    ///
    /// # Panics
    /// When they cannot be built; the message says what to do.
    pub fn get() -> &'static Self {
        static GUESTS: OnceLock<Guests> = OnceLock::new();
        GUESTS.get_or_init(|| match Self::build() {
            Ok(guests) => guests,
            Err(error) => panic!("{error}"),
        })
    }

    fn build() -> Result<Self, Box<dyn std::error::Error>> {
        let toolchain = toolchain()?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = target_folder();
        let built = build(&folder.join("hostile"), toolchain, &target, &target)?;
        let module = build_module(&folder.join("wrong-import"), toolchain, &target)?;
        let import = "import secret: interface { reveal: func() -> u32; }";
        let wrong_import = componentize_with_imports(&module, import)?;
        write_whole(&target.join("weir-guest-wrong-import.wasm"), &wrong_import)?;
        Ok(Self { hostile: built.component, wrong_import })
    }

    /// A component that behaves so: one of [`BEHAVIOURS`], perhaps with `@text`;
    /// with `memo-` before it, its answers as a router are remembered by subject.
    ///
    /// # Panics
    /// When there is no such behaviour.
    #[must_use]
    pub fn behaving(&self, behaviour: &str) -> Vec<u8> {
        let name = behaviour.split('@').next().unwrap_or_default();
        let name = name.strip_prefix("memo-").unwrap_or(name);
        assert!(BEHAVIOURS.contains(&name), "no behaviour {name:?}");
        let mut component = self.hostile.clone();
        let found = component.windows(MARK.len()).position(|window| window == MARK);
        let start = found.expect("the guest carries its mark") + MARK.len();
        let room = &mut component[start..start + MARK_BYTES - MARK.len()];
        assert!(behaviour.len() < room.len(), "{behaviour:?} is too long");
        room.fill(b' ');
        room[..behaviour.len()].copy_from_slice(behaviour.as_bytes());
        component
    }
}

/// The toolchain that policies are built with, found by the first caller of this
/// process.
///
/// # Errors
/// When there is none; it says what to do.
pub fn toolchain() -> Result<&'static WasmToolchain, String> {
    static TOOLCHAIN: OnceLock<Result<WasmToolchain, String>> = OnceLock::new();
    TOOLCHAIN
        .get_or_init(|| find(&|_| {}).map_err(|error| error.to_string()))
        .as_ref()
        .map_err(Clone::clone)
}

/// Where tests build policies: beside the workspace's own target folder, whose
/// lock a running `cargo test` may hold.
#[must_use]
pub fn target_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/policies")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_behaviour_is_a_component_of_its_own() {
        let guests = Guests::get();
        let first = guests.behaving("panic");
        assert_eq!(&first[..4], b"\0asm");
        assert_ne!(first, guests.behaving("loop"));
        assert!(guests.wrong_import.windows(6).any(|window| window == b"secret"));
    }
}
