//! Signs in with a passkey alone, without a username.

use serde_json::{Map, Value};

use super::{
    PasskeyError,
    verify::{self, PasskeyTask},
};
use crate::{
    domain::{
        authentication::{Acr, Authentication},
        session::{SessionOrigin, Transport},
    },
    metrics::LoginOutcome,
    service::{
        error::ServiceError,
        limits::{DeviceToken, LoginAttempt},
        request_origin::RequestOrigin,
        sign_in::{self, Authenticated, SignInStep},
    },
    state::AppState,
};

/// The input of a sign-in with a passkey.
#[derive(Clone, Debug)]
pub struct PasskeySignIn {
    /// The response of the authenticator.
    pub credential: Map<String, Value>,
    /// How the refresh token travels.
    pub transport: Transport,
    /// The IP address and the user agent of the request.
    pub origin: SessionOrigin,
    /// The refresh token of the session that the new session replaces and ends (ASVS 7.2.4).
    pub replaces: Option<String>,
    /// The token by which the account recognizes the device, if it has one.
    pub device: Option<DeviceToken>,
}

/// Signs in. The session has the level `aal2` if the authenticator has verified its user, and `aal1` otherwise. The account may require
/// further steps, as at every sign-in.
///
/// # Errors
/// [`PasskeyError`]
pub async fn sign_in(state: &AppState, input: &PasskeySignIn) -> Result<SignInStep, PasskeyError> {
    let outcome = try_sign_in(state, input).await;
    state.metrics.count_login(match &outcome {
        Ok(SignInStep::SignedIn(_)) => LoginOutcome::Success,
        Ok(SignInStep::EmailVerificationRequired) => LoginOutcome::EmailNotVerified,
        Ok(SignInStep::SecondFactorRequired(_)) => LoginOutcome::SecondFactorRequired,
        Ok(SignInStep::EnrolmentRequired(_)) => LoginOutcome::EnrolmentRequired,
        Ok(SignInStep::PasswordRequired) => LoginOutcome::PasswordRequired,
        Ok(SignInStep::AccountChanged) => LoginOutcome::Unavailable,
        Err(PasskeyError::Off | PasskeyError::Refused) => LoginOutcome::InvalidCredentials,
        Err(PasskeyError::Service(error)) => error.into(),
    });
    outcome
}

async fn try_sign_in(state: &AppState, input: &PasskeySignIn) -> Result<SignInStep, PasskeyError> {
    let request_origin =
        RequestOrigin { ip: input.origin.ip, user_agent: input.origin.user_agent.clone(), accept_language: None };
    let credential = input.credential.clone();
    // A passkey without user verification is one factor: the sign-in may need another one before it is complete.
    let is_complete = |user_verified: bool| user_verified;
    let verified = verify::verify(state, PasskeyTask::SignIn, credential, &request_origin, is_complete).await?;
    let now = state.clock.now();
    let acr = if verified.user_verified { Acr::Aal2 } else { Acr::Aal1 };
    let authentication = Authentication { at: now, methods: verified.methods, acr };
    let (id, factors_version) = (verified.account.id, verified.account.factors_version);
    let attempt = LoginAttempt::recognize(state, id, input.origin.ip, input.device.as_ref()).await?;
    let mut account = verified.account;
    // If the account has changed meanwhile, reads it and tries once more. If its factors are the same, the passkey still exists.
    for is_last in [false, true] {
        let proved = Authenticated {
            account: account.clone(),
            authentication,
            transport: input.transport,
            origin: &input.origin,
            attempt: &attempt,
            device: input.device.as_ref(),
            replaces: input.replaces.as_deref(),
            // the client requests no level
            wanted_acr: Acr::default(),
        };
        match sign_in::proceed(state, proved).await? {
            SignInStep::AccountChanged if is_last => break,
            SignInStep::AccountChanged => {
                let changed = state.sql.account(id).await?;
                let still_allowed =
                    changed.filter(|changed| changed.factors_version == factors_version && !changed.is_closed(now));
                account = still_allowed.ok_or(PasskeyError::Refused)?;
            }
            step => {
                // `verify` has stored the time of use only if the passkey verified its user.
                if !verified.user_verified && matches!(step, SignInStep::SignedIn(_)) {
                    state.sql.set_passkey_used_at(verified.passkey, now).await?;
                }
                return Ok(step);
            }
        }
    }
    Err(ServiceError::AccountChanged("its owner was signing in").into())
}
