//! `latchkey serve`: runs the service until it is told to stop.

use clap::Args;

use super::Global;

/// Arguments of `latchkey serve`.
#[derive(Args, Clone, Copy, Debug)]
pub struct ServeArgs {}

/// Runs the service until SIGTERM or SIGINT.
///
/// # Errors
/// If it can't start, or can't go on.
pub fn run(_args: &ServeArgs, _global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("serve isn't built into this version")
}
