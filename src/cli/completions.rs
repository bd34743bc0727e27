//! `latchkey completions` and `latchkey man`: generated from the command line's definition.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Arguments of `latchkey completions`.
#[derive(Args, Clone, Copy, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `latchkey man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// Write the pages of all commands to this directory instead of the main page to standard output
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints a shell completion script.
///
/// # Errors
/// If standard output can't be written.
pub fn completions(args: CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "latchkey", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

/// Prints the manual page, or writes the pages of all commands.
///
/// # Errors
/// If standard output or the directory can't be written.
pub fn man(args: &ManArgs) -> anyhow::Result<()> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return Ok(io::stdout().lock().write_all(&page)?);
    };
    clap_mangen::generate_to(Cli::command(), dir).with_context(|| dir.display().to_string())
}
