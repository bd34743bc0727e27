//! `latchkey config`: prints the configuration, and checks it together with the templates.

use std::io::{self, Write};

use clap::{Args, Subcommand};

use super::Global;
use crate::{
    config::{Config, ConfigError, Problem, inspect, load_data_locations, schema, to_toml},
    mail::Templates,
    pages::Pages,
};

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
    /// Check the configuration and the templates, and print only problems; exit code 2 if a problem keeps the service from starting
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
        return Ok(io::stdout().lock().write_all(schema::REFERENCE.as_bytes())?);
    }
    let only_check = match args.command {
        Some(ConfigCommand::Reference) => return Ok(io::stdout().lock().write_all(schema::markdown().as_bytes())?),
        Some(ConfigCommand::Check) => true,
        None => false,
    };
    let sources = global.sources()?;
    let (settings, warnings) = inspect(&sources)?;
    if only_check {
        // not `load`, which creates the data directory and the secret
        let (config, _secret_file) = load_data_locations(&sources)?;
        check_templates(&config)?;
    } else {
        io::stdout().lock().write_all(to_toml(&settings).as_bytes())?;
    }
    for warning in warnings {
        eprintln!("latchkey: warning: {warning}");
    }
    Ok(())
}

/// Loads and renders the templates of mails and pages as the service does when it starts.
fn check_templates(config: &Config) -> Result<(), ConfigError> {
    let problem = |error: String| {
        // The error texts begin with the configuration key: `mail.templates: layout.html: …`, `pages.logo: …`.
        let (key, text) = error.split_once(": ").unwrap_or(("templates", error.as_str()));
        Problem::new(key, text)
    };
    let mut problems = Vec::new();
    if let Err(error) = Templates::load(&config.mail, &config.issuer) {
        problems.push(problem(error.to_string()));
    }
    if config.pages.enabled
        && let Err(error) = Pages::load(config)
    {
        problems.push(problem(error.to_string()));
    }
    if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
}
