//! Builds one policy crate: cargo for the core module, then a component around
//! it. Cargo works in a target folder of its own, so that a build started inside
//! `cargo test` does not wait for the lock that the test run holds.

use crate::component::{ComponentError, componentize};
use crate::toolchain::{TARGET, WasmToolchain};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The same for every policy, so that no workspace needs a profile of its own. Size
/// options save a sixth of the file and cost more than that in speed.
pub(crate) const PROFILE: [&str; 6] = [
    "profile.release.opt-level=3",
    "profile.release.lto=true",
    "profile.release.panic=\"abort\"",
    "profile.release.codegen-units=1",
    "profile.release.strip=true",
    "profile.release.debug=false",
];

/// Why a policy could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo refused; what it said.
    #[error("building {package} failed:\n{output}")]
    Cargo {
        /// Name of the crate.
        package: String,
        /// Errors and warnings of the compiler.
        output: String,
    },
    /// The folder has no usable `Cargo.toml`.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The module cannot become a component.
    #[error("{package}: {source}")]
    Component {
        /// Name of the crate.
        package: String,
        /// Why not.
        source: ComponentError,
    },
}

/// A policy, built.
#[derive(Clone, Debug)]
pub struct Built {
    /// Name of the crate.
    pub package: String,
    /// Where the component lies.
    pub path: PathBuf,
    /// The component.
    pub component: Vec<u8>,
}

/// Builds the crate in `folder` and writes `<crate>.wasm`, a component, into
/// `out`. Cargo's work goes to `target`, which must not be the target folder of a
/// cargo that is running. Dependencies are fetched only when they are not on this
/// machine yet.
///
/// # Errors
/// See [`BuildError`].
pub fn build(
    folder: &Path,
    toolchain: &WasmToolchain,
    target: &Path,
    out: &Path,
) -> Result<Built, BuildError> {
    let wanted = Crate::read(folder)?;
    run_cargo(folder, toolchain, target, std::slice::from_ref(&wanted))?;
    finish(wanted, target, out)
}

/// Builds the crate in `folder` as a core module, without making a component.
///
/// # Errors
/// See [`BuildError`].
pub fn build_module(
    folder: &Path,
    toolchain: &WasmToolchain,
    target: &Path,
) -> Result<Vec<u8>, BuildError> {
    let wanted = Crate::read(folder)?;
    run_cargo(folder, toolchain, target, std::slice::from_ref(&wanted))?;
    read_module(target, &wanted)
}

/// Builds several crates of one workspace in one run of cargo, which keeps all
/// processors busy.
///
/// # Errors
/// See [`BuildError`].
pub fn build_many(
    folders: &[PathBuf],
    toolchain: &WasmToolchain,
    target: &Path,
    out: &Path,
) -> Result<Vec<Built>, BuildError> {
    let wanted: Vec<Crate> =
        folders.iter().map(|folder| Crate::read(folder)).collect::<Result<_, _>>()?;
    let Some(first) = folders.first() else { return Ok(Vec::new()) };
    run_cargo(first, toolchain, target, &wanted)?;
    wanted.into_iter().map(|one| finish(one, target, out)).collect()
}

fn finish(built: Crate, target: &Path, out: &Path) -> Result<Built, BuildError> {
    let module = read_module(target, &built)?;
    let package = built.name;
    let component = componentize(&module)
        .map_err(|source| BuildError::Component { package: package.clone(), source })?;
    let path = out.join(format!("{package}.wasm"));
    write_whole(&path, &component)?;
    Ok(Built { package, path, component })
}

fn read_module(target: &Path, built: &Crate) -> Result<Vec<u8>, BuildError> {
    let path = target.join(TARGET).join("release").join(format!("{}.wasm", built.library));
    std::fs::read(&path).map_err(|source| BuildError::File { path, source })
}

/// Writes beside `path` and renames, so that nobody ever sees half a file.
///
/// # Errors
/// When the folder cannot be made or written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let at = |source| BuildError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(at)?;
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = std::fs::write(&temporary, bytes);
    written.and_then(|()| std::fs::rename(&temporary, path)).map_err(|source| {
        // Half a file is of use to nobody; where there is none, there is none.
        let _ = std::fs::remove_file(&temporary);
        at(source)
    })
}

/// What has to be known of a crate to build it, from its `Cargo.toml`.
#[derive(Debug)]
struct Crate {
    /// Name of the package.
    name: String,
    /// What cargo takes for this package alone: a dependency may have its name.
    spec: String,
    /// Name of the library, and of the module that it becomes.
    library: String,
}

