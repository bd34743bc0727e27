//! `latchkey openapi`: prints the OpenAPI document, or compares it with a file.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap::Args;

use crate::http;

/// Arguments of `latchkey openapi`.
#[derive(Args, Clone, Debug)]
pub struct OpenapiArgs {
    /// Print YAML instead of JSON
    #[arg(long)]
    pub yaml: bool,
    /// Print nothing; fail if this file differs from the document
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
}

/// Prints the document, or compares it with the file of `--check`.
///
/// # Errors
/// If the file can't be read or differs.
pub fn run(args: &OpenapiArgs) -> anyhow::Result<()> {
    // a node's own document shows its configured limits, this one the default limits
    let document = http::document(&http::openapi::Limits::defaults());
    let text = if args.yaml { document.yaml } else { document.json };
    let Some(path) = &args.check else {
        io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(());
    };
    let file_text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    if file_text != text {
        anyhow::bail!("{} differs from the document of this version; `make openapi` regenerates it", path.display());
    }
    Ok(())
}
