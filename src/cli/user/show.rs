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
        factors::{self, FactorEntry, FactorList},
        sessions,
    },
    state::AppState,
    store::sql::SecondaryEmail,
};

/// Prints an account, its addresses, its second factors and the number of its live sessions.
pub(super) async fn run(state: &AppState, account: &Account, json: bool) -> anyhow::Result<()> {
    let session_count = sessions::list_for_operator(state, account.id).await?.len();
    let secondary_emails = state.sql.secondary_emails(account.id).await?;
    let factor_list = factors::list(state, account.id).await?;
    let mut out = io::stdout().lock();
    if json {
        let details = AccountDetailsJson {
            account: AccountJson::of(account),
            secondary_emails: secondary_emails.iter().map(EmailJson::of).collect(),
            factors: factor_list.factors.iter().map(FactorJson::from).collect(),
            email_code: factor_list.email_code,
            recovery_codes_left: factor_list.recovery_codes,
            sessions: session_count,
        };
        write_json_line(&mut out, &details)?;
        return Ok(());
    }
    let email_text =
        account.primary_email().map(|email| describe_email(email, account.email_verified)).unwrap_or_default();
    let username_text = account.username.as_ref().map(|name| escape(name.as_str())).unwrap_or_default();
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let secondary_texts: Vec<String> =
        secondary_emails.iter().map(|email| describe_email(&email.email, email.verified_at.is_some())).collect();
    let state_text = match account.disabled_at {
        Some(at) => format!("disabled since {at}"),
        None => "active".to_owned(),
    };
    for (name, value) in [
        ("id", account.id.to_string()),
        ("e-mail", or_dash(email_text)),
        ("secondary", or_dash(secondary_texts.join(", "))),
        ("username", or_dash(username_text)),
        ("roles", or_dash(account.roles.to_string())),
        ("second factors", or_dash(describe_factors(&factor_list))),
        ("state", state_text),
        ("sessions", session_count.to_string()),
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

/// Describes the second factors. Empty if the account has none.
fn describe_factors(list: &FactorList) -> String {
    let describe = |factor: &FactorEntry| format!("{} {}", factor.kind.as_str(), escape(&factor.label));
    let mut texts: Vec<String> = list.factors.iter().map(describe).collect();
    if list.email_code == Some(true) {
        texts.push("codes by mail".to_owned());
    }
    if texts.is_empty() {
        return String::new();
    }
    format!("{} ({} recovery codes left)", texts.join(", "), list.recovery_codes)
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

/// A secondary address as JSON, in the form that `latchkey user import` reads.
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
        let text_of = |time: Timestamp| time.to_string();
        Self {
            id: account.id.to_string(),
            email: account.email.as_str(),
            email_verified: account.email_verified,
            username: account.username.as_ref().map(Username::as_str),
            roles: account.roles.names(),
            disabled_at: account.disabled_at.map(text_of),
            created_at: text_of(account.created_at),
            updated_at: text_of(account.updated_at),
            password_changed_at: text_of(account.password_changed_at),
        }
    }
}
