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
    let module = build_module(folder, toolchain, target)?;
    finish(package_name(folder)?, &module, out)
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
    let package = package_name(folder)?;
    run_cargo(folder, toolchain, target, std::slice::from_ref(&package))?;
    read_module(target, &package)
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
    let packages: Vec<_> =
        folders.iter().map(|folder| package_name(folder)).collect::<Result<_, _>>()?;
    let Some(first) = folders.first() else { return Ok(Vec::new()) };
    run_cargo(first, toolchain, target, &packages)?;
    let finish_one =
        |package: String| finish(package.clone(), &read_module(target, &package)?, out);
    packages.into_iter().map(finish_one).collect()
}

fn finish(package: String, module: &[u8], out: &Path) -> Result<Built, BuildError> {
    let component = componentize(module)
        .map_err(|source| BuildError::Component { package: package.clone(), source })?;
    let path = out.join(format!("{package}.wasm"));
    write_whole(&path, &component)?;
    Ok(Built { package, path, component })
}

fn read_module(target: &Path, package: &str) -> Result<Vec<u8>, BuildError> {
    let file = format!("{}.wasm", package.replace('-', "_"));
    let path = target.join(TARGET).join("release").join(file);
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
    std::fs::write(&temporary, bytes).map_err(at)?;
    std::fs::rename(&temporary, path).map_err(at)
}

/// The crate's name, from its `Cargo.toml`.
fn package_name(folder: &Path) -> Result<String, BuildError> {
    let path = folder.join("Cargo.toml");
    let wrong = |reason: String| BuildError::Manifest { path: path.clone(), reason };
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let name = table.get("package").and_then(|package| package.get("name"));
    let name = name.and_then(toml::Value::as_str).map(str::to_owned);
    name.ok_or_else(|| wrong("has no package name".to_owned()))
}

fn run_cargo(
    folder: &Path,
    toolchain: &WasmToolchain,
    target: &Path,
    packages: &[String],
) -> Result<(), BuildError> {
    let failed = |output: String| BuildError::Cargo { package: packages.join(", "), output };
    // First with what is here; a fetch only when that does not suffice, so that
    // a machine without network builds what it can.
    for offline in [true, false] {
        let mut command = toolchain.cargo_command("build");
        command.args(["--release", "--lib", "--manifest-path"]).arg(folder.join("Cargo.toml"));
        command.arg("--target-dir").arg(target);
        for package in packages {
            command.args(["--package", package]);
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
