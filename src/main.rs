//! The `latchkey` binary: process-wide set-up, then [`latchkey::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    latchkey::crypto::huge_pages::disable();
    // One TLS provider for Redis and PostgreSQL. Installing fails only if there is one already, and nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    latchkey::cli::main()
}
