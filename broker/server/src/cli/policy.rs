//! `weir policy`: what the broker's policies do, and writing one's own.
//!
//! `list`, `status` and `rollback` ask the broker. `new`, `build` and `check` work
//! on files of this machine and need no broker.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use weir_client::{BindingStatus, PolicyItem, PolicyMetric, PolicyStatusAnswer};
use weir_policy::component::Component;
use weir_policy::engine::Engine;
use weir_policy::error::LoadError;
use weir_policy::limits::COMPONENT_BYTES_MAX;
use weir_toolchain::{Role, ScaffoldError};

use super::Common;
use super::failure::{Exit, Failure};
use super::output::{Output, note};
use super::printable::{printable, printable_lines};
use super::progress::Progress;
use super::time;

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List the policies that bindings can name
    #[command(visible_alias = "ls")]
    #[command(after_help = "Example:\n  weir policy list")]
    List,
    /// Show what each binding does, and why one does not
    #[command(after_help = "Examples:\n  \
        weir policy status\n  \
        weir policy status my-router                  one binding, with its generations\n  \
        weir policy status --json | jq 'select(.state != \"active\")'")]
    Status {
        /// Only this binding, in detail
        binding: Option<String>,
    },
    /// Send a binding back to the generation before
    #[command(after_help = "Example:\n  weir policy rollback my-router")]
    Rollback {
        /// Which binding
        binding: String,
    },
    /// Start a policy of your own: a crate with one function to edit
    #[command(after_help = "Examples:\n  \
        weir policy new my-router                     says where a message goes\n  \
        weir policy new my-filter --role filter       says whether it passes\n  \
        weir policy new my-delivery --role delivery   says how it reaches consumers\n\n\
        Then: edit src/lib.rs, `cargo test`, `weir policy build`.")]
    New(NewArgs),
    /// Compile a policy to a component
    #[command(after_help = "Examples:\n  \
        weir policy build                             the crate in this folder\n  \
        weir policy build my-router --out weir-data/plugins\n\n\
        A toolchain for WebAssembly is found, or set up where that is possible.")]
    Build(BuildArgs),
    /// Say whether a component would be accepted, and what it is
    #[command(after_help = "Example:\n  weir policy check my-router.wasm")]
    Check {
        /// The component
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct NewArgs {
    /// Name: a-z, 0-9 and hyphens
    name: String,
    /// What it decides
    #[arg(long, value_enum, default_value = "router")]
    role: RoleArg,
    /// Folder for the crate [default: its name]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// What a policy decides.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum RoleArg {
    /// Where a message goes
    Router,
    /// Whether a message passes
    Filter,
    /// How messages reach consumers
    Delivery,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Folder of the policy's crate
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Folder for the component [default: the crate's folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) async fn run(
    common: &Common,
    command: PolicyCommand,
    mut out: Output,
) -> Result<(), Failure> {
    match command {
        PolicyCommand::List => {
            let policies = common.connect_once().await?.policies().await?;
            list(&mut out, &policies)
        }
        PolicyCommand::Status { binding } => {
            let client = common.connect_once().await?;
            let report = client.policy_report(binding.as_deref()).await?;
            match (out.json, binding, report.bindings.as_slice()) {
                (true, ..) => json_lines(&mut out, &report),
                (false, Some(_), [binding]) => detail(&mut out, binding),
                _ => table(&mut out, &report),
            }
        }
        PolicyCommand::Rollback { binding } => {
            let status = common.connect_once().await?.policy_rollback(&binding).await?;
            if out.json {
                return out.value(&status);
            }
            out.line(&format!(
                "{binding} is back at generation {} ({})",
                status.generation,
                printable(short(&status.digest).as_bytes())
            ))?;
            out.flush()
        }
        PolicyCommand::New(args) => new(&args, out),
        PolicyCommand::Build(args) => build(args, out).await,
        PolicyCommand::Check { file } => check(file, out).await,
    }
}

fn list(out: &mut Output, policies: &[PolicyItem]) -> Result<(), Failure> {
    if out.json {
        for policy in policies {
            out.json_line(policy)?;
        }
        return out.flush();
    }
    let row = |policy: &PolicyItem| {
        vec![
            policy.name.clone(),
            policy.version.clone(),
            match policy.roles.as_slice() {
                // The component is compiled when something wants it.
                [] => "known when bound".to_owned(),
                roles => roles.join(" "),
            },
            policy.origin.clone(),
            short(&policy.digest).to_owned(),
            policy.bindings.join(" "),
        ]
    };
    let rows: Vec<_> = policies.iter().map(row).collect();
    out.table(&["POLICY", "VERSION", "ROLES", "FROM", "DIGEST", "BINDINGS"], &rows)?;
    for policy in policies {
        if let Some(error) = &policy.error {
            out.line(&reason(&policy.name, error))?;
        }
    }
    out.flush()
}

/// One line per binding, each with the counters of the host that runs them all.
fn json_lines(out: &mut Output, report: &PolicyStatusAnswer) -> Result<(), Failure> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        binding: &'a BindingStatus,
        counters: weir_client::PolicyCounters,
    }
    for binding in &report.bindings {
        out.json_line(&Line { binding, counters: report.counters })?;
    }
    out.flush()
}

