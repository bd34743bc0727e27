//! `GET` and `POST /oauth2/userinfo` (OpenID Connect Core 1.0, section 5.3).

use std::sync::Arc;

use poem::{Request, RequestBody, Result, web::Data};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi,
    payload::Json,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::{Example, Type},
};
use uuid::Uuid;

use super::form::{CONTENT_TYPE, Parameters};
use crate::{
    http::{
        api::Tag,
        extract::auth::{BearerToken, MaybeBearerToken},
        problem::{Code, Failed, ProblemError, Problems},
        types::Secret,
    },
    service::userinfo::{self, UserInfoError},
    state::AppState,
};

/// The userinfo endpoint.
pub struct UserInfoApi;

/// The claims about the user that the granted scopes reveal.
#[derive(Object)]
#[oai(rename = "UserInfo", skip_serializing_if_is_none, example)]
struct UserInfoResponse {
    /// The account's id, as in the ID token.
    sub: Uuid,
    /// Scope `profile`: the display name.
    name: Option<String>,
    /// Scope `profile`: the username, or the e-mail address before its `@`.
    preferred_username: Option<String>,
    /// Scope `profile`: a language tag (BCP 47).
    locale: Option<String>,
    /// Scope `profile`: a time zone (IANA).
    zoneinfo: Option<String>,
    /// Scope `profile`: when the account last changed, in seconds since the Unix epoch.
    updated_at: Option<i64>,
    /// Scope `email`: the address.
    email: Option<String>,
    /// Scope `email`: whether the address is verified.
    email_verified: Option<bool>,
}

impl Example for UserInfoResponse {
    fn example() -> Self {
        Self {
            sub: Uuid::from_u128(0x01a2_0697_5375_7a3f_a5d0_8181_bd56_c321),
            name: Some("Ada Lovelace".to_owned()),
            preferred_username: Some("ada".to_owned()),
            locale: None,
            zoneinfo: None,
            updated_at: Some(1_795_406_910),
            email: Some("ada@example.com".to_owned()),
            email_verified: Some(true),
        }
    }
}

#[derive(ApiResponse)]
enum UserInfoAnswer {
    /// The claims.
    #[oai(status = 200)]
    Ok(Json<UserInfoResponse>),
}

/// The errors of a request.
struct UserInfoProblems;

impl Problems for UserInfoProblems {
    const CODES: &'static [Code] = &[
        Code::MalformedRequest,
        Code::AuthenticationRequired,
        Code::InvalidToken,
        Code::ClaimsChanged,
        Code::InsufficientScope,
    ];
}

impl From<UserInfoError> for Failed<UserInfoProblems> {
    fn from(error: UserInfoError) -> Self {
        match error {
            UserInfoError::InsufficientScope => {
                Self::new(Code::InsufficientScope, "The access token does not have the scope openid.")
            }
            UserInfoError::Authenticate(error) => ProblemError::from(error).into(),
        }
    }
}

/// The access token in a form, instead of the `Authorization` header (RFC 6750, section 2.2).
#[derive(Object)]
#[oai(rename = "UserInfoForm", skip_serializing_if_is_none)]
struct UserInfoForm {
    /// The access token.
    access_token: Option<Secret>,
}

/// The access token in the body; none if the body is not a form, or has no such parameter. Unlike [`Form`](super::form::Form), this
/// extractor accepts a request without a body.
struct FormToken(Option<String>);

impl<'a> ApiExtractor<'a> for FormToken {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        UserInfoForm::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: CONTENT_TYPE, schema: UserInfoForm::schema_ref() }];
        Some(MetaRequest { description: None, content, required: false })
    }

    async fn from_request(request: &'a Request, body: &mut RequestBody, _: ExtractParamOptions<()>) -> Result<Self> {
        // Without the parameters of the media type, such as `charset`.
        let media_type = request.content_type().and_then(|text| text.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(CONTENT_TYPE)) {
            return Ok(Self(None));
        }
        let bytes = body.take()?.into_vec().await?;
        let malformed =
            |_| ProblemError::new(Code::MalformedRequest, "The form can't be read, or repeats a parameter.");
        let mut parameters = Parameters::parse(&bytes).map_err(malformed)?;
        Ok(Self(parameters.take("access_token")))
    }
}

/// Answers with the claims that the access token reveals.
async fn respond(state: &AppState, token: &str) -> Result<UserInfoAnswer, Failed<UserInfoProblems>> {
    let (account, claims) = userinfo::userinfo(state, token).await?;
    Ok(UserInfoAnswer::Ok(Json(UserInfoResponse {
        sub: account.0,
        name: claims.name,
        preferred_username: claims.preferred_username,
        locale: claims.locale,
        zoneinfo: claims.zoneinfo,
        updated_at: claims.updated_at,
        email: claims.email,
        email_verified: claims.email_verified,
    })))
}

#[OpenApi(tag = "Tag::OAuth")]
impl UserInfoApi {
    /// Get claims about the user
    ///
    /// For apps: returns the claims about the user that the scopes of the access token reveal (OpenID Connect Core 1.0, section 5.3). The
    /// scope `openid` is required.
    #[oai(path = "/oauth2/userinfo", method = "get", operation_id = "userinfo")]
    async fn get(
        &self,
        Data(state): Data<&Arc<AppState>>,
        BearerToken(token): BearerToken,
    ) -> Result<UserInfoAnswer, Failed<UserInfoProblems>> {
        respond(state, &token).await
    }

    /// Get claims about the user (POST)
    ///
    /// As `GET`. The access token may be in the form instead of the header (RFC 6750, section 2.2), and not in both.
    #[oai(path = "/oauth2/userinfo", method = "post", operation_id = "userinfo_post")]
    async fn post(
        &self,
        Data(state): Data<&Arc<AppState>>,
        MaybeBearerToken(header_token): MaybeBearerToken,
        FormToken(form_token): FormToken,
    ) -> Result<UserInfoAnswer, Failed<UserInfoProblems>> {
        let token = match (header_token, form_token) {
            (Some(token), None) | (None, Some(token)) => token,
            (None, None) => {
                let detail = "Send an access token as `Authorization: Bearer`, or as `access_token` in a form.";
                return Err(Failed::new(Code::AuthenticationRequired, detail));
            }
            (Some(_), Some(_)) => {
                let detail = "Send the access token in the header or in the form, not in both.";
                return Err(Failed::new(Code::MalformedRequest, detail));
            }
        };
        respond(state, &token).await
    }
}
