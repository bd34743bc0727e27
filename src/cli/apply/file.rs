//! The file of `latchkey apply`: its tables, and the secrets that it refers to. Unknown keys are refused by name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;

use crate::{
    cli::prompt::without_line_end,
    config::TokenSettings,
    crypto::{client_keys::to_jwks, client_secret},
    domain::{
        account::{Email, Roles, Username},
        app_client::{AppSettings, ClientAuthMethod, ClientKind, GrantType},
        client::ClientSecretHash,
        secret::SecretText,
    },
    service::{
        clients::NewClient,
        set_up::{AccountSpec, ClientSpec},
    },
};

/// The minimum length of a client's secret, in bytes. The secret is hashed fast and without salt, so it must be too long to guess.
const MIN_SECRET_BYTES: usize = 32;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetupFile {
    #[serde(default)]
    client: Vec<ClientTable>,
    #[serde(default)]
    user: Vec<UserTable>,
}

/// `[[client]]`: a client. docs/operations.md describes the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientTable {
    name: String,
    kind: Option<String>,
    display_name: Option<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    post_logout_redirect_uris: Vec<String>,
    #[serde(default)]
    grant_types: Vec<String>,
    auth_method: Option<String>,
    #[serde(default)]
    consent: bool,
    #[serde(default)]
    without_pkce: bool,
    logo_uri: Option<String>,
    client_uri: Option<String>,
    policy_uri: Option<String>,
    tos_uri: Option<String>,
    initiate_login_uri: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    audiences: Vec<String>,
    jwks_file: Option<PathBuf>,
    public_key_file: Option<PathBuf>,
    secret_file: Option<PathBuf>,
    secret_sha256: Option<String>,
    disabled: Option<bool>,
}

/// `[[user]]`: an account. docs/operations.md describes the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserTable {
    email: String,
    username: Option<String>,
    roles: Option<Vec<String>>,
    password_file: Option<PathBuf>,
    #[serde(default)]
    invite: bool,
}

/// A declared client, and the file for a generated secret.
#[derive(Debug)]
pub(super) struct DeclaredClient {
    pub(super) spec: ClientSpec,
    /// The path in `secret_file`, if that file does not exist yet.
    pub(super) new_secret_file: Option<PathBuf>,
}

/// A declared account, and the source of its first password.
#[derive(Debug)]
pub(super) struct DeclaredAccount {
    pub(super) spec: AccountSpec,
    pub(super) first_password: FirstPassword,
}

/// The password of a new account.
#[derive(Clone, Debug)]
pub(super) enum FirstPassword {
    /// The content of a file.
    File(PathBuf),
    /// The owner sets it, with a link from a mail.
    Invitation,
    /// Not declared: the account must exist.
    None,
}

impl FirstPassword {
    /// Reads the password from its file, without a final line end.
    pub(super) fn read(path: &Path) -> anyhow::Result<SecretText> {
        Ok(read_without_line_end(path)?.as_str().into())
    }
}

/// The declared clients and accounts.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) clients: Vec<DeclaredClient>,
    pub(super) accounts: Vec<DeclaredAccount>,
}

