//! The `latchkey` binary: process-wide set-up, then [`latchkey::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // First, because memory that is touched earlier keeps its huge pages.
    latchkey::password::huge_pages::disable();
    // The connections to Redis and PostgreSQL use the default TLS provider of the process. The result is ignored: the
    // installation fails only if a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    latchkey::cli::main()
}
