//! `latchkey user show`, and the JSON form of an account.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    cli::output::{json_line, visible},
    domain::{
        account::{Account, Email, Username},
        clock::Timestamp,
    },
    service::sessions,
    state::AppState,
    store::sql::SecondaryEmail,
};

/// Prints an account, its addresses and the number of its live sessions.
pub(super) async fn run(state: &AppState, account: &Account, json: bool) -> anyhow::Result<()> {
    let sessions = sessions::list_of(state, account.id).await?.len();
    let secondary = state.sql.secondary_emails(account.id).await?;
    let mut out = io::stdout().lock();
    if json {
        let secondary_emails = secondary.iter().map(EmailJson::of).collect();
        let shown = WithSessions { account: AccountJson::of(account), secondary_emails, sessions };
        json_line(&mut out, &shown)?;
        return Ok(());
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let roles = account.roles.to_string();
    let listed: Vec<String> = secondary.iter().map(|it| with_state(&it.email, it.verified_at.is_some())).collect();
    for (name, value) in [
        ("id", account.id.to_string()),
        ("e-mail", with_state(&account.email, account.email_verified)),
        ("secondary", or_dash(Some(listed.join(", ")).filter(|listed| !listed.is_empty()))),
        ("username", or_dash(account.username.as_ref().map(|name| visible(name.as_str())))),
        ("roles", or_dash(Some(roles).filter(|roles| !roles.is_empty()))),
        ("state", account.disabled_at.map_or_else(|| "active".to_owned(), |at| format!("disabled since {at}"))),
        ("sessions", sessions.to_string()),
        ("created", account.created_at.to_string()),
        ("updated", account.updated_at.to_string()),
        ("password changed", account.password_changed_at.to_string()),
    ] {
        writeln!(out, "{name:<17} {value}")?;
    }
    Ok(out.flush()?)
}

/// An address, and whether it is verified.
fn with_state(email: &Email, is_verified: bool) -> String {
    let state = if is_verified { "" } else { " (not verified)" };
    format!("{}{state}", visible(email.as_str()))
}

/// An account with its secondary addresses and the number of its live sessions.
#[derive(Serialize)]
struct WithSessions<'a> {
    #[serde(flatten)]
    account: AccountJson<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secondary_emails: Vec<EmailJson<'a>>,
    sessions: usize,
}

/// A secondary address as JSON, as an import reads it.
#[derive(Serialize)]
struct EmailJson<'a> {
    email: &'a str,
    verified: bool,
}

impl<'a> EmailJson<'a> {
    fn of(email: &'a SecondaryEmail) -> Self {
        Self { email: email.email.as_str(), verified: email.verified_at.is_some() }
    }
}

/// An account as JSON, without its password hash.
#[derive(Serialize)]
pub(super) struct AccountJson<'a> {
    id: String,
    email: &'a str,
    email_verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    roles: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<String>,
    created_at: String,
    updated_at: String,
    password_changed_at: String,
}

impl<'a> AccountJson<'a> {
    pub(super) fn of(account: &'a Account) -> Self {
        let time = |time: Timestamp| time.to_string();
        Self {
            id: account.id.to_string(),
            email: account.email.as_str(),
            email_verified: account.email_verified,
            username: account.username.as_ref().map(Username::as_str),
            roles: account.roles.names(),
            disabled_at: account.disabled_at.map(time),
            created_at: time(account.created_at),
            updated_at: time(account.updated_at),
            password_changed_at: time(account.password_changed_at),
        }
    }
}
