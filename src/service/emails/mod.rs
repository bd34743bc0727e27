//! The e-mail addresses of an account: the primary one, to which notices go, and secondary ones. A sign-in finds an account by each
//! of its verified addresses. An unverified secondary address has no effect (I13: it belongs to nobody).

pub mod add;
pub mod change;
pub mod support;

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::{Account, Email},
        clock::Timestamp,
        ids::EmailId,
    },
    service::{
        authenticate::AuthenticateError,
        error::{ServiceError, from_replace_sessions_error, from_store_errors},
    },
    state::AppState,
    store::sql::{SecondaryEmail, SqlError, TakeAddressError},
};

/// An address of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEmail {
    /// The id. The primary address has the id of the account.
    pub id: EmailId,
    /// The address.
    pub email: Email,
    /// Whether it is the primary one.
    pub is_primary: bool,
    /// Whether it is verified.
    pub is_verified: bool,
    /// When it was added; for the primary address, when the account was created.
    pub created_at: Timestamp,
}

impl AccountEmail {
    /// The primary address of an account that has one.
    fn primary(account: &Account) -> Self {
        Self {
            id: EmailId(account.id.0),
            email: account.email.clone(),
            is_primary: true,
            is_verified: account.email_verified,
            created_at: account.created_at,
        }
    }
}

impl From<SecondaryEmail> for AccountEmail {
    fn from(email: SecondaryEmail) -> Self {
        Self {
            id: email.id,
            email: email.email,
            is_primary: false,
            is_verified: email.verified_at.is_some(),
            created_at: email.created_at,
        }
    }
}

/// Why the addresses of an account were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeEmailsError {
    /// The account was deleted or disabled.
    #[error("the account was deleted or disabled")]
    NoAccount,
    /// The caller's session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// The caller's session has its refresh token in a cookie, but the request may set no cookie: it may come from another site.
    #[error("the session's refresh token is in a cookie, which a page of another site must not set")]
    CookieNotAccepted,
    /// The account has no such address.
    #[error("the account has no such e-mail address")]
    Unknown,
    /// The account has the address already.
    #[error("the account has this e-mail address already")]
    Exists,
    /// The account has the maximum number of addresses (`account.max_emails`).
    #[error("the account has the maximum number of e-mail addresses")]
    TooMany,
    /// The primary address can't be removed.
    #[error("the primary e-mail address can't be removed")]
    IsPrimary,
    /// The address is not verified, so it can't become the primary one.
    #[error("the e-mail address is not verified")]
    NotVerified,
    /// Another account was registered with the address at the same time.
    #[error("another account has this e-mail address")]
    Taken,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ChangeEmailsError);
from_replace_sessions_error!(ChangeEmailsError);

impl From<TakeAddressError> for ChangeEmailsError {
    fn from(error: TakeAddressError) -> Self {
        match error {
            TakeAddressError::Taken => Self::Taken,
            TakeAddressError::Sql(error) => error.into(),
        }
    }
}

/// The addresses of an account: the primary one, if it has one, then the secondary ones, oldest first.
///
/// # Errors
/// [`SqlError`]
pub async fn list_of_account(state: &AppState, account: &Account) -> Result<Vec<AccountEmail>, SqlError> {
    let mut emails = Vec::new();
    if account.primary_email().is_some() {
        emails.push(AccountEmail::primary(account));
    }
    let secondary = state.sql.secondary_emails(account.id).await?;
    emails.extend(secondary.into_iter().map(AccountEmail::from));
    Ok(emails)
}

/// The addresses of the caller's account.
///
/// # Errors
/// [`AuthenticateError`]
pub async fn list(state: &AppState, caller: &AccessClaims) -> Result<Vec<AccountEmail>, AuthenticateError> {
    let account = state.sql.account(caller.sub).await.map_err(ServiceError::from)?;
    let account = account.ok_or(AuthenticateError::InvalidToken)?;
    Ok(list_of_account(state, &account).await.map_err(ServiceError::from)?)
}
