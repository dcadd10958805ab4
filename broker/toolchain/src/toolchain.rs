//! Finds a Rust toolchain that can build for WebAssembly, or makes one. Called by
//! the test suite, by `weir policy build` and by `weir-prebuild`; each runs it
//! once per process. Nothing is skipped silently: either there is a toolchain, or
//! an error that says what to do.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The target that policies are built for: no WASI, no operating system.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// Set this variable to pass over the toolchain in use and rustup: a way to try
/// Debian's compiler on a machine that has the target.
pub const DEBIAN_ONLY: &str = "WEIR_WASM_DEBIAN";
/// How long `rustup target add` may take.
const RUSTUP_TIME_MAX: Duration = Duration::from_secs(120);
/// How long the installation of Debian's packages may take.
const APT_TIME_MAX: Duration = Duration::from_secs(600);
/// Debian's compiler and its library sources.
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];
/// Where Debian's compiler is.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Where the sources of Debian's compiler's library are.
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";

/// Why no policy can be built here.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// Nothing was found and nothing could be installed.
    #[error(
        "no Rust toolchain here can build for {TARGET}.\n\
         Either add the target to your toolchain:  rustup target add {TARGET}\n\
         or, on Debian, install its own:           apt-get install rustc-web rust-web-src\n\
         Tried: {}",
        tried.join("; ")
    )]
    Missing {
        /// What was tried, and how each try ended.
        tried: Vec<String>,
    },
    /// There is no cargo.
    #[error("cannot run {program}: {reason}. Install Rust from https://rustup.rs")]
    NoRust {
        /// What was run.
        program: String,
        /// What the system said.
        reason: String,
    },
}

/// How the target is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The compiler in use has the target's library.
    Installed,
    /// Debian's compiler, which builds the library from its sources.
    BuildStd {
        /// The compiler.
        rustc: PathBuf,
        /// A linker for WebAssembly.
        linker: PathBuf,
    },
}

/// A toolchain that builds for [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasmToolchain {
    /// The cargo to run.
    pub cargo: PathBuf,
    /// How the target is had.
    pub kind: Kind,
}

impl WasmToolchain {
    /// What it is, in a few words for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Installed => format!("the installed target {TARGET}"),
            Kind::BuildStd { rustc, linker } => format!(
                "{} with its library built from source, linked by {}",
                rustc.display(),
                linker.display()
            ),
        }
    }

    /// A cargo command with this toolchain's environment and arguments, and
    /// without what an outer cargo left in the environment.
    #[must_use]
    pub fn cargo_command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command.arg(subcommand).args(["--target", TARGET]);
        for (name, _) in std::env::vars_os() {
            if is_of_an_outer_cargo(&name) {
                command.env_remove(name);
            }
        }
        // Panic messages name source files; where they lie on this machine is
        // nobody's business, and would make every machine's component different.
        if let Some(home) = cargo_home() {
            command.args(["--config", &remap(&home)]);
        }
        if let Kind::BuildStd { rustc, linker } = &self.kind {
            command
                .env("RUSTC", rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                .args(["-Zbuild-std=std,panic_abort"]);
        }
        command
    }
}

fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// The setting by which cargo's own folder has the same name on every machine.
fn remap(home: &Path) -> String {
    let flags = vec!["--remap-path-prefix".to_owned(), format!("{}=cargo", home.display())];
    let flags = toml::Value::from(flags);
    format!("target.{TARGET}.rustflags={flags}")
}

/// Variables that an outer `cargo test` or `cargo run` sets for its own build.
fn is_of_an_outer_cargo(name: &OsString) -> bool {
    let Some(name) = name.to_str() else { return false };
    // The user's: the compiler that was asked whether it has the target.
    if name == "RUSTC" {
        return false;
    }
    let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_BUILD_JOBS"];
    let dropped = ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "OUT_DIR", "TARGET", "PROFILE"];
    dropped.iter().any(|prefix| name.starts_with(prefix))
        && !kept.iter().any(|prefix| name.starts_with(prefix))
}

/// Finds a toolchain, in this order: the target of the toolchain in use;
/// `rustup target add`; Debian's packages, installed when this process may.
/// `progress` hears what is tried and what was chosen.
///
/// # Errors
/// When nothing works; the error names both ways out.
pub fn find(progress: &dyn Fn(&str)) -> Result<WasmToolchain, ToolchainError> {
    find_after(progress, std::env::var_os(DEBIAN_ONLY).is_some())
}

fn find_after(progress: &dyn Fn(&str), debian_only: bool) -> Result<WasmToolchain, ToolchainError> {
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut tried = Vec::new();
    if !debian_only && let Some(found) = find_installed(&cargo, progress, &mut tried)? {
        return Ok(chosen(found, progress));
    }
    if !debian_is_installed() {
        progress("wasm toolchain: trying Debian's packages rustc-web and rust-web-src");
        if let Err(reason) = install_debian() {
            tried.push(format!("apt-get install rustc-web rust-web-src: {reason}"));
        }
    }
    if debian_is_installed() {
        match find_linker() {
            Some(linker) => {
                let kind = Kind::BuildStd { rustc: DEBIAN_RUSTC.into(), linker };
                return Ok(chosen(WasmToolchain { cargo, kind }, progress));
            }
            None => tried.push("Debian's compiler is there, a linker (rust-lld) is not".to_owned()),
        }
    }
    Err(ToolchainError::Missing { tried })
}

