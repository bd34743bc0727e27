//! A user signs in: whether that may be tried now is asked, the password is checked, a session begins, its tokens are made.

use std::time::Duration;

use crate::{
    domain::{
        account::{Account, Epoch, Identifier},
        audit::{Actor, AuditEvent, Entry},
        event::Reason,
        ids::AccountId,
        secret::SecretText,
        session::{Origin, Transport},
    },
    password::Verified,
    service::{
        error::ServiceError,
        limits::{self, Attempt, DeviceToken},
        token_issuer::{self, Tokens},
    },
    state::AppState,
    store::redis::{Create, NewSession},
};

/// What is needed to sign in.
#[derive(Clone, Debug)]
pub struct Login {
    /// An e-mail address or a username.
    pub identifier: Identifier,
    /// The password, as typed.
    pub password: SecretText,
    /// How the refresh token shall travel.
    pub transport: Transport,
    /// Where the request comes from.
    pub origin: Origin,
    /// The refresh token of a session that this one takes the place of (ASVS 7.2.4): that ends.
    pub replaces: Option<String>,
    /// By which the account may know the device.
    pub device: Option<DeviceToken>,
}

/// Why a sign-in was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no such account, it is disabled, or the password is wrong: never says which (I7).
    #[error("the identifier or the password is wrong")]
    InvalidCredentials,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Signs a user in. The second result is by what the account knows the device from now on.
///
/// # Errors
/// [`LoginError`]
pub async fn login(state: &AppState, input: Login) -> Result<(Tokens, DeviceToken), LoginError> {
    let outcome = sign_in(state, input).await;
    let label = match &outcome {
        Ok(_) => "success",
        Err(LoginError::InvalidCredentials) => "invalid_credentials",
        Err(LoginError::Service(failure)) => failure.label(),
    };
    state.metrics.logins.with_label_values(&[label]).inc();
    outcome
}

async fn sign_in(state: &AppState, input: Login) -> Result<(Tokens, DeviceToken), LoginError> {
    // before anybody is asked anything: of a flood, those who would be refused in the end cost next to nothing
    let _place = state.passwords.reserve().map_err(ServiceError::from)?;
    let attempt = limits::login(state, &input.identifier, input.origin.ip, input.device.as_ref()).await?;
    let outcome = begin(state, &input, &attempt).await;
    if let Err(LoginError::Service(_)) = &outcome {
        attempt.refund(state).await;
    }
    outcome
}

async fn begin(state: &AppState, input: &Login, attempt: &Attempt) -> Result<(Tokens, DeviceToken), LoginError> {
    // Twice at most: an account that changed while its password was being checked is checked again as it is now.
    for _ in 0..2 {
        let account = authenticate(state, input).await?;
        let now = state.clock.now();
        let settings = &state.config.session;
        let session_id = state.entropy.session_id();
        let session = NewSession {
            id: session_id,
            account: account.id,
            roles: account.roles.clone(),
            epoch: account.epoch,
            transport: input.transport,
            origin: input.origin.clone(),
            idle_timeout: settings.idle_timeout,
            absolute_timeout: settings.absolute_timeout,
            max_per_account: settings.max_per_account,
        };
        let (created, device) =
            tokio::join!(state.redis.sessions.create(session, now), attempt.trust_device(state, &account));
        match created.map_err(ServiceError::from)? {
            Create::Created(grant) => {
                let entry = Entry::new(now, AuditEvent::SignIn).account(account.id).session(session_id);
                state.audit.record(entry.by(Actor::Account).from(input.origin.ip));
                end_replaced(state, input).await;
                return Ok((token_issuer::issue(state, &grant, now)?, device));
            }
            Create::Stale => resync_epoch(state, account.id, account.epoch).await?,
        }
    }
    let source = anyhow::anyhow!("the account kept changing while its password was being checked");
    Err(ServiceError::Unavailable { what: "account", retry_after: Duration::from_secs(1), source }.into())
}

/// Whose identifier and password these are. The same work is done whether there is such an account or not.
async fn authenticate(state: &AppState, input: &Login) -> Result<Account, LoginError> {
    let account = state.sql.find_account(&input.identifier).await.map_err(ServiceError::from)?;
    let (known, disabled) = match &account {
        Some(account) => (Some(account.id), account.disabled_at.is_some()),
        None => (None, false),
    };
    let account = account.filter(|account| account.disabled_at.is_none());
    let stored = account.as_ref().map(|account| account.password_hash.clone());
    let verified = state.passwords.verify(input.password.clone(), stored).await.map_err(ServiceError::from)?;
    let (Some(account), Verified::Match { upgraded }) = (account, verified) else {
        let reason = match known {
            None => "unknown_account",
            Some(_) if disabled => "disabled",
            Some(_) => "wrong_password",
        };
        let mut entry = Entry::new(state.clock.now(), AuditEvent::SignIn).refused(reason).by(Actor::Anyone);
        entry.what.account = known;
        state.audit.record(entry.from(input.origin.ip));
        return Err(LoginError::InvalidCredentials);
    };
    if let Some(hash) = upgraded {
        let now = state.clock.now();
        if let Err(error) = state.sql.upgrade_password_hash(account.id, &account.password_hash, &hash, now).await {
            // it will be tried again at the next sign-in
            tracing::warn!(account = %account.id, %error, "the password's hash could not be brought up to date");
        }
    }
    Ok(account)
}

/// Waits for the change that made a sign-in stale. Should it have been undone (sessions were ended, or are about to be,
/// and the account stayed as it was), the account takes over the epoch that the session store was told of: else nobody
/// could sign in until that has forgotten it.
async fn resync_epoch(state: &AppState, account: AccountId, checked: Epoch) -> Result<(), LoginError> {
    let change = state.sql.change_account(account).await.map_err(ServiceError::from)?;
    if let Some(mut change) = change.filter(|change| change.account.epoch == checked) {
        change.bump_epoch().await.map_err(ServiceError::from)?;
        change.commit().await.map_err(ServiceError::from)?;
    }
    Ok(())
}

/// Ends the session that the new one takes the place of. It is its user's wish to go on, so what fails here fails alone.
async fn end_replaced(state: &AppState, input: &Login) {
    let Some(claims) = input.replaces.as_deref().and_then(|token| state.refresh_tokens.decode(token).ok()) else {
        return;
    };
    let now = state.clock.now();
    match state.redis.sessions.revoke(claims.account, claims.session, Reason::Logout, now).await {
        Ok(false) => {}
        Ok(true) => {
            let entry = Entry::new(now, AuditEvent::SessionEnded).because("replaced");
            let entry = entry.account(claims.account).session(claims.session).by(Actor::Account);
            state.audit.record(entry.from(input.origin.ip));
        }
        Err(error) => {
            tracing::warn!(session = %claims.session, %error, "the session that a sign-in replaced could not be ended");
        }
    }
}
