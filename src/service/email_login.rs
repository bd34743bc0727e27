//! Sign-in by a code or a link from a mail (`login.email_code`).
//!
//! The app that requests the mail gets a secret. The code and the link work only together with this secret. So a code that another person
//! requested, or read over the user's shoulder, can't be used in another app.

use std::{fmt, net::IpAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    config::Verification,
    domain::{
        account::{Account, Email, Identifier},
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{Acr, Authentication, AuthenticationMethod, AuthenticationMethods},
        entropy::Entropy,
        event::EndReason,
        mail::MailData,
        one_time_token::TokenPurpose,
        secret::SecretText,
        session::{SessionOrigin, Transport},
    },
    service::{
        account_mail,
        accounts::record_ended,
        background,
        error::{ServiceError, from_store_errors},
        limits::{self, DeviceToken, LoginAttempt},
        one_time_tokens::{self, Claim, PresentedToken},
        request_origin::RequestOrigin,
        sign_in::{self, Authenticated, IssuedChallenge, SignInStep},
        token_issuer::Tokens,
    },
    state::AppState,
    store::{
        redis::AccountSessions,
        sql::{AccountChange, TakeAddressError},
    },
};

/// Prefix of every login request secret, by which secret scanners find leaked ones.
const PREFIX: &str = "lk_lr_";

/// The secret of the app that requested a sign-in mail. 256 random bits; `Debug` does not print them.
#[derive(Clone)]
pub struct LoginRequestSecret(SecretText);

impl LoginRequestSecret {
    fn generate(entropy: &Entropy) -> Self {
        Self(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(entropy.bytes::<32>())).into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl From<SecretText> for LoginRequestSecret {
    fn from(text: SecretText) -> Self {
        Self(text)
    }
}

impl fmt::Debug for LoginRequestSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[login request]")
    }
}

