//! Who may call is the type of a handler's argument: [`SignedIn`], [`MaybeSignedIn`].

use std::sync::Arc;

use poem::{Request, RequestBody, Result, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use crate::http::problem::{Code, ProblemError};
use crate::{
    crypto::access_token::{Verified, VerifiedToken},
    service::{
        authenticate::{self, AuthenticateError},
        verify,
    },
    state::AppState,
};

/// The access token's name in the API document.
const ACCESS_TOKEN: &str = "access_token";
/// The cookie's name in the API document.
const COOKIE: &str = "refresh_cookie";

/// Someone with a valid access token whose session lives.
pub struct SignedIn(pub Arc<VerifiedToken>);

/// The same, by what this node knows ([`verify`]): for answers to others, not for changes to the account.
pub struct CachedAuth(pub Verified);

/// The same as [`SignedIn`], or nobody: no access token came with the request. One that came and isn't valid is refused.
pub struct MaybeSignedIn(pub Option<Arc<VerifiedToken>>);

/// The access token and the cookie of a request, as they are: for calls that can be made with either, or with a refresh
/// token in the body.
pub struct PresentedCredentials {
    /// The access token.
    pub bearer: Option<String>,
    /// The refresh token in the cookie, once it is sure that no other site's page makes the call.
    pub cookie: Option<String>,
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1), the only place where access tokens are looked for.
fn bearer(request: &Request) -> Result<Option<String>, ProblemError> {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    // of several, a proxy and whoever is behind it might each take another
    let only = Some(value).filter(|_| values.next().is_none());
    let token = only.and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim().to_owned())),
        _ => Err(ProblemError::new(Code::InvalidToken, "Send `Authorization: Bearer` and the access token.")),
    }
}

fn refresh_cookie(request: &Request) -> Result<Option<String>, ProblemError> {
    let cookie = crate::http::cookie::token(request);
    if cookie.is_some() {
        crate::http::cookie::refuse_cross_site(state(request)?, request)?;
    }
    Ok(cookie)
}

async fn signed_in(request: &Request) -> Result<Option<Arc<VerifiedToken>>, ProblemError> {
    let Some(token) = bearer(request)? else { return Ok(None) };
    Ok(Some(authenticate::authenticate(state(request)?, &token).await?))
}

fn state(request: &Request) -> Result<&Arc<AppState>, ProblemError> {
    request.data().ok_or_else(|| ProblemError::new(Code::InternalError, "The service isn't put together right."))
}

impl From<AuthenticateError> for ProblemError {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::InvalidToken => Self::new(
                Code::InvalidToken,
                "The access token is not valid, or its session was ended. Sign in or refresh.",
            ),
            AuthenticateError::Service(failure) => failure.into(),
        }
    }
}

fn register_access_token(registry: &mut Registry) {
    registry.create_security_scheme(
        ACCESS_TOKEN,
        MetaSecurityScheme {
            ty: "http",
            description: Some("An access token, as signing in and refreshing give it."),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: Some("JWT"),
            flows: None,
            openid_connect_url: None,
        },
    );
}

fn register_cookie(registry: &mut Registry) {
    registry.create_security_scheme(
        COOKIE,
        MetaSecurityScheme {
            ty: "apiKey",
            description: Some("The refresh token of a session that was started with the transport `cookie`."),
            name: Some(crate::http::cookie::NAME),
            key_in: Some("cookie"),
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        },
    );
}

/// Why a page may not ask for a cookie: it belongs to another site, and would sign its visitor in as somebody else.
pub struct CsrfCheck(pub Option<ProblemError>);

impl<'a> poem::FromRequest<'a> for CsrfCheck {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self(crate::http::cookie::refuse_cross_site(state(request)?, request).err()))
    }
}

/// The refresh token in the cookie of a request, if no other site's page makes it.
pub struct RefreshCookie(pub Option<String>);

/// Makes a type an argument of handlers: how it is read from a request, which schemes the API document names for it, and
/// whether the call can do without.
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
    let detail = "Send `Authorization: Bearer` and an access token.";
    let claims = signed_in(request).await?;
    claims.map(Self).ok_or_else(|| ProblemError::new(Code::AuthenticationRequired, detail))
});
auth_extractor!(CachedAuth, [register_access_token ACCESS_TOKEN], optional: false, async |request| {
    let detail = "Send `Authorization: Bearer` and an access token.";
    let token = bearer(request)?.ok_or_else(|| ProblemError::new(Code::AuthenticationRequired, detail))?;
    Ok::<_, ProblemError>(Self(verify::verify(state(request)?, &token).await?))
});
auth_extractor!(MaybeSignedIn, [register_access_token ACCESS_TOKEN], optional: true, async |request| {
    signed_in(request).await.map(Self)
});
auth_extractor!(PresentedCredentials, [register_access_token ACCESS_TOKEN, register_cookie COOKIE], optional: true, async |request| {
    Ok::<_, ProblemError>(Self { bearer: bearer(request)?, cookie: refresh_cookie(request)? })
});
auth_extractor!(RefreshCookie, [register_cookie COOKIE], optional: true, async |request| {
    refresh_cookie(request).map(Self)
});
