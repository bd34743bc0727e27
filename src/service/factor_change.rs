//! Finishes a change of the factors of the caller's account: the account's other sessions end, and in the same step a new session
//! takes the place of the caller's, so that copies of the caller's tokens stop working as well (I5).

use crate::{
    crypto::access_token::AccessClaims,
    domain::{
        audit::{Actor, AuditEvent, Entry},
        event::Reason,
        mail::{FactorChange, FactorKind, MailData, Template},
        session::Accepted,
    },
    service::{
        account_mail,
        accounts::record_ended,
        error::{ServiceError, from_store_errors},
        further_claims,
        request_origin::RequestOrigin,
        token_issuer::{self, Tokens},
    },
    state::AppState,
    store::{
        redis::{Replace, Replacement},
        sql::AccountChange,
    },
};

/// Why a change of factors was not stored.
#[derive(Debug, thiserror::Error)]
pub enum FactorChangeError {
    /// The caller's session has ended meanwhile (I3).
    #[error("the session has ended")]
    SessionEnded,
    /// Only bearer sessions were accepted, and the caller's is a cookie session.
    #[error("the session's refresh token travels in a cookie, which this request must not set")]
    CookieNotAccepted,
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

from_store_errors!(FactorChangeError);

/// The session that changes a factor, and the client.
#[derive(Clone, Copy, Debug)]
pub struct FactorChanger<'a> {
    /// The caller.
    pub caller: &'a AccessClaims,
    /// The sessions that may be replaced.
    pub accepted: Accepted,
    /// The client.
    pub origin: &'a RequestOrigin,
}

/// Commits the change with its audit entry and a notice to the owner, and returns the tokens of the session that takes the place
/// of the caller's. It keeps the caller's authentication.
///
/// # Errors
/// [`FactorChangeError`]. Nothing was changed then, except that the sessions may have ended if the database failed to commit.
pub(super) async fn finish(
    state: &AppState,
    mut change: AccountChange,
    by: FactorChanger<'_>,
    entry: Entry,
    (kind, what): (FactorKind, FactorChange),
) -> Result<Tokens, FactorChangeError> {
    let FactorChanger { caller, accepted, origin } = by;
    let (account, now) = (change.account.id, state.clock.now());
    change.record(&entry.account(account).session(caller.sid).by(Actor::Account).from(origin.ip)).await?;
    let epoch = change.bump_epoch().await?;
    if account_mail::wants(state, &change.account, Template::FactorChanged) {
        let notice = account_mail::notice(state, &change.account, origin, now).await?;
        let to = change.account.email.clone();
        let data = MailData::FactorChanged { change: what, factor: kind, notice };
        account_mail::enqueue(state, &mut change, &to, origin, data).await?;
    }
    // While the row is locked: if the sessions can't be ended, or the caller's own session has ended, the factors stay.
    let (reason, settings) = (Reason::Revoked, &state.config.session);
    let further_claims = further_claims::of_change(state, &mut change).await?;
    let replacement = Replacement {
        id: state.entropy.session_id(),
        account,
        replaces: caller.sid,
        accepted,
        roles: change.account.roles.clone(),
        further_claims,
        claims_version: change.account.claims_version,
        epoch,
        authentication: None,
        idle_timeout: settings.idle_timeout,
        absolute_timeout: settings.absolute_timeout,
    };
    let (grant, ended) = match state.redis.sessions.replace_all(replacement, reason, now).await? {
        Replace::Replaced { grant, ended } => (grant, ended),
        Replace::Gone => return Err(FactorChangeError::SessionEnded),
        Replace::NotAccepted => return Err(FactorChangeError::CookieNotAccepted),
    };
    let replaced = Entry::new(now, AuditEvent::SessionEnded).because("replaced").detail(grant.session.to_string());
    change.record(&replaced.account(account).session(caller.sid).by(Actor::Account).from(origin.ip)).await?;
    record_ended(&mut change, reason, ended, now).await?;
    change.commit().await?;
    tracing::info!(%account, session = %grant.session, replaced = %caller.sid, "factors changed");
    Ok(token_issuer::issue(state, &grant, now)?)
}
