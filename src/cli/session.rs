//! `latchkey session`: lists and revokes the sessions of an account.

use std::io::{self, Write};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    Global, block_on,
    output::{escape, write_json_line},
    prompt,
    user::{describe_ended_sessions, escaped_identifier, find_account, with_services},
};
use crate::{
    domain::{ids::SessionId, session::Session},
    service::{session_mark, sessions},
    state::AppState,
};

/// Subcommands of `latchkey session`.
#[derive(Clone, Debug, Subcommand)]
pub enum SessionCommand {
    /// List the live sessions of an account, oldest first
    List(ListArgs),
    /// Revoke one session of an account, all of them, or all sessions of all accounts
    Revoke(RevokeArgs),
}

/// Arguments of `latchkey session list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// E-mail address, username or id; id:ID, email:ADDRESS or username:NAME to be explicit
    #[arg(value_name = "ACCOUNT")]
    pub account: String,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `latchkey session revoke`.
#[derive(Args, Clone, Debug)]
pub struct RevokeArgs {
    /// E-mail address, username or id; id:ID, email:ADDRESS or username:NAME to be explicit
    #[arg(value_name = "ACCOUNT", required_unless_present = "everyone")]
    pub account: Option<String>,
    /// Id of the session, as `latchkey session list` prints it
    #[arg(value_name = "SESSION", required_unless_present_any = ["all", "everyone"])]
    pub session: Option<SessionId>,
    /// Revoke all sessions of the account
    #[arg(long, conflicts_with = "session")]
    pub all: bool,
    /// Revoke all sessions of all accounts: everyone must sign in again
    #[arg(long, conflicts_with_all = ["account", "session", "all"])]
    pub everyone: bool,
    /// Do not ask for confirmation of --everyone
    #[arg(long, short, requires = "everyone")]
    pub yes: bool,
}

/// Runs a subcommand of `latchkey session`.
///
/// # Errors
/// If the account or session does not exist, the user does not confirm, or a store is unreachable.
pub fn run(command: &SessionCommand, global: &Global) -> anyhow::Result<()> {
    let config = global.load_existing_config()?;
    // asks before it connects to the stores
    if let SessionCommand::Revoke(RevokeArgs { everyone: true, yes, .. }) = command {
        prompt::confirm("Revoke all sessions of all accounts?", *yes)?;
    }
    block_on(with_services(config, async |state| match command {
        SessionCommand::List(args) => list(state, args).await,
        SessionCommand::Revoke(args) => revoke(state, args).await,
    }))
}

async fn list(state: &AppState, args: &ListArgs) -> anyhow::Result<()> {
    let account = find_account(state, &args.account).await?;
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(out, "{}", row(["SESSION", "CREATED", "LAST USED", "EXPIRES", "ADDRESS", "DEVICE"]))?;
    }
    for session in &sessions::list_for_operator(state, account.id).await? {
        let fields = SessionFields::of(session);
        if args.json {
            write_json_line(&mut out, &fields)?;
        } else {
            let SessionFields { id, created_at, last_used_at, expires_at, .. } = &fields;
            let ip = fields.address.as_deref().unwrap_or("-");
            let device = escape(fields.device.or(fields.user_agent).unwrap_or("-"));
            writeln!(out, "{}", row([id, created_at, last_used_at, expires_at, ip, &device]))?;
        }
    }
    Ok(out.flush()?)
}

async fn revoke(state: &AppState, args: &RevokeArgs) -> anyhow::Result<()> {
    // only `--everyone` has no account, and only `--all` has an account without a session
    let Some(account) = &args.account else {
        let ended = session_mark::end_all(state, "operator").await?;
        println!("Revoked all sessions of all accounts. {}", describe_ended_sessions(ended));
        return Ok(());
    };
    let account = find_account(state, account).await?;
    let Some(session) = args.session else {
        let ended = sessions::revoke_all_by_operator(state, account.id).await?;
        println!("Revoked all sessions of {}. {}", escaped_identifier(&account), describe_ended_sessions(ended));
        return Ok(());
    };
    if !sessions::revoke_by_operator(state, account.id, session).await? {
        bail!("{session}: {} has no such session", escaped_identifier(&account));
    }
    println!("Revoked the session {session} of {}.", escaped_identifier(&account));
    Ok(())
}

/// A line of the table, with padded columns.
fn row([id, created, last_used, expires, ip, device]: [&str; 6]) -> String {
    let row = format!("{id:<36}  {created:<24}  {last_used:<24}  {expires:<24}  {ip:<15}  {device}");
    row.trim_end().to_owned()
}

/// The fields of a session that `latchkey session list` prints, with their names in JSON.
#[derive(Serialize)]
struct SessionFields<'a> {
    id: String,
    created_at: String,
    last_used_at: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_address: Option<String>,
    /// See [`Session::counted_repeats`].
    counted_repeats: u8,
    /// The IP address of the sign-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
}

impl<'a> SessionFields<'a> {
    fn of(session: &'a Session) -> Self {
        Self {
            id: session.id.to_string(),
            created_at: session.created_at.to_string(),
            last_used_at: session.last_used_at.to_string(),
            expires_at: session.expires_at().to_string(),
            last_used_address: session.last_used_ip.map(|ip| ip.to_string()),
            counted_repeats: session.counted_repeats,
            address: session.origin.ip.map(|ip| ip.to_string()),
            user_agent: session.origin.user_agent.as_deref(),
            device: session.origin.device.as_deref(),
        }
    }
}
