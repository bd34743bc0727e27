//! `latchkey user metadata`: shows and changes the metadata that operators store about an account.

use anyhow::{Context, anyhow};
use serde_json::{Map, Value};

use super::MetadataArgs;
use crate::{
    domain::{account::Account, profile::Metadata},
    service::{app_metadata::edit_app_metadata, initiator::Initiator},
    state::AppState,
};

/// Applies the options in the order `--replace`, `--add`, `--remove`, and prints the metadata.
pub(super) async fn run(state: &AppState, account: &Account, args: &MetadataArgs) -> anyhow::Result<()> {
    let replacement = args.replace.as_deref().map(parse_object).transpose()?;
    let added = args.add.iter().map(|member| parse_member(member)).collect::<anyhow::Result<Vec<_>>>()?;
    let has_changes = replacement.is_some() || !added.is_empty() || !args.remove.is_empty();
    let profile = if has_changes {
        let edit = |stored: Metadata| {
            let mut members = replacement.unwrap_or_else(|| stored.into_members());
            members.extend(added);
            for name in &args.remove {
                members.remove(name);
            }
            Metadata::new(members)
        };
        edit_app_metadata(state, account.id, &Initiator::Operator, edit).await?
    } else {
        state.sql.profile(account.id).await?
    };
    println!("{}", profile.app_metadata.to_json());
    Ok(())
}

/// Parses a value of `--add`.
fn parse_member(text: &str) -> anyhow::Result<(String, Value)> {
    let (name, json) = text.split_once('=').ok_or_else(|| anyhow!("--add {text:?} must be NAME=JSON"))?;
    let value = serde_json::from_str(json).with_context(|| format!("--add {name}: the value must be JSON"))?;
    Ok((name.to_owned(), value))
}

fn parse_object(json: &str) -> anyhow::Result<Map<String, Value>> {
    serde_json::from_str(json).context("--replace must be a JSON object")
}
