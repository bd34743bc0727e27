//! Dispatches the commands that show, change or invite one account.

use anyhow::{Context, anyhow};

use super::{UserCommand, emails, factors, invite, metadata, show};
use crate::{
    cli::{output::escape, prompt},
    domain::account::{Account, Email, Roles},
    service::accounts,
    state::AppState,
};

/// Runs a command about one account.
pub(super) async fn run(state: &AppState, command: &UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Show(args) => {
            show::run(state, &find_account(state, &args.account.account).await?, args.json).await
        }
        UserCommand::Roles(args) => {
            let parse = |flag: &str, names: &[String]| Roles::parse(names).map_err(|error| anyhow!("{flag} {error}"));
            let added = parse("--add", &args.add)?;
            let removed = parse("--remove", &args.remove)?;
            let account = find_account(state, &args.account.account).await?;
            let roles = accounts::change_roles(state, account.id, &added, &removed).await?;
            let listed_roles = if roles.is_empty() { "none".to_owned() } else { roles.to_string() };
            let effect = if roles == account.roles {
                "Nothing has changed."
            } else {
                "Older access tokens are refused, and sessions get the roles with their next refresh."
            };
            println!("Roles of {}: {listed_roles}. {effect}", escaped_identifier(&account));
            Ok(())
        }
        UserCommand::SetPassword(args) => {
            // the account first: nobody should type a password for an account that does not exist
            let account = find_account(state, &args.account.account).await?;
            let password = prompt::read_new_password(args.password_stdin)?;
            let ended = accounts::set_password(state, account.id, password).await?;
            println!("Set a new password for {}. {}", escaped_identifier(&account), describe_ended_sessions(ended));
            Ok(())
        }
        UserCommand::SetEmail(args) => {
            let email = Email::parse(&args.email).map_err(|error| anyhow!("{:?} {error}", args.email))?;
            let account = find_account(state, &args.account.account).await?;
            accounts::set_email(state, account.id, &email).await.with_context(|| format!("{:?}", args.email))?;
            println!("Changed the e-mail address of {} to {}.", escaped_identifier(&account), escape(email.as_str()));
            Ok(())
        }
        UserCommand::Metadata(args) => {
            metadata::run(state, &find_account(state, &args.account.account).await?, args).await
        }
        UserCommand::Invite(args) => invite::invite(state, args).await,
        UserCommand::Reset(args) => {
            invite::reset(state, &find_account(state, &args.account.account).await?, args).await
        }
        UserCommand::Emails(args) => emails::run(state, &find_account(state, &args.account.account).await?, args).await,
        UserCommand::Factors(args) => {
            factors::run(state, &find_account(state, &args.account.account).await?, args).await
        }
        UserCommand::Disable(args) => {
            let account = find_account(state, &args.account).await?;
            let ended = accounts::disable(state, account.id).await?;
            println!("Disabled {}. {}", escaped_identifier(&account), describe_ended_sessions(ended));
            Ok(())
        }
        UserCommand::Enable(args) => {
            let account = find_account(state, &args.account).await?;
            accounts::enable(state, account.id).await?;
            println!("Enabled {}.", escaped_identifier(&account));
            Ok(())
        }
        UserCommand::Delete(args) => {
            let account = find_account(state, &args.account.account).await?;
            let name = escaped_identifier(&account);
            prompt::confirm(&format!("Delete {name} (id {}) permanently?", account.id), args.yes)?;
            let ended = accounts::delete(state, account.id).await?;
            println!("Deleted {name}. {}", describe_ended_sessions(ended));
            Ok(())
        }
        UserCommand::Add(_) | UserCommand::List(_) | UserCommand::Import(_) => {
            unreachable!("user::run handles these commands itself")
        }
    }
}

/// Finds the account that the command line names, by its id, e-mail address or username. An error begins with this identifier.
pub(in crate::cli) async fn find_account(state: &AppState, identifier: &str) -> anyhow::Result<Account> {
    accounts::find(&state.sql, identifier).await.with_context(|| format!("{identifier:?}"))
}

/// The primary address of an account, or else its username, or else its id, escaped for a terminal.
pub(in crate::cli) fn escaped_identifier(account: &Account) -> String {
    escape(&account.display_identifier())
}

/// The sentence with which a command reports how many sessions it has ended.
pub(in crate::cli) fn describe_ended_sessions(count: u64) -> String {
    match count {
        0 => "No session was live.".to_owned(),
        1 => "1 session ended.".to_owned(),
        count => format!("{count} sessions ended."),
    }
}
