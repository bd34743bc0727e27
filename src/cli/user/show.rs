//! `latchkey user show`, and the JSON form of an account.

use std::io::{self, Write};

use serde::Serialize;

use super::factors::FactorJson;
use crate::{
    cli::output::{escape, write_json_line},
    domain::{
        account::{Account, Email, Username},
        clock::Timestamp,
    },
    service::{
        factors::{self, FactorList},
        sessions,
    },
    state::AppState,
    store::sql::SecondaryEmail,
};

/// Prints an account, its addresses, its second factors and the number of its live sessions.
pub(super) async fn run(state: &AppState, account: &Account, json: bool) -> anyhow::Result<()> {
    let sessions = sessions::list_for_operator(state, account.id).await?.len();
    let secondary = state.sql.secondary_emails(account.id).await?;
    let factors = factors::list(state, account.id).await?;
    let mut out = io::stdout().lock();
    if json {
        let secondary_emails = secondary.iter().map(EmailJson::of).collect();
        let shown = AccountDetailsJson {
            account: AccountJson::of(account),
            secondary_emails,
            factors: factors.factors.iter().map(FactorJson::from).collect(),
            email_code: factors.email_code,
            recovery_codes_left: factors.recovery_codes,
            sessions,
        };
        write_json_line(&mut out, &shown)?;
        return Ok(());
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let roles = account.roles.to_string();
    let listed: Vec<String> =
        secondary.iter().map(|email| describe_email(&email.email, email.verified_at.is_some())).collect();
    for (name, value) in [
        ("id", account.id.to_string()),
        ("e-mail", or_dash(account.primary_email().map(|email| describe_email(email, account.email_verified)))),
        ("secondary", or_dash(Some(listed.join(", ")).filter(|listed| !listed.is_empty()))),
        ("username", or_dash(account.username.as_ref().map(|name| escape(name.as_str())))),
        ("roles", or_dash(Some(roles).filter(|roles| !roles.is_empty()))),
        ("second factors", or_dash(describe_factors(&factors))),
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

/// An address, with a note if it is not verified.
fn describe_email(email: &Email, is_verified: bool) -> String {
    let note = if is_verified { "" } else { " (not verified)" };
    format!("{}{note}", escape(email.as_str()))
}

/// Describes the second factors; `None` if the account has none.
fn describe_factors(list: &FactorList) -> Option<String> {
    let factors = list.factors.iter().map(|factor| format!("{} {}", factor.kind.as_str(), escape(&factor.label)));
    let by_mail = list.email_code.filter(|is_on| *is_on).map(|_| "codes by mail".to_owned());
    let all: Vec<String> = factors.chain(by_mail).collect();
    (!all.is_empty()).then(|| format!("{} ({} recovery codes left)", all.join(", "), list.recovery_codes))
}

/// An account with its secondary addresses, its second factors and the number of its live sessions.
#[derive(Serialize)]
struct AccountDetailsJson<'a> {
    #[serde(flatten)]
    account: AccountJson<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secondary_emails: Vec<EmailJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    factors: Vec<FactorJson>,
    /// Whether codes by mail are a second factor of the account. Absent if they are off for all accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    email_code: Option<bool>,
    recovery_codes_left: u32,
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
