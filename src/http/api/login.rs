//! `POST /v1/login`, `POST /v1/refresh`, `POST /v1/logout`.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, types::Example};
use serde::Serialize;
use uuid::Uuid;

use super::Tag;
use crate::{
    domain::{account::Identifier, session::Transport},
    http::{
        cookie,
        extract::auth::{CsrfCheck, PresentedCredentials, RefreshCookie},
        extract::client_info::ClientInfo,
        extract::json::{Body, MaybeBody},
        problem::{Code, Failed, Problems},
        raw_json::RawJson,
        types::Secret,
    },
    service::{
        limits::DeviceToken,
        login::{self, Login, LoginError},
        logout::{self, LogoutError, LogoutInput},
        refresh::{self, RefreshError},
        token_issuer::Tokens,
    },
    state::AppState,
};

/// The three calls that sessions live by.
pub struct SigningInApi;

/// How the refresh token travels.
#[derive(Enum, Clone, Copy, Debug)]
#[oai(rename = "Transport", rename_all = "snake_case")]
enum TransportName {
    /// In JSON, for apps that keep it themselves.
    Bearer,
    /// In the cookie `__Host-latchkey`, out of reach of a page's scripts, for browsers.
    Cookie,
}

/// Who wants to sign in.
#[derive(Object)]
#[oai(example)]
struct LoginRequest {
    /// The account's e-mail address or username; upper and lower case are the same.
    #[oai(validator(min_length = 1, max_length = 320))]
    identifier: String,
    /// The password, exactly as it was chosen.
    password: Secret,
    /// How the refresh token shall travel; `bearer` if left out.
    transport: Option<TransportName>,
    /// What the user calls this device, to recognise the session by.
    #[oai(validator(max_length = 64))]
    device: Option<String>,
}

impl Example for LoginRequest {
    fn example() -> Self {
        Self {
            identifier: "ada@example.com".to_owned(),
            password: Secret("correct horse battery staple".into()),
            transport: Some(TransportName::Bearer),
            device: Some("Ada's laptop".to_owned()),
        }
    }
}

/// A refresh token, where it travels in JSON.
#[derive(Object, Default)]
#[oai(example)]
struct RefreshTokenRequest {
    /// The session's refresh token. Leave it out where the cookie carries it.
    refresh_token: Option<Secret>,
}

impl Example for RefreshTokenRequest {
    fn example() -> Self {
        Self { refresh_token: Some(Secret("lk_rt_AQGTLu…".into())) }
    }
}

/// A session's tokens.
#[derive(Object, Serialize)]
#[oai(skip_serializing_if_is_none, example)]
struct TokensResponse {
    /// A JWT (RFC 9068), to be sent as `Authorization: Bearer`.
    access_token: String,
    /// Always `Bearer` (RFC 6750).
    token_type: String,
    /// How long the access token is valid, in seconds.
    expires_in: u64,
    /// What to refresh with next; not there where the cookie carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// How long the session lasts unless it is refreshed, in seconds.
    refresh_expires_in: u64,
    /// The session's id: the `sid` of its access tokens.
    session_id: Uuid,
}

impl Example for TokensResponse {
    fn example() -> Self {
        Self {
            access_token: "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9.….…".to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: 300,
            refresh_token: Some("lk_rt_AQGTLu…".to_owned()),
            refresh_expires_in: 604_800,
            session_id: Uuid::from_u128(0x5f0c_2f0e_7d1c_4a58_9a3b_2f1f_6a1e_0d42),
        }
    }
}

#[derive(ApiResponse)]
enum SignedInResponse {
    /// The session's tokens.
    #[oai(status = 200)]
    Ok(
        RawJson<TokensResponse>,
        /// The cookie with the refresh token, where it travels in one.
        #[oai(header = "Set-Cookie")]
        Option<String>,
        /// After a sign-in: a token by which the account knows this device from now on. Send it in the same header with
        /// further sign-ins, so that the wrong passwords of strangers don't make them wait. It gives no access. Browsers
        /// that keep the refresh token in a cookie are given a second cookie instead.
        #[oai(header = "X-Device-Token")]
        Option<String>,
    ),
}

impl SignedInResponse {
    fn new(tokens: Tokens, device: Option<DeviceToken>) -> Self {
        let cookie = (tokens.transport == Transport::Cookie)
            .then(|| cookie::set(&tokens.refresh_token, tokens.refresh_expires_in));
        let body = TokensResponse {
            access_token: tokens.access_token.into_exposed(),
            token_type: "Bearer".to_owned(),
            expires_in: tokens.expires_in.as_secs(),
            refresh_token: cookie.is_none().then(|| tokens.refresh_token.expose().to_owned()),
            refresh_expires_in: tokens.refresh_expires_in.as_secs(),
            session_id: tokens.session.0,
        };
        Self::Ok(RawJson::of(&body), cookie, device.map(|device| device.expose().to_owned()))
    }
}

#[derive(ApiResponse)]
enum SignedOutResponse {
    /// The session is over: no refresh succeeds any more, anywhere.
    #[oai(status = 204)]
    Done(
        /// Takes the cookie away, if there was one.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// What signing in can be refused with.
struct LoginProblems;

impl Problems for LoginProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::InvalidCredentials,
        Code::CrossSiteRequest,
        Code::UnsupportedMediaType,
        Code::InvalidFields,
        Code::TooManyRequests,
    ];
}

impl From<LoginError> for Failed<LoginProblems> {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::InvalidCredentials => Self::new(
                Code::InvalidCredentials,
                "There is no account with this identifier and password, or it may not sign in.",
            ),
            LoginError::Service(failure) => failure.into(),
        }
    }
}

