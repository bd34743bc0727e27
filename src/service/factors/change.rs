//! Begins and finishes a change of an account's factors. In one step, the owner gets a notice, all sessions of the account end, and a new
//! session replaces the caller's (I5).

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{Acr, Authentication, AuthenticationMethod, AuthenticationMethods},
        clock::Timestamp,
        event::EndReason,
        mail::{FactorChange, MailData, NoticeFactor, Template},
        secret::SecretText,
        session::AcceptedTransport,
    },
    service::{
        account_mail,
        error::{ServiceError, from_replace_sessions_error, from_store_errors},
        limits,
        recent_authentication::{self, required_acr},
        replace_sessions::replace_sessions_with,
        request_origin::RequestOrigin,
        token_issuer::Tokens,
    },
    state::AppState,
    store::sql::AccountChange,
};

/// The result of a change of factors: the tokens of the session that replaces the caller's, and new recovery codes.
#[derive(Clone, Debug)]
pub struct FactorsChanged {
    /// The tokens.
    pub tokens: Tokens,
    /// The new recovery codes; empty if the account keeps its former ones.
    pub recovery_codes: Vec<SecretText>,
}

/// Why an account's factors were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeFactorsError {
    /// The account was deleted or disabled.
    #[error("the account was deleted or disabled")]
    NoAccount,
    /// The caller's session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// Only bearer sessions were accepted, and the caller's is a cookie session.
    #[error("the session's refresh token is in a cookie, which a page of another site must not set")]
    CookieNotAccepted,
    /// The account has no such factor.
    #[error("the account has no such factor")]
    UnknownFactor,
    /// The account has the maximum number of factors of this kind.
    #[error("the account has the maximum number of factors of this kind")]
    TooMany,
    /// The code is wrong, or there is no authenticator app to confirm.
    #[error("the code is wrong")]
    WrongCode,
    /// The account must have a second factor, and this is the last one.
    #[error("the account must keep a second factor")]
    FactorRequired,
    /// The account has no second factor that recovery codes could replace.
    #[error("the account has no second factor")]
    NoFactor,
    /// Codes by mail are off (`factors.email_code`).
    #[error("codes by mail are off")]
    EmailCodeOff,
    /// Codes by mail are on already.
    #[error("codes by mail are on already")]
    EmailCodeOn,
    /// The account's address is not verified: its mails may reach another person.
    #[error("the account's e-mail address is not verified")]
    EmailNotVerified,
    /// The account has no password. A code by mail is a second factor only after a password.
    #[error("the account has no password")]
    NoPassword,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ChangeFactorsError);
from_replace_sessions_error!(ChangeFactorsError);

/// A change, for the audit log and the notice.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct ChangeSummary {
    /// The event.
    pub(in crate::service) event: AuditEvent,
    /// Whether a factor is added or removed.
    pub(in crate::service) change: FactorChange,
    /// The factor.
    pub(in crate::service) factor: NoticeFactor,
}

impl ChangeSummary {
    const fn factor_name(self) -> &'static str {
        match self.factor {
            NoticeFactor::Passkey => "passkey",
            NoticeFactor::Totp => "totp",
            NoticeFactor::RecoveryCodes => "recovery_codes",
            NoticeFactor::EmailCode => "email_code",
        }
    }
}

/// The caller of a change.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The access token.
    pub claims: &'a AccessClaims,
    /// Where the request comes from.
    pub origin: &'a RequestOrigin,
    /// The kinds of session that may be replaced.
    pub accepted: AcceptedTransport,
}

/// Locks the caller's account for a change of its factors. The caller must have authenticated recently, and with a second factor if
/// the account has one.
pub(in crate::service) async fn begin(
    state: &AppState,
    caller: &Caller<'_>,
) -> Result<AccountChange, ChangeFactorsError> {
    let change = state.sql.change_account(caller.claims.sub).await?.ok_or(ChangeFactorsError::NoAccount)?;
    if change.account.is_closed(state.clock.now()) {
        return Err(ChangeFactorsError::NoAccount);
    }
    let acr = required_acr(&change.account);
    let max_age = state.config.session.recent;
    recent_authentication::check(state, caller.claims, Some(acr), Some(max_age)).map_err(ServiceError::from)?;
    Ok(change)
}

