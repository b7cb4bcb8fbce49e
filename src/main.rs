//! The sessiongate binary: the command line over the library.

use std::process::ExitCode;

mod cli;

// Many small, short-lived allocations on many threads: mimalloc keeps them on their thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
