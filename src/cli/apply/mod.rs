//! `latchkey apply`: creates and changes clients and accounts as a file declares them.

mod file;

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, path::PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Args;

use self::file::{Declared, DeclaredAccount, DeclaredClient, FirstPassword};
use super::{Global, block_on, output::escape, user::with_services};
use crate::{
    crypto::client_secret::ClientSecret,
    domain::app_client::ClientKind,
    service::{
        initiator::Initiator,
        invite_account::{Delivery, Invite, invite},
        register::{Register, register},
        request_origin::RequestOrigin,
        set_up::{self, AccountSpec, Change, ClientSpec},
    },
    state::AppState,
};

/// Arguments of `latchkey apply`.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    /// TOML file with tables `[[client]]` and `[[user]]`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print the differences and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Applies a file, and prints each difference.
///
/// # Errors
/// If the file can't be used, an account or a client can't be created or changed, or a store is unreachable.
pub fn run(args: &ApplyArgs, global: &Global) -> anyhow::Result<()> {
    // the file changes a service that exists: a data directory without a service is an error
    let config = global.load_existing_config()?;
    let declared = file::load(&args.file, &config.token)?;
    block_on(with_services(config, async |state| apply(state, &declared, args.dry_run).await))
}

async fn apply(state: &AppState, declared: &Declared, dry_run: bool) -> anyhow::Result<()> {
    let clients: Vec<_> = declared.clients.iter().map(|client| client.spec.clone()).collect();
    let accounts: Vec<_> = declared.accounts.iter().map(|account| account.spec.clone()).collect();
    let changes = set_up::plan(state, &clients, &accounts).await?;
    // checked before the first change, so that a problem does not leave the file half applied
    for change in &changes {
        match change {
            Change::AddClient(spec) => declared.client(spec.id.as_str())?.check_secret()?,
            Change::AddAccount(spec) => declared.account(spec)?.check_password()?,
            _ => {}
        }
    }
    for change in &changes {
        println!("{}", declared.describe(change)?);
        if dry_run {
            continue;
        }
        match change {
            Change::AddClient(spec) => add_client(state, declared.client(spec.id.as_str())?).await?,
            Change::AddAccount(spec) => add_account(state, declared.account(spec)?).await?,
            other => set_up::apply(state, other).await?,
        }
    }
    print_lost_secrets(declared, &changes);
    if changes.is_empty() {
        println!("Nothing to change.");
    } else if dry_run {
        println!("Nothing was changed (--dry-run).");
    } else {
        println!("Applied. Running nodes apply the changes within seconds.");
    }
    Ok(())
}

/// Prints the clients that exist, but whose declared secret file does not. The command can't write these files again.
fn print_lost_secrets(declared: &Declared, changes: &[Change]) {
    for client in &declared.clients {
        let is_new =
            changes.iter().any(|change| matches!(change, Change::AddClient(spec) if spec.id == client.spec.id));
        if !is_new && let Some(path) = &client.new_secret_file {
            println!(
                "! client {}: {} is missing, and a secret is stored as a hash only: `latchkey client rotate-secret {}` \
                 creates a new secret",
                client.spec.id,
                path.display(),
                client.spec.id
            );
        }
    }
}

/// The text of a list, or `none` if the list is empty.
fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

impl Declared {
    fn client(&self, id: &str) -> anyhow::Result<&DeclaredClient> {
        let client = self.clients.iter().find(|client| client.spec.id.as_str() == id);
        client.with_context(|| format!("client {id} is not declared"))
    }

    fn account(&self, spec: &AccountSpec) -> anyhow::Result<&DeclaredAccount> {
        let account = self.accounts.iter().find(|account| account.spec.email == spec.email);
        account.with_context(|| format!("user {} is not declared", escape(spec.email.as_str())))
    }

    /// The line that is printed for a difference: `+` for new, `~` for changed.
    fn describe(&self, change: &Change) -> anyhow::Result<String> {
        Ok(match change {
            Change::AddClient(spec) => self.client(spec.id.as_str())?.describe_new(),
            Change::UpdateClient(spec, differences) => format!("~ client {}: {}", spec.id, differences.join(", ")),
            Change::SetSecret(id, _) => {
                format!("~ client {id}: the declared secret replaces the current one, which stays valid for a day")
            }
            Change::DisableClient(id) => format!("~ client {id}: disabled"),
            Change::EnableClient(id) => format!("~ client {id}: enabled"),
            Change::AddAccount(spec) => {
                let roles = spec.roles.as_ref().map(ToString::to_string).unwrap_or_default();
                let password = match &self.account(spec)?.first_password {
                    FirstPassword::File(path) => format!("the password in {}", path.display()),
                    // `check_password` has refused a new account without a password or an invitation.
                    FirstPassword::Invitation | FirstPassword::None => "an invitation by mail".to_owned(),
                };
                format!("+ user {}: roles {}, {password}", escape(spec.email.as_str()), or_none(roles))
            }
            Change::SetRoles(account, roles) => {
                let (before, after) = (or_none(account.roles.to_string()), or_none(roles.to_string()));
                format!("~ user {}: roles {before} → {after}", escape(&account.display_identifier()))
            }
        })
    }
}

