//! `POST /oauth2/token` (RFC 6749, section 3.2).

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, types::Example};
use serde::Serialize;

use super::{
    credentials::{self, ClientFields},
    error::{OAuthCode, OAuthError, OAuthErrors, OAuthFailed},
    form::{Form, FormBody, Parameters},
};
use crate::{
    http::{
        api::Tag,
        extract::{client_auth::FormOrBasic, client_info::ClientInfo},
        raw_json::RawJson,
        types::Secret,
    },
    service::{
        client_token::{self, ClientToken, ClientTokenError},
        refresh::{self, RefreshError},
        token_issuer::Tokens,
    },
    state::AppState,
};

/// The token endpoint.
pub struct TokenApi;

/// The grant types.
#[derive(Enum, Clone, Copy, Debug)]
#[oai(rename_all = "snake_case")]
enum GrantType {
    /// A refresh token (RFC 6749, section 6).
    RefreshToken,
    /// The client's own credentials (RFC 6749, section 4.4).
    ClientCredentials,
}

/// A token request.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
struct TokenForm {
    /// The grant that is exchanged for tokens.
    grant_type: GrantType,
    /// For `refresh_token`: the session's refresh token.
    refresh_token: Option<Secret>,
    /// The requested scopes, separated by spaces. Default: all scopes of the session, or of the client for
    /// `client_credentials`.
    scope: Option<String>,
    #[oai(flatten)]
    client: ClientFields,
}

impl Example for TokenForm {
    fn example() -> Self {
        let client = ClientFields::named("latchkey");
        Self { grant_type: GrantType::RefreshToken, refresh_token: Some(Secret("".into())), scope: None, client }
    }
}

impl FormBody for TokenForm {
    fn read(parameters: &mut Parameters) -> Result<Self, OAuthError> {
        let grant_type = parameters.take("grant_type");
        let grant_type = grant_type.ok_or(OAuthError::invalid_request("grant_type is missing."))?;
        let grant_type = match grant_type.as_str() {
            "refresh_token" => GrantType::RefreshToken,
            "client_credentials" => GrantType::ClientCredentials,
            _ => {
                let description = "The supported grant types are refresh_token and client_credentials.";
                return Err(OAuthError::new(OAuthCode::UnsupportedGrantType, description));
            }
        };
        Ok(Self {
            grant_type,
            refresh_token: parameters.take_secret("refresh_token"),
            scope: parameters.take("scope"),
            client: ClientFields::read(parameters),
        })
    }
}

/// Tokens (RFC 6749, section 5.1).
#[derive(Object, Serialize)]
#[oai(rename = "TokenResponse", skip_serializing_if_is_none, example)]
struct TokenBody {
    /// A JWT (RFC 9068). Send it as `Authorization: Bearer`.
    access_token: String,
    /// Always `Bearer` (RFC 6750).
    token_type: String,
    /// The lifetime of the access token in seconds.
    expires_in: u64,
    /// The token for the next refresh. Absent for `client_credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// The scopes, separated by spaces. Absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

impl Example for TokenBody {
    fn example() -> Self {
        Self {
            access_token: "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ii4uLiJ9.….…".to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: 300,
            refresh_token: Some("lk_rt_AQGTLu…".to_owned()),
            scope: Some("account".to_owned()),
        }
    }
}

#[derive(ApiResponse)]
enum TokenAnswer {
    /// The tokens.
    #[oai(status = 200)]
    Ok(
        RawJson<TokenBody>,
        /// For HTTP/1.0 caches (RFC 6749, section 5.1).
        #[oai(header = "Pragma")]
        String,
    ),
}

impl TokenAnswer {
    fn of_session(tokens: Tokens) -> Self {
        Self::new(TokenBody {
            expires_in: tokens.expires_in.as_secs(),
            refresh_token: Some(tokens.refresh_token.expose().to_owned()),
            scope: Some(tokens.scope).filter(|scope| !scope.is_empty()),
            access_token: tokens.access_token.into_exposed(),
            token_type: "Bearer".to_owned(),
        })
    }

