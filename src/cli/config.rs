//! `latchkey config`: prints and checks the configuration.

use std::io::{self, Write};

use clap::{Args, Subcommand};

use super::Global;
use crate::config::{inspect, schema, to_toml};

/// Arguments of `latchkey config`.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// Subcommand; without one the configuration in effect is printed.
    #[command(subcommand)]
    pub command: Option<ConfigCommand>,
    /// Print the configuration reference instead: every key, its default and its environment variable
    #[arg(long)]
    pub defaults: bool,
}

/// Subcommands of `latchkey config`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration and print nothing but problems; exit code 2 if it cannot be used
    Check,
    /// Print the configuration reference as Markdown
    Reference,
}

/// Prints or checks the configuration. Creates nothing: no data directory, no secret.
///
/// # Errors
/// If the configuration can't be used.
pub fn run(args: &ConfigArgs, global: &Global) -> anyhow::Result<()> {
    if args.defaults {
        return Ok(io::stdout().lock().write_all(schema::TEXT.as_bytes())?);
    }
    if matches!(args.command, Some(ConfigCommand::Reference)) {
        return Ok(io::stdout().lock().write_all(schema::markdown().as_bytes())?);
    }
    let (shown, warnings) = inspect(&global.sources()?)?;
    match args.command {
        Some(ConfigCommand::Check | ConfigCommand::Reference) => {}
        None => io::stdout().lock().write_all(to_toml(&shown).as_bytes())?,
    }
    for warning in warnings {
        eprintln!("latchkey: warning: {warning}");
    }
    Ok(())
}