impl DeclaredClient {
    /// The line that is printed for a client that does not exist yet.
    fn describe_new(&self) -> String {
        let ClientSpec { id, kind, audiences, .. } = &self.spec;
        let mut line = format!("+ client {id}");
        if *kind == ClientKind::Service {
            line += ": ";
        } else {
            line += &format!(" ({}): redirect URIs {}, ", kind.as_str(), self.spec.app.redirect_uris.join(" "));
        }
        line += &format!("audiences {}", or_none(audiences.to_string()));
        line += &format!(", scopes {}", or_none(self.spec.scopes.to_string()));
        if self.spec.jwks.is_some() {
            line += ", public keys";
        }
        if let Some(path) = &self.new_secret_file {
            line += &format!(", a new secret in {}", path.display());
        } else if self.spec.secret.is_some() {
            line += ", the declared secret";
        }
        line
    }

    /// Refuses a new client that would have no credential. A public client needs none.
    fn check_secret(&self) -> anyhow::Result<()> {
        let can_authenticate = self.spec.secret.is_some() || self.spec.jwks.is_some() || self.new_secret_file.is_some();
        if self.spec.kind != ClientKind::Public && !can_authenticate {
            bail!(
                "client {} is new and could not authenticate: declare secret_file, secret_sha256 or public_key_file",
                self.spec.id
            );
        }
        Ok(())
    }
}

impl DeclaredAccount {
    /// Refuses a new account without a readable password or an invitation.
    fn check_password(&self) -> anyhow::Result<()> {
        let email = escape(self.spec.email.as_str());
        match &self.first_password {
            FirstPassword::None => {
                bail!("there is no account {email}: declare password_file or `invite = true` to create it")
            }
            // reads the file only to find errors before the first change
            FirstPassword::File(path) => FirstPassword::read(path).map(drop),
            FirstPassword::Invitation => Ok(()),
        }
    }
}

async fn add_client(state: &AppState, client: &DeclaredClient) -> anyhow::Result<()> {
    let generated = ClientSecret::generate(&state.entropy);
    // The generated secret is for `new_secret_file`. A client with neither a secret nor this file gets a secret that nobody learns.
    let secret = client.spec.secret.clone().unwrap_or_else(|| generated.hash());
    // The file is written before the client is added: otherwise, if the file can't be written, the client's secret is lost.
    if let Some(path) = &client.new_secret_file {
        write_secret(path, &generated).with_context(|| path.display().to_string())?;
    }
    let added = set_up::add_client(state, &client.spec, &secret).await;
    added.with_context(|| format!("client {}", client.spec.id)).map_err(|error| match &client.new_secret_file {
        Some(path) => remove_unused_secret(path, error),
        None => error,
    })
}

/// Deletes the file with the secret of a client that was not added. Returns `error`, the reason why the client was not added. If the
/// file can't be deleted, the returned error has both reasons.
fn remove_unused_secret(path: &Path, error: anyhow::Error) -> anyhow::Error {
    match fs::remove_file(path) {
        Ok(()) => error,
        Err(failure) => {
            anyhow!("{error:#}; delete {} yourself, since no client has this secret: {failure}", path.display())
        }
    }
}

/// Writes a secret to a new file that only its owner can read.
fn write_secret(path: &Path, secret: &ClientSecret) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", secret.expose())?;
    Ok(file.sync_all()?)
}

async fn add_account(state: &AppState, account: &DeclaredAccount) -> anyhow::Result<()> {
    let AccountSpec { email, username, roles } = account.spec.clone();
    let roles = roles.unwrap_or_default();
    let name = format!("user {}", escape(email.as_str()));
    match &account.first_password {
        FirstPassword::File(path) => {
            let password = state.passwords.check_new(FirstPassword::read(path)?).context(name.clone())?;
            register(state, Register { email, username, password, roles }).await.context(name)?;
        }
        // `check_password` has refused `FirstPassword::None`.
        FirstPassword::Invitation | FirstPassword::None => {
            let new = Invite { email, username, roles };
            // empty, since a command has no request
            let origin = RequestOrigin::default();
            invite(state, new, Delivery::Mail, &Initiator::Operator, &origin).await.context(name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_file_that_cannot_be_deleted_does_not_hide_why_the_client_was_not_added() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "x").unwrap();
        let refused = || anyhow!("the client exists").context("client a");
        assert_eq!(format!("{:#}", remove_unused_secret(&path, refused())), "client a: the client exists");
        assert!(!path.exists());
        // A folder in the place of the file: it can't be deleted as a file.
        let text = format!("{:#}", remove_unused_secret(folder.path(), refused()));
        assert!(text.starts_with("client a: the client exists; delete "), "{text}");
    }
}
