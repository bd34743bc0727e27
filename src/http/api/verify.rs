//! `GET /v1/verify`: forward auth for reverse proxies.

use std::{sync::Arc, time::Duration};

use poem::{
    Request,
    http::{Method, Uri},
    web::Data,
};
use poem_openapi::{ApiResponse, Enum, OpenApi, param::Query};

use super::Tag;
use crate::{
    crypto::access_token::IssuedToken,
    domain::authentication::Acr,
    http::{
        extract::{auth::CachedAuth, query},
        problem::{
            Code, Failed, ProblemError, Problems,
            groups::{RECENT, codes},
        },
    },
    service::recent_authentication,
    state::AppState,
};

/// The path of the endpoint.
const PATH: &str = "/v1/verify";

/// Verifies access tokens for proxies.
pub struct VerifyApi;

/// Callers that may pass in addition to users.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
#[oai(rename_all = "snake_case")]
enum Allow {
    /// Service clients with an access token of their own.
    Clients,
}

/// Levels of an authentication.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
#[oai(rename = "Acr", rename_all = "snake_case")]
enum Level {
    /// One factor.
    Aal1,
    /// Two factors.
    Aal2,
    /// A key in hardware and a second factor.
    Aal3,
}

impl From<Level> for Acr {
    fn from(level: Level) -> Self {
        match level {
            Level::Aal1 => Self::Aal1,
            Level::Aal2 => Self::Aal2,
            Level::Aal3 => Self::Aal3,
        }
    }
}

#[derive(ApiResponse)]
enum VerifyResponse {
    /// The access token is valid and its session is live, or it is a service client's own and `allow=clients` was given.
    #[oai(status = 200)]
    Ok(
        /// The account, or the service client: the `sub` claim.
        #[oai(header = "X-Auth-Subject")]
        String,
        /// The session: the `sid` claim. Absent for a service client's own token.
        #[oai(header = "X-Auth-Session")]
        Option<String>,
        /// The client that the token was issued to: the `client_id` claim.
        #[oai(header = "X-Auth-Client")]
        String,
        /// The scopes, separated by spaces: the `scope` claim.
        #[oai(header = "X-Auth-Scope")]
        String,
        /// The account's roles, separated by commas. Absent if it has none.
        #[oai(header = "X-Auth-Roles")]
        Option<String>,
        /// When the token expires, in seconds since the Unix epoch: the `exp` claim.
        #[oai(header = "X-Auth-Expires")]
        i64,
    ),
}

impl From<&IssuedToken> for VerifyResponse {
    fn from(verified: &IssuedToken) -> Self {
        match verified {
            // `App` does not occur: `service::verify` refuses such tokens.
            IssuedToken::Session(claims) | IssuedToken::App(claims) => {
                let subject = claims.sub.to_string();
                let session = Some(claims.sid.to_string());
                let roles = if claims.roles.is_empty() { None } else { Some(claims.roles.join(",")) };
                Self::Ok(subject, session, claims.client_id.clone(), claims.scope.clone(), roles, claims.exp)
            }
            IssuedToken::Client(claims) => {
                let subject = claims.sub.clone();
                let session = None;
                let roles = None;
                Self::Ok(subject, session, claims.client_id.clone(), claims.scope.clone(), roles, claims.exp)
            }
        }
    }
}

/// The errors of verifying.
struct VerifyProblems;

impl Problems for VerifyProblems {
    const CODES: &'static [Code] = codes![RECENT, [Code::MalformedRequest]];
}

#[OpenApi(tag = "Tag::Services")]
impl VerifyApi {
    /// Verify an access token (forward auth)
    ///
    /// For reverse proxies: nginx `auth_request`, Caddy `forward_auth`, Traefik `ForwardAuth`, Envoy `ext_authz`, HAProxy. The
    /// proxy passes on the request's `Authorization` header and lets the request through if the response is 200. The identity is
    /// in the response headers; there is no body. A session that has ended is refused at once.
    ///
    /// Only users pass. Add `?allow=clients` to let service clients with their own access tokens pass as well; their responses have no
    /// `X-Auth-Session`. Each parameter may be given once. A repeated parameter is refused, so that a caller who can add to the
    /// query cannot change which callers pass.
    ///
    /// With `?acr=aal2` a user passes only if the authentication has at least that level, and with `?max_age=300` only if it is at
    /// most 300 seconds old. Other users get `insufficient_user_authentication` with the challenge of RFC 9470. Neither parameter applies to
    /// service clients, which have no user.
    ///
    /// Every method is accepted, and any path may follow (`/v1/verify/…`), since some proxies send the method and the path of
    /// the original request. If a path follows, the query is ignored.
    #[oai(path = "/v1/verify", method = "get", operation_id = "verify")]
    async fn verify(
        &self,
        CachedAuth(verified): CachedAuth,
        /// Let service clients pass in addition to users.
        Query(allow): Query<Option<Allow>>,
        /// The lowest level of the user's authentication that may pass: the claim `acr`.
        Query(acr): Query<Option<Level>>,
        /// The maximum age of the user's authentication, in seconds: the claim `auth_time`.
        Query(max_age): Query<Option<u32>>,
        Data(state): Data<&Arc<AppState>>,
        request: &Request,
    ) -> Result<VerifyResponse, Failed<VerifyProblems>> {
        for parameter in ["allow", "acr", "max_age"] {
            query::require_at_most_once(request, parameter)?;
        }
        if matches!(verified, IssuedToken::Client(_)) && allow != Some(Allow::Clients) {
            let detail = "The access token is a service client's own, and only users may pass. Clients may pass \
                          where the proxy calls /v1/verify?allow=clients.";
            return Err(Failed::new(Code::InvalidToken, detail));
        }
        if let IssuedToken::Session(claims) = &verified {
            let max_age = max_age.map(|seconds| Duration::from_secs(seconds.into()));
            let acr = acr.map(Acr::from);
            recent_authentication::check(state, claims, acr, max_age).map_err(ProblemError::from)?;
        }
        Ok(VerifyResponse::from(&verified))
    }
}

/// Maps a proxy's call, which may have any method and may continue the path (`/v1/verify/…`), to `GET /v1/verify`.
///
/// If the path continues, the query is dropped as well: the proxy has appended a path and a query that its client chose.
pub(crate) fn normalize(request: &mut Request) {
    let Some(rest) = request.uri().path().strip_prefix(PATH) else { return };
    if rest.is_empty() {
        request.set_method(Method::GET);
    } else if rest.starts_with('/') {
        request.set_method(Method::GET);
        *request.uri_mut() = Uri::from_static(PATH);
    }
}
