//! `latchkey client`: manages clients, which are services, and apps that sign users in.

mod dynamic;

use std::{fs, io, io::Write, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::{Global, block_on, bootstrap::open_existing_database, output::write_json_line, prompt};
use crate::{
    config::{SettingOrigin, inspect, parse_duration},
    crypto::{client_keys::to_jwks, client_secret::ClientSecret},
    domain::{
        app_client::{AppSettings, ClientAuthMethod, ClientKind, GrantType},
        client::{Client, ClientId},
        clock::{Clock, Timestamp},
        entropy::Entropy,
    },
    service::clients::{self, GRACE, MAX_GRACE, NewClient},
};

/// Subcommands of `latchkey client`.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Add a client; prints its secret, which cannot be shown again, and the addresses that an app needs
    Add(Box<AddArgs>),
    /// List all clients
    List(ListArgs),
    /// Show a client
    Show(ShowArgs),
    /// Disable a client; `latchkey client enable` undoes it
    Disable(NameArgs),
    /// Enable a disabled client; its secrets are valid again
    Enable(NameArgs),
    /// Delete a client permanently; its name can be used again
    Delete(DeleteArgs),
    /// Print a new secret for a client; the old secret stays valid for --grace
    RotateSecret(RotateArgs),
}

/// Arguments of `latchkey client add`.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// client_id: 1 to 64 ASCII letters, digits, dots, underscores or hyphens
    pub name: String,
    /// service: introspects tokens, and gets tokens of its own; web: an app whose server keeps a secret; public: an app
    /// without a secret
    #[arg(long, value_enum, default_value_t, hide_default_value = false)]
    pub kind: KindArg,
    /// Scope that the client's tokens may have (repeatable) [default for apps: openid profile email offline_access]
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// Audience of the client's tokens; for a service, also of the tokens that it may introspect (repeatable) [default for
    /// services: token.audience]
    #[arg(long = "audience", value_name = "AUDIENCE")]
    pub audiences: Vec<String>,
    /// Address to which an app's users return after sign-in, compared character for character (repeatable)
    #[arg(long = "redirect-uri", value_name = "URI")]
    pub redirect_uris: Vec<String>,
    /// Address to which an app's users return after sign-out (repeatable)
    #[arg(long = "post-logout-redirect-uri", value_name = "URI")]
    pub post_logout_redirect_uris: Vec<String>,
    /// Name that the pages show [default: the client_id]
    #[arg(long, value_name = "NAME")]
    pub display_name: Option<String>,
    /// Ask users for their consent before their first sign-in to the app
    #[arg(long)]
    pub consent: bool,
    /// Accept requests without PKCE, for a program that does not support it
    #[arg(long)]
    pub without_pkce: bool,
    /// The only accepted authentication method [default: any for which the client has credentials]
    #[arg(long, value_enum, value_name = "METHOD")]
    pub auth_method: Option<AuthMethodArg>,
    /// Grant that the client may exchange for tokens (repeatable) [default: those of its kind]
    #[arg(long = "grant-type", value_enum, value_name = "GRANT")]
    pub grant_types: Vec<GrantArg>,
    /// Address of a logo for the pages
    #[arg(long, value_name = "URI")]
    pub logo_uri: Option<String>,
    /// Address of the app's home page
    #[arg(long, value_name = "URI")]
    pub client_uri: Option<String>,
    /// Address of the app's privacy policy
    #[arg(long, value_name = "URI")]
    pub policy_uri: Option<String>,
    /// Address of the app's terms of service
    #[arg(long, value_name = "URI")]
    pub tos_uri: Option<String>,
    /// Address at which an app starts a sign-in; the account page opens the app there (OpenID Connect Core, section 4)
    #[arg(long, value_name = "URI")]
    pub initiate_login_uri: Option<String>,
    /// File with the client's public keys (JWK Set), to authenticate with private_key_jwt
    #[arg(long, value_name = "FILE", conflicts_with = "public_key")]
    pub jwks: Option<PathBuf>,
    /// File with the client's public key (PEM or JWK), to authenticate with private_key_jwt
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,
}

/// The kind of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// Introspects tokens, and has tokens of its own
    #[default]
    Service,
    /// An app whose server keeps a secret
    Web,
    /// An app without a secret: in a browser, on a phone, on a command line
    Public,
}

impl From<KindArg> for ClientKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Service => Self::Service,
            KindArg::Web => Self::Web,
            KindArg::Public => Self::Public,
        }
    }
}

/// How a client authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum AuthMethodArg {
    /// The secret, with HTTP Basic
    ClientSecretBasic,
    /// The secret, in the form
    ClientSecretPost,
    /// A JWT that is signed with the client's key
    PrivateKeyJwt,
}

