//! `GET /v1/sessions`, `DELETE /v1/sessions`, `DELETE /v1/sessions/{id}`.

use std::sync::Arc;

use poem::{Request, web::Data};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
    types::Example,
};
use uuid::Uuid;

use super::Tag;
use crate::{
    domain::{
        clock::Timestamp,
        ids::SessionId,
        session::{Session, Transport},
    },
    http::{
        extract::{auth::SignedIn, client_info::ClientInfo, query},
        problem::{
            Code, Failed, Problems,
            groups::{RECENT, SIGNED_IN, codes},
        },
        types::Time,
    },
    service::{error::ServiceError, sessions},
    state::{AppState, clients::ClientLabel},
};

/// The sessions of the caller's account.
pub struct SessionApi;

/// A live session.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, rename = "Session")]
struct SessionResponse {
    /// The session's id: the `sid` claim of its access tokens.
    id: Uuid,
    /// When the user signed in.
    created_at: Time,
    /// When the session was last refreshed (to the minute), or when the user signed in.
    last_used_at: Time,
    /// The IP address of the last refresh, or of the sign-in.
    last_used_ip: Option<String>,
    /// How many of the last eight refresh tokens some client evidently did not have: it presented an older token, from another
    /// network or user agent than the last refresh. A few are a sign of a connection that loses responses while it changes networks.
    /// Many are a sign of a second holder of the session.
    counted_repeats: u8,
    /// When the session ends unless it is refreshed.
    expires_at: Time,
    /// The IP address of the sign-in.
    ip: Option<String>,
    /// The user agent of the sign-in.
    user_agent: Option<String>,
    /// The device name that the user gave at the sign-in.
    device: Option<String>,
    /// Whether this is the calling session.
    current: bool,
    /// Whether this is a browser's session on Latchkey's own pages. The app sessions that the browser has signed in to end together
    /// with the browser's session, unless they have `offline_access`.
    browser: bool,
    /// The app that the user signed in to with OpenID Connect: its `client_id`.
    client_id: Option<String>,
    /// The app's name.
    app: Option<String>,
    /// If this is an app session that ends together with a browser's session: the id of the browser's session.
    parent: Option<Uuid>,
}

/// The live sessions of an account.
#[derive(Object)]
#[oai(example)]
struct SessionsResponse {
    /// The sessions, oldest first.
    sessions: Vec<SessionResponse>,
}

impl Example for SessionsResponse {
    fn example() -> Self {
        // in seconds
        const NEW_YEAR_2026: i64 = 1_767_225_600;
        const LAST_REFRESH: i64 = 300;
        const IDLE_TIMEOUT: i64 = 7 * 24 * 3600;
        let after_sign_in = |secs: i64| Timestamp::from_millis((NEW_YEAR_2026 + secs) * 1000).into();
        Self {
            sessions: vec![SessionResponse {
                id: Uuid::from_u128(0x5f0c_2f0e_7d1c_4a58_9a3b_2f1f_6a1e_0d42),
                created_at: after_sign_in(0),
                last_used_at: after_sign_in(LAST_REFRESH),
                last_used_ip: Some("192.0.2.7".to_owned()),
                counted_repeats: 0,
                expires_at: after_sign_in(LAST_REFRESH + IDLE_TIMEOUT),
                ip: Some("192.0.2.7".to_owned()),
                user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned()),
                device: Some("Ada's laptop".to_owned()),
                current: true,
                browser: false,
                client_id: None,
                app: None,
                parent: None,
            }],
        }
    }
}

/// The number of sessions that were ended.
#[derive(Object)]
#[oai(example)]
struct RevokedResponse {
    /// The number of live sessions that were ended.
    revoked: u64,
}

impl Example for RevokedResponse {
    fn example() -> Self {
        Self { revoked: 3 }
    }
}

#[derive(ApiResponse)]
enum ListResponse {
    /// The live sessions.
    #[oai(status = 200)]
    Ok(Json<SessionsResponse>),
}

#[derive(ApiResponse)]
enum RevokeAllResponse {
    /// The sessions have ended on every node.
    #[oai(status = 200)]
    Ok(Json<RevokedResponse>),
}

#[derive(ApiResponse)]
enum RevokeResponse {
    /// The session has ended on every node.
    #[oai(status = 204)]
    Done,
}

/// The errors of listing sessions.
struct SessionsProblems;

