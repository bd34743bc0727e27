//! Extractors for the credentials of a request, and for the caller that they authenticate.

use std::sync::Arc;

use poem::{Request, RequestBody, Result, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use crate::{
    crypto::access_token::{IssuedToken, VerifiedToken},
    domain::client::Client,
    http::{
        cookie,
        extract::{
            client_auth::{self, CLIENT_BASIC, register_client_basic},
            state,
        },
        problem::{Code, ProblemError},
    },
    service::{
        authenticate::{self, AuthenticateError},
        verify,
    },
};

/// The access token's name in the OpenAPI document.
const ACCESS_TOKEN: &str = "access_token";

/// The advice for a missing or unreadable token.
const HOW_TO_SEND_TOKEN: &str = "Send an access token as `Authorization: Bearer`.";

/// A caller with a valid access token and a live session, checked in Redis.
pub struct SignedIn(pub Arc<VerifiedToken>);

/// A caller with a valid access token, checked against this node's caches ([`verify`]). For decisions about the caller, not for changes
/// to the account.
pub struct CachedAuth(pub IssuedToken);

/// Like [`SignedIn`], or `None` if no access token was sent. An invalid token is refused.
pub struct MaybeSignedIn(pub Option<Arc<VerifiedToken>>);

/// The access token of a request, unchecked.
pub struct BearerToken(pub String);

/// Like [`BearerToken`], or `None` if the request has no `Authorization` header.
pub struct MaybeBearerToken(pub Option<String>);

/// A caller who may do more than an account's owner: an admin or a service client. The handler checks that the account is an admin's,
/// or that the client has the required scope.
pub enum Privileged {
    /// The access token of a live session.
    Account(Arc<VerifiedToken>),
    /// A service client.
    Client(Arc<Client>),
}

/// Extracts a [`Privileged`] caller.
pub struct AdminOrClient(pub Privileged);

/// The access token and the cookie of a request, unchecked: for calls that accept either, or a refresh token in the body.
pub struct PresentedCredentials {
    /// The access token. An `Authorization` header that cannot be read counts as an empty token, which is invalid.
    pub bearer: Option<String>,
    /// The refresh token in the cookie. A request that has the cookie and comes from a page of another site is refused.
    pub cookie: Option<String>,
}

/// The refresh token in the cookie. A request that has the cookie and comes from a page of another site is refused. The cookie is not a
/// security scheme of the OpenAPI document: browsers send it by themselves, and the forms of the API reference could not set it.
pub struct RefreshCookie(pub Option<String>);

/// The refresh token in the cookie of the session that a sign-in replaces. Not part of the OpenAPI document: no client has to send it.
pub struct ReplacedCookie(pub Option<String>);

/// Checks that no page of another site made a request. Such a page could make the response set a cookie, and so sign its visitor in to
/// another account. The handler returns the error, if there is one, before it sets a cookie.
pub struct CsrfCheck(pub Option<ProblemError>);

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1). Access tokens are accepted nowhere else, except in the form of
/// `/oauth2/userinfo`.
fn bearer(request: &Request) -> Result<Option<String>, ProblemError> {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let unreadable = || ProblemError::new(Code::InvalidToken, HOW_TO_SEND_TOKEN);
    // several headers are refused, because a proxy and this service might read different ones
    if values.next().is_some() {
        return Err(unreadable());
    }
    match value.to_str().ok().and_then(|value| value.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim().to_owned())),
        _ => Err(unreadable()),
    }
}

/// The error of a request that needs an access token and has none.
fn token_required() -> ProblemError {
    ProblemError::new(Code::AuthenticationRequired, HOW_TO_SEND_TOKEN)
}

/// The refresh token in the cookie, if any. Refuses a request that has the cookie and comes from a page of another site.
fn refresh_cookie(request: &Request) -> Result<Option<String>, ProblemError> {
    let token = cookie::refresh_token(request);
    if token.is_some() {
        cookie::refuse_cross_site(state(request)?, request)?;
    }
    Ok(token)
}