/// Why a sign-in by mail was refused.
#[derive(Debug, thiserror::Error)]
pub enum EmailLoginError {
    /// Sign-in by mail is off.
    #[error("sign-in by mail is off")]
    Off,
    /// The code or the link does not work: it was used, has expired, was requested by another app, or the account has changed.
    #[error("the code or the link does not work")]
    InvalidToken,
    /// The code or the link is right; a second factor must be shown.
    #[error("a second factor is required")]
    SecondFactorRequired(Box<IssuedChallenge>),
    /// The code or the link is right; a second factor must be set up.
    #[error("a second factor must be set up")]
    EnrolmentRequired(Box<IssuedChallenge>),
    /// The code or the link is right, but the account's second factor is a code by mail: its owner signs in with the password.
    #[error("the account's second factor is a code by mail: its owner signs in with the password")]
    PasswordRequired,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(EmailLoginError);

/// Sends a code and a link, if the address is the primary one or a verified secondary one of an account. Always returns a secret, so that
/// the result does not reveal whether a mail was sent (I12: no account oracle).
///
/// # Errors
/// [`EmailLoginError::Off`], [`EmailLoginError::Service`], for known and unknown addresses alike.
pub async fn request(
    state: &Arc<AppState>,
    email: &str,
    origin: RequestOrigin,
) -> Result<LoginRequestSecret, EmailLoginError> {
    if !state.config.login.email_code {
        return Err(EmailLoginError::Off);
    }
    limits::check_self_service(state, origin.ip).await?;
    let identifier = Identifier::Email(email.to_lowercase());
    let account = state.sql.find_account(&identifier).await?;
    let secret = LoginRequestSecret::generate(&state.entropy);
    let request_secret = secret.clone();
    background::run(state, "login_code", move |state| {
        // cloned for each attempt, because a failed attempt is repeated
        let (account, identifier) = (account.clone(), identifier.clone());
        let (origin, request_secret) = (origin.clone(), request_secret.clone());
        async move {
            // no mail: the sign-in to a closed account (disabled, or due for deletion) could not be completed
            let Some(account) = account.filter(|account| !account.is_closed(state.clock.now())) else { return Ok(()) };
            match state.sql.named_email(&account, &identifier).await? {
                Some(to) if can_complete(&state, &account, &to) => {
                    send(&state, &account, &to, &request_secret, &origin).await
                }
                _ => Ok(()),
            }
        }
    });
    Ok(secret)
}

/// Whether a mail to this address can complete a sign-in. If the primary address must be verified first, only a mail to that address can,
/// because the sign-in then verifies it.
fn can_complete(state: &AppState, account: &Account, to: &Email) -> bool {
    let needs_primary = state.config.registration.verification == Verification::Required;
    !needs_primary || account.email_verified || to.key() == account.email.key()
}

/// Sends the mail, unless the account has reached its limit of mails that were requested without authentication.
async fn send(
    state: &AppState,
    account: &Account,
    to: &Email,
    request_secret: &LoginRequestSecret,
    origin: &RequestOrigin,
) -> Result<(), ServiceError> {
    let (purpose, now) = (TokenPurpose::Login, state.clock.now());
    if !limits::admit_mail(state, purpose, account, to).await? {
        return Ok(());
    }
    let issued = one_time_tokens::issue(state, account, purpose, to, request_secret.expose().as_bytes()).await?;
    let data = MailData::SignInCode {
        challenge: account_mail::link_and_code(state, purpose, &issued),
        origin: account_mail::action_origin(origin, now),
    };
    account_mail::send(state, account, to, origin, data).await?;
    let entry = AuditEntry::new(now, AuditEvent::OneTimeToken).account(account.id).detail(purpose.as_str());
    state.audit.record(entry.actor(Actor::Anyone).address(origin.ip));
    Ok(())
}

/// Signs in with a code or a link.
///
/// The person who reads mails to an unverified address may not be the one who set up the account. The sign-in therefore removes the
/// password and all else that was set up before, and ends the sessions (I13: no pre-hijacking).
///
/// # Errors
/// [`EmailLoginError`]
pub async fn verify(
    state: &AppState,
    presented: &PresentedToken,
    request_secret: &LoginRequestSecret,
    transport: Transport,
    origin: SessionOrigin,
    device: Option<&DeviceToken>,
) -> Result<(Tokens, DeviceToken), EmailLoginError> {
    if !state.config.login.email_code {
        return Err(EmailLoginError::Off);
    }
    limits::check_self_service(state, origin.ip).await?;
    let (purpose, secret) = (TokenPurpose::Login, request_secret.expose().as_bytes());
    let Some(claim) = one_time_tokens::find(state, presented, &[purpose], secret).await? else {
        one_time_tokens::record_refusal(state, presented, purpose, origin.ip);
        return Err(EmailLoginError::InvalidToken);
    };
    let change = state.sql.change_account(claim.account.id).await?.ok_or(EmailLoginError::InvalidToken)?;
    if change.account.is_closed(state.clock.now()) {
        return Err(EmailLoginError::InvalidToken);
    }
    let Some(consumed) = one_time_tokens::take(state, &claim, &change.account).await? else {
        return Err(EmailLoginError::InvalidToken);
    };
    let outcome = finish(state, change, &claim, transport, &origin, device).await;
    // With these outcomes the sign-in has used the code or the link. After any other, the user can present it again.
    let stays_consumed = matches!(
        outcome,
        Ok(_)
            | Err(EmailLoginError::SecondFactorRequired(_)
                | EmailLoginError::EnrolmentRequired(_)
                | EmailLoginError::PasswordRequired)
    );
    if !stays_consumed {
        one_time_tokens::restore(state, &claim, &consumed).await;
    }
    outcome
}

/// Continues the sign-in after the code or the link was consumed.
async fn finish(
    state: &AppState,
    mut change: AccountChange,
    claim: &Claim,
    transport: Transport,
    origin: &SessionOrigin,
    device: Option<&DeviceToken>,
) -> Result<(Tokens, DeviceToken), EmailLoginError> {
    let is_about_primary = claim.about.is_none();
    if is_about_primary && !change.account.email_verified {
        verify_and_clear_account(state, &mut change, origin.ip).await?;
    }
    let account = change.account.clone();
    change.commit().await?;
    let attempt = LoginAttempt::recognize(state, account.id, origin.ip, device).await?;
    let authenticated = Authenticated {
        attempt: &attempt,
        account,
        authentication: Authentication {
            at: state.clock.now(),
            methods: AuthenticationMethods::only(AuthenticationMethod::OneTimePassword),
            acr: Acr::Aal1,
        },
        transport,
        origin,
        device,
        replaces: None,
        wanted_acr: Acr::Aal1,
    };
    match sign_in::proceed(state, authenticated).await? {
        SignInStep::SignedIn(signed_in) => Ok((signed_in.issue_tokens(state)?, signed_in.device)),
        SignInStep::SecondFactorRequired(challenge) => Err(EmailLoginError::SecondFactorRequired(challenge)),
        SignInStep::EnrolmentRequired(challenge) => Err(EmailLoginError::EnrolmentRequired(challenge)),
        SignInStep::PasswordRequired => Err(EmailLoginError::PasswordRequired),
        // `request` sends no mail that could not verify the address (`can_complete`), so the account has changed since
        SignInStep::EmailVerificationRequired | SignInStep::AccountChanged => {
            Err(ServiceError::AccountChanged("its owner was signing in").into())
        }
    }
}

/// Verifies the primary address of a locked account. Removes the sessions, credentials, secondary and former addresses and consents that
/// were set up before.
async fn verify_and_clear_account(
    state: &AppState,
    change: &mut AccountChange,
    ip: Option<IpAddr>,
) -> Result<(), EmailLoginError> {
    let (id, now, reason) = (change.account.id, state.clock.now(), EndReason::PasswordChanged);
    change.verify_email(now).await.map_err(|error| match error {
        TakeAddressError::Taken => EmailLoginError::InvalidToken,
        TakeAddressError::Sql(error) => error.into(),
    })?;
    change.remove_password(now).await?;
    change.clear_factors(now).await?;
    change.clear_pending_address().await?;
    change.clear_secondary_emails().await?;
    change.clear_former_addresses().await?;
    change.withdraw_consents(now, ip).await?;
    let entry = AuditEntry::new(now, AuditEvent::EmailVerified).account(id).because(TokenPurpose::Login.as_str());
    change.record(&entry.actor(Actor::Account).address(ip)).await?;
    let epoch = change.bump_epoch().await?;
    let ended = state.redis.sessions.revoke_all(AccountSessions::all(id).with_epoch(epoch), reason, now).await?;
    record_ended(change, reason, ended, now).await?;
    Ok(limits::forget_devices(state, id).await?)
}
