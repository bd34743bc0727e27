//! `latchkey keys`: the keys that sign access tokens, from the command line.

use clap::{Args, Subcommand};

use super::Global;

/// Commands about signing keys.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys, and what each is doing
    List,
    /// Make a new key; it is published at once and signs after keys.publish_before
    Rotate(RotateArgs),
    /// Take a key out of use; what it signed is believed until it expires
    Retire(RetireArgs),
}

/// Arguments of `latchkey keys rotate`.
#[derive(Args, Clone, Copy, Debug)]
pub struct RotateArgs {
    /// Sign with the new key at once; those who cached the old keys refuse its tokens until they look again
    #[arg(long)]
    pub now: bool,
}

/// Arguments of `latchkey keys retire`.
#[derive(Args, Clone, Debug)]
pub struct RetireArgs {
    /// The key's id, as `latchkey keys list` shows it
    pub kid: String,
}

/// Runs a command about signing keys.
///
/// # Errors
/// If the key is unknown or still needed, or the database can't be reached.
pub fn run(command: &KeysCommand, _global: &Global) -> anyhow::Result<()> {
    match command {
        KeysCommand::List | KeysCommand::Rotate(_) | KeysCommand::Retire(_) => {
            anyhow::bail!("keys isn't built into this version")
        }
    }
}
