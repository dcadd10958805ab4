//! Open files: connections and the store's files draw on one number of the process.
//!
//! The store's come first. A journal that cannot open its next file must end the broker;
//! a client that finds no place is told so, and comes again.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::limits::STORE_DESCRIPTORS;

/// Raises the process' limit of open files as far as it may be without rights. How many of
/// the `wanted` connections then may be open beside the store's files.
#[must_use]
pub fn make_room_for(wanted: usize) -> usize {
    let limit = raised().map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let fitting = beside_store(limit).min(wanted);
    if fitting < wanted {
        warn!(
            limit,
            connections = fitting,
            "the limit of open files leaves room for fewer connections than are configured: \
             raise it (`ulimit -n`, `LimitNOFILE=`), or lower limits.connections"
        );
    }
    fitting
}

/// The limit of open files, raised to what the process may have; `None` where there is none.
fn raised() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        // As it was: some systems allow less than they say.
        Err(_) => current,
    }
}

/// Connections under a limit of open files. Where that is very low they get a quarter.
fn beside_store(limit: usize) -> usize {
    limit.saturating_sub(STORE_DESCRIPTORS).max(limit / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_files_under_any_limit() {
        assert_eq!(beside_store(usize::MAX), usize::MAX - STORE_DESCRIPTORS);
        assert_eq!(beside_store(1_024), 1_024 - STORE_DESCRIPTORS);
        assert_eq!(beside_store(256), 64);
        assert_eq!(beside_store(0), 1);
    }

    #[test]
    fn the_limit_is_raised_to_what_the_process_may_have() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raised(), maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
