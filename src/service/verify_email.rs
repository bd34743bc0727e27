//! Verifies the address of an account, and confirms a new one.
//!
//! A link that arrives shows that its holder reads the mails of the address. It does not show that the holder set up the
//! account: another person may have registered the address and wait for its owner to verify it (pre-hijacking, I13). So the
//! holder also presents what the account was set up with, an access token or the password, or sets a new password, which
//! ends everything that was set up before.

use std::{net::IpAddr, sync::Arc};

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::{Account, Email, Identifier},
        audit::{Actor, AuditEvent, Entry},
        event::Reason,
        ids::AccountId,
        mail::MailData,
        one_time_token::TokenPurpose,
        secret::{PasswordHash, SecretText},
        session::Accepted,
    },
    password::{NewPassword, PasswordError, Verified, WeakPassword},
    service::{
        account_mail,
        accounts::record_ended,
        background, change_email,
        error::{ServiceError, from_store_errors},
        further_claims, limits,
        one_time_tokens::{self, Claim, Presented},
        register::password_context,
        request_origin::RequestOrigin,
        token_issuer::Tokens,
    },
    state::AppState,
    store::sql::AccountChange,
};

/// Why an address was not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyEmailError {
    /// The link or the code does not work: it was used, has expired, or the account has changed since.
    #[error("the link or the code does not work any more")]
    InvalidToken,
    /// The caller sent no proof of having set up the account. The link or the code still works.
    #[error("an access token or the password of the account is missing")]
    ProofRequired,
    /// The password is not the account's. The link or the code still works.
    #[error("the password is wrong")]
    WrongPassword,
    /// The new password does not satisfy the policy.
    #[error(transparent)]
    WeakPassword(WeakPassword),
    /// Another account has verified the new address meanwhile.
    #[error("another account has verified this e-mail address")]
    EmailTaken,
    /// The caller's session ended meanwhile.
    #[error("the session has ended")]
    SessionEnded,
    /// The caller's session uses a cookie, which this request must not set.
    #[error("the session's refresh token travels in a cookie, which this request must not set")]
    CookieNotAccepted,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(VerifyEmailError);

/// The proof that the caller set up the account, or its replacement.
#[derive(Debug)]
pub enum Proof {
    /// Nothing.
    None,
    /// The account's password.
    Password(SecretText),
    /// A new password, in place of what was set up before.
    NewPassword(NewPassword),
}

/// The input of a verification.
#[derive(Debug)]
pub struct VerifyEmail<'a> {
    /// The link or the code.
    pub presented: Presented,
    /// See [`Proof`].
    pub proof: Proof,
    /// The caller, if an access token was presented.
    pub caller: Option<&'a AccessClaims>,
    /// The sessions that may be replaced.
    pub accepted: Accepted,
    /// The client.
    pub origin: RequestOrigin,
}

/// Sends a link and a code that verify an address, if an account has it and has not verified it. The mail is made after the
/// answer (I12).
///
/// # Errors
/// [`ServiceError`], for known and unknown addresses alike.
pub async fn request(state: &Arc<AppState>, email: &str, origin: RequestOrigin) -> Result<(), ServiceError> {
    limits::recovery(state, origin.ip).await?;
    let account = state.sql.find_account(&Identifier::Email(email.to_lowercase())).await?;
    background::run(state, "email_verification", move |state| {
        let (account, origin) = (account.clone(), origin.clone());
        async move {
            match account {
                Some(account) if !account.email_verified && !account.is_closed(state.clock.now()) => {
                    send(&state, &account, &origin).await
                }
                _ => Ok(()),
            }
        }
    });
    Ok(())
}

/// Sends the mail, within the limit of mails that strangers may cause.
pub(super) async fn send(state: &AppState, account: &Account, origin: &RequestOrigin) -> Result<(), ServiceError> {
    let purpose = TokenPurpose::VerifyEmail;
    if !limits::may_send_mail(state, purpose, account.id).await? {
        return Ok(());
    }
    let issued = one_time_tokens::issue(state, account, purpose, &account.email, &[]).await?;
    let data = MailData::VerifyAddress { challenge: account_mail::challenge(state, purpose, &issued) };
    account_mail::send(state, account, &account.email, origin, data).await?;
    let entry = Entry::new(state.clock.now(), AuditEvent::OneTimeToken).account(account.id).detail(purpose.as_str());
    state.audit.record(entry.by(Actor::Anyone).from(origin.ip));
    Ok(())
}

/// Verifies the account's address, or confirms its new address. Returns new tokens if the address changed and the caller is
/// signed in (I5).
///
/// # Errors
/// [`VerifyEmailError`]
pub async fn verify_email(state: &AppState, input: VerifyEmail<'_>) -> Result<Option<Tokens>, VerifyEmailError> {
    let VerifyEmail { presented, proof, caller, accepted, origin } = input;
    let _place = match &proof {
        Proof::None => None,
        Proof::Password(_) | Proof::NewPassword(_) => Some(state.passwords.reserve().map_err(ServiceError::from)?),
    };
    limits::recovery(state, origin.ip).await?;
    let found = find(state, &presented, caller).await?;
    let Some((claim, address)) = found else {
        one_time_tokens::record_refusal(state, &presented, TokenPurpose::VerifyEmail, origin.ip);
        return Err(VerifyEmailError::InvalidToken);
    };
    let caller = caller.filter(|caller| caller.sub == claim.account.id);
    // The reader of a new address has shown no factor, and the account has an owner: a new password would replace both (I14).
    let takes_over = matches!(proof, Proof::NewPassword(_)) && claim.purpose == TokenPurpose::ChangeEmail;
    if takes_over && claim.account.factors.protect() {
        return Err(VerifyEmailError::ProofRequired);
    }
    let new_hash = prove(state, &claim.account, proof, caller.is_some(), origin.ip).await?;
    let change = state.sql.change_account(claim.account.id).await?;
    let change = change.filter(|change| !change.account.is_closed(state.clock.now()));
    let change = change.ok_or(VerifyEmailError::InvalidToken)?;
    let Some(token) = one_time_tokens::take(state, &claim, &change.account, address.as_ref()).await? else {
        return Err(VerifyEmailError::InvalidToken);
    };
    let outcome = match (claim.purpose, address) {
        (TokenPurpose::ChangeEmail, Some(address)) => {
            change_email::apply(state, change, &address, caller, accepted, new_hash, &origin).await
        }
        _ => apply(state, change, new_hash, caller.is_some(), &origin).await.map(|()| None),
    };
    if outcome.is_err() {
        one_time_tokens::restore(state, &claim, &token).await;
    }
    outcome
}

