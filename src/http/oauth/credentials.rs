//! Client authentication (RFC 6749, section 2.3): by HTTP Basic, by a secret in the form, or by a signed JWT. A public client
//! only names itself.

use std::sync::Arc;

use poem_openapi::Object;

use super::{
    error::{OAuthCode, OAuthError, OAuthErrors, OAuthFailed},
    form::Parameters,
};
use crate::{
    domain::{
        app_client::{ClientKind, GrantType},
        client::Client,
    },
    http::{
        extract::client_auth::{Authorization, HeaderCredentials},
        types::Secret,
    },
    service::{
        clients::{self, Credentials},
        error::ServiceError,
    },
    state::AppState,
};

/// The `client_assertion_type` of signed JWTs (RFC 7523, section 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The fields by which a client authenticates in a form, if it does not use HTTP Basic.
#[derive(Object, Default)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct ClientFields {
    /// The client's id. Required with `client_secret`. A client that authenticates otherwise may omit it.
    client_id: Option<String>,
    /// The client's secret, unless it is sent by HTTP Basic.
    client_secret: Option<Secret>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, with `client_assertion`.
    client_assertion_type: Option<String>,
    /// A JWT signed with the client's registered key, instead of a secret (RFC 7523, section 3): `iss` and `sub` are the
    /// client's id, `aud` is the issuer or this endpoint, `exp` is at most an hour ahead, and each `jti` is used once.
    client_assertion: Option<Secret>,
}

/// The caller of an OAuth endpoint.
pub(super) enum Caller {
    /// An authenticated client: a service client, or a web app with a secret.
    Client(Arc<Client>),
    /// A registered app without a secret.
    App(Arc<Client>),
    /// A caller without credentials, with its `client_id`, if any. If the id is `token.client_id` or absent, the caller is the
    /// first-party client. Otherwise it is an unknown client, or a client that must authenticate.
    Public(Option<String>),
}

/// Credentials of a client, or only the `client_id` of a public client.
enum Presented {
    Credentials(Credentials),
    /// The `client_id`, if any.
    PublicId(Option<String>),
}

impl ClientFields {
    /// Only a `client_id`, as public clients send it.
    pub(super) fn of_public_client(client_id: &str) -> Self {
        Self { client_id: Some(client_id.to_owned()), ..Self::default() }
    }

    /// Takes the fields from the parameters of a form.
    pub(super) fn read(parameters: &mut Parameters) -> Self {
        Self {
            client_id: parameters.take("client_id"),
            client_secret: parameters.take_secret("client_secret"),
            client_assertion_type: parameters.take("client_assertion_type"),
            client_assertion: parameters.take_secret("client_assertion"),
        }
    }

    /// The credentials in the header or in these fields, or the `client_id` of a public client.
    fn credentials(self, authorization: Authorization) -> Result<Presented, OAuthError> {
        const SEVERAL: OAuthError = OAuthError::invalid_request("Use one client authentication method, not several.");
        const MISMATCH: OAuthError = OAuthError::invalid_request("client_id does not match the authenticated client.");
        let Self { client_id, client_secret, client_assertion_type, client_assertion } = self;
        let form_has_credentials =
            client_secret.is_some() || client_assertion.is_some() || client_assertion_type.is_some();
        // Beside a header, credentials in the form are an error.
        match authorization {
            Authorization::Several => return Err(SEVERAL),
            Authorization::Basic { .. } | Authorization::Other if form_has_credentials => return Err(SEVERAL),
            Authorization::Other => {
                return Err(OAuthError::invalid_client(
                    "The Authorization header must be Basic, with client_id and client_secret.",
                ));
            }
            // The form may repeat the `client_id` of the header.
            Authorization::Basic { client_id: header_id, .. }
                if client_id.as_ref().is_some_and(|form_id| *form_id != header_id) =>
            {
                return Err(MISMATCH);
            }
            // An empty secret counts as an omitted one (RFC 6749, section 2.3.1): libraries send it for public clients.
            Authorization::Basic { client_id, secret } if secret.expose().is_empty() => {
                return Ok(Presented::PublicId(Some(client_id)));
            }
            Authorization::Basic { client_id, secret } => {
                return Ok(Presented::Credentials(Credentials::Secret { client_id, secret, is_in_form: false }));
            }
            Authorization::None => {}
        }
        match (client_secret, client_assertion_type.as_deref(), client_assertion) {
            (None, None, None) => Ok(Presented::PublicId(client_id)),
            (Some(Secret(secret)), None, None) => {
                let missing = OAuthError::invalid_request("client_secret requires client_id.");
                let client_id = client_id.ok_or(missing)?;
                Ok(Presented::Credentials(Credentials::Secret { client_id, secret, is_in_form: true }))
            }
            (None, Some(JWT_BEARER), Some(Secret(assertion))) => {
                Ok(Presented::Credentials(Credentials::Assertion { client_id, assertion }))
            }
            (None, Some(_), Some(_)) => Err(OAuthError::invalid_client("The client_assertion_type is not supported.")),
            // Either `client_assertion` or its type is missing.
            (None, ..) => {
                Err(OAuthError::invalid_request("client_assertion and client_assertion_type must be sent together."))
            }
            (Some(_), ..) => Err(SEVERAL),
        }
    }
}

/// Authenticates the caller. Wrong credentials are refused even where none are required.
pub(super) async fn authenticate<E: OAuthErrors>(
    state: &AppState,
    header: HeaderCredentials,
    fields: ClientFields,
) -> Result<Caller, OAuthFailed<E>> {
    match fields.credentials(header.authorization)? {
        Presented::Credentials(credentials) => {
            Ok(Caller::Client(clients::authenticate(state, credentials, header.ip).await?))
        }
        Presented::PublicId(Some(client_id)) if client_id != state.config.token.client_id => {
            match state.clients.find(&client_id).await.map_err(ServiceError::from)? {
                Some(found) if found.client.kind == ClientKind::Public => Ok(Caller::App(found.client)),
                _ => Ok(Caller::Public(Some(client_id))),
            }
        }
        Presented::PublicId(client_id) => Ok(Caller::Public(client_id)),
    }
}

impl Caller {
    /// The authenticated client, for endpoints that accept no public client.
    pub(super) fn authenticated_client(self) -> Result<Arc<Client>, OAuthError> {
        match self {
            Self::Client(client) => Ok(client),
            Self::App(_) | Self::Public(_) => Err(OAuthError::invalid_client("Client authentication is required.")),
        }
    }

    /// For endpoints that accept public clients: the registered client, or `None` for the first-party client, whose `client_id` is
    /// `token.client_id` or absent.
    pub(super) fn registered_client(self, state: &AppState) -> Result<Option<Arc<Client>>, OAuthError> {
        match self {
            Self::Client(client) | Self::App(client) => Ok(Some(client)),
            Self::Public(Some(client_id)) if client_id != state.config.token.client_id => {
                Err(OAuthError::invalid_client("This client must authenticate."))
            }
            Self::Public(_) => Ok(None),
        }
    }
}

/// Checks that the client is registered for this grant type.
///
/// # Errors
/// `unauthorized_client`
pub(super) fn require_grant(client: &Client, grant: GrantType) -> Result<(), OAuthError> {
    if client.may_use(grant) {
        Ok(())
    } else {
        Err(OAuthError::new(OAuthCode::UnauthorizedClient, "The client is not registered for this grant type."))
    }
}
