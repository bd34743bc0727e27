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
    http::{api::Tag, extract::client_auth::FormOrBasic, types::Secret},
    service::revoke_token::revoke_token,
    state::AppState,
};

/// The end of sessions, for stock clients.
pub struct RevokeApi;

/// Which token.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
struct RevokeForm {
    /// A refresh token or an access token.
    token: Secret,
    /// `access_token` or `refresh_token`. Not needed: the two are told apart by their looks.
    token_type_hint: Option<String>,
    #[oai(flatten)]
    client: ClientFields,
}

impl Example for RevokeForm {
    fn example() -> Self {
        Self { token: Secret("".into()), token_type_hint: None, client: ClientFields::default() }
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
enum RevokeAnswer {
    /// The session is over, if there was one.
    #[oai(status = 200)]
    Done,
}

/// What revoking can be refused with.
struct RevokeErrors;

impl OAuthErrors for RevokeErrors {
    const CODES: &'static [OAuthCode] = &[OAuthCode::InvalidRequest, OAuthCode::InvalidClient];
    const LIMITED: bool = true;
}

#[OpenApi(tag = "Tag::OAuth")]
impl RevokeApi {
    /// Revoke a token
    ///
    /// Ends the session of a refresh token or an access token, and so both. An app that has no secret gives back its own
    /// without authenticating, as by `/v1/logout` (the event says `logout`); a service client may end the sessions whose
    /// tokens are for one of its audiences (`revoked`). For any other token the answer is 200 too, and nothing is done.
    #[oai(path = "/oauth2/revoke", method = "post", operation_id = "revoke")]
    async fn revoke(
        &self,
        Data(state): Data<&Arc<AppState>>,
        FormOrBasic(authorization): FormOrBasic<false>,
        Form(form): Form<RevokeForm>,
    ) -> Result<RevokeAnswer, OAuthFailed<RevokeErrors>> {
        let ip = authorization.ip;
        let caller = credentials::authenticate(state, authorization, form.client).await?.client_or_app(state)?;
        revoke_token(state, caller.as_deref(), form.token.0.expose(), ip).await?;
        Ok(RevokeAnswer::Done)
    }
}
