//! The command line: what `weir` understands, and how it ends.
//!
//! Called by `main.rs` with the parsed arguments. Every command is a client like any
//! other, but `serve`, and `store` and `doctor`, which look at a folder. Results go to
//! standard output and nothing else does; notes, progress and errors go to standard
//! error. `docs/cli.md` is the same in prose.

mod consume;
mod doctor;
mod failure;
mod group;
mod input;
mod interrupt;
mod output;
mod payload;
mod policy;
mod printable;
mod progress;
mod publish;
mod queue;
mod serve;
mod store;
mod stream;
mod subscribe;
mod summary;
mod time;
mod values;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use weir_client::{Client, ConnectOptions};

pub use failure::{Exit, Failure};
pub use serve::ServeArgs;

use output::Output;
use printable::printable;

/// Where commands look for the broker when nothing is said.
const SERVER_DEFAULT: &str = "127.0.0.1:7117";

/// The arguments of `weir`.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    about = "Weir: a message broker whose rules are WASM components",
    after_help = "Start here:\n  \
        weir serve                                 a broker on defaults\n  \
        weir sub 'greetings.>'                     in a second terminal: listen\n  \
        weir pub greetings.en hello                in a third: publish\n\n\
        Keep messages until somebody has dealt with them:\n  \
        weir queue create orders\n  \
        weir pub orders '12 apples'\n  \
        weir queue consume orders --count 1\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found or lost, 4 refused,\n\
        5 no connection, 6 nothing in time, 65 bad data, 74 the disk failed,\n\
        75 the folder is in use, 130 interrupted."
)]
pub struct Cli {
    /// What is common to all commands.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Address of the broker
    #[arg(long, global = true, env = "WEIR_SERVER", default_value = SERVER_DEFAULT)]
    #[arg(value_name = "HOST:PORT", help_heading = "Global options")]
    pub server: String,
    /// Token, if the broker asks for one
    #[arg(long, global = true, env = "WEIR_TOKEN", hide_env_values = true)]
    #[arg(help_heading = "Global options")]
    pub token: Option<String>,
    /// Longest wait for an answer, e.g. 500ms, 10s
    #[arg(long, global = true, value_parser = values::duration, default_value = "10s")]
    #[arg(help_heading = "Global options")]
    pub timeout: Duration,
    /// Write JSON: one object, or one object a line
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the help text of each follows")]
pub enum Command {
    /// Run a broker
    Serve(ServeArgs),
    /// Publish messages: from the arguments, or line by line from a file
    Pub(publish::PubArgs),
    /// Listen to channels
    Sub(subscribe::SubArgs),
    /// Make, look at and consume queues
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Make, look at and read streams
    #[command(subcommand)]
    Stream(stream::StreamCommand),
    /// Make, move and consume groups of a stream
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Look at policies, go back, and write your own
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Look at a data folder without a broker, write it out, read it in
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Say how a data folder is, and what to do about it
    Doctor(doctor::DoctorArgs),
    /// Version of this program, and of the broker if one is there
    Version,
    /// Write a completion script for a shell
    #[command(
        after_help = "Example:\n  weir completions bash > ~/.local/share/bash-completion/completions/weir"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether the command itself sees to it that it ends on Ctrl-C.
    fn ends_on_interrupt(&self) -> bool {
        match self {
            Self::Serve(_) | Self::Sub(_) => true,
            // They wait for the disk and no more: the signal ends them at once.
            Self::Store(_) | Self::Doctor(_) => true,
            Self::Queue(command) => matches!(command, queue::QueueCommand::Consume(_)),
            Self::Group(command) => matches!(command, group::GroupCommand::Consume(_)),
            _ => false,
        }
    }
}

/// Runs a command to its end.
#[must_use]
pub fn main(cli: Cli) -> ExitCode {
    let serves = matches!(cli.command, Command::Serve(_));
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if !serves {
        // One thread for the socket, one for reading and writing files.
        runtime.worker_threads(2);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::failed(format!("cannot start: {error}"));
            return failure.report(cli.common.json);
        }
    };
    let json = cli.common.json;
    let result = runtime.block_on(run(cli));
    // A thread that still waits for standard input must not keep the program.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// Runs a command; Ctrl-C ends those that do not end in good order themselves.
///
/// # Errors
/// What to tell the user, and the exit code.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    if cli.command.ends_on_interrupt() {
        return dispatch(cli).await;
    }
    tokio::select! {
        result = dispatch(cli) => result,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    }
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let Cli { common, command } = cli;
    let out = Output::stdout(common.json);
    match command {
        Command::Serve(args) => serve::run(args).await,
        Command::Pub(args) => publish::run(&common, args, out).await,
        Command::Sub(args) => subscribe::run(&common, args, out).await,
        Command::Queue(command) => queue::run(&common, command, out).await,
        Command::Stream(command) => stream::run(&common, command, out).await,
        Command::Group(command) => group::run(&common, command, out).await,
        Command::Policy(command) => policy::run(&common, command, out).await,
        Command::Store(command) => store::run(command, out),
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Version => version(&common, out).await,
        Command::Completions { shell } => completions(shell, out),
    }
}

impl Common {
    /// A connection that ends with the first loss: for commands that ask once.
    async fn connect_once(&self) -> Result<Client, Failure> {
        self.connect(self.options().without_reconnect()).await
    }

    /// A connection that comes back by itself: for commands that stay.
    async fn connect_and_stay(&self) -> Result<Client, Failure> {
        self.connect(self.options()).await
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions {
            name: concat!("weir ", env!("CARGO_PKG_VERSION")).to_owned(),
            token: self.token.clone(),
            connect_timeout: self.timeout.min(Duration::from_secs(5)),
            request_timeout: self.timeout,
            ..ConnectOptions::default()
        }
    }

    async fn connect(&self, options: ConnectOptions) -> Result<Client, Failure> {
        Ok(Client::connect_with(&self.server, options).await?)
    }
}

async fn version(common: &Common, mut out: Output) -> Result<(), Failure> {
    let here = env!("CARGO_PKG_VERSION");
    let there = match common.connect_once().await {
        Ok(client) => Some(client.hello().server.clone()),
        Err(_) => None,
    };
    if out.json {
        return out.value(&serde_json::json!({ "client": here, "server": there }));
    }
    out.line(&format!("weir {here}"))?;
    match there {
        Some(server) => {
            let server = printable(server.as_bytes());
            out.line(&format!("broker at {}: {server}", common.server))?;
        }
        None => out.line(&format!("no broker at {}", common.server))?,
    }
    out.flush()
}

fn completions(shell: clap_complete::Shell, mut out: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "weir", &mut script);
    out.bytes(&script)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// clap checks the definition of every command, and names of arguments.
    #[test]
    fn the_command_line_is_well_defined() {
        Cli::command().debug_assert();
    }

    /// Whoever asks for help sees an example.
    #[test]
    fn every_command_teaches_by_example() {
        fn visit(command: &mut clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let leaf = command.get_subcommands().next().is_none();
            let bare = ["version", "help"].contains(&command.get_name());
            if leaf && !bare {
                let help = command.clone().render_long_help().to_string();
                assert!(help.contains("Example"), "`{path} --help` shows no example");
            }
            for command in command.get_subcommands_mut() {
                visit(command, &path);
            }
        }
        visit(&mut Cli::command(), "");
    }
}
