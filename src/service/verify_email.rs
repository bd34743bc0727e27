//! Verifies the primary and secondary addresses of an account, and the new address of a pending change.
//!
//! A presented link shows that its holder reads the mails of the address. It does not show that the holder set up the account: another
//! person may have registered the address and may be waiting for its owner to verify it (pre-hijacking, I13). So the holder also presents
//! an access token or the password of the account, or sets a new password. A new password removes all that was set up before.

use std::{net::IpAddr, sync::Arc};

use crate::{
    crypto::{access_token::AccessClaims, one_time_token::LinkToken},
    domain::{
        account::{Account, Email, Identifier},
        audit::{Actor, AuditEntry, AuditEvent},
        event::EndReason,
        ids::AccountId,
        mail::MailData,
        one_time_token::TokenPurpose,
        secret::{PasswordHash, SecretText},
        session::AcceptedTransport,
    },
    password::{NewPassword, PasswordError, Verified, WeakPassword},
    service::{
        account_mail,
        accounts::record_ended,
        additional_claims, background, change_email, emails,
        error::{ServiceError, from_replace_sessions_error, from_store_errors},
        limits,
        one_time_tokens::{self, Claim, PresentedToken},
        register::password_context,
        request_origin::RequestOrigin,
        token_issuer::Tokens,
    },
    state::AppState,
    store::{
        redis::AccountSessions,
        sql::{AccountChange, TakeAddressError},
    },
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
    /// Another account has verified the new address in the meantime.
    #[error("another account has verified this e-mail address")]
    EmailTaken,
    /// The caller's session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// The caller's session uses a cookie, which this request must not set.
    #[error("the session's refresh token is in a cookie, which a page of another site must not set")]
    CookieNotAccepted,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(VerifyEmailError);
from_replace_sessions_error!(VerifyEmailError);

/// The proof, other than an access token, that the caller set up the account; or a new password in place of a proof.
#[derive(Debug)]
pub enum Proof {
    /// Nothing but the access token, if one was presented.
    None,
    /// The account's password.
    Password(SecretText),
    /// A new password. It removes the sessions and credentials that were set up before.
    NewPassword(NewPassword),
}

/// The input of a verification.
#[derive(Debug)]
pub struct VerifyEmail<'a> {
    /// The link or the code.
    pub presented: PresentedToken,
    /// See [`Proof`].
    pub proof: Proof,
    /// The caller, if an access token was presented.
    pub caller: Option<&'a AccessClaims>,
    /// The kinds of session that may be replaced.
    pub accepted: AcceptedTransport,
    /// The address and user agent of the client.
    pub origin: RequestOrigin,
}

/// Sends a link and a code that verify the primary address of an account, unless it is verified. The mail is composed after the
/// answer, so that the time of the answer does not show whether the account exists (I12).
///
/// # Errors
/// [`ServiceError`], for known and unknown addresses alike.
pub async fn request(state: &Arc<AppState>, email: &str, origin: RequestOrigin) -> Result<(), ServiceError> {
    limits::check_self_service(state, origin.ip).await?;
    let identifier = Identifier::Email(email.to_lowercase());
    let found = state.sql.find_account(&identifier).await?;
    let unverified = found.filter(|account| !account.owns(&identifier));
    // runs again if a store does not answer, so each run clones its input
    background::run(state, "email_verification", move |state| {
        let (unverified, origin) = (unverified.clone(), origin.clone());
        async move {
            match unverified {
                Some(account) if !account.is_closed(state.clock.now()) => send(&state, &account, &origin).await,
                _ => Ok(()),
            }
        }
    });
    Ok(())
}

/// Sends the link and the code, unless the account has reached its limit of mails that anyone can request.
pub(super) async fn send(state: &AppState, account: &Account, origin: &RequestOrigin) -> Result<(), ServiceError> {
    let purpose = TokenPurpose::VerifyEmail;
    if !limits::admit_mail(state, purpose, account, &account.email).await? {
        return Ok(());
    }
    let issued =
        one_time_tokens::issue(state, account, purpose, &account.email, one_time_tokens::NO_SIGN_IN_REQUEST).await?;
    let data = MailData::VerifyAddress { challenge: account_mail::link_and_code(state, purpose, &issued) };
    account_mail::send(state, account, &account.email, origin, data).await?;
    let entry =
        AuditEntry::new(state.clock.now(), AuditEvent::OneTimeToken).account(account.id).detail(purpose.as_str());
    state.audit.record(entry.actor(Actor::Anyone).address(origin.ip));
    Ok(())
}

