//! `latchkey user`: accounts, from the command line.

mod import;
mod list;

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand, value_parser};

use super::{
    Global, block_on,
    bootstrap::{PrivateRedis, Services, operators_database},
    password,
};
use crate::{
    domain::{
        account::{Email, Roles, Username},
        entropy::Entropy,
    },
    runtime::Cores,
    service::{
        accounts,
        import_accounts::{DEFAULT_BATCH, MAX_BATCH},
        register::{Register, register},
    },
    state::AppState,
};

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
    /// Lines per transaction
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BATCH, value_parser = value_parser!(u64).range(1..=MAX_BATCH))]
    pub batch: u64,
}

/// Runs a command about accounts.
///
/// # Errors
/// If the account is unknown, taken or invalid, a line couldn't be imported, or the database or Redis can't be reached.
pub fn run(command: &UserCommand, global: &Global) -> anyhow::Result<()> {
    let config = global.start(&Entropy::system())?;
    match command {
        UserCommand::List(args) => block_on(async {
            let sql = operators_database(&config).await?;
            list::run(&sql, args.json).await?;
            sql.close().await;
            Ok(())
        }),
        UserCommand::Import(args) => block_on(async {
            let sql = operators_database(&config).await?;
            import::run(&sql, &config.password, args).await?;
            sql.close().await;
            Ok(())
        }),
        UserCommand::Add(args) => {
            let new = args.read()?;
            block_on(async {
                let opened = Services::open(config, PrivateRedis::Shared, &Cores::current_runtime()).await?;
                let added = add(&opened.state, new).await;
                opened.close().await;
                added
            })
        }
        UserCommand::Disable(args) | UserCommand::Enable(args) | UserCommand::Delete(args) => block_on(async {
            let opened = Services::open(config, PrivateRedis::Shared, &Cores::current_runtime()).await?;
            let changed = change(&opened.state, command, &args.account).await;
            opened.close().await;
            changed
        }),
    }
}

impl AddArgs {
    /// Checks the names first: nobody should have to type a password for nothing.
    fn read(&self) -> anyhow::Result<Register> {
        let wrong = |name: &str, why| anyhow!("{name:?} {why}");
        let username = self.username.as_deref();
        Ok(Register {
            email: Email::parse(&self.email).map_err(|why| wrong(&self.email, why))?,
            username: username.map(|name| Username::parse(name).map_err(|why| wrong(name, why))).transpose()?,
            roles: Roles::parse(&self.roles).map_err(|why| anyhow!("--role {why}"))?,
            password: password::read_new(self.password_stdin)?,
        })
    }
}

async fn add(state: &AppState, new: Register) -> anyhow::Result<()> {
    let account = register(state, new).await?;
    println!("{} was added. Its id is {}.", account.email.as_str(), account.id);
    Ok(())
}

async fn change(state: &AppState, command: &UserCommand, name: &str) -> anyhow::Result<()> {
    let of = || format!("{name:?}");
    let account = accounts::find(state, name).await.with_context(of)?;
    let email = account.email.as_str();
    match command {
        UserCommand::Enable(_) => {
            accounts::enable(state, account.id).await.with_context(of)?;
            println!("{email} may sign in again.");
        }
        UserCommand::Delete(_) => {
            let ended = accounts::delete(state, account.id).await.with_context(of)?;
            println!("{email} was deleted. {}", sessions_ended(ended));
        }
        _ => {
            let ended = accounts::disable(state, account.id).await.with_context(of)?;
            println!("{email} was disabled. {}", sessions_ended(ended));
        }
    }
    Ok(())
}

fn sessions_ended(count: u64) -> String {
    match count {
        0 => "It had no sessions.".to_owned(),
        1 => "1 session ended.".to_owned(),
        count => format!("{count} sessions ended."),
    }
}