impl Crate {
    fn read(folder: &Path) -> Result<Self, BuildError> {
        let path = folder.join("Cargo.toml");
        let wrong = |reason: String| BuildError::Manifest { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    /// The reason comes back where the text is of no crate that makes a module. One
    /// that was made before would be taken for it otherwise.
    fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let name = text_at(&table, "package", "name").ok_or("has no package name")?;
        let spec = match text_at(&table, "package", "version") {
            Some(version) => format!("{name}@{}", version.trim()),
            // It is the workspace's, where every name is there once.
            None => name.to_owned(),
        };
        let library = match text_at(&table, "lib", "name") {
            Some(library) => library.to_owned(),
            None => name.replace('-', "_"),
        };
        let is_module = |types: &toml::Value| {
            let mut types = types.as_array().into_iter().flatten();
            types.any(|one| one.as_str() == Some("cdylib"))
        };
        let keys = ["crate-type", "crate_type"];
        if !keys.iter().filter_map(|key| value_at(&table, "lib", key)).any(is_module) {
            return Err("needs crate-type = [\"cdylib\", \"rlib\"] below [lib]".to_owned());
        }
        Ok(Self { name: name.to_owned(), spec, library })
    }
}

fn value_at<'a>(table: &'a toml::Table, section: &str, key: &str) -> Option<&'a toml::Value> {
    table.get(section)?.get(key)
}

fn text_at<'a>(table: &'a toml::Table, section: &str, key: &str) -> Option<&'a str> {
    value_at(table, section, key)?.as_str()
}

fn run_cargo(
    folder: &Path,
    toolchain: &WasmToolchain,
    target: &Path,
    wanted: &[Crate],
) -> Result<(), BuildError> {
    let failed = |output: String| {
        let names: Vec<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
        BuildError::Cargo { package: names.join(", "), output }
    };
    // First with what is here; a fetch only when that does not suffice, so that
    // a machine without network builds what it can.
    for offline in [true, false] {
        let mut command = toolchain.cargo_command("build");
        command.args(["--release", "--lib", "--manifest-path"]).arg(folder.join("Cargo.toml"));
        command.arg("--target-dir").arg(target);
        for one in wanted {
            command.args(["--package", &one.spec]);
        }
        for setting in PROFILE {
            command.args(["--config", setting]);
        }
        if offline {
            command.arg("--offline");
        }
        let output = command.stdin(Stdio::null()).output().map_err(|error| {
            failed(format!("cannot run {}: {error}", toolchain.cargo.display()))
        })?;
        if output.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if !offline || !is_about_dependencies(&errors) {
            return Err(failed(errors));
        }
    }
    Ok(())
}

/// Whether cargo stopped for lack of a dependency, which a fetch may cure.
fn is_about_dependencies(errors: &str) -> bool {
    ["--offline", "offline was specified", "no matching package", "failed to download"]
        .iter()
        .any(|sign| errors.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: &str = "[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n";

    #[test]
    fn a_crate_is_known_by_its_own_names() {
        let plain = "[package]\nname = \"my-router\"\nversion.workspace = true\n";
        let plain = Crate::parse(&format!("{plain}{LIB}")).expect("a crate");
        assert_eq!((plain.spec.as_str(), plain.library.as_str()), ("my-router", "my_router"));
        let named = "[package]\nname = \"log\"\nversion = \"0.1.0\"\n";
        let named = Crate::parse(&format!("{named}{LIB}name = \"judge\"\n")).expect("a crate");
        assert_eq!((named.spec.as_str(), named.library.as_str()), ("log@0.1.0", "judge"));
    }

    /// The module of an earlier build would be taken for it.
    #[test]
    fn a_crate_that_makes_no_module_is_refused() {
        let package = "[package]\nname = \"a\"\nversion = \"0.1.0\"\n";
        for lib in ["", "[lib]\n", "[lib]\ncrate-type = [\"rlib\"]\n"] {
            let refused = Crate::parse(&format!("{package}{lib}")).expect_err(lib);
            assert!(refused.contains("cdylib"), "{refused}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.wasm");
        std::fs::create_dir(&path).expect("folder");
        write_whole(&path, b"text").expect_err("a folder is in its place");
        assert_eq!(folder.path().read_dir().expect("folder").count(), 1);
    }
}