/// Finds the token, and the new address that it confirms.
async fn find(
    state: &AppState,
    presented: &Presented,
    caller: Option<&AccessClaims>,
) -> Result<Option<(Claim, Option<Email>)>, VerifyEmailError> {
    use TokenPurpose::{ChangeEmail, VerifyEmail};
    let account_of_link = match presented {
        Presented::Link(text) => change_email::account_of(text),
        Presented::Code { .. } => caller.map(|caller| caller.sub),
    };
    if let Some(id) = account_of_link
        && let Some((account, address)) = pending(state, id).await?
    {
        let claim = match presented {
            Presented::Link(_) => one_time_tokens::find(state, presented, &[ChangeEmail], Some(&address), &[]).await?,
            Presented::Code { code, identifier } if identifier.key() == address.key() => {
                one_time_tokens::find_code_of(state, account, code, ChangeEmail, Some(&address)).await?
            }
            Presented::Code { .. } => None,
        };
        if let Some(claim) = claim {
            return Ok(Some((claim, Some(address))));
        }
    }
    let claim = one_time_tokens::find(state, presented, &[VerifyEmail], None, &[]).await?;
    Ok(claim.map(|claim| (claim, None)))
}

/// The account and the address that it waits to confirm.
async fn pending(state: &AppState, id: AccountId) -> Result<Option<(Account, Email)>, VerifyEmailError> {
    let Some(address) = state.sql.pending_address(id, state.clock.now()).await? else { return Ok(None) };
    let account = state.sql.account(id).await?;
    Ok(account.map(|account| (account, address.email)))
}

/// Checks that the caller set up the account. Returns the hash of a new password that replaces what was set up.
async fn prove(
    state: &AppState,
    account: &Account,
    proof: Proof,
    is_signed_in: bool,
    ip: Option<IpAddr>,
) -> Result<Option<PasswordHash>, VerifyEmailError> {
    match proof {
        Proof::NewPassword(new) => {
            let context = password_context(&account.email, account.username.as_ref());
            let hash = state.passwords.hash_new(new, context).await.map_err(|error| match error {
                PasswordError::Weak(weak) => VerifyEmailError::WeakPassword(weak),
                other => VerifyEmailError::Service(other.into()),
            })?;
            Ok(Some(hash))
        }
        _ if is_signed_in => Ok(None),
        Proof::Password(password) => {
            let stored = account.password_hash.clone();
            match state.passwords.verify(password, stored).await.map_err(ServiceError::from)? {
                Verified::Match { .. } => Ok(None),
                Verified::Mismatch | Verified::Unusable(_) => {
                    let entry = Entry::new(state.clock.now(), AuditEvent::EmailVerified).account(account.id);
                    state.audit.record(entry.refused("wrong_password").by(Actor::Anyone).from(ip));
                    Err(VerifyEmailError::WrongPassword)
                }
            }
        }
        Proof::None => Err(VerifyEmailError::ProofRequired),
    }
}

async fn apply(
    state: &AppState,
    mut change: AccountChange,
    new_hash: Option<PasswordHash>,
    is_signed_in: bool,
    origin: &RequestOrigin,
) -> Result<(), VerifyEmailError> {
    let (id, now) = (change.account.id, state.clock.now());
    let claims = further_claims::of_change(state, &mut change).await?;
    change.verify_email(now).await?;
    let reason = match (&new_hash, is_signed_in) {
        (Some(_), _) => "new_password",
        (None, true) => "session",
        (None, false) => "password",
    };
    let entry = Entry::new(now, AuditEvent::EmailVerified).account(id).because(reason);
    change.record(&entry.by(Actor::Account).from(origin.ip)).await?;
    match new_hash {
        // A sign-in after this reads the new claims.
        Some(hash) => end_former(state, &mut change, &hash, origin).await?,
        None => further_claims::update(state, &mut change, &claims).await?,
    }
    change.commit().await?;
    tracing::info!(account = %id, "e-mail address verified");
    Ok(())
}

/// Sets a new password and ends everything that was set up before.
pub(super) async fn end_former(
    state: &AppState,
    change: &mut AccountChange,
    hash: &PasswordHash,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    let (id, now) = (change.account.id, state.clock.now());
    change.set_password(hash, now).await?;
    change.clear_pending_address().await?;
    change.clear_factors(now).await?;
    let entry = Entry::new(now, AuditEvent::PasswordChange).account(id).because("verify_email");
    change.record(&entry.by(Actor::Account).from(origin.ip)).await?;
    let epoch = change.bump_epoch().await?;
    let ended = state.redis.sessions.revoke_all(id, None, Some(epoch), Reason::PasswordChanged, now).await?;
    Ok(record_ended(change, Reason::PasswordChanged, ended, now).await?)
}
