//! Guards that can be taken out, to see that the tests notice: in builds with
//! `--cfg weir_sabotage` the environment variable `WEIR_SABOTAGE` names one. In all
//! other builds nothing of this is there.

/// A guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Blocks are synced before they are told of as synced: `no-sync`.
    Sync,
    /// A file that was only allocated is synced twice: `no-second-sync`.
    SecondSync,
    /// What was once synced is never cut off: `no-mark`.
    DurableMark,
    /// New names are synced with their folder: `no-folder-sync`.
    FolderSync,
}

/// Whether the guard was taken out.
#[cfg(weir_sabotage)]
pub(crate) fn is_out(guard: Guard) -> bool {
    let name = match guard {
        Guard::Sync => "no-sync",
        Guard::SecondSync => "no-second-sync",
        Guard::DurableMark => "no-mark",
        Guard::FolderSync => "no-folder-sync",
    };
    std::env::var("WEIR_SABOTAGE").is_ok_and(|out| out == name)
}

/// Whether the guard was taken out: never.
#[cfg(not(weir_sabotage))]
pub(crate) const fn is_out(_guard: Guard) -> bool {
    false
}