    fn of_client(token: ClientToken) -> Self {
        Self::new(TokenBody {
            expires_in: token.expires_in.as_secs(),
            refresh_token: None,
            scope: Some(token.scope.to_string()).filter(|scope| !scope.is_empty()),
            access_token: token.access_token.into_exposed(),
            token_type: "Bearer".to_owned(),
        })
    }

    fn new(body: TokenBody) -> Self {
        Self::Ok(RawJson::of(&body), "no-cache".to_owned())
    }
}

/// The errors of a token request.
struct TokenErrors;

impl OAuthErrors for TokenErrors {
    const CODES: &'static [OAuthCode] = &[
        OAuthCode::InvalidRequest,
        OAuthCode::InvalidClient,
        OAuthCode::InvalidGrant,
        OAuthCode::UnsupportedGrantType,
        OAuthCode::InvalidScope,
    ];
}

impl From<RefreshError> for OAuthFailed<TokenErrors> {
    fn from(error: RefreshError) -> Self {
        let description = match error {
            RefreshError::InvalidToken => "The refresh token is not valid, or its session has ended.",
            RefreshError::Reused => "The refresh token was already used. Its session was revoked.",
            RefreshError::Expired => "The session has expired.",
            RefreshError::Service(error) => return error.into(),
        };
        OAuthError::new(OAuthCode::InvalidGrant, description).into()
    }
}

impl From<ClientTokenError> for OAuthFailed<TokenErrors> {
    fn from(error: ClientTokenError) -> Self {
        match error {
            ClientTokenError::InvalidScope => {
                OAuthError::new(OAuthCode::InvalidScope, "The client does not have all of these scopes.").into()
            }
            ClientTokenError::Service(error) => error.into(),
        }
    }
}

#[OpenApi(tag = "Tag::OAuth")]
impl TokenApi {
    /// Get tokens
    ///
    /// `refresh_token` exchanges a session's refresh token for its next tokens, as `/v1/refresh` does, for OAuth client
    /// libraries. Apps are public clients: they send no secret or, by HTTP Basic, an empty one, and their `client_id`, if any, is the
    /// value of `token.client_id`. A refresh token of a cookie session is not valid here.
    ///
    /// `client_credentials` issues an access token of the service client itself: its `sub` is the client, its `aud` is the
    /// client's audiences, and it has no session.
    #[oai(path = "/oauth2/token", method = "post", operation_id = "token")]
    async fn token(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        FormOrBasic(authorization): FormOrBasic<false>,
        Form(form): Form<TokenForm>,
    ) -> Result<TokenAnswer, OAuthFailed<TokenErrors>> {
        let caller = credentials::authenticate(state, authorization, form.client).await?;
        match form.grant_type {
            GrantType::ClientCredentials => {
                let client = caller.client()?;
                Ok(TokenAnswer::of_client(client_token::issue(state, &client, form.scope.as_deref())?))
            }
            GrantType::RefreshToken => {
                let token = form.refresh_token.ok_or(OAuthError::invalid_request("refresh_token is missing."))?;
                let scope = &state.config.token.scope;
                if caller.client_or_app(state)?.is_some() {
                    let description = "The refresh token was issued to a public client.";
                    return Err(OAuthError::new(OAuthCode::InvalidGrant, description).into());
                }
                // narrower scopes are not supported and wider ones not allowed (RFC 6749, section 6)
                if form
                    .scope
                    .is_some_and(|requested| requested.split(' ').any(|word| !scope.split(' ').any(|own| own == word)))
                {
                    let description = "The session does not have all of these scopes.";
                    return Err(OAuthError::new(OAuthCode::InvalidScope, description).into());
                }
                let tokens = refresh::refresh_in_body(state, token.0.expose(), &client.into_origin(None)).await?;
                Ok(TokenAnswer::of_session(tokens))
            }
        }
    }
}
