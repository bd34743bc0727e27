//! Issues ID tokens (OpenID Connect Core 1.0, section 2), and decides what a scope reveals about the user (section 5.4).

use crate::{
    crypto::{
        access_token::AccessToken,
        id_token::{IdClaims, IdToken, UserClaims},
    },
    domain::{account::Account, clock::Timestamp, ids::AccountId, profile::Profile, session::Grant},
    service::error::ServiceError,
    state::AppState,
};

/// Whether the space-separated `scopes` contain `scope`.
pub(super) fn has_scope(scopes: &str, scope: &str) -> bool {
    scopes.split(' ').any(|granted| granted == scope)
}

/// Issues the ID token of a grant beside its access token; `None` if `openid` was not granted.
pub(super) async fn issue(
    state: &AppState,
    grant: &Grant,
    nonce: Option<String>,
    access_token: &AccessToken,
    now: Timestamp,
) -> Result<Option<IdToken>, ServiceError> {
    let Some(client) = grant.client.as_deref().filter(|client| has_scope(&client.scope, "openid")) else {
        return Ok(None);
    };
    // an account that was deleted meanwhile has no claims
    let user = user_claims(state, grant.account, &client.scope).await?.unwrap_or_default();
    let step_up_ttl = state.config.factors.step_up_ttl;
    let effective = grant.authentication.with_step_up(grant.step_up, step_up_ttl, now);
    let keys = state.keys.current();
    let signer = keys.signer(now)?;
    let claims = IdClaims {
        iss: state.config.issuer.clone(),
        sub: grant.account,
        aud: client.client_id.clone(),
        iat: now.as_secs(),
        exp: (now + state.config.token.access_ttl).min(grant.ends_at).as_secs(),
        auth_time: effective.at.as_secs(),
        acr: effective.acr.as_str().to_owned(),
        amr: effective.methods.amr(),
        sid: grant.session,
        nonce,
        at_hash: Some(signer.at_hash(access_token.expose())),
        user,
    };
    let token = signer.encode_id_token(&claims).map_err(|error| ServiceError::Internal(error.into()))?;
    Ok(Some(token))
}

/// The claims about an account's owner that `scopes` reveal; `None` if there is no such account.
pub(super) async fn user_claims(
    state: &AppState,
    account: AccountId,
    scopes: &str,
) -> Result<Option<UserClaims>, ServiceError> {
    let Some(account) = state.sql.account(account).await? else { return Ok(None) };
    let mut claims = UserClaims::default();
    if has_scope(scopes, "profile") {
        reveal_profile(&mut claims, &account, state.sql.profile(account.id).await?);
    }
    if has_scope(scopes, "email")
        && let Some(email) = account.primary_email()
    {
        claims.email = Some(email.as_str().to_owned());
        claims.email_verified = Some(account.email_verified);
    }
    Ok(Some(claims))
}

/// Adds the claims of the scope `profile`. If the account has no username, the part of its address before the `@` stands for it.
fn reveal_profile(claims: &mut UserClaims, account: &Account, profile: Profile) {
    let email_local_part = || account.primary_email().and_then(|email| email.as_str().split('@').next());
    let username = account.username.as_ref().map(|name| name.as_str()).or_else(email_local_part);
    claims.preferred_username = username.map(str::to_owned);
    claims.name = profile.display_name.or_else(|| claims.preferred_username.clone());
    claims.locale = profile.locale.map(|locale| locale.as_str().to_owned());
    claims.zoneinfo = profile.time_zone.map(|zone| zone.as_str().to_owned());
    claims.updated_at = Some(account.updated_at.as_secs());
}
