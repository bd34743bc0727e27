//! Output of `latchkey client`: text for operators, and JSON lines with `--json`.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    cli::output::write_json_line,
    config::SettingOrigin,
    crypto::client_secret::ClientSecret,
    domain::{
        app_client::ClientAuthMethod,
        client::{Client, ClientId},
        clock::Timestamp,
    },
};

/// Prints the values that most apps need in their settings.
pub(super) fn print_addresses(issuer: &str, client: &Client) {
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
        // A hint for operators goes to standard error: scripts parse standard output.
        eprintln!("Turn on PKCE (S256) in the app. docs/openid-connect.md has the settings of known programs.");
    }
}

/// Prints where the issuer of the printed addresses comes from.
pub(super) fn print_issuer_origin(origin: &SettingOrigin) {
    let origin_text = match origin {
        SettingOrigin::Default => "not set, derived from listen".to_owned(),
        _ => origin.to_string(),
    };
    eprintln!(
        "The issuer is from the configuration of this command ({origin_text}). If the service runs with another issuer, use the one \
         that its log names at the start."
    );
}

/// Prints a secret, which is shown only once. Scripts parse these two lines.
pub(super) fn print_secret(id: &ClientId, secret: &ClientSecret) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "client_id: {id}\nclient_secret: {}", secret.expose())?;
    out.flush()
}

/// Prints one line for each client: a column for each field, or JSON.
pub(super) fn print_clients(clients: &[Client], json: bool, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !json {
        writeln!(
            out,
            "{:<24}  {:<8}  {:<10}  {:<7}  {:<24}  SCOPES",
            "CLIENT", "STATE", "CREATED", "KIND", "AUDIENCES"
        )?;
    }
    for client in clients {
        if json {
            write_json_line(&mut out, &ClientJson::of(client, now))?;
        } else {
            let created_at = client.created_at.to_string();
            let date = created_at.split('T').next().unwrap_or_default();
            let (id, state, kind) = (client.id.as_str(), state_name(client), client.kind.as_str());
            let (audiences, scopes) = (client.audiences.to_string(), client.scopes.to_string());
            let line = format!("{id:<24}  {state:<8}  {date:<10}  {kind:<7}  {audiences:<24}  {scopes}");
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    out.flush()
}

/// Prints all fields of a client: one line for each field, or one line of JSON.
pub(super) fn print_client(client: &Client, json: bool, now: Timestamp) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let fields = ClientJson::of(client, now);
    if json {
        return write_json_line(&mut out, &fields);
    }
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let former_secret = client.former_secret.as_ref().filter(|former| now < former.until);
    let app = &client.app;
    let grants: Vec<_> = app.grant_types.iter().map(|grant| grant.as_str()).collect();
    for (name, value) in [
        ("client_id", fields.client_id.to_owned()),
        ("kind", fields.kind.to_owned()),
        ("name", or_dash(app.name.clone().unwrap_or_default())),
        ("redirects", or_dash(app.redirect_uris.join(" "))),
        ("sign-out", or_dash(app.post_logout_redirect_uris.join(" "))),
        ("opened at", or_dash(app.initiate_login_uri.clone().unwrap_or_default())),
        ("grants", or_dash(grants.join(" "))),
        ("consent", if app.asks_consent { "asked" } else { "not asked" }.to_owned()),
        ("PKCE", if app.without_pkce { "may be left out" } else { "required" }.to_owned()),
        ("auth method", app.auth_method.map_or_else(|| "any".to_owned(), |method| method.as_str().to_owned())),
        ("state", client.disabled_at.map_or_else(|| "enabled".to_owned(), |at| format!("disabled since {at}"))),
        ("scopes", or_dash(client.scopes.to_string())),
        ("audiences", or_dash(client.audiences.to_string())),
        ("old secret", former_secret.map_or_else(|| "-".to_owned(), |former| format!("valid until {}", former.until))),
        ("public keys", if fields.public_keys { "yes" } else { "no" }.to_owned()),
        ("created", fields.created_at.clone()),
    ] {
        writeln!(out, "{name:<12} {value}")?;
    }
    out.flush()
}

fn state_name(client: &Client) -> &'static str {
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
    /// Whether users consent before their first sign-in.
    consent: bool,
    scopes: &'a [String],
    audiences: &'a [String],
    /// The number of secrets with which the client can authenticate: the current one and, in its grace period, the previous one.
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
