//! `latchkey config`: what is configured, and the manual.

use std::io::{self, Write};

use clap::Args;

use super::Global;
use crate::config::{inspect, schema, to_toml};

/// Arguments of `latchkey config`.
#[derive(Args, Clone, Copy, Debug)]
pub struct ConfigArgs {
    /// Print the manual instead: every key, what it means, its default and its variable
    #[arg(long)]
    pub defaults: bool,
}

/// Prints the manual or the configuration in effect. Makes nothing: no data folder, no secret.
///
/// # Errors
/// If the configuration can't be used.
pub fn run(args: &ConfigArgs, global: &Global) -> anyhow::Result<()> {
    if args.defaults {
        return Ok(io::stdout().lock().write_all(schema::TEXT.as_bytes())?);
    }
    let (shown, warnings) = inspect(&global.sources()?)?;
    io::stdout().lock().write_all(to_toml(&shown).as_bytes())?;
    for warning in warnings {
        eprintln!("latchkey: warning: {warning}");
    }
    Ok(())
}
