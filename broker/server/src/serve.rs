//! `weir serve`: configuration, log, signals around the server.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weir_core::store::StoreError;

use crate::config::{Config, LogFormat};
use crate::server::Server;

/// Exit code when the disk has failed: `EX_IOERR`.
pub const EXIT_IO: u8 = 74;

/// Serves until a signal asks to stop. When the store fails the process ends there
/// and then, with [`EXIT_IO`]: whatever would leave it later might not be true.
///
/// # Errors
/// When the broker cannot start, or had to stop because it could not keep its
/// promises.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    start_log(&config)?;
    let on_fault = |failure: &StoreError| {
        // Whoever was here before has logged it.
        let StoreError::Fenced(_) = failure else { return };
        std::process::exit(i32::from(EXIT_IO));
    };
    // Before the line "ready": whoever reads that may stop the broker at once.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut server = tokio::select! {
        // First, so that a broker that is ready is stopped in good order.
        biased;
        started = Server::start_guarded(config, Arc::new(on_fault)) => started?,
        // Nobody was served yet: the next start begins where this one did.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        failure = server.failed() => Some(failure),
    };
    server.stop().await;
    match failure {
        Some(failure) => Err(failure.context("stopped: nothing can be kept safely any more")),
        None => Ok(()),
    }
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_level).with_context(|| {
        format!("log.level = \"{}\": write e.g. info or info,weir_policy=debug", config.log_level)
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(is_terminal).with_target(false).try_init()
        }
        LogFormat::Json => lines.json().try_init(),
    };
    // A second server in one process, as in tests, keeps the first one's log.
    drop(started);
    Ok(())
}