/// One line per binding, and below it a sentence for each that is not active.
fn table(out: &mut Output, report: &PolicyStatusAnswer) -> Result<(), Failure> {
    let bindings = &report.bindings;
    let row = |binding: &BindingStatus| {
        vec![
            binding.binding.clone(),
            binding.policy.clone(),
            binding.role.clone(),
            binding.state.clone(),
            binding.generation.to_string(),
            binding.rows.to_string(),
            binding.failed_rows.to_string(),
            binding.refused_rows.to_string(),
            binding.scope.join(" "),
        ]
    };
    let rows: Vec<_> = bindings.iter().map(row).collect();
    let head = ["BINDING", "POLICY", "ROLE", "STATE", "GEN", "ROWS", "FAILED", "REFUSED", "SCOPE"];
    out.table(&head, &rows)?;
    for binding in bindings {
        if let Some(error) = &binding.error {
            out.line(&reason(&binding.binding, error))?;
        }
    }
    let files = report.counters.file_problems;
    if files > 0 {
        out.line(&format!("\nfiles that could not be used, since the broker started: {files}"))?;
    }
    out.flush()
}

/// Why one of a table is not at work. The name may be that of any file.
fn reason(name: &str, error: &str) -> String {
    format!("\n{}: {}", printable(name.as_bytes()), printable_lines(error))
}

fn detail(out: &mut Output, binding: &BindingStatus) -> Result<(), Failure> {
    let config = match binding.config.is_empty() {
        true => String::new(),
        false => serde_json::Value::from(binding.config.clone()).to_string(),
    };
    let count = |figure: u64| if figure == 0 { String::new() } else { figure.to_string() };
    let failure = binding.last_failure.as_ref().map(|failure| {
        let when = time::text(failure.time_ms);
        format!("{when}, generation {}: {}", failure.generation, failure.reason)
    });
    out.pairs(&[
        ("binding", binding.binding.clone()),
        ("policy", format!("{} {}", binding.policy, binding.version)),
        ("role", format!("{}, stage {}", binding.role, binding.stage)),
        ("scope", binding.scope.join(" ")),
        ("order", binding.order.to_string()),
        ("on failure", binding.on_failure.clone()),
        ("powers", binding.powers.join(" ")),
        ("config", config),
        ("state", binding.state.clone()),
        ("why", binding.error.clone().unwrap_or_default()),
        ("generation", binding.generation.to_string()),
        ("digest", binding.digest.clone()),
        ("since", if binding.since_ms == 0 { String::new() } else { time::text(binding.since_ms) }),
        ("breaker", binding.breaker.clone()),
        ("last failure", failure.unwrap_or_default()),
        ("calls", binding.calls.to_string()),
        ("failed calls", count(binding.failures)),
        ("trapped calls", count(binding.traps)),
        ("rows", binding.rows.to_string()),
        ("from memory", binding.memo_hits.to_string()),
        ("failed", binding.failed_rows.to_string()),
        ("without power", count(binding.denied_rows)),
        ("refused", binding.refused_rows.to_string()),
        ("dropped", binding.dropped_rows.to_string()),
        ("diverted", binding.diverted_rows.to_string()),
        ("instances", count(binding.instances)),
        ("memory", count(binding.memory_bytes)),
        ("state kept", count(binding.kv_bytes)),
        ("state refused", count(binding.kv_refused)),
        ("log lines lost", count(binding.log_lines_dropped)),
    ])?;
    metrics(out, &binding.metrics)?;
    log(out, binding)?;
    earlier(out, binding)
}

