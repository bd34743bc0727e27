//! `POST /v1/login`, `POST /v1/refresh`, `POST /v1/logout`.

use std::{fmt::Write, sync::Arc};

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, types::Example};
use serde::Serialize;
use uuid::Uuid;

use super::Tag;
use crate::{
    domain::{account::Identifier, authentication::Acr, session::Transport},
    http::{
        cookie,
        extract::{
            auth::{CsrfCheck, PresentedCredentials, RefreshCookie, ReplacedCookie},
            client_info::ClientInfo,
            cookie_refusal::CookieRefusal,
            json::{Body, MaybeBody},
        },
        problem::{
            Code, Failed, ProblemError, Problems,
            groups::{COOKIE, JSON_BODY, codes},
        },
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

/// Sign-in, refresh and sign-out.
pub struct LoginApi;

/// How the refresh token is delivered.
#[derive(Enum, Clone, Copy, Debug)]
#[oai(rename = "Transport", rename_all = "snake_case")]
pub(super) enum TransportName {
    /// In the JSON body, for apps that store it themselves.
    Bearer,
    /// In the cookie `__Host-latchkey`, out of reach of a page's scripts, for browsers.
    Cookie,
}

impl From<TransportName> for Transport {
    fn from(name: TransportName) -> Self {
        match name {
            TransportName::Bearer => Self::Bearer,
            TransportName::Cookie => Self::Cookie,
        }
    }
}

/// The credentials of a user.
#[derive(Object)]
#[oai(example)]
struct LoginRequest {
    /// The account's e-mail address or username, in any case.
    #[oai(validator(min_length = 1, max_length = 320))]
    identifier: String,
    /// The password, byte for byte as it was chosen.
    password: Secret,
    /// How the refresh token is delivered. Default: `bearer`.
    transport: Option<TransportName>,
    /// A name for the device, shown in the list of sessions.
    #[oai(validator(max_length = 64))]
    device: Option<String>,
}

impl Example for LoginRequest {
    fn example() -> Self {
        Self {
            identifier: "ada@example.com".to_owned(),
            password: Secret::masked(),
            transport: Some(TransportName::Bearer),
            device: Some("Ada's laptop".to_owned()),
        }
    }
}

/// A refresh token in the JSON body.
#[derive(Object, Default)]
#[oai(example)]
struct RefreshTokenRequest {
    /// The session's refresh token. Leave it out if the cookie carries it.
    refresh_token: Option<Secret>,
}

impl Example for RefreshTokenRequest {
    fn example() -> Self {
        Self { refresh_token: Some(Secret::masked()) }
    }
}

/// The tokens of a session.
#[derive(Object, Serialize)]
#[oai(skip_serializing_if_is_none, example)]
pub(super) struct TokensResponse {
    /// A JWT (RFC 9068). Send it as `Authorization: Bearer`.
    access_token: String,
    /// Always `Bearer` (RFC 6750).
    token_type: String,
    /// The lifetime of the access token in seconds.
    expires_in: u64,
    /// The token for the next refresh. Absent if the cookie carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// The seconds until the session ends unless it is refreshed.
    refresh_expires_in: u64,
    /// The session's id: the `sid` claim of its access tokens.
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
pub(super) enum SignedInResponse {
    /// The session's tokens.
    #[oai(status = 200)]
    Ok(
        RawJson<TokensResponse>,
        /// The refresh cookie, with the transport `cookie`.
        #[oai(header = "Set-Cookie")]
        Option<String>,
        /// After a sign-in: a token by which the account recognizes this device. Send it in the same header with later
        /// sign-ins, so that failed attempts from other devices do not delay them. It grants no access. With the transport
        /// `cookie`, a second cookie contains it instead.
        #[oai(header = "X-Device-Token")]
        Option<String>,
    ),
}

impl TokensResponse {
    /// The body with the tokens, and the cookie with the refresh token of a cookie session.
    pub(super) fn with_cookie(tokens: Tokens) -> (RawJson<Self>, Option<String>) {
        let (body, cookie) = Self::split(tokens);
        (RawJson::from_json(body.to_json()), cookie)
    }

    /// Like [`Self::with_cookie`], for a response whose body contains the tokens among other members.
    pub(super) fn split(tokens: Tokens) -> (Self, Option<String>) {
        let cookie = (tokens.transport == Transport::Cookie)
            .then(|| cookie::set_refresh(&tokens.refresh_token, tokens.refresh_expires_in));
        let body = Self {
            access_token: tokens.access_token.into_exposed(),
            token_type: "Bearer".to_owned(),
            expires_in: tokens.expires_in.as_secs(),
            refresh_token: cookie.is_none().then(|| tokens.refresh_token.expose().to_owned()),
            refresh_expires_in: tokens.refresh_expires_in.as_secs(),
            session_id: tokens.session.0,
        };
        (body, cookie)
    }

    /// The JSON that serde would write, without its search for characters to escape: a token is long and has none.
    fn to_json(&self) -> Vec<u8> {
        let Self { access_token, token_type, expires_in, refresh_token, refresh_expires_in, session_id } = self;
        // all members besides the access token fit into 512 bytes
        let mut json = String::with_capacity(access_token.len() + 512);
        json.extend(["{\"access_token\":\"", access_token, "\",\"token_type\":\"", token_type]);
        // writing to a string does not fail
        let _ = write!(json, "\",\"expires_in\":{expires_in}");
        if let Some(token) = refresh_token {
            json.extend([",\"refresh_token\":\"", token, "\""]);
        }
        let _ = write!(json, ",\"refresh_expires_in\":{refresh_expires_in},\"session_id\":\"{session_id}\"}}");
        json.into_bytes()
    }
}

impl SignedInResponse {
    pub(super) fn new(tokens: Tokens, device: Option<DeviceToken>) -> Self {
        let (body, cookie) = TokensResponse::with_cookie(tokens);
        Self::Ok(body, cookie, device.map(|device| device.expose().to_owned()))
    }
}

#[derive(ApiResponse)]
enum SignedOutResponse {
    /// The session has ended: no refresh succeeds any more, on any node.
    #[oai(status = 204)]
    Done(
        /// Deletes the refresh cookie, if it was sent.
        #[oai(header = "Set-Cookie")]
        Option<String>,
    ),
}

/// The errors of a sign-in.
struct LoginProblems;

impl Problems for LoginProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        COOKIE,
        [
            Code::InvalidCredentials,
            Code::EmailNotVerified,
            Code::SecondFactorRequired,
            Code::FactorEnrolmentRequired,
            Code::TooManyRequests
        ]
    ];
}

impl From<LoginError> for ProblemError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::InvalidCredentials => {
                Self::new(Code::InvalidCredentials, "Incorrect e-mail address, username or password.")
            }
            LoginError::EmailNotVerified => {
                let detail = "Verify the e-mail address first. POST /v1/email/verification sends the mail again.";
                Self::new(Code::EmailNotVerified, detail)
            }
            LoginError::SecondFactorRequired(challenge) => Self::second_factor_required(*challenge),
            LoginError::EnrolmentRequired(challenge) => Self::enrolment_required(*challenge),
            LoginError::Service(error) => error.into(),
        }
    }
}