/// Verifies the primary address, a secondary address or the new address of an account. For a signed-in caller, a secondary or new address
/// returns the tokens of the session that replaces the caller's (I5: a change of addresses ends all sessions).
///
/// # Errors
/// [`VerifyEmailError`]
pub async fn verify_email(state: &AppState, input: VerifyEmail<'_>) -> Result<Option<Tokens>, VerifyEmailError> {
    let VerifyEmail { presented, proof, caller, accepted, origin } = input;
    // A place in the queue for hashing, held to the end. If there is none, the request is refused before it reaches Redis.
    let _reservation = match &proof {
        Proof::None => None,
        Proof::Password(_) | Proof::NewPassword(_) => Some(state.passwords.reserve().map_err(ServiceError::from)?),
    };
    limits::check_self_service(state, origin.ip).await?;
    let Some(claim) = find(state, &presented, caller).await? else {
        one_time_tokens::record_refusal(state, &presented, TokenPurpose::VerifyEmail, origin.ip);
        return Err(VerifyEmailError::InvalidToken);
    };
    // a caller who is signed in to another account proves nothing about this one
    let caller = caller.filter(|caller| caller.sub == claim.account.id);
    if matches!(proof, Proof::NewPassword(_)) && !accepts_new_password(state, &claim).await? {
        return Err(VerifyEmailError::ProofRequired);
    }
    // before the token is consumed: it still works if the proof is missing or wrong
    let new_hash = check_proof(state, &claim.account, proof, caller.is_some(), origin.ip).await?;
    let change = state.sql.change_account(claim.account.id).await?;
    let change = change.filter(|change| !change.account.is_closed(state.clock.now()));
    let change = change.ok_or(VerifyEmailError::InvalidToken)?;
    let Some(token) = one_time_tokens::take(state, &claim, &change.account).await? else {
        return Err(VerifyEmailError::InvalidToken);
    };
    let outcome = match (claim.purpose, &claim.about) {
        (TokenPurpose::ChangeEmail, Some(address)) => {
            change_email::apply(state, change, address, caller, accepted, new_hash, &origin).await
        }
        (TokenPurpose::AddEmail, Some(address)) => {
            emails::add::apply(state, change, address, caller, accepted, &origin).await
        }
        _ => apply(state, change, new_hash, caller.is_some(), &origin).await.map(|()| None),
    };
    if outcome.is_err() {
        one_time_tokens::restore(state, &claim, &token).await;
    }
    outcome
}

/// Whether the reader of the mail may set a new password.
///
/// The reader of a new address has no right to an account that has a verified address or a factor. The account's owner may have mistyped
/// the new address, or may be an attacker who waits for the reader to use the account (I13, I14). The reader of a secondary address has no
/// right to the account either.
async fn accepts_new_password(state: &AppState, claim: &Claim) -> Result<bool, ServiceError> {
    let account = &claim.account;
    match claim.purpose {
        TokenPurpose::ChangeEmail => {
            if account.email_verified || account.factors.has_any() {
                return Ok(false);
            }
            let emails = state.sql.secondary_emails(account.id).await?;
            Ok(emails.iter().all(|email| email.verified_at.is_none()))
        }
        TokenPurpose::AddEmail => Ok(false),
        _ => Ok(true),
    }
}