impl From<AuthMethodArg> for ClientAuthMethod {
    fn from(method: AuthMethodArg) -> Self {
        match method {
            AuthMethodArg::ClientSecretBasic => Self::SecretBasic,
            AuthMethodArg::ClientSecretPost => Self::SecretPost,
            AuthMethodArg::PrivateKeyJwt => Self::PrivateKeyJwt,
        }
    }
}

/// A grant that a client may exchange for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum GrantArg {
    /// An authorization code
    AuthorizationCode,
    /// A refresh token
    RefreshToken,
    /// Credentials of the client
    ClientCredentials,
}

impl From<GrantArg> for GrantType {
    fn from(grant: GrantArg) -> Self {
        match grant {
            GrantArg::AuthorizationCode => Self::AuthorizationCode,
            GrantArg::RefreshToken => Self::RefreshToken,
            GrantArg::ClientCredentials => Self::ClientCredentials,
        }
    }
}

/// Arguments of `latchkey client list`.
#[derive(Args, Clone, Copy, Debug)]
pub struct ListArgs {
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// List the apps that no operator has registered and that an account has allowed
    #[arg(long)]
    pub dynamic: bool,
}

/// The client that a command is about.
#[derive(Args, Clone, Debug)]
pub struct NameArgs {
    /// client_id of the client
    pub name: String,
}

/// Arguments of `latchkey client show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// client_id of the client
    pub name: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `latchkey client delete`.
#[derive(Args, Clone, Debug)]
pub struct DeleteArgs {
    /// client_id of the client
    pub name: String,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub yes: bool,
}

/// Arguments of `latchkey client rotate-secret`.
#[derive(Args, Clone, Debug)]
pub struct RotateArgs {
    /// client_id of the client
    pub name: String,
    /// How long the old secret stays valid, unless the secret is rotated again before [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = parse_grace)]
    pub grace: Option<Duration>,
}

