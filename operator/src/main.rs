//! One binary: `gatehouse`.

use std::process::ExitCode;

// Returns memory after a storm of certificates, where the system's allocator keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    gatehouse::cli::main()
}