/// The target of the toolchain in use, there already or added by rustup.
fn find_installed(
    cargo: &Path,
    progress: &dyn Fn(&str),
    tried: &mut Vec<String>,
) -> Result<Option<WasmToolchain>, ToolchainError> {
    let installed = || WasmToolchain { cargo: cargo.to_owned(), kind: Kind::Installed };
    if has_target()? {
        return Ok(Some(installed()));
    }
    tried.push(format!("the toolchain in use has no {TARGET}"));
    progress(&format!("wasm toolchain: trying rustup target add {TARGET}"));
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    match run_for(&mut rustup, RUSTUP_TIME_MAX) {
        Ok(()) if has_target()? => return Ok(Some(installed())),
        Ok(()) => tried.push("rustup added the target to another toolchain".to_owned()),
        Err(reason) => tried.push(format!("rustup target add: {reason}")),
    }
    Ok(None)
}

fn chosen(toolchain: WasmToolchain, progress: &dyn Fn(&str)) -> WasmToolchain {
    progress(&format!("wasm toolchain: {}", toolchain.describe()));
    toolchain
}

fn rustc() -> PathBuf {
    PathBuf::from(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

fn has_target() -> Result<bool, ToolchainError> {
    let folder = rustc_prints(&["--print", "target-libdir", "--target", TARGET])?;
    // The folder is named even where it does not exist.
    let Ok(mut entries) = Path::new(&folder).read_dir() else { return Ok(false) };
    Ok(entries.any(|entry| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
    }))
}

fn rustc_prints(args: &[&str]) -> Result<String, ToolchainError> {
    let program = rustc();
    let output = Command::new(&program).args(args).stderr(Stdio::null()).output();
    match output {
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Err(error) => Err(ToolchainError::NoRust {
            program: program.display().to_string(),
            reason: error.to_string(),
        }),
    }
}

fn debian_is_installed() -> bool {
    Path::new(DEBIAN_LIBRARY).exists() && Path::new(DEBIAN_RUSTC).exists()
}

fn install_debian() -> Result<(), String> {
    let mut update = Command::new("apt-get");
    update.args(["update", "--quiet"]);
    run_for(&mut update, APT_TIME_MAX)?;
    let mut install = Command::new("apt-get");
    install
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(DEBIAN_PACKAGES)
        .env("DEBIAN_FRONTEND", "noninteractive");
    run_for(&mut install, APT_TIME_MAX)
}

/// The packaged compiler brings no linker for WebAssembly; rustup's toolchains
/// do, and LLVM's packages may.
fn find_linker() -> Option<PathBuf> {
    let sysroot = rustc_prints(&["--print", "sysroot"]).ok()?;
    let hosts = Path::new(&sysroot).join("lib/rustlib").read_dir().into_iter().flatten().flatten();
    for host in hosts {
        let linker = host.path().join("bin/rust-lld");
        if linker.exists() {
            return Some(linker);
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["rust-lld", "wasm-ld", "wasm-ld-19", "wasm-ld-18", "wasm-ld-17", "wasm-ld-16"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|candidate| candidate.exists())
}

/// Runs to the end, or kills at the time limit. The reason is the last line that
/// the command wrote to its standard error.
fn run_for(command: &mut Command, time_max: Duration) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("cannot run {name}: {error}"))?;
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut stderr) = stderr {
            let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
        }
        text
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() > time_max => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not done after {} s", time_max.as_secs()));
            }
            // A child has no event to wait for with a deadline in the library.
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(error.to_string()),
        }
    };
    let text = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    Err(text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("failed").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_toml_whatever_the_folder_is_called() {
        for home in ["/srv/ann/.cargo", "/srv/jose\u{301}/.cargo", "/\"a\" 'b'\\c/.cargo"] {
            let setting: toml::Table = remap(Path::new(home)).parse().expect("TOML");
            let flags = setting["target"][TARGET]["rustflags"].as_array().expect("a list");
            assert_eq!(flags[1].as_str(), Some(format!("{home}=cargo").as_str()));
        }
    }

    #[test]
    fn the_compiler_that_was_asked_is_the_one_that_builds() {
        let dropped = |name: &str| is_of_an_outer_cargo(&OsString::from(name));
        assert!(!dropped("RUSTC") && !dropped("CARGO_HOME") && !dropped("PATH"));
        assert!(dropped("CARGO_MANIFEST_DIR") && dropped("RUSTC_WRAPPER") && dropped("RUSTFLAGS"));
    }
}
