//! `latchkey client`: manages service clients.

use std::{fs, io, io::Write, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Global, block_on, bootstrap::open_existing_database, output::json_line, prompt};
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

/// Subcommands of `latchkey client`.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Add a service client and print its secret, which cannot be shown again
    Add(AddArgs),
    /// List all service clients
    List(ListArgs),
    /// Show a service client
    Show(ShowArgs),
    /// Disable a service client; `latchkey client enable` undoes it
    Disable(NameArgs),
    /// Enable a disabled service client, with the secrets it had
    Enable(NameArgs),
    /// Delete a service client permanently; its name becomes free
    Delete(DeleteArgs),
    /// Print a new secret for a service client; the old secret stays valid for --grace
    RotateSecret(RotateArgs),
}

/// Arguments of `latchkey client add`.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// client_id: 1 to 64 ASCII letters, digits, dots, underscores or hyphens
    pub name: String,
    /// Scope that its own tokens may have (repeatable)
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// Audience of its own tokens, and of the tokens it may introspect (repeatable) [default: token.audience]
    #[arg(long = "audience", value_name = "AUDIENCE")]
    pub audiences: Vec<String>,
    /// File with its public keys (JWK Set), to authenticate with private_key_jwt
    #[arg(long, value_name = "FILE", conflicts_with = "public_key")]
    pub jwks: Option<PathBuf>,
    /// File with its public key (PEM or JWK), to authenticate with private_key_jwt
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
}

/// Arguments of `latchkey client list`.
#[derive(Args, Clone, Copy, Debug)]
pub struct ListArgs {
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// The client that a command is about.
#[derive(Args, Clone, Debug)]
pub struct NameArgs {
    /// client_id of the service client
    pub name: String,
}

/// Arguments of `latchkey client show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// client_id of the service client
    pub name: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `latchkey client delete`.
#[derive(Args, Clone, Debug)]
pub struct DeleteArgs {
    /// client_id of the service client
    pub name: String,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub yes: bool,
}

/// Arguments of `latchkey client rotate-secret`.
#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// client_id of the service client
    pub name: String,
    /// How long the old secret stays valid, unless the secret is rotated again before [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    pub grace: Option<Duration>,
}

fn grace(text: &str) -> Result<Duration, String> {
    let grace = parse_duration(text)?;
    if grace > MAX_GRACE { Err("must be at most a year".to_owned()) } else { Ok(grace) }
}

/// Runs a subcommand of `latchkey client`.
///
/// # Errors
/// If the client does not exist, the name is taken, an argument is invalid, or the database is unreachable.
pub fn run(command: &ClientCommand, global: &Global) -> anyhow::Result<()> {
    let config = global.start_existing()?;
    let (clock, entropy) = (Clock::System, Entropy::system());
    let new = match command {
        ClientCommand::Add(args) => Some(args.read()?),
        _ => None,
    };
    block_on(async {
        let sql = open_existing_database(&config).await?;
        match command {
            ClientCommand::Add(args) => {
                let added = clients::add(&config.token, &clock, &entropy, &sql, new.unwrap_or_default()).await;
                let (client, secret) = added.with_context(|| format!("{:?}", args.name))?;
                print_secret(&client.id, &secret)?;
            }
            ClientCommand::List(args) => list(&clients::list(&sql).await?, args.json, clock.now())?,
            ClientCommand::Show(args) => {
                let client = clients::show(&sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                show(&client, args.json, clock.now())?;
            }
            ClientCommand::Disable(args) => {
                clients::disable(&clock, &sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                println!("Disabled {}. Running nodes apply this within seconds.", args.name);
            }
            ClientCommand::Enable(args) => {
                clients::enable(&clock, &sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                println!("Enabled {}. Running nodes apply this within seconds.", args.name);
            }
            ClientCommand::Delete(args) => {
                clients::show(&sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                prompt::confirm(&format!("Delete the service client {} permanently?", args.name), args.yes)?;
                clients::delete(&clock, &sql, &args.name).await.with_context(|| format!("{:?}", args.name))?;
                println!("Deleted {}. Running nodes apply this within seconds.", args.name);
            }
            ClientCommand::RotateSecret(args) => {
                let grace = args.grace.unwrap_or(GRACE);
                let rotated = clients::rotate_secret(&clock, &entropy, &sql, &args.name, grace).await;
                let (id, secret) = rotated.with_context(|| format!("{:?}", args.name))?;
                print_secret(&id, &secret)?;
                eprintln!("The old secret stays valid until {}.", clock.now() + grace);
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
        Ok(NewClient {
            name: self.name.clone(),
            scopes: self.scopes.clone(),
            audiences: self.audiences.clone(),
            jwks,
            ..NewClient::default()
        })
    }
}

/// Prints a secret, which is shown only once. Scripts parse these two lines.
fn print_secret(id: &ClientId, secret: &ClientSecret) -> io::Result<()> {
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
            "CLIENT", "STATE", "CREATED", "SECRETS", "AUDIENCES"
        )?;
    }
    for client in clients {
        let shown = ClientJson::of(client, now);
        if json {
            json_line(&mut out, &shown)?;
        } else {
            let date = shown.created_at.split('T').next().unwrap_or_default();
            let (name, state) = (shown.client_id, state(client));
            let (audiences, scopes) = (client.audiences.to_string(), client.scopes.to_string());
            let line = format!("{name:<24}  {state:<8}  {date:<10}  {:<7}  {audiences:<24}  {scopes}", shown.secrets);
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    out.flush()
}

fn show(client: &Client, json: bool, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let shown = ClientJson::of(client, now);
    if json {
        return json_line(&mut out, &shown);
    }
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let old_secret = client.former_secret.as_ref().filter(|former| now < former.until);
    for (name, value) in [
        ("client_id", shown.client_id.to_owned()),
        ("state", client.disabled_at.map_or_else(|| "enabled".to_owned(), |at| format!("disabled since {at}"))),
        ("scopes", or_dash(client.scopes.to_string())),
        ("audiences", or_dash(client.audiences.to_string())),
        ("old secret", old_secret.map_or_else(|| "-".to_owned(), |former| format!("valid until {}", former.until))),
        ("public keys", if shown.public_keys { "yes" } else { "no" }.to_owned()),
        ("created", shown.created_at.clone()),
    ] {
        writeln!(out, "{name:<12} {value}")?;
    }
    out.flush()
}

fn state(client: &Client) -> &'static str {
    if client.is_enabled() { "enabled" } else { "disabled" }
}

/// A client as JSON, without its secrets and their hashes.
#[derive(Serialize)]
struct ClientJson<'a> {
    client_id: &'a str,
    scopes: &'a [String],
    audiences: &'a [String],
    /// Number of secrets that it can authenticate with.
    secrets: u8,
    /// Whether it can authenticate with a key.
    public_keys: bool,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<String>,
}

impl<'a> ClientJson<'a> {
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