impl Problems for SessionsProblems {
    const CODES: &'static [Code] = SIGNED_IN;
}

/// The errors of ending all sessions.
struct RevokeAllProblems;

impl Problems for RevokeAllProblems {
    const CODES: &'static [Code] = codes![RECENT, [Code::MalformedRequest]];
}

/// The errors of ending one session.
struct RevokeProblems;

impl Problems for RevokeProblems {
    const CODES: &'static [Code] = codes![RECENT, [Code::MalformedRequest, Code::UnknownSession]];
}

#[OpenApi(tag = "Tag::Sessions")]
impl SessionApi {
    /// List sessions
    ///
    /// The live sessions of the account, oldest first.
    #[oai(path = "/v1/sessions", method = "get", operation_id = "list_sessions")]
    async fn list(
        &self,
        Data(state): Data<&Arc<AppState>>,
        SignedIn(caller): SignedIn,
    ) -> Result<ListResponse, Failed<SessionsProblems>> {
        let sessions = sessions::list(state, &caller).await?;
        let mut described = Vec::with_capacity(sessions.len());
        for session in sessions {
            let label = match &session.client {
                Some(grant) => Some(state.clients.label(&grant.client_id).await.map_err(ServiceError::from)?),
                None => None,
            };
            described.push(describe(session, label, caller.sid));
        }
        Ok(ListResponse::Ok(Json(SessionsResponse { sessions: described })))
    }

    /// End all sessions
    ///
    /// Ends every session of the account, including the calling one unless `keep_current` is true. Needs a session that was
    /// authenticated within the last {session.recent}.
    #[oai(path = "/v1/sessions", method = "delete", operation_id = "revoke_sessions")]
    async fn revoke_all(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        SignedIn(caller): SignedIn,
        /// Whether to keep the calling session. Default: false.
        Query(keep_current): Query<Option<bool>>,
        request: &Request,
    ) -> Result<RevokeAllResponse, Failed<RevokeAllProblems>> {
        // a typo must not end more sessions than intended
        query::require_only(request, "keep_current")?;
        let revoked = if keep_current.unwrap_or(false) {
            sessions::revoke_others(state, &caller, client.ip).await?
        } else {
            sessions::revoke_all(state, &caller, client.ip).await?
        };
        Ok(RevokeAllResponse::Ok(Json(RevokedResponse { revoked })))
    }

    /// End a session
    ///
    /// Ends one session of the account, which may be the calling one. To end another session, the calling session must have been
    /// authenticated within the last {session.recent}.
    #[oai(path = "/v1/sessions/:id", method = "delete", operation_id = "revoke_session")]
    async fn revoke(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        SignedIn(caller): SignedIn,
        /// The session's id.
        Path(id): Path<Uuid>,
    ) -> Result<RevokeResponse, Failed<RevokeProblems>> {
        if sessions::revoke(state, &caller, SessionId(id), client.ip).await? {
            Ok(RevokeResponse::Done)
        } else {
            Err(Failed::new(
                Code::UnknownSession,
                "The account has no live session with this id. It may have ended already.",
            ))
        }
    }
}

/// The response for a session. `label` is that of the session's app, if it has one; `calling` is the calling session.
fn describe(session: Session, label: Option<ClientLabel>, calling: SessionId) -> SessionResponse {
    let (client_id, app) = label.map(|label| (label.client_id, label.name)).unzip();
    SessionResponse {
        browser: session.transport == Transport::Browser,
        app,
        client_id,
        parent: session.parent.map(|parent| parent.0),
        id: session.id.0,
        created_at: session.created_at.into(),
        last_used_at: last_used_to_the_minute(&session).into(),
        last_used_ip: session.last_used_ip.map(|ip| ip.to_string()),
        counted_repeats: session.counted_repeats,
        expires_at: session.expires_at().into(),
        ip: session.origin.ip.map(|ip| ip.to_string()),
        user_agent: session.origin.user_agent,
        device: session.origin.device,
        current: session.id == calling,
    }
}

/// The time of the last use, rounded down to the minute and not before the sign-in: the holder of a stolen token must not learn from
/// the list when its owner refreshes.
pub(in crate::http) fn last_used_to_the_minute(session: &Session) -> Timestamp {
    const MINUTE_MILLIS: i64 = 60_000;
    let millis = session.last_used_at.as_millis();
    Timestamp::from_millis(millis - millis.rem_euclid(MINUTE_MILLIS)).max(session.created_at)
}