/// Finds the presented token. The address that it verifies is the primary one, the pending new one, or an unverified secondary one.
async fn find(
    state: &AppState,
    presented: &PresentedToken,
    caller: Option<&AccessClaims>,
) -> Result<Option<Claim>, VerifyEmailError> {
    use TokenPurpose::{AddEmail, ChangeEmail, VerifyEmail};
    match presented {
        PresentedToken::Link(text) => {
            let Some(link) = LinkToken::parse(text.expose()) else { return Ok(None) };
            if matches!(link.purpose, ChangeEmail | AddEmail) {
                let Some(account) = state.sql.account(link.account).await? else { return Ok(None) };
                let addresses = unconfirmed(state, account.id, link.purpose).await?;
                return Ok(one_time_tokens::find_link_about(state, account, &link, addresses).await?);
            }
        }
        PresentedToken::Code { code, identifier } => {
            // An unverified new or secondary address does not lead to its account, so the code for it needs a caller who is signed in.
            if let Some(caller) = caller
                && let Some(account) = state.sql.account(caller.sub).await?
            {
                for purpose in [ChangeEmail, AddEmail] {
                    let addresses = unconfirmed(state, account.id, purpose).await?;
                    let Some(address) = addresses.iter().find(|address| address.key() == identifier.key()) else {
                        continue;
                    };
                    let account = account.clone();
                    let found =
                        one_time_tokens::find_code_for_account(state, account, code, purpose, Some(address)).await?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
            }
        }
    }
    // a link or a code for the primary address
    Ok(one_time_tokens::find(state, presented, &[VerifyEmail], one_time_tokens::NO_SIGN_IN_REQUEST).await?)
}

/// The addresses of an account that a link or a code of a purpose can confirm.
async fn unconfirmed(state: &AppState, id: AccountId, purpose: TokenPurpose) -> Result<Vec<Email>, VerifyEmailError> {
    if purpose == TokenPurpose::AddEmail {
        let emails = state.sql.secondary_emails(id).await?;
        return Ok(emails.into_iter().filter(|email| email.verified_at.is_none()).map(|email| email.email).collect());
    }
    let pending = state.sql.pending_address(id, state.clock.now()).await?;
    Ok(pending.into_iter().map(|address| address.email).collect())
}

/// Checks the proof that the caller set up the account. Returns the hash of the new password, if that is the proof. The account's
/// password is verified under the throttle of sign-ins.
async fn check_proof(
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
        // the access token is proof enough: a password beside it is not checked
        _ if is_signed_in => Ok(None),
        Proof::Password(password) => {
            let no_device = None; // a verification sends no device token
            let attempt = limits::begin_reauthentication(state, account.id, ip, no_device).await?;
            match state.passwords.verify(password, account.password_hash.clone()).await {
                Ok(Verified::Match { .. }) => {
                    attempt.refund(state).await;
                    Ok(None)
                }
                Ok(Verified::Mismatch | Verified::Unusable(_)) => {
                    let entry = AuditEntry::new(state.clock.now(), AuditEvent::EmailVerified).account(account.id);
                    state.audit.record(entry.refused("wrong_password").actor(Actor::Anyone).address(ip));
                    Err(VerifyEmailError::WrongPassword)
                }
                // nothing was compared, so the attempt does not count
                Err(error) => {
                    attempt.refund(state).await;
                    Err(ServiceError::from(error).into())
                }
            }
        }
        Proof::None => Err(VerifyEmailError::ProofRequired),
    }
}

/// Verifies the primary address of a locked account, and commits the change.
async fn apply(
    state: &AppState,
    mut change: AccountChange,
    new_hash: Option<PasswordHash>,
    is_signed_in: bool,
    origin: &RequestOrigin,
) -> Result<(), VerifyEmailError> {
    let (id, now) = (change.account.id, state.clock.now());
    let claims_before = additional_claims::load_in_change(state, &mut change).await?;
    change.verify_email(now).await.map_err(|error| match error {
        TakeAddressError::Taken => VerifyEmailError::EmailTaken,
        TakeAddressError::Sql(error) => error.into(),
    })?;
    let reason = match (&new_hash, is_signed_in) {
        (Some(_), _) => "new_password",
        (None, true) => "session",
        (None, false) => "password",
    };
    let entry = AuditEntry::new(now, AuditEvent::EmailVerified).account(id).because(reason);
    change.record(&entry.actor(Actor::Account).address(origin.ip)).await?;
    match new_hash {
        // needs no update of claims: all sessions end, and the next sign-in reads the claims
        Some(hash) => replace_credentials(state, &mut change, &hash, origin).await?,
        None => additional_claims::update(state, &mut change, &claims_before).await?,
    }
    change.commit().await?;
    tracing::info!(account = %id, "e-mail address of an account verified");
    Ok(())
}

/// Sets a new password. Removes what was set up before: sessions, factors, consents, recognized devices, and the secondary, pending and
/// former addresses.
pub(super) async fn replace_credentials(
    state: &AppState,
    change: &mut AccountChange,
    hash: &PasswordHash,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    let (id, now) = (change.account.id, state.clock.now());
    change.set_password(hash, now).await?;
    change.clear_pending_address().await?;
    change.clear_secondary_emails().await?;
    change.clear_former_addresses().await?;
    change.clear_factors(now).await?;
    change.withdraw_consents(now, origin.ip).await?;
    let entry = AuditEntry::new(now, AuditEvent::PasswordChange).account(id).because("verify_email");
    change.record(&entry.actor(Actor::Account).address(origin.ip)).await?;
    let epoch = change.bump_epoch().await?;
    let ended = state
        .redis
        .sessions
        .revoke_all(AccountSessions::all(id).with_epoch(epoch), EndReason::PasswordChanged, now)
        .await?;
    record_ended(change, EndReason::PasswordChanged, ended, now).await?;
    limits::forget_devices(state, id).await
}
