//! Authenticates the user of a session again (step-up): raises the session's `acr`, renews its `auth_time`, and issues a new access
//! token. The session's refresh token stays.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        account::Account,
        audit::{Actor, AuditEntry, AuditEvent},
        authentication::{Acr, Authentication, AuthenticationMethod, AuthenticationMethods},
        secret::SecretText,
        session::{Grant, SessionOrigin},
    },
    password::Verified,
    service::{
        error::{ServiceError, from_store_errors},
        limits::{self, DeviceToken},
        passkeys::{self, PasskeyError, PasskeyOptions, verify::PasskeyTask},
        recent_authentication::required_acr,
        request_origin::RequestOrigin,
        sign_in::{
            policy,
            second_factor::{self, SecondFactor, SecondFactorError},
        },
        token_issuer::{self, IssuedAccessToken},
    },
    state::AppState,
    store::redis::{LastUseOrigin, StepUp, StepUpOutcome},
};

/// The methods of a first factor that is not a passkey: a password or a one-time code.
const NOT_PASSKEY: [AuthenticationMethod; 2] = [AuthenticationMethod::Password, AuthenticationMethod::OneTimePassword];

/// The password, the code or the passkey with which the user of a session authenticates again.
#[derive(Clone, Debug)]
pub struct Reauthenticate {
    /// The password.
    pub password: Option<SecretText>,
    /// A code of a second factor.
    pub factor: Option<SecondFactor>,
    /// The response of a passkey to [`passkey_options`].
    pub credential: Option<Map<String, Value>>,
    /// The IP address and the user agent of the request.
    pub origin: SessionOrigin,
    /// The token by which the account recognizes the device, if it has one.
    pub device: Option<DeviceToken>,
}

/// A session whose user has authenticated again.
#[derive(Clone, Debug)]
pub struct Reauthenticated {
    /// The session's new access token.
    pub token: IssuedAccessToken,
    /// The level, the methods and the time that the token contains.
    pub authentication: Authentication,
}

