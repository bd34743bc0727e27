//! `GET /v1/verify`: forward-auth, for proxies that ask before they let a request through.

use poem::{Request, http::Method};
use poem_openapi::{ApiResponse, OpenApi};

use super::Tag;
use crate::{
    crypto::access_token::Verified,
    http::{
        extract::auth::CachedAuth,
        problem::{Code, Failed, Problems},
    },
};

const PATH: &str = "/v1/verify";

/// Vouches for access tokens.
pub struct VerifyApi;

#[derive(ApiResponse)]
enum VerifyResponse {
    /// The access token is valid, and its session lives; or it is that of a service client.
    #[oai(status = 200)]
    Ok(
        /// Whose it is: the `sub` claim.
        #[oai(header = "X-Auth-Subject")]
        String,
        /// Its session: the `sid` claim; not there where it is a service client's own.
        #[oai(header = "X-Auth-Session")]
        Option<String>,
        /// The client it was issued to: the `client_id` claim.
        #[oai(header = "X-Auth-Client")]
        String,
        /// What it may be used for: the `scope` claim, scopes separated by spaces.
        #[oai(header = "X-Auth-Scope")]
        String,
        /// The account's roles, separated by commas; not there where it has none.
        #[oai(header = "X-Auth-Roles")]
        Option<String>,
        /// When it expires: the `exp` claim, seconds since the Unix epoch.
        #[oai(header = "X-Auth-Expires")]
        i64,
    ),
}

impl From<&Verified> for VerifyResponse {
    fn from(verified: &Verified) -> Self {
        match verified {
            Verified::Session(claims) => Self::Ok(
                claims.sub.to_string(),
                Some(claims.sid.to_string()),
                claims.client_id.clone(),
                claims.scope.clone(),
                (!claims.roles.is_empty()).then(|| claims.roles.join(",")),
                claims.exp,
            ),
            Verified::Client(claims) => {
                Self::Ok(claims.sub.clone(), None, claims.client_id.clone(), claims.scope.clone(), None, claims.exp)
            }
        }
    }
}

/// What vouching can be refused with.
struct VerifyProblems;

impl Problems for VerifyProblems {
    const CODES: &'static [Code] = &[Code::AuthenticationRequired, Code::InvalidToken];
}

#[OpenApi(tag = "Tag::Services")]
impl VerifyApi {
    /// Vouch for an access token
    ///
    /// For proxies (nginx `auth_request`, Caddy `forward_auth`, Traefik `ForwardAuth`, Envoy `ext_authz`): passes on the
    /// request's `Authorization` header and lets the request through if this answers 200, with the identity in headers.
    /// The answer has no body. Any method will do, and anything may follow the path (`/v1/verify/…`), since some proxies
    /// ask with the method and the path of the request in question. A session that was ended is refused at once.
    #[oai(path = "/v1/verify", method = "get", operation_id = "verify")]
    async fn verify(&self, CachedAuth(verified): CachedAuth) -> Result<VerifyResponse, Failed<VerifyProblems>> {
        Ok(VerifyResponse::from(&verified))
    }
}

/// Makes the question of a proxy, whatever method and path it asks with, the one that is documented.
pub(crate) fn normalise(request: &mut Request) {
    let path = request.uri().path();
    if path == PATH || path.strip_prefix(PATH).is_some_and(|rest| rest.starts_with('/')) {
        request.set_method(Method::GET);
        *request.uri_mut() = poem::http::Uri::from_static(PATH);
    }
}
