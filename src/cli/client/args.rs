//! Arguments of the subcommands of `latchkey client`.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    config::parse_duration,
    crypto::client_keys::to_jwks,
    domain::app_client::{AppSettings, ClientAuthMethod, ClientKind, GrantType},
    service::clients::{MAX_GRACE, NewClient},
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
    /// The secret, in the body of the request
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

/// Parses `--grace`, up to [`MAX_GRACE`].
fn parse_grace(text: &str) -> Result<Duration, String> {
    let grace = parse_duration(text)?;
    if grace > MAX_GRACE { Err("must be at most a year".to_owned()) } else { Ok(grace) }
}

impl AddArgs {
    /// The client to add. Reads the file of `--jwks` or `--public-key`.
    pub(super) fn to_new_client(&self) -> anyhow::Result<NewClient> {
        // `to_jwks` recognizes both formats, and clap refuses both options together.
        let jwks = match self.jwks.as_ref().or(self.public_key.as_ref()) {
            None => None,
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
                Some(to_jwks(&text).with_context(|| path.display().to_string())?)
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
