//! `latchkey user metadata`: shows and changes the metadata that operators store about an account.

use anyhow::{Context, anyhow};
use serde_json::{Map, Value};

use super::MetadataArgs;
use crate::{
    domain::{account::Account, profile::Metadata},
    service::{app_metadata::set_app_metadata, initiator::Initiator},
    state::AppState,
};

/// Applies the options in the order `--replace`, `--add`, `--remove`, and prints the metadata.
pub(super) async fn run(state: &AppState, account: &Account, args: &MetadataArgs) -> anyhow::Result<()> {
    let mut profile = state.sql.profile(account.id).await?;
    let has_changes = args.replace.is_some() || !args.add.is_empty() || !args.remove.is_empty();
    if has_changes {
        let mut members = match &args.replace {
            Some(json) => parse_object(json)?,
            None => profile.app_metadata.into_members(),
        };
        for member in &args.add {
            let (name, json) = member.split_once('=').ok_or_else(|| anyhow!("--add {member:?} must be NAME=JSON"))?;
            let value = serde_json::from_str(json).with_context(|| format!("--add {name}: the value must be JSON"))?;
            members.insert(name.to_owned(), value);
        }
        for name in &args.remove {
            members.remove(name);
        }
        let metadata = Metadata::new(members).map_err(|error| anyhow!("the metadata {error}"))?;
        profile = set_app_metadata(state, account.id, metadata, &Initiator::Operator).await?;
    }
    println!("{}", profile.app_metadata.to_json());
    Ok(())
}

fn parse_object(json: &str) -> anyhow::Result<Map<String, Value>> {
    serde_json::from_str(json).context("--replace must be a JSON object")
}
