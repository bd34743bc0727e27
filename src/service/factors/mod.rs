//! The second factors of an account: lists, adds, renames and removes them.

pub mod change;
pub mod email_code;
pub mod recovery_codes;
pub mod reseal;
pub mod reset;
pub(super) mod suspect;
pub mod totp;

use crate::{
    crypto::seal::SealError,
    domain::{
        clock::Timestamp,
        factor::FactorKind,
        ids::{AccountId, FactorId},
    },
    service::error::ServiceError,
    state::AppState,
};

/// A factor in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactorEntry {
    /// The id.
    pub id: FactorId,
    /// The kind: an authenticator app or a passkey.
    pub kind: FactorKind,
    /// The name that the owner gave the factor.
    pub label: String,
    /// When it was set up.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

/// The factors of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactorList {
    /// Authenticator apps and passkeys, oldest first.
    pub factors: Vec<FactorEntry>,
    /// The number of recovery codes that are left.
    pub recovery_codes: u32,
    /// Whether codes by mail are on for the account; `None` if they are off for all accounts (`factors.email_code`).
    pub email_code: Option<bool>,
}

/// The outcome of a search for the factor that a code belongs to.
#[derive(Debug)]
pub(in crate::service) enum CodeSearch<T> {
    /// The code belongs to a factor. It may have been used already.
    Match(T),
    /// The code is wrong.
    Wrong,
    /// None of the factors of this kind can be decrypted under the configured secrets, so no code is accepted.
    Undecryptable,
}

impl<T> CodeSearch<T> {
    /// Converts the value of a match.
    pub(in crate::service) fn map<U>(self, convert: impl FnOnce(T) -> U) -> CodeSearch<U> {
        match self {
            Self::Match(found) => CodeSearch::Match(convert(found)),
            Self::Wrong => CodeSearch::Wrong,
            Self::Undecryptable => CodeSearch::Undecryptable,
        }
    }
}

/// Logs that the secret of a factor can't be decrypted, and what to do.
pub(super) fn log_undecryptable(account: AccountId, error: SealError) {
    tracing::error!(
        %account,
        %error,
        "the secret of a second factor can't be decrypted, so its codes are refused: add the former secret to secret_previous and restart, \
         or reset the account's factors (`latchkey user factors ACCOUNT reset`)"
    );
}

/// Lists the factors of an account.
///
/// # Errors
/// [`ServiceError`]
pub async fn list(state: &AppState, account: AccountId) -> Result<FactorList, ServiceError> {
    let apps = state.sql.totp_factors(account).await?;
    // an authenticator app is a factor once its first code has confirmed it
    let confirmed_apps = apps.into_iter().filter(|factor| factor.confirmed_at.is_some());
    let app_entries = confirmed_apps.map(|factor| FactorEntry {
        id: factor.id,
        kind: FactorKind::Totp,
        label: factor.label,
        created_at: factor.created_at,
        last_used_at: factor.last_used_at,
    });
    let passkeys = state.sql.passkeys(account).await?;
    let passkey_entries = passkeys.into_iter().map(|passkey| FactorEntry {
        id: FactorId(passkey.id.0),
        kind: FactorKind::Passkey,
        label: passkey.name.as_str().to_owned(),
        created_at: passkey.created_at,
        last_used_at: passkey.last_used_at,
    });
    let mut factors: Vec<FactorEntry> = app_entries.chain(passkey_entries).collect();
    factors.sort_by_key(|factor| factor.created_at);
    let recovery_key = state.sql.recovery_key(account).await?;
    let recovery_codes = recovery_key.map_or(0, |(_key, remaining_codes)| remaining_codes);
    let email_code = if state.config.factors.email_code {
        let account = state.sql.account(account).await?;
        Some(account.is_some_and(|account| account.factors.contains(FactorKind::EmailCode)))
    } else {
        None
    };
    Ok(FactorList { factors, recovery_codes, email_code })
}
