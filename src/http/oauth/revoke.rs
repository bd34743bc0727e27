//! `POST /oauth2/revoke` (RFC 7009).

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, types::Example};

use super::{
    credentials::{self, ClientFields},
    error::{OAuthCode, OAuthError, OAuthErrors, OAuthFailed},
    form::{Form, FormBody, Parameters},
};
use crate::{
    http::{
        api::Tag,
        extract::client_auth::{FormOrBasic, OptionalClient},
        types::Secret,
    },
    service::revoke_token::revoke_token,
    state::AppState,
};

/// Token revocation.
pub struct RevokeApi;

/// The token to revoke.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
struct RevokeForm {
    /// A refresh token or an access token.
    token: Secret,
    /// `access_token` or `refresh_token`. Has no effect: the two kinds of tokens have different formats.
    token_type_hint: Option<String>,
    #[oai(flatten)]
    client: ClientFields,
}

impl Example for RevokeForm {
    fn example() -> Self {
        Self { token: Secret::masked(), token_type_hint: None, client: ClientFields::default() }
    }
}

impl FormBody for RevokeForm {
    fn read(parameters: &mut Parameters) -> Result<Self, OAuthError> {
        Ok(Self {
            token: parameters.take_secret("token").ok_or(OAuthError::invalid_request("token is missing."))?,
            token_type_hint: parameters.take("token_type_hint"),
            client: ClientFields::read(parameters),
        })
    }
}

#[derive(ApiResponse)]
enum RevokeResponse {
    /// The token's session has ended, or the token is invalid or not one that this caller may revoke.
    #[oai(status = 200)]
    Done,
}

/// The errors of a revocation.
struct RevokeErrors;

impl OAuthErrors for RevokeErrors {
    const CODES: &'static [OAuthCode] = &[OAuthCode::InvalidRequest, OAuthCode::InvalidClient];
}

#[OpenApi(tag = "Tag::OAuth")]
impl RevokeApi {
    /// Revoke a token
    ///
    /// Ends the session of a refresh token or an access token, which revokes both tokens. The holder of a token from the REST API revokes
    /// it without authentication, as with `/v1/logout`. Apps revoke the tokens that were issued to them. In both cases, the feed reports
    /// the reason `logout`. Service clients with the audience `token.audience` revoke tokens from the REST API (reason `revoked`). Invalid
    /// tokens, and tokens of other clients or for other audiences, have no effect. The response is 200 for these too, so that it does not
    /// reveal whether a token is genuine.
    #[oai(path = "/oauth2/revoke", method = "post", operation_id = "revoke")]
    async fn revoke(
        &self,
        Data(state): Data<&Arc<AppState>>,
        FormOrBasic(authorization): OptionalClient,
        Form(form): Form<RevokeForm>,
    ) -> Result<RevokeResponse, OAuthFailed<RevokeErrors>> {
        let ip = authorization.ip;
        let caller = credentials::authenticate(state, authorization, form.client).await?;
        // `None` for the holder of a token from the REST API
        let client = caller.registered_client(state)?;
        revoke_token(state, client.as_deref(), form.token.0.expose(), ip).await?;
        Ok(RevokeResponse::Done)
    }
}
