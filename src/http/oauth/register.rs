//! `POST /oauth2/register` (RFC 7591, section 3).

use std::sync::Arc;

use latchkey_verify::jose::strict_json;
use poem::{Request, RequestBody, Result, web::Data};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::{Example, Type},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{OAuthCode, OAuthError, OAuthErrors, OAuthFailed};
use crate::{
    domain::{app_client::ClientAuthMethod, dynamic_client::MetadataError},
    http::{
        api::Tag,
        extract::{client_info::ClientInfo, json},
        problem::{Code, ProblemError},
        raw_json::RawJson,
    },
    service::register_client::{RegisterClientError, RegisteredApp, register_client},
    state::AppState,
};

/// The registration endpoint.
pub struct RegisterApi;

/// The metadata of an app (RFC 7591, section 2). Other members are ignored.
#[derive(Object)]
#[oai(skip_serializing_if_is_none, example)]
struct ClientMetadataForm {
    /// Where authorization responses may go: https, a loopback address or, for a public client, a scheme with a dot (`com.example.app`).
    redirect_uris: Vec<String>,
    /// `none`, `client_secret_basic` (the default), `client_secret_post` or `private_key_jwt`.
    token_endpoint_auth_method: Option<String>,
    /// `authorization_code` (the default) and perhaps `refresh_token`.
    grant_types: Option<Vec<String>>,
    /// `code`.
    response_types: Option<Vec<String>>,
    /// The name that pages show.
    client_name: Option<String>,
    /// The app's home page.
    client_uri: Option<String>,
    /// The scopes that the app may request, separated by spaces. Default: all that such apps may have.
    scope: Option<String>,
    /// Where a browser may go after sign-out.
    post_logout_redirect_uris: Option<Vec<String>>,
    /// The app's public keys, for `private_key_jwt` (RFC 7517, section 5).
    jwks: Option<Value>,
    /// Where the app's public keys are, instead of `jwks`. Only if `dynamic_clients.metadata_documents` is on.
    jwks_uri: Option<String>,
    /// The app's URL that starts a sign-in, to which the account page links (OpenID Connect Core 1.0, section 4): an https URL with the
    /// origin of a redirect URI.
    initiate_login_uri: Option<String>,
}

impl Example for ClientMetadataForm {
    fn example() -> Self {
        Self {
            redirect_uris: vec!["http://127.0.0.1/callback".to_owned()],
            token_endpoint_auth_method: Some("none".to_owned()),
            grant_types: Some(vec!["authorization_code".to_owned(), "refresh_token".to_owned()]),
            response_types: None,
            client_name: Some("An App".to_owned()),
            client_uri: None,
            scope: None,
            post_logout_redirect_uris: None,
            jwks: None,
            jwks_uri: None,
            initiate_login_uri: None,
        }
    }
}

/// The members of the body, which `register_client` checks. [`ClientMetadataForm`] documents them. This extractor refuses a malformed
/// body with an error of RFC 7591 (section 3.2.2), not with a problem.
struct Metadata(Map<String, Value>);

const NOT_JSON: OAuthError = OAuthError::new(
    OAuthCode::InvalidClientMetadata,
    "Send the metadata as a JSON object without repeated members, with the header Content-Type: application/json.",
);

