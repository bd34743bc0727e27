//! `latchkey user`: manages accounts.

mod dispatch;
mod emails;
mod factors;
mod import;
mod invite;
mod list;
mod metadata;
mod show;

pub(super) use dispatch::{describe_ended_sessions, escaped_identifier, find_account};
pub use import::{ImportArgs, System};

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum, value_parser};

use super::{
    Global, block_on,
    bootstrap::{Services, open_existing_database},
    prompt,
};
use crate::{
    domain::{
        account::{Email, Roles, Username},
        ids::AccountId,
        secret::SecretText,
    },
    service::register::{Register, register},
    state::AppState,
};

/// Subcommands of `latchkey user`.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Add an account; prompts for its password
    Add(AddArgs),
    /// List accounts
    List(ListArgs),
    /// Show an account
    Show(ShowArgs),
    /// Add and remove roles; older access tokens are refused, and sessions get the new roles with their next refresh
    Roles(RolesArgs),
    /// Set a new password and end all sessions of the account; prompts for the password
    SetPassword(SetPasswordArgs),
    /// Invite a user: creates an account, and mails a link and a code that set its password
    Invite(InviteArgs),
    /// Mail the owner of an account a link and a code that set a new password
    Reset(ResetArgs),
    /// List or reset the second factors of an account
    Factors(FactorsArgs),
    /// Set a new e-mail address
    SetEmail(SetEmailArgs),
    /// List the e-mail addresses of an account, or remove a secondary one
    Emails(EmailsArgs),
    /// Show or change the metadata that operators store about an account (app_metadata)
    Metadata(MetadataArgs),
    /// Disable an account: it cannot sign in, and its sessions end
    Disable(AccountArgs),
    /// Enable a disabled account
    Enable(AccountArgs),
    /// Delete an account permanently and end its sessions
    Delete(DeleteArgs),
    /// Import accounts with their password hashes
    Import(ImportArgs),
}

/// Arguments of `latchkey user add`.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// E-mail address of the account
    pub email: String,
    /// Username, as an alternative to the e-mail address at sign-in
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Role of the account, such as admin (repeatable)
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// Read the password from standard input; one trailing line end is removed
    #[arg(long)]
    pub password_stdin: bool,
}

/// Arguments of `latchkey user list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only accounts whose e-mail address or username contains this text (case-insensitive)
    #[arg(long, value_name = "TEXT")]
    pub contains: Option<String>,
    /// Only accounts with this role
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Only accounts in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<AccountState>,
    /// Print at most this many accounts [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Start after the account with this id, the last account of the previous page
    #[arg(long, value_name = "ID")]
    pub after: Option<AccountId>,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// States of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccountState {
    /// The account can sign in
    Active,
    /// The account cannot sign in
    Disabled,
}

/// Names the account that a command shows or changes.
#[derive(Args, Clone, Debug)]
pub struct AccountArgs {
    /// E-mail address, username or id; id:ID, email:ADDRESS or username:NAME to be explicit
    #[arg(value_name = "ACCOUNT")]
    pub account: String,
}

/// Arguments of `latchkey user show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `latchkey user roles`.
#[derive(Args, Clone, Debug)]
pub struct RolesArgs {
    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// Add this role (repeatable)
    #[arg(long = "add", value_name = "ROLE", required_unless_present = "remove")]
    pub add: Vec<String>,
    /// Remove this role (repeatable)
    #[arg(long = "remove", value_name = "ROLE")]
    pub remove: Vec<String>,
}

/// Arguments of `latchkey user set-password`.
#[derive(Args, Clone, Debug)]
pub struct SetPasswordArgs {
    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// Read the password from standard input; one trailing line end is removed
    #[arg(long, alias = "stdin")]
    pub password_stdin: bool,
}

/// Arguments of `latchkey user set-email`.
#[derive(Args, Clone, Debug)]
pub struct SetEmailArgs {
    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// The new e-mail address
    pub email: String,
}

/// Arguments of `latchkey user metadata`. Without options the command prints the metadata.
#[derive(Args, Clone, Debug)]
pub struct MetadataArgs {
    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// Set a member to a JSON value, such as plan='"gold"' (repeatable)
    #[arg(long, value_name = "NAME=JSON")]
    pub add: Vec<String>,
    /// Remove a member (repeatable)
    #[arg(long, value_name = "NAME")]
    pub remove: Vec<String>,
    /// Replace the whole object, before --add and --remove
    #[arg(long, value_name = "JSON")]
    pub replace: Option<String>,
}