/// The metrics that the policy defined.
fn metrics(out: &mut Output, metrics: &[PolicyMetric]) -> Result<(), Failure> {
    if metrics.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let row = |metric: &PolicyMetric| {
        let value = match metric.kind.as_str() {
            "histogram" => {
                format!("{} in {}", metric.value, metric.buckets.iter().sum::<u64>())
            }
            _ => metric.value.to_string(),
        };
        vec![metric.name.clone(), metric.kind.clone(), value, metric.help.clone()]
    };
    let rows: Vec<_> = metrics.iter().map(row).collect();
    out.table(&["METRIC", "KIND", "VALUE", "MEANING"], &rows)
}

/// What the policy wrote to its log last.
fn log(out: &mut Output, binding: &BindingStatus) -> Result<(), Failure> {
    if binding.log.is_empty() {
        return Ok(());
    }
    out.line("")?;
    for line in &binding.log {
        let (when, generation) = (time::text(line.time_ms), line.generation);
        let (level, text) = (printable(line.level.as_bytes()), printable(line.message.as_bytes()));
        out.line(&format!("{when} {level} generation {generation}: {text}"))?;
    }
    out.flush()
}

/// The generations before.
fn earlier(out: &mut Output, binding: &BindingStatus) -> Result<(), Failure> {
    if binding.previous.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let row = |generation: &weir_client::GenerationStatus| {
        vec![
            generation.generation.to_string(),
            generation.rows.to_string(),
            generation.failed_rows.to_string(),
            generation.state.clone(),
            short(&generation.digest).to_owned(),
            generation.reason.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = binding.previous.iter().map(row).collect();
    out.table(&["EARLIER", "ROWS", "FAILED", "STATE", "DIGEST", "WHY"], &rows)
}

/// The part of a digest that people compare.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn new(args: &NewArgs, mut out: Output) -> Result<(), Failure> {
    let role = match args.role {
        RoleArg::Router => Role::Router,
        RoleArg::Filter => Role::Filter,
        RoleArg::Delivery => Role::Delivery,
    };
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    weir_toolchain::new_policy(&args.name, role, &folder).map_err(|error| {
        let message = error.to_string();
        match error {
            ScaffoldError::Name(_) => Failure::usage(message, "e.g. weir policy new my-router"),
            ScaffoldError::Occupied(_) => {
                Failure::new(Exit::Refused, "exists", message, "or name one with --folder")
            }
            ScaffoldError::Write(_) => Failure::new(Exit::Failed, "io", message, ""),
        }
    })?;
    // As text: a path that is none cannot be a value.
    let shown = folder.display().to_string();
    let value = json!({ "policy": args.name, "folder": shown });
    out.done(&format!("{shown}: edit {shown}/src/lib.rs"), &value)?;
    note(out.json, &format!("then: cd {}; cargo test; weir policy build", shell_word(&shown)));
    Ok(())
}

async fn build(args: BuildArgs, mut out: Output) -> Result<(), Failure> {
    if !args.folder.join("Cargo.toml").is_file() {
        let message = format!("{}: there is no Cargo.toml", args.folder.display());
        let hint = "name the folder of a policy's crate; `weir policy new NAME` starts one";
        return Err(Failure::new(Exit::NotFound, "io", message, hint));
    }
    let quiet = out.json;
    let placed = args.out.is_some();
    let work = tokio::task::spawn_blocking(move || {
        let progress = Progress::spinner(quiet, "looking for a WebAssembly toolchain");
        let toolchain = weir_toolchain::find(&|step| progress.say(step)).map_err(|error| {
            let hint = "do what it says, then build again";
            Failure::new(Exit::Failed, "no_toolchain", error.to_string(), hint)
        })?;
        progress.say(&format!("building with {}", toolchain.describe()));
        let target = args.folder.join("target/policies");
        let destination = args.out.as_ref().unwrap_or(&args.folder);
        weir_toolchain::build(&args.folder, &toolchain, &target, destination)
            .map(|built| (built, toolchain.describe()))
            .map_err(|error| Failure::new(Exit::Failed, "build_failed", error.to_string(), ""))
    });
    let (built, toolchain) =
        work.await.map_err(|_| Failure::failed("the build stopped unexpectedly"))??;
    let size = built.component.len();
    let file = built.path.display().to_string();
    if out.json {
        return out.value(&json!({
            "policy": built.package, "file": file, "bytes": size, "toolchain": toolchain,
        }));
    }
    out.line(&format!("{file} ({} KiB)", size.div_ceil(1024)))?;
    out.flush()?;
    note(false, &put_to_work(&file, &built.package, placed));
    Ok(())
}

/// What comes after a build; `placed` when its folder was named, which may be the
/// broker's own: a file cannot be copied over itself.
fn put_to_work(file: &str, package: &str, placed: bool) -> String {
    match placed {
        true => format!("once it lies in a broker's DATA/plugins: weir policy status {package}"),
        false => format!(
            "put it to work: cp {} DATA/plugins/ (DATA is the broker's data folder),\n\
             then: weir policy status {package}",
            shell_word(file)
        ),
    }
}

/// A path as a shell takes it for one word, so that the commands of a hint work.
fn shell_word(path: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,@%:".contains(c);
    match path.chars().all(is_plain) {
        true => path.into(),
        false => format!("'{}'", path.replace('\'', r"'\''")).into(),
    }
}

async fn check(file: PathBuf, mut out: Output) -> Result<(), Failure> {
    let work = tokio::task::spawn_blocking(move || load(&file));
    let component = work.await.map_err(|_| Failure::failed("the check stopped unexpectedly"))??;
    let manifest = component.manifest();
    if out.json {
        return out.value(&json!({
            "name": manifest.name,
            "version": manifest.version.to_string(),
            "summary": manifest.summary,
            "roles": component.roles().iter().map(|role| role.as_str()).collect::<Vec<_>>(),
            "wants": manifest.wants,
            "columns": manifest.columns,
            "memo_by_subject": manifest.memo_by_subject(),
            "digest": component.digest().as_ref(),
            "bytes": component.bytes(),
        }));
    }
    out.pairs(&[
        ("name", manifest.name.clone()),
        ("version", manifest.version.to_string()),
        ("summary", manifest.summary.clone()),
        ("role", component.roles().to_string()),
        ("wants", manifest.wants.join(" ")),
        ("headers", manifest.header_columns.join(" ")),
        ("configurable", if manifest.config_schema.is_empty() { "no" } else { "yes" }.into()),
        ("digest", component.digest().to_string()),
        ("bytes", component.bytes().to_string()),
    ])?;
    note(false, "fine: a broker would take it, and check the configuration that it is bound with");
    Ok(())
}

/// The component in a file, of which no more is read than a component may have.
fn load(file: &Path) -> Result<Arc<Component>, Failure> {
    let unreadable = |error: io::Error| Failure::file(file, &error);
    let refused = |error: LoadError| {
        let hint = "docs/policies.md says what a policy must export and may import";
        let message = format!("{}: {error}", file.display());
        Failure::new(Exit::Refused, "bad_component", message, hint)
    };
    let opened = File::open(file).map_err(unreadable)?;
    let size = opened.metadata().map_err(unreadable)?.len();
    if size > COMPONENT_BYTES_MAX as u64 {
        let (bytes, bytes_max) = (size as usize, COMPONENT_BYTES_MAX);
        return Err(refused(LoadError::TooLarge { bytes, bytes_max }));
    }
    let mut bytes = Vec::new();
    // A pipe does not say how much is to come.
    let mut opened = opened.take(COMPONENT_BYTES_MAX as u64 + 1);
    opened.read_to_end(&mut bytes).map_err(unreadable)?;
    // That is this machine's fault: the component may be a good one.
    let engine = Engine::new().map_err(|error| Failure::failed(error.to_string()))?;
    let component = Component::load(&engine, &bytes).map_err(refused)?;
    component.manifest().check_schema().map_err(refused)?;
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::Written;
    use super::*;

    #[test]
    fn a_failed_binding_is_named_with_its_reason() {
        let failed = BindingStatus {
            binding: "my-router".into(),
            policy: "my-router".into(),
            role: "router".into(),
            state: "failed".into(),
            error: Some("the component needs wasi:io, which this broker does not offer".into()),
            generation: 3,
            rows: 1200,
            failed_rows: 40,
            scope: vec!["flights.>".into()],
            ..BindingStatus::default()
        };
        let written = Written::default();
        let counters = weir_client::PolicyCounters { file_problems: 2, ..Default::default() };
        let report = PolicyStatusAnswer { bindings: vec![failed], counters };
        table(&mut written.output(false), &report).expect("written");
        let text = written.text();
        assert!(text.contains("my-router  my-router  router  failed    3  1200      40"), "{text}");
        assert!(text.contains(
            "\nmy-router: the component needs wasi:io, which this broker does not offer\n"
        ));
        assert!(text.ends_with("could not be used, since the broker started: 2\n"), "{text}");
    }

    /// A file that is no plugin is told of by the name it has.
    #[test]
    fn names_of_files_do_not_drive_the_terminal() {
        let name = "plugins/a\x1b[2J.wasm".to_owned();
        let error = Some("\"a\x1b[2J\" is no name".to_owned());
        let failed =
            BindingStatus { binding: name.clone(), error: error.clone(), ..Default::default() };
        let report = PolicyStatusAnswer { bindings: vec![failed], ..Default::default() };
        let written = Written::default();
        table(&mut written.output(false), &report).expect("written");
        list(&mut written.output(false), &[PolicyItem { name, error, ..Default::default() }])
            .expect("written");
        let text = written.text();
        assert!(!text.contains('\x1b'), "{text:?}");
        let told = "\nplugins/a.[2J.wasm: \"a.[2J\" is no name\n";
        assert_eq!(text.matches(told).count(), 2, "{text:?}");
    }

    #[test]
    fn what_is_in_its_place_is_not_copied_over_itself() {
        let text = put_to_work("my-router/my-router.wasm", "my-router", false);
        assert!(text.contains("cp my-router/my-router.wasm DATA/plugins/"), "{text}");
        let text = put_to_work("weir-data/plugins/my-router.wasm", "my-router", true);
        assert!(!text.contains("cp ") && text.contains("weir policy status my-router"), "{text}");
    }

    #[test]
    fn a_path_of_any_name_is_one_word_of_a_command() {
        let text = put_to_work("Ann's policies/a.wasm", "a", false);
        assert!(text.contains(r"cp 'Ann'\''s policies/a.wasm' DATA/plugins/"), "{text}");
        assert_eq!(shell_word("~a"), "'~a'");
    }
}
