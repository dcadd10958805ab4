//! Starts a new policy: a small crate with one function to edit, a native test, an
//! example of a binding, and the SDK and the contract beside it. It builds with
//! this program and a Rust toolchain; only the SDK's own dependencies come from
//! the registry.

use crate::build::{BuildError, Built, build, write_whole};
use crate::toolchain::WasmToolchain;
use crate::wit::WIT;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Longest name of a policy, bytes.
const NAME_BYTES_MAX: usize = 64;

/// What a new policy is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Where a message goes.
    Router,
    /// Whether a message passes.
    Filter,
    /// How messages reach consumers.
    Delivery,
}

/// Why no policy was started.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// The name cannot be a policy's.
    #[error(
        "{0:?} cannot be a policy's name: use at most {max} of a-z, 0-9 and single hyphens, a \
         letter first, and no word that Rust, the SDK or the broker needs for itself",
        max = NAME_BYTES_MAX
    )]
    Name(String),
    /// There is something in the folder already.
    #[error("{} exists and is not empty: choose another name or folder", .0.display())]
    Occupied(PathBuf),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] BuildError),
}

/// Sources of the SDK: path below its folder, and content.
const SDK: [(&str, &str); 20] = [
    ("src/bindings.rs", include_str!("../../../plugin-sdk/src/bindings.rs")),
    ("src/component.rs", include_str!("../../../plugin-sdk/src/component.rs")),
    ("src/context.rs", include_str!("../../../plugin-sdk/src/context.rs")),
    ("src/delivery.rs", include_str!("../../../plugin-sdk/src/delivery.rs")),
    ("src/event.rs", include_str!("../../../plugin-sdk/src/event.rs")),
    ("src/filter.rs", include_str!("../../../plugin-sdk/src/filter.rs")),
    ("src/hash.rs", include_str!("../../../plugin-sdk/src/hash.rs")),
    ("src/host.rs", include_str!("../../../plugin-sdk/src/host.rs")),
    ("src/lib.rs", include_str!("../../../plugin-sdk/src/lib.rs")),
    ("src/manifest.rs", include_str!("../../../plugin-sdk/src/manifest.rs")),
    ("src/message.rs", include_str!("../../../plugin-sdk/src/message.rs")),
    ("src/native.rs", include_str!("../../../plugin-sdk/src/native.rs")),
    ("src/plan.rs", include_str!("../../../plugin-sdk/src/plan.rs")),
    ("src/policy.rs", include_str!("../../../plugin-sdk/src/policy.rs")),
    ("src/router.rs", include_str!("../../../plugin-sdk/src/router.rs")),
    ("src/step.rs", include_str!("../../../plugin-sdk/src/step.rs")),
    ("src/test.rs", include_str!("../../../plugin-sdk/src/test.rs")),
    ("src/test/bench.rs", include_str!("../../../plugin-sdk/src/test/bench.rs")),
    ("src/test/bench/rules.rs", include_str!("../../../plugin-sdk/src/test/bench/rules.rs")),
    ("src/test/tests.rs", include_str!("../../../plugin-sdk/src/test/tests.rs")),
];

impl Role {
    /// The role of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "router" => Some(Self::Router),
            "filter" => Some(Self::Filter),
            "delivery" => Some(Self::Delivery),
            _ => None,
        }
    }

    /// Source and binding of a new policy.
    fn templates(self) -> (&'static str, &'static str) {
        match self {
            Self::Router => {
                (include_str!("../templates/router.rs"), include_str!("../templates/router.toml"))
            }
            Self::Filter => {
                (include_str!("../templates/filter.rs"), include_str!("../templates/filter.toml"))
            }
            Self::Delivery => (
                include_str!("../templates/delivery.rs"),
                include_str!("../templates/delivery.toml"),
            ),
        }
    }
}

