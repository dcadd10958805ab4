//! Rebuilds the prebuilt components of the shipped policies that are older than
//! their sources, or those named; `--all` rebuilds every one, `--check` only says
//! which are stale. Run from anywhere in the workspace.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weir_toolchain::shipped::{NAMES, refresh, verify};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), String> {
    let options = ["--all", "--check"];
    let is_known = |arg: &str| options.contains(&arg) || NAMES.contains(&arg);
    if let Some(unknown) = args.iter().find(|arg| !is_known(arg.as_str())) {
        let known = [&options[..], &NAMES[..]].concat().join(", ");
        return Err(format!("{unknown} is none of {known}"));
    }
    let root = root().ok_or("run this inside the workspace")?;
    let stale = verify(&root).err().unwrap_or_default();
    for one in &stale {
        say(&one.to_string());
    }
    if args.iter().any(|arg| arg == "--check") {
        return if stale.is_empty() { Ok(()) } else { Err("stale components".to_owned()) };
    }
    let chosen = |name: &&str| {
        args.iter().any(|arg| arg == name || arg == "--all")
            || (args.is_empty() && stale.iter().any(|one| one.name == **name))
    };
    let names: Vec<_> = NAMES.into_iter().filter(|name| chosen(name)).collect();
    if names.is_empty() {
        say("every prebuilt component fits its sources");
        return Ok(());
    }
    let toolchain = weir_toolchain::find(&say).map_err(|error| error.to_string())?;
    say(&format!("building {}", names.join(", ")));
    let target = root.join("target/policies");
    let built = refresh(&root, &names, &toolchain, &target).map_err(|error| error.to_string())?;
    for one in built {
        say(&format!("{} ({} bytes)", one.path.display(), one.component.len()));
    }
    Ok(())
}

/// The folder above this one that holds the shipped policies.
fn root() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().find(|folder| folder.join("plugins/prebuilt").is_dir()).map(Path::to_owned)
}

fn say(line: &str) {
    // Nobody reads: nothing to do about it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise nothing would be built, and all be said to be well.
    #[test]
    fn a_name_that_is_none_is_refused() {
        let error = run(&["at-leats-once".to_owned()]).expect_err("no such policy");
        assert!(error.contains("at-leats-once is none of"), "{error}");
    }
}
