//! `latchkey user`: accounts, from the command line.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::{Args, Subcommand};

use super::Global;

/// Commands about accounts.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Add an account; asks for its password
    Add(AddArgs),
    /// List all accounts
    List(ListArgs),
    /// Stop an account from signing in, and end its sessions
    Disable(AccountArgs),
    /// Let a disabled account sign in again
    Enable(AccountArgs),
    /// Delete an account for good, and end its sessions
    Delete(AccountArgs),
    /// Import accounts, with the password hashes they have
    Import(ImportArgs),
}

/// Arguments of `latchkey user add`.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// The account's e-mail address
    pub email: String,
    /// A name to sign in with, beside the e-mail address
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// A role, such as admin; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// Read the password from standard input instead of asking for it; one line end after it is dropped
    #[arg(long)]
    pub password_stdin: bool,
}

/// Arguments of `latchkey user list`.
#[derive(Args, Clone, Copy, Debug)]
pub struct ListArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Which account.
#[derive(Args, Clone, Debug)]
pub struct AccountArgs {
    /// The account's e-mail address, username or id
    #[arg(value_name = "EMAIL|USERNAME|ID")]
    pub account: String,
}

/// Arguments of `latchkey user import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// A file of accounts, one JSON object a line, or - for standard input: email, password_hash (PHC argon2id or
    /// argon2i, bcrypt, scrypt, pbkdf2) and, if wanted, username, roles, created_at
    pub file: PathBuf,
    /// Accounts per transaction
    #[arg(long, value_name = "N", default_value = "1000")]
    pub batch: NonZeroUsize,
}

/// Runs a command about accounts.
///
/// # Errors
/// If the account is unknown, taken or invalid, or the database can't be reached.
pub fn run(command: &UserCommand, _global: &Global) -> anyhow::Result<()> {
    match command {
        UserCommand::Add(_)
        | UserCommand::List(_)
        | UserCommand::Disable(_)
        | UserCommand::Enable(_)
        | UserCommand::Delete(_)
        | UserCommand::Import(_) => anyhow::bail!("user isn't built into this version"),
    }
}