/// Why a session was not authenticated again.
#[derive(Debug, thiserror::Error)]
pub enum ReauthenticateError {
    /// The session has ended, or its account was deleted or disabled.
    #[error("the session has ended")]
    SessionEnded,
    /// Neither a password, a code nor a passkey was sent.
    #[error("nothing was sent that authenticates the user")]
    NothingPresented,
    /// The password is wrong.
    #[error("the password is wrong")]
    WrongPassword,
    /// The code of the second factor is wrong or was used.
    #[error("the code is wrong")]
    WrongCode,
    /// See [`PasskeyError`].
    #[error(transparent)]
    Passkey(#[from] PasskeyError),
    /// The account has an authenticator app or a passkey, so a second factor must be shown.
    #[error("the account has an authenticator app or a passkey, so a second factor must be shown")]
    SecondFactorRequired,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(ReauthenticateError);

impl From<SecondFactorError> for ReauthenticateError {
    fn from(error: SecondFactorError) -> Self {
        // `second_factor::verify` returns only `WrongCode` and `Service`; sign-ins return the other errors
        match error {
            SecondFactorError::Service(error) => Self::Service(error),
            SecondFactorError::InvalidChallenge
            | SecondFactorError::WrongCode
            | SecondFactorError::WrongPasskey
            | SecondFactorError::PasskeysOff
            | SecondFactorError::EmailCodeNotOffered
            | SecondFactorError::EnrolmentRequired(_)
            | SecondFactorError::CookieNotAccepted => Self::WrongCode,
        }
    }
}

/// The options with which a passkey authenticates the user of the caller's session again.
///
/// # Errors
/// [`PasskeyError`]
pub async fn passkey_options(
    state: &AppState,
    caller: &AccessClaims,
    ip: Option<IpAddr>,
) -> Result<PasskeyOptions, PasskeyError> {
    passkeys::verify::options(state, PasskeyTask::StepUp(caller.sub, caller.sid), ip).await
}

/// Authenticates the user of the caller's session again, and issues an access token that names the authentication.
///
/// # Errors
/// [`ReauthenticateError`]
pub async fn reauthenticate(
    state: &AppState,
    caller: &AccessClaims,
    input: Reauthenticate,
) -> Result<Reauthenticated, ReauthenticateError> {
    let (grant, authentication) = reauthenticate_session(state, caller, input).await?;
    let token = token_issuer::issue_access(state, &grant, state.clock.now())?;
    Ok(Reauthenticated { token, authentication })
}

/// Authenticates the user of the caller's session again, and issues no token. Pages call this function: a browser's session has no access
/// token.
///
/// A second factor raises the level together with a first one: the password in `input`, or else the first factor of the session. For an
/// account that has an authenticator app or a passkey, a password alone is not enough.
///
/// # Errors
/// [`ReauthenticateError`]
pub async fn reauthenticate_session(
    state: &AppState,
    caller: &AccessClaims,
    input: Reauthenticate,
) -> Result<(Grant, Authentication), ReauthenticateError> {
    let account = state.sql.account(caller.sub).await?.filter(|account| !account.is_closed(state.clock.now()));
    let account = account.ok_or(ReauthenticateError::SessionEnded)?;
    let has_code_or_passkey = input.factor.is_some() || input.credential.is_some();
    if input.password.is_none() && !has_code_or_passkey {
        return Err(ReauthenticateError::NothingPresented);
    }
    if !has_code_or_passkey && required_acr(&account) > Acr::Aal1 {
        record_refusal(state, caller, input.origin.ip, "second_factor_required");
        return Err(ReauthenticateError::SecondFactorRequired);
    }
    let mut methods = AuthenticationMethods::default();
    if let Some(password) = input.password {
        verify_password(state, caller, &account, password, &input.origin, input.device.as_ref()).await?;
        methods = methods.with(AuthenticationMethod::Password);
    }
    let mut acr = Acr::Aal1;
    if let Some(factor) = &input.factor {
        second_factor::verify(state, &account, factor, &input.origin, input.device.as_ref()).await?;
        // the first factor is the password in the request, or else that of the session
        let first_methods = if methods.contains(AuthenticationMethod::Password) {
            methods
        } else {
            session_methods(caller, AuthenticationMethod::ALL)
        };
        let code = AuthenticationMethods::only(AuthenticationMethod::OneTimePassword);
        (methods, acr) = policy::combine(&account, first_methods, code);
    }
    if let Some(credential) = input.credential {
        let origin =
            RequestOrigin { ip: input.origin.ip, user_agent: input.origin.user_agent.clone(), accept_language: None };
        let task = PasskeyTask::StepUp(caller.sub, caller.sid);
        // as for a code, but a passkey that began the session doesn't count: two passkeys are one factor
        let first_methods = if methods.contains(AuthenticationMethod::Password) {
            methods
        } else {
            session_methods(caller, NOT_PASSKEY)
        };
        let has_first_factor = first_methods != AuthenticationMethods::default();
        // if this returns true, `verify` stores the time of the passkey's last use
        let is_complete = |user_verified| user_verified || has_first_factor;
        let verified = passkeys::verify::verify(state, task, credential, &origin, is_complete).await?;
        methods = verified.methods.iter().fold(methods, AuthenticationMethods::with);
        if is_complete(verified.user_verified) {
            acr = Acr::Aal2;
            // without user verification, the passkey is only the second factor: the first one counts as well
            if !verified.user_verified {
                methods = first_methods.iter().fold(methods, AuthenticationMethods::with);
            }
            methods = methods.with(AuthenticationMethod::MultipleFactors);
        } else if required_acr(&account) > Acr::Aal1 {
            record_refusal(state, caller, input.origin.ip, "second_factor_required");
            return Err(ReauthenticateError::SecondFactorRequired);
        }
    }
    let authentication = Authentication { at: state.clock.now(), methods, acr };
    let grant = step_up(state, caller, &account, authentication, &input.origin).await?;
    Ok((grant, authentication))
}

/// The methods among `candidates` that the caller's session has.
fn session_methods(
    caller: &AccessClaims,
    candidates: impl IntoIterator<Item = AuthenticationMethod>,
) -> AuthenticationMethods {
    let is_of_session = |method: &AuthenticationMethod| caller.amr.iter().any(|amr| amr == method.as_str());
    candidates.into_iter().filter(is_of_session).fold(AuthenticationMethods::default(), AuthenticationMethods::with)
}

/// Verifies the password under the throttle of sign-ins.
async fn verify_password(
    state: &AppState,
    caller: &AccessClaims,
    account: &Account,
    password: SecretText,
    origin: &SessionOrigin,
    device: Option<&DeviceToken>,
) -> Result<(), ReauthenticateError> {
    // a full hashing queue refuses the request before the throttle counts an attempt
    let _reservation = state.passwords.reserve().map_err(ServiceError::from)?;
    let attempt = limits::begin_reauthentication(state, account.id, origin.ip, device).await?;
    match state.passwords.verify(password, account.password_hash.clone()).await {
        // only wrong passwords count
        Ok(Verified::Match { .. }) => {
            attempt.refund(state).await;
            Ok(())
        }
        Ok(Verified::Mismatch | Verified::Unusable(_)) => {
            record_refusal(state, caller, origin.ip, "wrong_password");
            Err(ReauthenticateError::WrongPassword)
        }
        Err(error) => {
            attempt.refund(state).await;
            Err(ServiceError::from(error).into())
        }
    }
}

/// Records the authentication in the session.
async fn step_up(
    state: &AppState,
    caller: &AccessClaims,
    account: &Account,
    authentication: Authentication,
    origin: &SessionOrigin,
) -> Result<Grant, ReauthenticateError> {
    let now = state.clock.now();
    let tag = state.origin_tags.tag(origin.ip, origin.user_agent.as_deref());
    let step_up = StepUp {
        account: account.id,
        session: caller.sid,
        epoch: account.epoch,
        authentication,
        origin: LastUseOrigin { tag, ip: origin.ip },
    };
    match state.redis.sessions.step_up(step_up, now).await? {
        StepUpOutcome::Recorded(grant) => {
            let entry = AuditEntry::new(now, AuditEvent::Reauthentication).because(authentication.acr.as_str());
            state.audit.record(entry.account(account.id).session(caller.sid).actor(Actor::Account).address(origin.ip));
            Ok(*grant)
        }
        StepUpOutcome::Gone => Err(ReauthenticateError::SessionEnded),
        StepUpOutcome::Stale => Err(ServiceError::AccountChanged("its owner was authenticating again").into()),
    }
}

/// Records a refused re-authentication.
fn record_refusal(state: &AppState, caller: &AccessClaims, ip: Option<IpAddr>, reason: &'static str) {
    let entry = AuditEntry::new(state.clock.now(), AuditEvent::Reauthentication).refused(reason);
    state.audit.record(entry.account(caller.sub).session(caller.sid).actor(Actor::Account).address(ip));
}
