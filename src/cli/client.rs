//! `latchkey client`: service clients, from the command line.

use std::{fs, io, io::Write, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Global, block_on, bootstrap::operators_database};
use crate::{
    config::parse_duration,
    crypto::{client_keys::to_jwks, client_secret::ClientSecret},
    domain::{
        client::{Client, ClientId},
        clock::{Clock, Timestamp},
        entropy::Entropy,
    },
    service::clients::{self, GRACE, MAX_GRACE, NewClient},
};

/// Commands about service clients.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Add a service client; prints its secret, which can't be shown again
    Add(AddArgs),
    /// List all service clients
    List(ListArgs),
    /// Let a service client do nothing any more
    Disable(NameArgs),
    /// Give a service client a new secret, and print it; the present one is accepted for a while yet
    RotateSecret(RotateArgs),
}

/// Arguments of `latchkey client add`.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// Its client_id: 1 to 64 ASCII letters, digits, dots, underscores or hyphens
    pub name: String,
    /// A scope that its own tokens may have; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// Whom its own tokens are for and whose tokens it may ask about; may be repeated [default: token.audience]
    #[arg(long = "audience", value_name = "AUDIENCE")]
    pub audiences: Vec<String>,
    /// A file with its public keys, a JWK Set, to authenticate with private_key_jwt
    #[arg(long, value_name = "FILE", conflicts_with = "public_key")]
    pub jwks: Option<PathBuf>,
    /// A file with its public key, PEM or a JWK, to authenticate with private_key_jwt
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
}

/// Arguments of `latchkey client list`.
#[derive(Args, Clone, Copy, Debug)]
pub struct ListArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Which client.
#[derive(Args, Clone, Debug)]
pub struct NameArgs {
    /// Its client_id
    pub name: String,
}

/// Arguments of `latchkey client rotate-secret`.
#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// Its client_id
    pub name: String,
    /// How long the present secret is accepted beside the new one, unless there is another before [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    pub grace: Option<Duration>,
}

fn grace(text: &str) -> Result<Duration, String> {
    let grace = parse_duration(text)?;
    if grace > MAX_GRACE { Err("must be a year at most".to_owned()) } else { Ok(grace) }
}

/// Runs a command about service clients.
///
/// # Errors
/// If the client is unknown, taken or invalid, or the database can't be reached.
pub fn run(command: &ClientCommand, global: &Global) -> anyhow::Result<()> {
    let config = global.start(&Entropy::system())?;
    let (clock, entropy) = (Clock::System, Entropy::system());
    let new = match command {
        ClientCommand::Add(args) => Some(args.read()?),
        _ => None,
    };
    block_on(async {
        let sql = operators_database(&config).await?;
        match command {
            ClientCommand::Add(args) => {
                let added = clients::add(&config.token, &clock, &entropy, &sql, new.unwrap_or_default()).await;
                let (client, secret) = added.with_context(|| args.name.clone())?;
                tell(&client.id, &secret)?;
            }
            ClientCommand::List(args) => list(&clients::list(&sql).await?, args.json, clock.now())?,
            ClientCommand::Disable(args) => {
                clients::disable(&clock, &sql, &args.name).await.with_context(|| args.name.clone())?;
                println!("{} was disabled. Running services know it within seconds.", args.name);
            }
            ClientCommand::RotateSecret(args) => {
                let grace = args.grace.unwrap_or(GRACE);
                let rotated = clients::rotate_secret(&clock, &entropy, &sql, &args.name, grace).await;
                let (id, secret) = rotated.with_context(|| args.name.clone())?;
                tell(&id, &secret)?;
                eprintln!("The secret before is accepted until {}.", clock.now() + grace);
            }
        }
        sql.close().await;
        Ok(())
    })
}

impl AddArgs {
    fn read(&self) -> anyhow::Result<NewClient> {
        let jwks = match self.jwks.as_ref().or(self.public_key.as_ref()) {
            None => None,
            Some(path) => {
                let shown = path.display().to_string();
                let text = fs::read_to_string(path).with_context(|| shown.clone())?;
                Some(to_jwks(&text).with_context(|| shown)?)
            }
        };
        Ok(NewClient { name: self.name.clone(), scopes: self.scopes.clone(), audiences: self.audiences.clone(), jwks })
    }
}

/// Prints a secret, the only time that it is printed. Scripts read these two lines.
fn tell(id: &ClientId, secret: &ClientSecret) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "client_id: {id}\nclient_secret: {}", secret.expose())?;
    out.flush()
}

fn list(clients: &[Client], json: bool, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !json {
        writeln!(
            out,
            "{:<24}  {:<8}  {:<10}  {:<7}  {:<24}  SCOPES",
            "CLIENT", "STATE", "MADE", "SECRETS", "AUDIENCES"
        )?;
    }
    for client in clients {
        let shown = Shown::of(client, now);
        if json {
            serde_json::to_writer(&mut out, &shown).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            let state = if client.is_enabled() { "enabled" } else { "disabled" };
            let date = shown.created_at.split('T').next().unwrap_or_default();
            let (name, audiences, scopes) = (shown.client_id, client.audiences.to_string(), client.scopes.to_string());
            let line = format!("{name:<24}  {state:<8}  {date:<10}  {:<7}  {audiences:<24}  {scopes}", shown.secrets);
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    out.flush()
}

/// A client as a line of JSON. Never its secrets, nor their hashes.
#[derive(Serialize)]
struct Shown<'a> {
    client_id: &'a str,
    scopes: &'a [String],
    audiences: &'a [String],
    /// How many secrets it can authenticate with.
    secrets: u8,
    /// Whether it can authenticate with a key.
    public_keys: bool,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<String>,
}

impl<'a> Shown<'a> {
    fn of(client: &'a Client, now: Timestamp) -> Self {
        let former = client.former_secret.as_ref().is_some_and(|former| now < former.until);
        Self {
            client_id: client.id.as_str(),
            scopes: client.scopes.words(),
            audiences: client.audiences.words(),
            secrets: 1 + u8::from(former),
            public_keys: client.jwks.is_some(),
            created_at: client.created_at.to_string(),
            disabled_at: client.disabled_at.map(|time| time.to_string()),
        }
    }
}
