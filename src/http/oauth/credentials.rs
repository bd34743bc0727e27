//! Who calls: a service client that shows who it is in one of three ways, or an app without a secret (RFC 6749, section 2).

use std::sync::Arc;

use poem_openapi::Object;

use super::{
    error::{OAuthError, OAuthErrors, OAuthFailed},
    form::Parameters,
};
use crate::{
    domain::client::Client,
    http::{
        extract::client_auth::{Authorization, Shown},
        types::Secret,
    },
    service::clients::{self, Credentials},
    state::AppState,
};

/// The `client_assertion_type` of signed JWTs (RFC 7523, section 2.2).
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The part of every form by which a client shows who it is, if it doesn't by HTTP Basic.
#[derive(Object, Default)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct ClientFields {
    /// The client's name. Needed with `client_secret`; elsewhere, it may stand beside what says the same.
    client_id: Option<String>,
    /// The client's secret, where it isn't sent by HTTP Basic.
    client_secret: Option<Secret>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, with `client_assertion`.
    client_assertion_type: Option<String>,
    /// A JWT that the client has signed with its registered key instead of showing a secret (RFC 7523, section 3): `iss` and
    /// `sub` are its name, `aud` is the issuer or this endpoint, `exp` lies at most an hour ahead, `jti` is never used
    /// again.
    client_assertion: Option<Secret>,
}

/// Who calls.
pub(super) enum Caller {
    /// A service client that has shown who it is.
    Client(Arc<Client>),
    /// Somebody who shows nothing but, perhaps, a name.
    Public(Option<String>),
}

impl ClientFields {
    /// Nothing but a name, as apps send it that have no secret.
    pub(super) fn named(name: &str) -> Self {
        Self { client_id: Some(name.to_owned()), ..Self::default() }
    }

    pub(super) fn read(parameters: &mut Parameters) -> Self {
        Self {
            client_id: parameters.take("client_id"),
            client_secret: parameters.take_secret("client_secret"),
            client_assertion_type: parameters.take("client_assertion_type"),
            client_assertion: parameters.take_secret("client_assertion"),
        }
    }

    /// The credentials that a request holds, by whichever way; nothing where there are none.
    fn credentials(self, authorization: Authorization) -> Result<(Option<Credentials>, Option<String>), OAuthError> {
        const TWICE: OAuthError = OAuthError::invalid_request("Authenticate the client in one way, not in several.");
        const OTHERS: OAuthError = OAuthError::invalid_request("client_id is not the client that authenticates.");
        let Self { client_id, client_secret, client_assertion_type, client_assertion } = self;
        let in_form = client_secret.is_some() || client_assertion.is_some() || client_assertion_type.is_some();
        match authorization {
            Authorization::Several => return Err(TWICE),
            Authorization::Basic { .. } | Authorization::Other if in_form => return Err(TWICE),
            Authorization::Other => {
                return Err(OAuthError::invalid_client(
                    "Authorization must be Basic, with client_id and client_secret.",
                ));
            }
            Authorization::Basic { client_id: name, .. } if client_id.as_ref().is_some_and(|sent| *sent != name) => {
                return Err(OTHERS);
            }
            Authorization::Basic { client_id, secret } => {
                return Ok((Some(Credentials::Secret { client_id, secret }), None));
            }
            Authorization::None => {}
        }
        match (client_secret, client_assertion_type.as_deref(), client_assertion) {
            (None, None, None) => Ok((None, client_id)),
            (Some(Secret(secret)), None, None) => {
                let missing = OAuthError::invalid_request("client_secret needs client_id.");
                Ok((Some(Credentials::Secret { client_id: client_id.ok_or(missing)?, secret }), None))
            }
            (None, Some(JWT_BEARER), Some(Secret(assertion))) => {
                Ok((Some(Credentials::Assertion { client_id, assertion }), None))
            }
            (None, Some(_), Some(_)) => Err(OAuthError::invalid_client("There is no such client_assertion_type here.")),
            (None, ..) => Err(OAuthError::invalid_request("client_assertion and client_assertion_type go together.")),
            (Some(_), ..) => Err(TWICE),
        }
    }
}

/// Finds out who calls. One that shows something wrong is refused, even where nothing need be shown.
pub(super) async fn authenticate<E: OAuthErrors>(
    state: &AppState,
    shown: Shown,
    fields: ClientFields,
) -> Result<Caller, OAuthFailed<E>> {
    match fields.credentials(shown.authorization)? {
        (Some(credentials), _) => Ok(Caller::Client(clients::authenticate(state, credentials, shown.ip).await?)),
        (None, client_id) => Ok(Caller::Public(client_id)),
    }
}

impl Caller {
    /// The service client, where only one will do.
    pub(super) fn client(self) -> Result<Arc<Client>, OAuthError> {
        match self {
            Self::Client(client) => Ok(client),
            Self::Public(_) => Err(OAuthError::invalid_client("Authenticate as a service client.")),
        }
    }

    /// The service client or, for an app without a secret, nothing: an app is called `token.client_id`, or doesn't say.
    pub(super) fn client_or_app(self, state: &AppState) -> Result<Option<Arc<Client>>, OAuthError> {
        match self {
            Self::Client(client) => Ok(Some(client)),
            Self::Public(Some(name)) if name != state.config.token.client_id => {
                Err(OAuthError::invalid_client("This client has to authenticate."))
            }
            Self::Public(_) => Ok(None),
        }
    }
}