/// Authenticates the access token of a request, if it has one, and checks that the token has the scope of the account's API.
async fn signed_in(request: &Request) -> Result<Option<Arc<VerifiedToken>>, ProblemError> {
    let Some(token) = bearer(request)? else { return Ok(None) };
    let state = state(request)?;
    let verified = authenticate::authenticate(state, &token).await?;
    authenticate::check_account_scope(state, &verified)?;
    Ok(Some(verified))
}

impl From<AuthenticateError> for ProblemError {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::InvalidToken => Self::new(
                Code::InvalidToken,
                "The access token is not valid, or its session has ended. Refresh it or sign in.",
            ),
            AuthenticateError::ClaimsChanged => Self::new(
                Code::ClaimsChanged,
                "The roles or other claims of the account have changed since the access token was issued. Refresh it.",
            ),
            AuthenticateError::InsufficientScope => Self::new(
                Code::InsufficientScope,
                "The access token of this app does not have the scope of the account's API (token.scope).",
            ),
            AuthenticateError::Service(error) => error.into(),
        }
    }
}

fn register_access_token(registry: &mut Registry) {
    registry.create_security_scheme(
        ACCESS_TOKEN,
        MetaSecurityScheme {
            ty: "http",
            description: Some("An access token, as returned by sign-in and refresh."),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: Some("JWT"),
            flows: None,
            openid_connect_url: None,
        },
    );
}

impl<'a> poem::FromRequest<'a> for CsrfCheck {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self(cookie::refuse_cross_site(state(request)?, request).err()))
    }
}

impl<'a> poem::FromRequest<'a> for ReplacedCookie {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self(refresh_cookie(request)?))
    }
}

impl<'a> poem::FromRequest<'a> for RefreshCookie {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self(refresh_cookie(request)?))
    }
}

/// Makes a type a handler argument. The parameters are the type, its security schemes in the OpenAPI document, whether the
/// call is possible without credentials, and the function that reads the type from a request.
macro_rules! auth_extractor {
    ($type:ty, [$($register:ident $scheme:ident),+], optional: $optional:literal, $read:expr) => {
        impl<'a> ApiExtractor<'a> for $type {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                $($register(registry);)+
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![$($scheme),+]
            }

            fn has_security_fallback() -> bool {
                $optional
            }

            async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> Result<Self> {
                let read = $read;
                Ok(read(request).await?)
            }
        }
    };
}

auth_extractor!(SignedIn, [register_access_token ACCESS_TOKEN], optional: false, async |request| {
    let token = signed_in(request).await?;
    token.map(Self).ok_or_else(token_required)
});
auth_extractor!(BearerToken, [register_access_token ACCESS_TOKEN], optional: false, async |request| {
    let token = bearer(request)?.ok_or_else(token_required)?;
    Ok::<_, ProblemError>(Self(token))
});
auth_extractor!(MaybeBearerToken, [register_access_token ACCESS_TOKEN], optional: true, async |request| {
    Ok::<_, ProblemError>(Self(bearer(request)?))
});
auth_extractor!(CachedAuth, [register_access_token ACCESS_TOKEN], optional: false, async |request| {
    let token = bearer(request)?.ok_or_else(token_required)?;
    Ok::<_, ProblemError>(Self(verify::verify(state(request)?, &token).await?))
});
auth_extractor!(AdminOrClient, [register_access_token ACCESS_TOKEN, register_client_basic CLIENT_BASIC], optional: false, async |request| {
    if client_auth::is_basic(request) {
        return Ok::<_, ProblemError>(Self(Privileged::Client(client_auth::service_client(request).await?)));
    }
    let token = signed_in(request).await?;
    let detail = "Send an access token as `Authorization: Bearer`, or the credentials of a service client as `Basic`.";
    let token = token.ok_or_else(|| ProblemError::new(Code::AuthenticationRequired, detail))?;
    Ok(Self(Privileged::Account(token)))
});
auth_extractor!(MaybeSignedIn, [register_access_token ACCESS_TOKEN], optional: true, async |request| {
    signed_in(request).await.map(Self)
});
auth_extractor!(PresentedCredentials, [register_access_token ACCESS_TOKEN], optional: true, async |request| {
    let token = bearer(request).unwrap_or_else(|_| Some(String::new()));
    Ok::<_, ProblemError>(Self { bearer: token, cookie: refresh_cookie(request)? })
});