/// What refreshing can be refused with.
struct RefreshProblems;

impl Problems for RefreshProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::InvalidRefreshToken,
        Code::RefreshTokenReused,
        Code::SessionExpired,
        Code::CrossSiteRequest,
        Code::UnsupportedMediaType,
        Code::InvalidFields,
        Code::TooManyRequests,
    ];
}

impl From<RefreshError> for Failed<RefreshProblems> {
    fn from(error: RefreshError) -> Self {
        let (code, detail) = match error {
            RefreshError::InvalidToken => {
                (Code::InvalidRefreshToken, "The refresh token is not valid, or its session was ended. Sign in again.")
            }
            RefreshError::Reused => (
                Code::RefreshTokenReused,
                "This refresh token had been used long before. In case it was stolen, its session has been ended. Sign in again.",
            ),
            RefreshError::Expired => (Code::SessionExpired, "The session has expired. Sign in again."),
            RefreshError::Service(failure) => return failure.into(),
        };
        Self::new(code, detail)
    }
}

/// What signing out can be refused with.
struct LogoutProblems;

impl Problems for LogoutProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::AuthenticationRequired,
        Code::InvalidToken,
        Code::InvalidRefreshToken,
        Code::CrossSiteRequest,
        Code::UnsupportedMediaType,
        Code::InvalidFields,
    ];
}

impl From<LogoutError> for Failed<LogoutProblems> {
    fn from(error: LogoutError) -> Self {
        match error {
            LogoutError::NothingPresented => {
                let detail = "Send the refresh token, or the access token, of the session to end.";
                Self::new(Code::AuthenticationRequired, detail)
            }
            LogoutError::Service(failure) => failure.into(),
        }
    }
}

/// A name without what can't be seen, or turns what stands around it: it will be shown in lists.
fn printable(name: String) -> String {
    let hidden = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    name.replace(hidden, " ")
}

#[OpenApi(tag = "Tag::SigningIn")]
impl SigningInApi {
    /// Sign in
    ///
    /// Checks the identifier and the password and starts a session. Whether the account doesn't exist, is disabled, or
    /// has another password is never told. An account may have so many sessions (50 by default); the oldest ends when
    /// another starts.
    #[oai(path = "/v1/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        CsrfCheck(refused): CsrfCheck,
        RefreshCookie(replaced): RefreshCookie,
        Body(request): Body<LoginRequest>,
    ) -> Result<SignedInResponse, Failed<LoginProblems>> {
        let transport = match request.transport {
            Some(TransportName::Cookie) => Transport::Cookie,
            Some(TransportName::Bearer) | None => Transport::Bearer,
        };
        if let Some(refused) = refused.filter(|_| transport == Transport::Cookie) {
            return Err(refused.into());
        }
        let input = Login {
            identifier: Identifier::parse(&request.identifier),
            password: request.password.0,
            transport,
            device: client.device_token.clone(),
            origin: client.into_origin(request.device.map(printable)),
            replaces: replaced.filter(|_| transport == Transport::Cookie),
        };
        let (tokens, device) = login::login(state, input).await?;
        Ok(SignedInResponse::new(tokens, Some(device)))
    }

    /// Refresh the tokens
    ///
    /// Gives the session's next access token and refresh token for its current refresh token, from the body or the
    /// cookie. A refresh token that was superseded a moment ago (10 seconds by default) is answered with the current one
    /// again, so that a lost answer, a retry or a second tab signs nobody out; one that was superseded longer ago ends
    /// the session, since someone may have stolen it.
    #[oai(path = "/v1/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        RefreshCookie(cookie): RefreshCookie,
        MaybeBody(request): MaybeBody<RefreshTokenRequest>,
    ) -> Result<SignedInResponse, Failed<RefreshProblems>> {
        let in_body = request.and_then(|request| request.refresh_token);
        let clear = in_body.is_none() && cookie.is_some();
        let in_body = in_body.as_ref().map(|token| token.0.expose());
        let token = in_body.or(cookie.as_deref()).ok_or(RefreshError::InvalidToken)?;
        match refresh::refresh(state, token, client.ip).await {
            Ok(tokens) => Ok(SignedInResponse::new(tokens, None)),
            Err(RefreshError::Service(failure)) => Err(failure.into()),
            Err(error) => Err(Failed::from(error).clearing_cookie(clear)),
        }
    }

    /// Sign out
    ///
    /// Ends the session of a refresh token in the body, of an access token, or of the cookie, whichever comes first.
    /// Once this has answered the session is over on every node. Repeating it is no error.
    #[oai(path = "/v1/logout", method = "post", operation_id = "logout")]
    async fn logout(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        presented: PresentedCredentials,
        MaybeBody(request): MaybeBody<RefreshTokenRequest>,
    ) -> Result<SignedOutResponse, Failed<LogoutProblems>> {
        let in_body = request.and_then(|request| request.refresh_token);
        let clear = presented.cookie.is_some().then(cookie::clear);
        let in_body = in_body.map(|token| token.0.expose().to_owned());
        let code = if in_body.is_none() && presented.bearer.is_some() {
            Code::InvalidToken
        } else {
            Code::InvalidRefreshToken
        };
        let input =
            LogoutInput { bearer: presented.bearer, body_token: in_body, cookie: presented.cookie, ip: client.ip };
        let outcome = logout::logout(state, input).await?;
        if outcome.genuine == 0 {
            return Err(Failed::new(code, "The token is not one of this service's."));
        }
        Ok(SignedOutResponse::Done(clear))
    }
}