/// Reads the file and the files that it names; relative paths start at the file's folder.
pub(super) fn load(path: &Path, settings: &TokenSettings) -> anyhow::Result<Declared> {
    let file_name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| file_name.clone())?;
    // The message leaves out toml's excerpt of the file, which may have a secret that was typed into the wrong place.
    let file: SetupFile = toml::from_str(&text).map_err(|error| match line_of(&error, &text) {
        Some(line) => anyhow!("{file_name}, line {line}: {}", error.message()),
        None => anyhow!("{file_name}: {}", error.message()),
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut clients = Vec::<DeclaredClient>::new();
    let mut accounts = Vec::<DeclaredAccount>::new();
    for table in &file.client {
        let client =
            table.to_declared(folder, settings).with_context(|| format!("{file_name}: client {:?}", table.name))?;
        if clients.iter().any(|other| other.spec.id == client.spec.id) {
            bail!("{file_name}: client {:?} is declared twice", table.name);
        }
        clients.push(client);
    }
    for table in &file.user {
        let account = table.to_declared(folder).with_context(|| format!("{file_name}: user {:?}", table.email))?;
        if accounts.iter().any(|other| other.spec.email.key() == account.spec.email.key()) {
            bail!("{file_name}: user {:?} is declared twice", table.email);
        }
        accounts.push(account);
    }
    Ok(Declared { clients, accounts })
}

/// The number of the line at which `error` begins; none for an error without a position.
fn line_of(error: &toml::de::Error, text: &str) -> Option<usize> {
    let before = text.get(..error.span()?.start)?;
    Some(before.matches('\n').count() + 1)
}

impl ClientTable {
    fn to_declared(&self, folder: &Path, settings: &TokenSettings) -> anyhow::Result<DeclaredClient> {
        let jwks = match (&self.jwks_file, &self.public_key_file) {
            (Some(_), Some(_)) => bail!("jwks_file and public_key_file exclude each other"),
            (None, None) => None,
            (Some(path), None) | (None, Some(path)) => {
                let path = folder.join(path);
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                Some(to_jwks(&text).with_context(|| path.display().to_string())?)
            }
        };
        let mut spec = ClientSpec::parse(settings, self.new_client(jwks)?)?;
        spec.disabled = self.disabled;
        if spec.kind == ClientKind::Public && (self.secret_file.is_some() || self.secret_sha256.is_some()) {
            bail!("a public client has no secret: remove secret_file and secret_sha256, or declare kind = \"web\"");
        }
        let (secret, new_secret_file) = match (&self.secret_file, &self.secret_sha256) {
            (Some(_), Some(_)) => bail!("secret_file and secret_sha256 exclude each other"),
            (None, None) => (None, None),
            (None, Some(hash)) => (Some(parse_hash(hash)?), None),
            (Some(path), None) => {
                let path = folder.join(path);
                if path.try_exists().with_context(|| path.display().to_string())? {
                    (Some(hash_secret_file(&path)?), None)
                } else {
                    (None, Some(path))
                }
            }
        };
        spec.secret = secret;
        Ok(DeclaredClient { spec, new_secret_file })
    }

    /// The client, without its secret.
    fn new_client(&self, jwks: Option<String>) -> anyhow::Result<NewClient> {
        let kind = match &self.kind {
            None => ClientKind::default(),
            Some(text) => ClientKind::parse(text).ok_or_else(|| anyhow!("kind must be service, web or public"))?,
        };
        let grant = |text: &String| {
            GrantType::parse(text)
                .ok_or_else(|| anyhow!("grant_types must hold authorization_code, refresh_token or client_credentials"))
        };
        let auth_method = self.auth_method.as_deref().map(|text| {
            let invalid = || anyhow!("auth_method must be client_secret_basic, client_secret_post or private_key_jwt");
            // a client that does not authenticate is declared with `kind = "public"` instead
            ClientAuthMethod::parse(text).filter(|method| *method != ClientAuthMethod::None).ok_or_else(invalid)
        });
        Ok(NewClient {
            name: self.name.clone(),
            scopes: self.scopes.clone(),
            audiences: self.audiences.clone(),
            jwks,
            kind,
            app: AppSettings {
                name: self.display_name.clone(),
                redirect_uris: self.redirect_uris.clone(),
                post_logout_redirect_uris: self.post_logout_redirect_uris.clone(),
                grant_types: self.grant_types.iter().map(grant).collect::<Result<_, _>>()?,
                auth_method: auth_method.transpose()?,
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

impl UserTable {
    fn to_declared(&self, folder: &Path) -> anyhow::Result<DeclaredAccount> {
        let first_password = match (&self.password_file, self.invite) {
            (Some(_), true) => bail!("password_file and invite exclude each other"),
            (Some(path), false) => FirstPassword::File(folder.join(path)),
            (None, true) => FirstPassword::Invitation,
            (None, false) => FirstPassword::None,
        };
        let email = Email::parse(&self.email).map_err(|why| anyhow!("email {why}"))?;
        let username =
            self.username.as_deref().map(Username::parse).transpose().map_err(|why| anyhow!("username {why}"))?;
        let roles = self.roles.as_ref().map(Roles::parse).transpose().map_err(|why| anyhow!("roles {why}"))?;
        Ok(DeclaredAccount { spec: AccountSpec { email, username, roles }, first_password })
    }
}

/// Parses the value of `secret_sha256`.
fn parse_hash(text: &str) -> anyhow::Result<ClientSecretHash> {
    let invalid = || anyhow!("secret_sha256 must be 64 hexadecimal digits: printf %s \"$SECRET\" | sha256sum");
    // checked first, since `from_str_radix` also accepts a sign
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(invalid());
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| invalid())?;
    }
    Ok(ClientSecretHash::new(bytes))
}

/// The hash of the secret in an existing `secret_file`.
fn hash_secret_file(path: &Path) -> anyhow::Result<ClientSecretHash> {
    let secret = read_without_line_end(path)?;
    if secret.len() < MIN_SECRET_BYTES {
        bail!(
            "the secret in {} is shorter than {MIN_SECRET_BYTES} bytes: make one with `openssl rand -base64 32`, or remove the \
             file to have one generated",
            path.display()
        );
    }
    Ok(client_secret::hash(&secret))
}

/// The content of a file, without a final line end.
fn read_without_line_end(path: &Path) -> anyhow::Result<zeroize::Zeroizing<String>> {
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).with_context(|| path.display().to_string())?);
    Ok(zeroize::Zeroizing::new(without_line_end(&text).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_key_is_refused_by_name() {
        for (text, unknown_key) in [
            ("[[client]]\nname = \"a\"\nscope = []\n", "scope"),
            ("[[user]]\nemail = \"a@b.example\"\npassword = \"x\"\n", "password"),
            ("[[role]]\n", "role"),
        ] {
            let error = toml::from_str::<SetupFile>(text).unwrap_err().to_string();
            assert!(error.contains(&format!("unknown field `{unknown_key}`")), "{error}");
        }
    }

    #[test]
    fn hash_without_64_hexadecimal_digits_is_refused() {
        assert_eq!(parse_hash(&"0f".repeat(32)).unwrap(), ClientSecretHash::new([0x0f; 32]));
        // `é` has two bytes, so the last text has 64 bytes
        for text in ["", "0f", &"0g".repeat(32), &"+f".repeat(32), &"é".repeat(32)] {
            assert!(parse_hash(text).is_err(), "{text}");
        }
    }
}
