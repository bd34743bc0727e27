//! Issues an authorization code to a client whose user has completed all steps of its request.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::validate::grant_of;
use crate::{
    crypto::authorization_code::AuthorizationCode,
    domain::{
        audit::{Actor, AuditEntry, AuditEvent},
        authorization::{AuthorizationRequest, AuthorizationResponse},
        client::Client,
        session::SessionOrigin,
    },
    service::{browser_session::BrowserSession, error::ServiceError},
    state::AppState,
    store::redis::NewCode,
};

/// How long a code is valid (RFC 6749, section 4.1.2, recommends at most ten minutes).
pub(crate) const CODE_TTL: Duration = Duration::from_secs(60);

/// The data of a code that the token endpoint needs and that the session does not have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CodePayload {
    /// The parameter `nonce`.
    pub(crate) nonce: Option<String>,
    /// The resources of the request; a token request may narrow them (RFC 8707, section 2.2).
    pub(crate) resources: Vec<String>,
}

/// The digest of the values that bind a code: the token request must come from this client, repeat the redirect URI, and send the
/// verifier of the code challenge. `client` is the client's id in the store, which for a dynamic client is not its `client_id`.
pub(crate) fn code_binding_digest(client: &str, redirect_uri: &str, code_challenge: &str) -> [u8; 32] {
    // None of the three values contains a line break, so no other three values give the same text.
    let text = [client, redirect_uri, code_challenge].join("\n");
    let sha256 = digest(&SHA256, text.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(sha256.as_ref());
    bytes
}

/// Issues a code for the user of the browser's session. Returns the response for the client.
pub(super) async fn issue(
    state: &AppState,
    request: &AuthorizationRequest,
    client: &Client,
    browser: &BrowserSession,
    origin: &SessionOrigin,
) -> Result<AuthorizationResponse, ServiceError> {
    let session = &browser.session;
    let now = state.clock.now();
    let code = AuthorizationCode::generate(&state.entropy, session.account);
    let payload = CodePayload { nonce: request.nonce.clone(), resources: request.resources.clone() };
    let payload_json = serde_json::to_string(&payload).map_err(|error| ServiceError::Internal(error.into()))?;
    let new_code = NewCode {
        account: session.account,
        digest: code.digest(),
        binding: code_binding_digest(client.id.as_str(), &request.redirect_uri, &request.code_challenge),
        browser: session.id,
        is_offline: request.has_scope("offline_access"),
        client: &grant_of(state, client, request),
        origin,
        payload: &payload_json,
        expires_at: now + CODE_TTL,
    };
    state.redis.authorizations.put_code(&new_code, now).await?;
    let entry = AuditEntry::new(now, AuditEvent::CodeIssued)
        .account(session.account)
        .session(session.id)
        .client(client.id.clone())
        .detail(request.scope.clone())
        .actor(Actor::Account)
        .address(origin.ip);
    state.audit.record(entry);
    let mut parameters = vec![("code", code.expose().to_owned())];
    parameters.extend(request.state.clone().map(|text| ("state", text)));
    // The issuer, so that the client detects a code of another server (RFC 9207).
    parameters.push(("iss", state.config.issuer.clone()));
    Ok(AuthorizationResponse { redirect_uri: request.redirect_uri.clone(), mode: request.response_mode, parameters })
}