impl<'a> ApiExtractor<'a> for Metadata {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <ClientMetadataForm as Type>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content =
            vec![MetaMediaType { content_type: json::CONTENT_TYPE, schema: ClientMetadataForm::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(request: &'a Request, body: &mut RequestBody, _: ExtractParamOptions<()>) -> Result<Self> {
        let bytes = body.take()?.into_bytes().await?;
        // without parameters such as `charset`
        let media_type = request.content_type().and_then(|text| text.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(json::CONTENT_TYPE)) {
            return Err(NOT_JSON.into());
        }
        match strict_json::from_slice(&bytes) {
            Some(Value::Object(members)) => Ok(Self(members)),
            _ => Err(NOT_JSON.into()),
        }
    }
}

/// A registered app (RFC 7591, section 3.2.1).
#[derive(Object, Serialize)]
#[oai(rename = "ClientRegistration", skip_serializing_if_is_none, example)]
struct RegistrationBody {
    /// The app's id, up to 2 kB. It contains the metadata, and is not stored until a user allows the app.
    client_id: String,
    /// The secret, unless the app is public or authenticates with a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    /// 0: the secret does not expire. Absent without a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<u64>,
    /// When the id was issued, in seconds since the Unix epoch.
    client_id_issued_at: i64,
    /// Where authorization responses may go.
    redirect_uris: Vec<String>,
    /// How the app authenticates.
    token_endpoint_auth_method: String,
    /// The grants that the app may exchange for tokens.
    grant_types: Vec<String>,
    /// `code`.
    response_types: Vec<String>,
    /// The name that pages show.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_name: Option<String>,
    /// The app's home page.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_uri: Option<String>,
    /// The scopes that the app may request, separated by spaces.
    scope: String,
    /// Where a browser may go after sign-out.
    #[serde(skip_serializing_if = "Option::is_none")]
    post_logout_redirect_uris: Option<Vec<String>>,
    /// The app's public keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks: Option<Value>,
    /// Where the app's public keys are.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<String>,
    /// The app's URL that starts a sign-in, to which the account page links.
    #[serde(skip_serializing_if = "Option::is_none")]
    initiate_login_uri: Option<String>,
}

impl RegistrationBody {
    fn of(app: RegisteredApp) -> Self {
        let RegisteredApp { registration, scopes } = app;
        let metadata = registration.metadata;
        let method = metadata.method();
        let has_secret = matches!(method, ClientAuthMethod::SecretBasic | ClientAuthMethod::SecretPost);
        Self {
            // every registration has a secret; only apps that send it get it
            client_secret: has_secret.then(|| registration.secret.expose().to_owned()),
            client_secret_expires_at: has_secret.then_some(0),
            client_id_issued_at: registration.issued_at.as_secs(),
            client_id: registration.client_id,
            token_endpoint_auth_method: method.as_str().to_owned(),
            grant_types: metadata.grant_types().iter().map(|grant| grant.as_str().to_owned()).collect(),
            response_types: vec!["code".to_owned()],
            redirect_uris: metadata.redirect_uris,
            client_name: metadata.name,
            client_uri: metadata.client_uri,
            scope: scopes.to_string(),
            post_logout_redirect_uris: Some(metadata.post_logout_redirect_uris).filter(|uris| !uris.is_empty()),
            // the registration has checked that the text is JSON
            jwks: metadata.jwks.and_then(|jwks| serde_json::from_str(&jwks).ok()),
            jwks_uri: metadata.jwks_uri,
            initiate_login_uri: metadata.initiate_login_uri,
        }
    }
}

impl Example for RegistrationBody {
    fn example() -> Self {
        Self {
            client_id: "lk_dc_eyJpIjoi…".to_owned(),
            client_secret: None,
            client_secret_expires_at: None,
            client_id_issued_at: 1_767_225_600, // 2026-01-01
            redirect_uris: vec!["http://127.0.0.1/callback".to_owned()],
            token_endpoint_auth_method: "none".to_owned(),
            grant_types: vec!["authorization_code".to_owned(), "refresh_token".to_owned()],
            response_types: vec!["code".to_owned()],
            client_name: Some("An App".to_owned()),
            client_uri: None,
            scope: "openid profile email offline_access".to_owned(),
            post_logout_redirect_uris: None,
            jwks: None,
            jwks_uri: None,
            initiate_login_uri: None,
        }
    }
}

#[derive(ApiResponse)]
enum RegistrationAnswer {
    /// The app is registered.
    #[oai(status = 201)]
    Created(
        RawJson<RegistrationBody>,
        /// For HTTP/1.0 caches.
        #[oai(header = "Pragma")]
        String,
    ),
}

/// The errors of a registration.
struct RegistrationErrors;

impl OAuthErrors for RegistrationErrors {
    const CODES: &'static [OAuthCode] = &[OAuthCode::InvalidRedirectUri, OAuthCode::InvalidClientMetadata];
    const PROBLEMS: &'static [Code] = &[Code::NotFound];
}

impl From<RegisterClientError> for OAuthFailed<RegistrationErrors> {
    fn from(error: RegisterClientError) -> Self {
        match error {
            RegisterClientError::Metadata(MetadataError::RedirectUri(why)) => {
                OAuthError::new(OAuthCode::InvalidRedirectUri, why).into()
            }
            RegisterClientError::Metadata(MetadataError::Metadata(why)) => {
                OAuthError::new(OAuthCode::InvalidClientMetadata, why).into()
            }
            RegisterClientError::Off => Self::problem(ProblemError::new(
                Code::NotFound,
                "Apps can't register themselves here: dynamic_clients.registration is off.",
            )),
            RegisterClientError::Service(error) => error.into(),
        }
    }
}

#[OpenApi(tag = "Tag::OAuth")]
impl RegisterApi {
    /// Register an app
    ///
    /// Issues a `client_id` to an app without a registration (RFC 7591), if `dynamic_clients.registration` is on. The app's users are always
    /// asked for their consent. The metadata can't be read or changed later: an app that needs other metadata registers again.
    #[oai(path = "/oauth2/register", method = "post", operation_id = "register_client")]
    async fn register(
        &self,
        Data(state): Data<&Arc<AppState>>,
        client: ClientInfo,
        Metadata(metadata): Metadata,
    ) -> Result<RegistrationAnswer, OAuthFailed<RegistrationErrors>> {
        let app = register_client(state, &metadata, client.ip)?;
        let body = RawJson::of(&RegistrationBody::of(app));
        let pragma = "no-cache".to_owned();
        Ok(RegistrationAnswer::Created(body, pragma))
    }
}
