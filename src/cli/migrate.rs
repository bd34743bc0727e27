//! `latchkey migrate`: brings the database's schema up to date.

use clap::Args;

use super::Global;

/// Arguments of `latchkey migrate`.
#[derive(Args, Clone, Copy, Debug)]
pub struct MigrateArgs {}

/// Applies the migrations that are missing, over `database.migrate_url` if there is one.
///
/// # Errors
/// If the database can't be reached, or a migration fails.
pub fn run(_args: &MigrateArgs, _global: &Global) -> anyhow::Result<()> {
    anyhow::bail!("migrate isn't built into this version")
}
