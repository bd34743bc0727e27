//! The `latchkey` binary: sets up what is one per process, then leaves the rest to [`latchkey::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    latchkey::crypto::huge_pages::off();
    // One cryptography for all TLS: Redis, Postgres. It fails only if one is installed already, and nothing ran before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    latchkey::cli::main()
}