/// Writes a new policy into `folder`, which must be empty or not there.
///
/// # Errors
/// See [`ScaffoldError`].
pub fn new_policy(name: &str, role: Role, folder: &Path) -> Result<(), ScaffoldError> {
    if !is_name(name) {
        return Err(ScaffoldError::Name(name.to_owned()));
    }
    match folder.read_dir().map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(ScaffoldError::Occupied(folder.to_owned())),
        // Whether there is something in it cannot be told: it may not be written over.
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(BuildError::File { path: folder.to_owned(), source }.into());
        }
        _ => {}
    }
    let fill = |template: &str| {
        template.replace("{{name}}", name).replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let (source, binding) = role.templates();
    let write = |path: &str, text: &str| write_whole(&folder.join(path), text.as_bytes());
    write("Cargo.toml", &fill(include_str!("../templates/project.toml")))?;
    write("src/lib.rs", source)?;
    write("binding.toml", &fill(binding))?;
    write(".gitignore", include_str!("../templates/gitignore"))?;
    write("weir/plugin-sdk/Cargo.toml", &fill(include_str!("../templates/sdk.toml")))?;
    for (path, text) in SDK {
        write(&format!("weir/plugin-sdk/{path}"), text)?;
    }
    for (path, text) in WIT {
        write(&format!("weir/wit/{path}"), text)?;
    }
    Ok(())
}

/// Builds the policy in `folder` and writes `<name>.wasm` beside its `Cargo.toml`.
///
/// # Errors
/// See [`BuildError`].
pub fn build_project(folder: &Path, toolchain: &WasmToolchain) -> Result<Built, BuildError> {
    build(folder, toolchain, &folder.join("target/policies"), folder)
}

/// `[a-z0-9-]{1,64}`, and what cargo and the broker ask for on top of that.
fn is_name(name: &str) -> bool {
    // A component of such a name does not bind itself: the broker's own binding has it.
    let bindings = ["default-router", "default-delivery"];
    let keywords = ["crate", "extern", "final", "macro", "match", "static", "test", "type", "use"];
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !keywords.contains(&name)
        && !bindings.contains(&name)
        && !["core", "std", "alloc", "serde", "schemars", "weir-plugin-sdk"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["a", "my-router", "x2"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "My", "2x", "-a", "a-", "a--b", "a_b", "test", "std", "ä"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(!is_name("default-router") && !is_name("default-delivery"));
        assert!(is_name(&"a".repeat(64)) && !is_name(&"a".repeat(65)));
    }

    /// What is wrong with `test` are not its letters.
    #[test]
    fn the_reason_fits_every_name_that_is_refused() {
        let error = new_policy("test", Role::Router, Path::new("unused")).expect_err("a word");
        let text = error.to_string();
        assert!(text.contains("word that Rust") && text.contains("at most 64"), "{text}");
    }

    #[test]
    fn a_policy_is_never_written_over_something() {
        let folder = tempfile::tempdir().expect("folder");
        new_policy("one", Role::Router, &folder.path().join("one")).expect("written");
        let again = new_policy("one", Role::Filter, &folder.path().join("one"));
        assert!(matches!(again, Err(ScaffoldError::Occupied(_))));
    }

    /// A source file that is missing here would be missing in new projects.
    #[test]
    fn the_sdk_is_embedded_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-sdk");
        let mut found = Vec::new();
        for folder in ["src", "src/test", "src/test/bench"] {
            for entry in root.join(folder).read_dir().expect("folder") {
                let name = entry.expect("entry").file_name().into_string().expect("name");
                if name.ends_with(".rs") {
                    found.push(format!("{folder}/{name}"));
                }
            }
        }
        found.sort();
        let mut embedded = SDK.map(|(path, _)| path);
        embedded.sort_unstable();
        assert_eq!(found, embedded);
    }

    /// New projects must build against the same versions as this workspace.
    #[test]
    fn the_sdk_asks_for_the_same_versions() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
        let workspace = std::fs::read_to_string(root).expect("workspace");
        let sdk = include_str!("../templates/sdk.toml");
        let lines = sdk.lines().skip_while(|line| *line != "[dependencies]").skip(1);
        for line in lines.filter(|line| !line.is_empty()) {
            assert!(workspace.contains(line), "{line}");
        }
    }
}
