//! `latchkey user emails`: lists the e-mail addresses of an account, and removes a secondary one.

use std::io::{self, Write};

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::{EmailsAction, EmailsArgs, describe_ended_sessions};
use crate::{
    cli::{
        output::{escape, write_json_line},
        prompt,
    },
    domain::account::{Account, Email},
    service::{
        emails::{self, AccountEmail, support},
        initiator::Initiator,
    },
    state::AppState,
};

/// Runs a command about the addresses of an account.
pub(super) async fn run(state: &AppState, account: &Account, args: &EmailsArgs) -> anyhow::Result<()> {
    match &args.action {
        EmailsAction::List { json } => list(state, account, *json).await,
        EmailsAction::Remove { email: text, yes } => {
            let email = Email::parse(text).map_err(|why| anyhow!("{text:?} {why}"))?;
            let (shown, id) = (escape(email.as_str()), account.id);
            prompt::confirm(&format!("Remove {shown} from the account {id}?"), *yes)?;
            let ip = None; // of the request that removes the address: a command has none
            let removed = support::remove(state, id, &email, &Initiator::Operator, ip).await;
            let ended = removed.with_context(|| format!("{text:?}"))?;
            println!("Removed {shown} from the account {id}. {}", describe_ended_sessions(ended));
            Ok(())
        }
    }
}

/// An address as JSON.
#[derive(Serialize)]
struct EmailJson {
    id: String,
    email: String,
    primary: bool,
    verified: bool,
    created_at: String,
}

impl From<AccountEmail> for EmailJson {
    fn from(email: AccountEmail) -> Self {
        Self {
            id: email.id.to_string(),
            email: email.email.as_str().to_owned(),
            primary: email.is_primary,
            verified: email.is_verified,
            created_at: email.created_at.to_string(),
        }
    }
}

async fn list(state: &AppState, account: &Account, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for email in emails::list_of_account(state, account).await?.into_iter().map(EmailJson::from) {
        if json {
            write_json_line(&mut out, &email)?;
        } else {
            let kind = if email.primary { "primary" } else { "secondary" };
            let verified = if email.verified { "" } else { "  (not verified)" };
            writeln!(out, "{kind:<9}  {}{verified}", escape(&email.email))?;
        }
    }
    Ok(out.flush()?)
}
