//! How commands fail: a code for scripts, a sentence and the next step for people.

use std::io::Write;
use std::process::ExitCode;

use weir_client::{Error, ErrorCode, WireError};

use super::printable::printable_lines;

/// How `weir` ends. Documented in `docs/cli.md`; the numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed for a reason that has no code of its own.
    Failed = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// No such queue, stream, group, binding or file.
    NotFound = 3,
    /// The broker or a policy said no.
    Refused = 4,
    /// No broker, or the connection to it broke.
    NoConnection = 5,
    /// No answer, or fewer messages than asked for, in time.
    TimedOut = 6,
    /// What the data folder holds cannot be read.
    BadData = 65,
    /// The disk has failed.
    DiskFailed = 74,
    /// Another broker uses the data folder.
    Locked = 75,
    /// Ctrl-C.
    Interrupted = 130,
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// Code for people who search: the broker's, or `usage`, `io` and the like.
    pub code: String,
    /// What happened, one sentence.
    pub message: String,
    /// The next step; "" where there is none.
    pub hint: String,
}

impl Failure {
    /// With a code of its own.
    #[must_use]
    pub fn new(
        exit: Exit,
        code: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hint: hint.into() }
    }

    /// Something failed that has no code of its own.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, "failed", message, "")
    }

    /// The arguments make no sense together.
    #[must_use]
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message, hint)
    }

    /// A file could not be read or written.
    #[must_use]
    pub fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        };
        Self::new(exit, "io", format!("{}: {error}", path.display()), "")
    }

    /// Ctrl-C.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "", "", "")
    }

    /// Nobody reads the output any more, as with `weir sub x | head -1`: no fault.
    pub(crate) fn broken_pipe() -> Self {
        Self::new(Exit::Done, "", "", "")
    }

    /// The same failure with another next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Tells the user, on standard error, and returns the exit code.
    #[must_use]
    pub fn report(&self, json: bool) -> ExitCode {
        if !self.message.is_empty() {
            // Standard error that cannot be written to leaves the exit code.
            let _ = std::io::stderr().lock().write_all(self.text(json).as_bytes());
        }
        ExitCode::from(self.exit as u8)
    }

    /// What the user is told.
    #[must_use]
    pub fn text(&self, json: bool) -> String {
        if json {
            let error = serde_json::json!({
                "error": { "code": self.code, "message": self.message, "hint": self.hint }
            });
            return format!("{error}\n");
        }
        let mut text = format!("error[{}]: {}\n", self.code, self.message);
        if !self.hint.is_empty() {
            text.push_str(&format!("hint: {}\n", self.hint));
        }
        // A policy may have worded it.
        printable_lines(&text)
    }
}

/// One code, one exit: a new code of the wire does not compile until it is placed.
fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::NotFound | ErrorCode::NoPartition | ErrorCode::Deleted => Exit::NotFound,
        ErrorCode::NoSubscription
        | ErrorCode::BadFrame
        | ErrorCode::Internal
        | ErrorCode::DataLoss
        | ErrorCode::Unknown => Exit::Failed,
        ErrorCode::ShuttingDown => Exit::NoConnection,
        ErrorCode::BadRequest
        | ErrorCode::TooLarge
        | ErrorCode::UnsupportedVersion
        | ErrorCode::HelloFirst
        | ErrorCode::Unauthorized
        | ErrorCode::Exists
        | ErrorCode::QueueFull
        | ErrorCode::NoSpace
        | ErrorCode::LevelUnsupported
        | ErrorCode::SubscriptionTaken
        | ErrorCode::TurnedAway
        | ErrorCode::OffsetOutOfRange
        | ErrorCode::LimitReached
        | ErrorCode::WrongKind
        | ErrorCode::PolicyFailed
        | ErrorCode::PolicyRefused
        | ErrorCode::NoResponders => Exit::Refused,
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::new(exit_of(error.code), error.code.text(), error.message, error.hint)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Refused(error) => error.into(),
            Error::Connect { address, .. } => Self::new(
                Exit::NoConnection,
                "no_connection",
                message,
                format!(
                    "start a broker with `weir serve`, or name another with --server \
                     (this was {address})"
                ),
            ),
            Error::Io(_) | Error::ConnectionLost { .. } | Error::Closed => Self::new(
                Exit::NoConnection,
                "connection_lost",
                message,
                "see whether the broker still runs: `weir version`",
            ),
            Error::Timeout { .. } => Self::new(
                Exit::TimedOut,
                "timeout",
                message,
                "wait longer with --timeout, e.g. --timeout 60s",
            ),
            Error::NoResponders { .. } => Self::new(
                Exit::Refused,
                ErrorCode::NoResponders.text(),
                message,
                ErrorCode::NoResponders.hint(),
            ),
            Error::InvalidMessage(_) | Error::MessageTooLarge { .. } => {
                Self::new(Exit::Refused, "invalid_message", message, "")
            }
            Error::Protocol(_) => Self::new(
                Exit::Failed,
                "protocol",
                message,
                "is it a Weir broker that listens there? `weir version` tells",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_failures_apart() {
        let exit = |code| Failure::from(WireError::new(code, "text")).exit;
        assert_eq!(exit(ErrorCode::NotFound), Exit::NotFound);
        assert_eq!(exit(ErrorCode::QueueFull), Exit::Refused);
        assert_eq!(exit(ErrorCode::ShuttingDown), Exit::NoConnection);
        assert_eq!(exit(ErrorCode::Internal), Exit::Failed);
        assert_eq!(Failure::from(Error::Closed).exit, Exit::NoConnection);
        let after = std::time::Duration::from_secs(1);
        assert_eq!(Failure::from(Error::Timeout { what: "info", after }).exit, Exit::TimedOut);
    }

    #[test]
    fn people_are_told_the_next_step_and_programs_get_json() {
        let failure = Failure::from(WireError::new(ErrorCode::NotFound, "no queue orders"));
        let hint = ErrorCode::NotFound.hint();
        assert_eq!(
            failure.text(false),
            format!("error[not_found]: no queue orders\nhint: {hint}\n")
        );
        let json: serde_json::Value = serde_json::from_str(&failure.text(true)).expect("JSON");
        assert_eq!(json["error"]["code"], "not_found");
        assert_eq!(json["error"]["hint"], hint);
        let refused = WireError::new(ErrorCode::PolicyRefused, "no\u{9b}2J\x1b[2J");
        let text = Failure::from(refused).hint("").text(false);
        assert_eq!(text, "error[policy_refused]: no.2J.[2J\n", "a policy's words");
    }
}
