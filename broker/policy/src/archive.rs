//! The port to what outlives the process: generations of bindings with their
//! components, and state of policies whose operator wants it kept.
//!
//! Implemented by the server over its catalogue; [`NoArchive`] forgets everything.

use bytes::Bytes;

/// See the module's text. Called on the loader's thread, which may wait.
pub trait Archive: Send + Sync {
    /// Keys under `prefix` with their values.
    fn list(&self, prefix: &str) -> Vec<(String, Bytes)>;

    /// Puts `value` at `key`, or removes what is there. It is safe on return. False when it
    /// could not be kept; the log tells why.
    fn put(&self, key: &str, value: Option<Bytes>) -> bool;

    /// The component of this digest (hex SHA-256), if it is kept.
    fn blob(&self, digest: &str) -> Option<Bytes>;

    /// Keeps a component under its digest. False when it could not be kept.
    fn put_blob(&self, digest: &str, bytes: Bytes) -> bool;
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoArchive;

impl Archive for NoArchive {
    fn list(&self, _: &str) -> Vec<(String, Bytes)> {
        Vec::new()
    }

    fn put(&self, _: &str, _: Option<Bytes>) -> bool {
        true
    }

    fn blob(&self, _: &str) -> Option<Bytes> {
        None
    }

    fn put_blob(&self, _: &str, _: Bytes) -> bool {
        false
    }
}
