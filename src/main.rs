//! The thin binary: reads flags, starts the appliance.

use std::process::ExitCode;

/// Allocation-heavy work takes a third of glibc's time with it, and thread-local heaps suit pinned shards.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    systole::app::main()
}
