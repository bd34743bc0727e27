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

/// Runs `latchkey user emails list` or `latchkey user emails remove`.
pub(super) async fn run(state: &AppState, account: &Account, args: &EmailsArgs) -> anyhow::Result<()> {
    match &args.action {
        EmailsAction::List { json } => list(state, account, *json).await,
        EmailsAction::Remove { email: text, yes } => {
            let email = Email::parse(text).map_err(|why| anyhow!("{text:?} {why}"))?;
            let id = account.id;
            let printable = escape(email.as_str());
            prompt::confirm(&format!("Remove {printable} from the account {id}?"), *yes)?;
            let ip = None; // a command has no client
            let removed = support::remove(state, id, &email, &Initiator::Operator, ip).await;
            let ended_sessions = removed.with_context(|| format!("{text:?}"))?;
            println!("Removed {printable} from the account {id}. {}", describe_ended_sessions(ended_sessions));
            Ok(())
        }
    }
}

/// An address as `--json` prints it.
#[derive(Serialize)]
struct EmailJson {
    id: String,
    email: String,
    primary: bool,
    verified: bool,
    created_at: String,
}

impl From<AccountEmail> for EmailJson {
    fn from(address: AccountEmail) -> Self {
        Self {
            id: address.id.to_string(),
            email: address.email.as_str().to_owned(),
            primary: address.is_primary,
            verified: address.is_verified,
            created_at: address.created_at.to_string(),
        }
    }
}

/// Prints the addresses of an account, the primary one first, one a line.
async fn list(state: &AppState, account: &Account, json: bool) -> anyhow::Result<()> {
    let addresses = emails::list_of_account(state, account).await?;
    let mut out = io::stdout().lock();
    for address in addresses {
        if json {
            write_json_line(&mut out, &EmailJson::from(address))?;
        } else {
            let kind = if address.is_primary { "primary" } else { "secondary" };
            let note = if address.is_verified { "" } else { "  (not verified)" };
            writeln!(out, "{kind:<9}  {}{note}", escape(address.email.as_str()))?;
        }
    }
    Ok(out.flush()?)
}