/// Stores a change of factors: ends all sessions of the account, starts the session that replaces the caller's, and commits.
///
/// If a factor was added, also forgets the account's known devices, whose sign-ins are throttled less: an attacker who knew the password may
/// have made theirs known.
pub(in crate::service) async fn commit(
    state: &AppState,
    change: AccountChange,
    caller: &Caller<'_>,
    summary: ChangeSummary,
) -> Result<Tokens, ChangeFactorsError> {
    let proved = None;
    store_change(state, change, caller, summary, proved).await
}

/// As [`commit`], after the caller has proved a factor. `proved` are the authentication methods of this factor. They raise the new
/// session's level.
pub(in crate::service) async fn commit_with_proved_factor(
    state: &AppState,
    change: AccountChange,
    caller: &Caller<'_>,
    summary: ChangeSummary,
    proved: AuthenticationMethods,
) -> Result<Tokens, ChangeFactorsError> {
    store_change(state, change, caller, summary, Some(proved)).await
}

async fn store_change(
    state: &AppState,
    mut change: AccountChange,
    caller: &Caller<'_>,
    summary: ChangeSummary,
    proved: Option<AuthenticationMethods>,
) -> Result<Tokens, ChangeFactorsError> {
    let Caller { claims, origin, accepted } = *caller;
    let now = state.clock.now();
    record_and_notify(state, &mut change, summary, Some(claims), origin, now).await?;
    let reason = EndReason::FactorsChanged;
    // without a proved factor, the new session has the authentication of the caller's
    let raised = proved.map(|proved| replacement_authentication(claims, proved));
    // The sessions end before the commit. If the commit fails, they have ended for nothing, but a change is never stored while old
    // sessions live.
    let tokens = replace_sessions_with(state, &mut change, claims, accepted, reason, origin.ip, raised).await?;
    if summary.event == AuditEvent::FactorAdded {
        limits::forget_devices(state, claims.sub).await?;
    }
    change.commit().await?;
    tracing::info!(
        account = %claims.sub,
        event = summary.event.as_str(),
        factor = summary.factor_name(),
        "second factors of an account changed by its owner"
    );
    Ok(tokens)
}

/// Writes a change of factors to the audit log, and sends a notice to the owner. `claims` are those of the caller's access token, and
/// `None` during a sign-in, which has no token yet.
pub(in crate::service) async fn record_and_notify(
    state: &AppState,
    change: &mut AccountChange,
    summary: ChangeSummary,
    claims: Option<&AccessClaims>,
    origin: &RequestOrigin,
    now: Timestamp,
) -> Result<(), ServiceError> {
    let mut entry = AuditEntry::new(now, summary.event).account(change.account.id).detail(summary.factor_name());
    if let Some(claims) = claims {
        entry = entry.session(claims.sid);
    }
    change.record(&entry.actor(Actor::Account).address(origin.ip)).await?;
    if account_mail::should_notify(state, &change.account, Template::FactorChanged) {
        let notice = account_mail::notice(state, &change.account, origin, now).await?;
        let to = change.account.email.clone();
        let data = MailData::FactorChanged { change: summary.change, factor: summary.factor, notice };
        account_mail::enqueue(state, change, &to, origin, data).await?;
    }
    Ok(())
}

/// The authentication of the session that replaces the caller's: the caller's own methods, and the factor that was proved.
fn replacement_authentication(claims: &AccessClaims, proved: AuthenticationMethods) -> Authentication {
    let mut methods = proved;
    for method in AuthenticationMethod::ALL {
        if claims.amr.iter().any(|amr| amr == method.as_str()) {
            methods = methods.with(method);
        }
    }
    Authentication {
        at: Timestamp::from_millis(claims.auth_time.saturating_mul(1000)),
        methods: methods.with(AuthenticationMethod::MultipleFactors),
        acr: Acr::parse(&claims.acr).unwrap_or(Acr::Aal1).max(Acr::Aal2),
    }
}