/// The errors of a refresh.
struct RefreshProblems;

impl Problems for RefreshProblems {
    const CODES: &'static [Code] = codes![
        JSON_BODY,
        [
            Code::AuthenticationRequired,
            Code::InvalidRefreshToken,
            Code::RefreshTokenReused,
            Code::SessionExpired,
            Code::CrossSiteRequest,
            Code::TooManyRequests
        ]
    ];
}

impl From<RefreshError> for ProblemError {
    fn from(error: RefreshError) -> Self {
        let (code, detail) = match error {
            // `InvalidTarget` cannot occur here: only the token endpoint takes a resource.
            RefreshError::InvalidToken | RefreshError::InvalidTarget => {
                (Code::InvalidRefreshToken, "The refresh token is not valid, or its session has ended. Sign in again.")
            }
            RefreshError::Reused => (
                Code::RefreshTokenReused,
                "This refresh token was already used. The session was revoked as a precaution. Sign in again.",
            ),
            RefreshError::Expired => (Code::SessionExpired, "The session has expired. Sign in again."),
            RefreshError::Service(error) => return error.into(),
        };
        Self::new(code, detail)
    }
}

/// The errors of a sign-out.
struct LogoutProblems;

impl Problems for LogoutProblems {
    const CODES: &'static [Code] = codes![JSON_BODY, [Code::AuthenticationRequired, Code::CrossSiteRequest]];
}

impl From<LogoutError> for ProblemError {
    fn from(error: LogoutError) -> Self {
        match error {
            LogoutError::NothingPresented => {
                let detail = "No credentials were sent: no refresh token, access token or cookie.";
                Self::new(Code::AuthenticationRequired, detail)
            }
            LogoutError::Service(error) => error.into(),
        }
    }
}

/// Replaces control characters and those that change the direction of text: they would disturb the lists that show the name.
pub(super) fn printable(name: String) -> String {
    // the marks, embeddings, overrides and isolates that change the direction of text
    let is_bidirectional =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    name.replace(|c: char| c.is_control() || is_bidirectional(c), " ")
}

