//! Keeps a client connected. One task per client; it ends when the client is
//! closed, when its last handle is dropped, or when reconnecting is given up.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weir_protocol::ErrorCode;

use crate::connection::{Connection, connect, serve};
use crate::shared::Shared;
use crate::{ConnectionState, Error};

/// A connection that breaks sooner was none.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// A number nobody can foresee; good enough to spread clients and to name inboxes.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// See the module's text.
pub(crate) async fn drive(shared: Arc<Shared>, address: String, mut connection: Connection) {
    let mut connections = 1;
    // Connections in a row that broke at once: the pause before the next one grows
    // as if they had not been made.
    let mut short_lived = 0;
    loop {
        let begun = Instant::now();
        shared.connection_made(&connection.hello);
        shared.status.send_replace(ConnectionState::Connected(connections));
        let ended = serve(&shared, connection).await;
        shared.connection_lost();
        let reason = match ended {
            Ok(()) => return shared.end(&Error::Closed),
            Err(reason) => reason,
        };
        tracing::info!(%address, %reason, "connection lost");
        short_lived = if begun.elapsed() < SHORT_LIVED { short_lived + 1 } else { 0 };
        connection = match reconnect(&shared, &address, reason, short_lived).await {
            Ok(connection) => connection,
            Err(error) => return shared.end(&error),
        };
        connections += 1;
        tracing::info!(%address, "connected again");
    }
}

/// Tries until a connection stands.
///
/// # Errors
/// [`Error::Closed`] when the client was closed meanwhile; the last reason when the
/// attempts are used up, or when the broker's refusal will not change.
async fn reconnect(
    shared: &Arc<Shared>,
    address: &str,
    mut reason: Error,
    short_lived: u32,
) -> Result<Connection, Error> {
    let policy = shared.options.reconnect;
    let mut attempts: u32 = 0;
    loop {
        if policy.attempts_max.is_some_and(|max| attempts >= max) || is_final(&reason) {
            return Err(reason);
        }
        shared
            .status
            .send_replace(ConnectionState::Reconnecting { attempts, reason: reason.clone() });
        let failures = short_lived.saturating_sub(1).saturating_add(attempts);
        let deadline = Instant::now() + policy.wait(failures, random());
        while Instant::now() < deadline && !shared.lock().closing {
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = shared.wake.notified() => {}
            }
        }
        if shared.lock().closing {
            return Err(Error::Closed);
        }
        attempts += 1;
        match connect(address, &shared.options).await {
            Ok(connection) => return Ok(connection),
            Err(error) => reason = error,
        }
    }
}

/// Refusals of the hello that the next attempt would meet again. `HelloFirst` is none of
/// them: this client says hello first, and is told so when its hello came too late.
fn is_final(reason: &Error) -> bool {
    let finals = [ErrorCode::Unauthorized, ErrorCode::UnsupportedVersion];
    reason.refusal().is_some_and(|error| finals.contains(&error.code))
}

#[cfg(test)]
mod tests {
    use weir_protocol::WireError;

    use super::*;

    #[test]
    fn a_hello_that_came_too_late_is_said_again() {
        for (code, expected) in [
            (ErrorCode::Unauthorized, true),
            (ErrorCode::UnsupportedVersion, true),
            (ErrorCode::HelloFirst, false),
        ] {
            let refused = Error::Refused(WireError::new(code, "no"));
            assert_eq!(is_final(&refused), expected, "{code:?}");
        }
    }
}