/// Arguments of `latchkey user invite`.
#[derive(Args, Clone, Debug)]
pub struct InviteArgs {
    /// E-mail address of the account
    pub email: String,
    /// Username, as an alternative to the e-mail address at sign-in
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// Role of the account, such as admin (repeatable)
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// Print the link and the code instead of mailing them
    #[arg(long)]
    pub print: bool,
}

/// Arguments of `latchkey user reset`.
#[derive(Args, Clone, Debug)]
pub struct ResetArgs {
    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// Print the link and the code instead of mailing them
    #[arg(long)]
    pub print: bool,
}

/// Arguments of `latchkey user factors`.
#[derive(Args, Clone, Debug)]
pub struct FactorsArgs {
    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub action: FactorsAction,
}

/// Subcommands of `latchkey user factors`.
#[derive(Clone, Debug, Subcommand)]
pub enum FactorsAction {
    /// List the second factors, and the number of recovery codes that are left
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Remove all second factors and recovery codes, and end the account's sessions; verify beforehand that the owner asks for it
    Reset {
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
}

/// Arguments of `latchkey user emails`.
#[derive(Args, Clone, Debug)]
pub struct EmailsArgs {
    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub action: EmailsAction,
}

/// Subcommands of `latchkey user emails`.
#[derive(Clone, Debug, Subcommand)]
pub enum EmailsAction {
    /// List the addresses, the primary one first
    List {
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Remove a secondary address; if it was verified, the account's sessions end, and the owner gets a mail
    Remove {
        /// The address
        email: String,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
}

/// Arguments of `latchkey user delete`.
#[derive(Args, Clone, Debug)]
pub struct DeleteArgs {
    /// The account.
    #[command(flatten)]
    pub account: AccountArgs,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub yes: bool,
}

/// Runs a subcommand of `latchkey user`.
///
/// # Errors
/// If the account does not exist, an argument is invalid, a record could not be imported, or a store is unreachable.
pub fn run(command: &UserCommand, global: &Global) -> anyhow::Result<()> {
    let config = global.load_existing_config()?;
    match command {
        // Listing and importing need only the database, not Redis. After an error, the end of the process closes the database.
        UserCommand::List(args) => block_on(async {
            let sql = open_existing_database(&config).await?;
            list::run(&sql, args).await?;
            sql.close().await;
            Ok(())
        }),
        UserCommand::Import(args) => block_on(async {
            let sql = open_existing_database(&config).await?;
            import::run(&sql, &config, args).await?;
            sql.close().await;
            Ok(())
        }),
        // `add` validates its arguments and reads the password before it connects to the stores.
        UserCommand::Add(args) => {
            let details = args.validate()?;
            let password = prompt::read_new_password(args.password_stdin)?;
            block_on(with_services(config, async |state| add(state, details, password).await))
        }
        other => block_on(with_services(config, async |state| dispatch::run(state, other).await)),
    }
}

/// Connects to the existing stores, runs `command` on the state, and closes the connections, also if `command` fails.
pub(super) async fn with_services<T>(
    config: crate::config::Config,
    command: impl AsyncFnOnce(&AppState) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let services = Services::open_existing(config).await?;
    let result = command(&services.state).await;
    services.close().await;
    result
}

impl AddArgs {
    /// Validates the arguments, before the user types the password.
    fn validate(&self) -> anyhow::Result<NewAccountDetails> {
        let invalid = |argument: &str, why| anyhow!("{argument:?} {why}");
        let email = Email::parse(&self.email).map_err(|why| invalid(&self.email, why))?;
        let username = match &self.username {
            Some(name) => Some(Username::parse(name).map_err(|why| invalid(name, why))?),
            None => None,
        };
        let roles = Roles::parse(&self.roles).map_err(|why| anyhow!("--role {why}"))?;
        Ok(NewAccountDetails { email, username, roles })
    }
}

/// The address, the username and the roles of a new account.
struct NewAccountDetails {
    email: Email,
    username: Option<Username>,
    roles: Roles,
}

async fn add(state: &AppState, details: NewAccountDetails, password: SecretText) -> anyhow::Result<()> {
    let NewAccountDetails { email, username, roles } = details;
    let password = state.passwords.check_new(password)?;
    let account = register(state, Register { email, username, password, roles }).await?;
    println!("Added {} with the id {}.", super::output::escape(account.email.as_str()), account.id);
    Ok(())
}