#[OpenApi(tag = "Tag::SignIn")]
impl LoginApi {
    /// Sign in
    ///
    /// Checks the identifier and the password and starts a session. The response never reveals whether the account exists or
    /// is disabled. If the account has a second factor, the response to the right password is `403 second_factor_required`, and
    /// `POST /v1/login/second-factor` starts the session. A remembered device (`X-Device-Token` or its
    /// cookie) skips the second factor, and its session has the level `aal1`. An account may have
    /// up to {session.max_per_account} sessions; a further sign-in ends the oldest.
    ///
    /// With the transport `cookie`, a browser's page must be of the same site as the API: otherwise the browser would not
    /// keep the cookie, and the response is `403 cookie_cross_site`.
    #[oai(path = "/v1/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        cookie_refusal: CookieRefusal,
        ReplacedCookie(replaced): ReplacedCookie,
        Body(request): Body<LoginRequest>,
    ) -> Result<SignedInResponse, Failed<LoginProblems>> {
        let transport = request.transport.map_or(Transport::Bearer, Transport::from);
        cookie_refusal.check(transport)?;
        let input = Login {
            identifier: Identifier::parse(&request.identifier),
            password: request.password.0,
            transport,
            device: client.device_token.clone(),
            origin: client.into_session_origin_with_device(request.device.map(printable)),
            // the browser keeps its cookie, and so its session, unless this sign-in sets another
            replaces: replaced.filter(|_| transport == Transport::Cookie),
            wanted_acr: Acr::default(), // this call requests no level
        };
        let (tokens, device_token) = login::login(state, input).await?;
        Ok(SignedInResponse::new(tokens, Some(device_token)))
    }

    /// Refresh the tokens
    ///
    /// Exchanges the session's current refresh token, from the body or the cookie, for its next access token and refresh token.
    /// A superseded refresh token is answered with the current one while its holder may have lost the response: for
    /// {session.grace} after it was superseded. If the current token was issued within this time, the superseded token is
    /// answered for {session.retry_window} after the issue. Any other superseded token may have been stolen: it ends the session.
    /// An answered one from another network or user agent than the last refresh is counted. If one is counted after each of
    /// {session.counted_repeats_limit} successive refreshes, the session ends too, because it has a second holder.
    #[oai(path = "/v1/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        CsrfCheck(cross_site_problem): CsrfCheck,
        RefreshCookie(cookie_token): RefreshCookie,
        MaybeBody(request): MaybeBody<RefreshTokenRequest>,
    ) -> Result<SignedInResponse, Failed<RefreshProblems>> {
        let body_token = request.and_then(|request| request.refresh_token);
        let is_from_cookie = body_token.is_none() && cookie_token.is_some();
        let origin = client.into_session_origin();
        let outcome = match (&body_token, &cookie_token) {
            // Pages of other sites must not set the cookie. So the session of a token that they send must not be a cookie session.
            (Some(token), _) if cross_site_problem.is_some() => {
                refresh::refresh_in_body(state, token.0.expose(), &origin).await
            }
            (Some(token), _) => refresh::refresh(state, token.0.expose(), &origin).await,
            (None, Some(token)) => refresh::refresh(state, token, &origin).await,
            (None, None) => {
                let detail = "No refresh token was sent, neither in the body nor in the cookie. Sign in.";
                return Err(Failed::new(Code::AuthenticationRequired, detail));
            }
        };
        match outcome {
            Ok(tokens) => {
                let device_token = None; // only a sign-in issues one
                Ok(SignedInResponse::new(tokens, device_token))
            }
            // the session may still be live, so the cookie stays
            Err(RefreshError::Service(error)) => Err(error.into()),
            Err(error) => Err(Failed::from(error).clear_cookie_if(is_from_cookie)),
        }
    }

    /// Sign out
    ///
    /// Ends the sessions of all credentials that are sent: a refresh token in the body, an access token, the cookie. Expired
    /// and invalid credentials are no error, and neither is a repeated call. A call without credentials is refused. The
    /// cookie is deleted. Once the call has returned, the sessions have ended on every node.
    #[oai(path = "/v1/logout", method = "post", operation_id = "logout")]
    async fn logout(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        presented: PresentedCredentials,
        MaybeBody(request): MaybeBody<RefreshTokenRequest>,
    ) -> Result<SignedOutResponse, Failed<LogoutProblems>> {
        let cleared_cookie = presented.cookie.is_some().then(cookie::clear_refresh);
        let body_token = request.and_then(|request| request.refresh_token);
        let input = LogoutInput {
            bearer: presented.bearer,
            body_token: body_token.map(|token| token.0.expose().to_owned()),
            cookie: presented.cookie,
            ip: client.ip,
        };
        logout::logout(state, input).await?;
        Ok(SignedOutResponse::Done(cleared_cookie))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_written_as_serde_writes_them() {
        // each kind of character that a JWT may have: the token of the example has others
        let mut response = TokensResponse { access_token: "eyJ0-_.e30.AZaz09".to_owned(), ..TokensResponse::example() };
        for refresh_token in [Some("lk_rt_AZaz09-_".to_owned()), None] {
            response.refresh_token = refresh_token;
            assert_eq!(response.to_json(), serde_json::to_vec(&response).unwrap());
        }
    }
}
