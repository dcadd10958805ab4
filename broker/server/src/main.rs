//! The binary `weir`: arguments, log, exit code.

use std::process::ExitCode;

use clap::Parser;
use weir_server::cli::{self, Cli};

/// Many small allocations from many threads: measurably faster than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    keep_small_pages();
    cli::main(Cli::parse())
}

/// Gives up transparent huge pages: the allocator asks for them, and then the first
/// byte of two megabytes costs all of them. The broker's memory and what each client
/// makes it hold halve, at the same rates.
#[cfg(target_os = "linux")]
fn keep_small_pages() {
    // An old kernel that knows nothing of it serves as well, with more memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}