fn parse_grace(text: &str) -> Result<Duration, String> {
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
    let new_client = match command {
        ClientCommand::Add(args) => Some(args.to_new_client()?),
        _ => None,
    };
    block_on(async {
        let sql = open_existing_database(&config).await?;
        match command {
            ClientCommand::Add(args) => {
                let added = clients::add(&config.token, &clock, &entropy, &sql, new_client.unwrap_or_default()).await;
                let (client, secret) = added.with_context(|| format!("{:?}", args.name))?;
                if client.kind == ClientKind::Public {
                    println!("client_id: {}", client.id);
                } else {
                    print_secret(&client.id, &secret)?;
                }
                if !client.is_service() {
                    print_addresses(&config.issuer, &client);
                    print_issuer_origin(&issuer_origin(global)?);
                }
            }
            ClientCommand::List(args) if args.dynamic => dynamic::list(&clients::list_dynamic(&sql).await?, args.json)?,
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
                prompt::confirm(&format!("Delete the client {} permanently?", args.name), args.yes)?;
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
    fn to_new_client(&self) -> anyhow::Result<NewClient> {
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
            kind: self.kind.into(),
            scopes: self.scopes.clone(),
            audiences: self.audiences.clone(),
            jwks,
            app: AppSettings {
                name: self.display_name.clone(),
                redirect_uris: self.redirect_uris.clone(),
                post_logout_redirect_uris: self.post_logout_redirect_uris.clone(),
                grant_types: self.grant_types.iter().copied().map(GrantType::from).collect(),
                auth_method: self.auth_method.map(ClientAuthMethod::from),
                asks_consent: self.consent,
                without_pkce: self.without_pkce,
                logo_uri: self.logo_uri.clone(),
                client_uri: self.client_uri.clone(),
                policy_uri: self.policy_uri.clone(),
                tos_uri: self.tos_uri.clone(),
                initiate_login_uri: self.initiate_login_uri.clone(),
            },
        })
    }
}

/// Prints the values that most apps need in their settings.
fn print_addresses(issuer: &str, client: &Client) {
    println!("issuer: {issuer}");
    println!("discovery: {issuer}/.well-known/openid-configuration");
    println!("authorization_endpoint: {issuer}/oauth2/authorize");
    println!("token_endpoint: {issuer}/oauth2/token");
    println!("userinfo_endpoint: {issuer}/oauth2/userinfo");
    println!("end_session_endpoint: {issuer}/oauth2/logout");
    println!("jwks_uri: {issuer}/.well-known/jwks.json");
    println!("scopes: {}", client.scopes);
    println!("redirect_uris: {}", client.app.redirect_uris.join(" "));
    if !client.app.without_pkce {
        eprintln!("Turn on PKCE (S256) in the app. docs/openid-connect.md has the settings of known programs.");
    }
}

/// Where the issuer in this command's configuration is set. The running service may have another issuer: this command does not know its
/// configuration.
fn issuer_origin(global: &Global) -> anyhow::Result<SettingOrigin> {
    let (settings, _warnings) = inspect(&global.sources()?)?;
    Ok(settings
        .into_iter()
        .find(|setting| setting.key == "issuer")
        .map_or(SettingOrigin::Default, |setting| setting.origin))
}

/// Prints where the issuer of the printed addresses comes from.
fn print_issuer_origin(origin: &SettingOrigin) {
    let origin = match origin {
        SettingOrigin::Default => "not set, derived from listen".to_owned(),
        origin => origin.to_string(),
    };
    eprintln!(
        "The issuer is from the configuration of this command ({origin}). If the service runs with another one, use the issuer \
         that its log names at the start."
    );
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
            "CLIENT", "STATE", "CREATED", "KIND", "AUDIENCES"
        )?;
    }
    for client in clients {
        let shown = ClientJson::of(client, now);
        if json {
            write_json_line(&mut out, &shown)?;
        } else {
            let date = shown.created_at.split('T').next().unwrap_or_default();
            let (name, state) = (shown.client_id, state(client));
            let (audiences, scopes) = (client.audiences.to_string(), client.scopes.to_string());
            let line = format!("{name:<24}  {state:<8}  {date:<10}  {:<7}  {audiences:<24}  {scopes}", shown.kind);
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    out.flush()
}

fn show(client: &Client, json: bool, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let shown = ClientJson::of(client, now);
    if json {
        return write_json_line(&mut out, &shown);
    }
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let old_secret = client.former_secret.as_ref().filter(|former| now < former.until);
    let app = &client.app;
    let grants: Vec<_> = app.grant_types.iter().map(|grant| grant.as_str()).collect();
    for (name, value) in [
        ("client_id", shown.client_id.to_owned()),
        ("kind", shown.kind.to_owned()),
        ("name", app.name.clone().unwrap_or_else(|| "-".to_owned())),
        ("redirects", or_dash(app.redirect_uris.join(" "))),
        ("sign-out", or_dash(app.post_logout_redirect_uris.join(" "))),
        ("opened at", app.initiate_login_uri.clone().unwrap_or_else(|| "-".to_owned())),
        ("grants", or_dash(grants.join(" "))),
        ("consent", if app.asks_consent { "asked" } else { "not asked" }.to_owned()),
        ("PKCE", if app.without_pkce { "may be left out" } else { "required" }.to_owned()),
        ("auth method", app.auth_method.map_or_else(|| "any".to_owned(), |method| method.as_str().to_owned())),
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
    /// `service`, `web` or `public`.
    kind: &'static str,
    /// The name that the pages show.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    redirect_uris: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    post_logout_redirect_uris: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    initiate_login_uri: Option<&'a str>,
    grant_types: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_method: Option<&'static str>,
    consent: bool,
    scopes: &'a [String],
    audiences: &'a [String],
    /// Number of secrets with which the client can authenticate.
    secrets: u8,
    /// Whether the client can authenticate with a key.
    public_keys: bool,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<String>,
}

impl<'a> ClientJson<'a> {
    fn of(client: &'a Client, now: Timestamp) -> Self {
        let has_former_secret = client.former_secret.as_ref().is_some_and(|former| now < former.until);
        let accepts_secret =
            client.accepts(ClientAuthMethod::SecretBasic) || client.accepts(ClientAuthMethod::SecretPost);
        Self {
            client_id: client.id.as_str(),
            kind: client.kind.as_str(),
            name: client.app.name.as_deref(),
            redirect_uris: &client.app.redirect_uris,
            post_logout_redirect_uris: &client.app.post_logout_redirect_uris,
            initiate_login_uri: client.app.initiate_login_uri.as_deref(),
            grant_types: client.app.grant_types.iter().map(|grant| grant.as_str()).collect(),
            auth_method: client.app.auth_method.map(ClientAuthMethod::as_str),
            consent: client.app.asks_consent,
            scopes: client.scopes.items(),
            audiences: client.audiences.items(),
            secrets: if accepts_secret { 1 + u8::from(has_former_secret) } else { 0 },
            public_keys: client.jwks.is_some() && client.accepts(ClientAuthMethod::PrivateKeyJwt),
            created_at: client.created_at.to_string(),
            disabled_at: client.disabled_at.map(|time| time.to_string()),
        }
    }
}
