//! `latchkey openapi`: prints the API's document, or compares it with a file.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `latchkey openapi`.
#[derive(Args, Clone, Debug)]
pub struct OpenapiArgs {
    /// Print YAML instead of JSON
    #[arg(long)]
    pub yaml: bool,
    /// Print nothing, but fail if this file differs from the document
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
}

/// Prints or compares the document. Needs no configuration.
///
/// # Errors
/// If the file can't be read or differs.
pub fn run(_args: &OpenapiArgs) -> anyhow::Result<()> {
    anyhow::bail!("openapi isn't built into this version")
}
