//! `latchkey user factors`: lists and resets the second factors of an account.

use std::io::{self, Write};

use super::{FactorsAction, FactorsArgs, escaped_identifier};
use crate::{
    cli::{
        output::{escape, write_json_line},
        prompt,
    },
    domain::account::Account,
    service::{
        factors::{self, FactorEntry, reset},
        initiator::Initiator,
        request_origin::RequestOrigin,
    },
    state::AppState,
};

/// Runs a subcommand of `latchkey user factors`.
pub(super) async fn run(state: &AppState, account: &Account, args: &FactorsArgs) -> anyhow::Result<()> {
    let identifier = escaped_identifier(account);
    match &args.action {
        FactorsAction::List { json } => list(state, account, *json).await,
        FactorsAction::Reset { yes } => {
            prompt::confirm(&format!("Remove all second factors of {identifier} (id {})?", account.id), *yes)?;
            // a command has no client, so the mail about the reset names no IP address and no browser
            let no_origin = RequestOrigin::default();
            reset::reset(state, account, &Initiator::Operator, &no_origin).await?;
            println!("Removed all second factors and recovery codes of {identifier}. Its sessions ended.");
            Ok(())
        }
    }
}

/// A factor as JSON.
#[derive(serde::Serialize)]
pub(super) struct FactorJson {
    id: String,
    kind: &'static str,
    label: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
}

impl From<&FactorEntry> for FactorJson {
    fn from(factor: &FactorEntry) -> Self {
        Self {
            id: factor.id.to_string(),
            kind: factor.kind.as_str(),
            label: factor.label.clone(),
            created_at: factor.created_at.to_string(),
            last_used_at: factor.last_used_at.map(|at| at.to_string()),
        }
    }
}

async fn list(state: &AppState, account: &Account, json: bool) -> anyhow::Result<()> {
    let list = factors::list(state, account.id).await?;
    let mut out = io::stdout().lock();
    for factor in list.factors.iter().map(FactorJson::from) {
        if json {
            write_json_line(&mut out, &factor)?;
        } else {
            let last_used = factor.last_used_at.as_deref().unwrap_or("never");
            writeln!(out, "{}  {:<8}  used {last_used}  {}", factor.id, factor.kind, escape(&factor.label))?;
        }
    }
    // each JSON line is a factor
    if !json {
        // `None` if codes by mail are off for all accounts
        if let Some(enabled) = list.email_code {
            writeln!(out, "codes by mail: {}", if enabled { "on" } else { "off" })?;
        }
        writeln!(out, "recovery codes left: {}", list.recovery_codes)?;
    }
    Ok(out.flush()?)
}
