//! Registers apps at their own request (RFC 7591). The `client_id` contains the metadata: the client is stored only when an
//! account allows the app.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::{
    crypto::client_registration::Registration,
    domain::{
        client::SpaceSeparated,
        dynamic_client::{ClientMetadata, DynamicSource, MetadataError},
    },
    service::{error::ServiceError, limits},
    state::{AppState, dynamic_clients::DocumentError},
};

/// An app that has registered itself.
#[derive(Clone, Debug)]
pub struct RegisteredApp {
    /// The id, the secret and the metadata.
    pub registration: Registration,
    /// The scopes that the app may request.
    pub scopes: SpaceSeparated,
}

/// Why an app was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterClientError {
    /// Apps can't register themselves (`dynamic_clients.registration`).
    #[error("dynamic_clients.registration is off")]
    Off,
    /// The metadata is refused.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// See [`ServiceError`].
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Registers an app. `members` is its metadata, as it was sent (RFC 7591, section 2).
///
/// # Errors
/// [`RegisterClientError`]
pub fn register_client(
    state: &AppState,
    members: &Map<String, Value>,
    ip: Option<IpAddr>,
) -> Result<RegisteredApp, RegisterClientError> {
    if !state.clients.accepts(DynamicSource::Registration) {
        return Err(RegisterClientError::Off);
    }
    limits::check_client_registration(state, ip)?;
    let metadata = ClientMetadata::from_registration(members)?;
    let registration = state.clients.register(metadata, &state.entropy).map_err(|error| match error {
        DocumentError::Metadata(error) => error,
        // The host is not in `dynamic_clients.allowed_hosts`.
        DocumentError::Host => {
            MetadataError::RedirectUri("The host of a redirect URI or of jwks_uri is not allowed here.")
        }
        // Of these, a registration causes only `Keys`: nothing is fetched, and `from_registration` has checked the form of jwks_uri.
        DocumentError::Keys
        | DocumentError::Url(_)
        | DocumentError::Off
        | DocumentError::Fetch(_)
        | DocumentError::Json => MetadataError::Metadata("jwks has no usable key or contains a private key."),
    })?;
    // Reads the client back from its `client_id`, as later requests do: this limits its scopes to `dynamic_clients.scopes`.
    let loaded = state.clients.unseal_registration(&registration.client_id);
    let scopes = loaded.map(|loaded| loaded.client.scopes.clone()).unwrap_or_default();
    tracing::info!(
        name = registration.metadata.name,
        redirect_uri = registration.metadata.redirect_uris.first(),
        "an app registered itself as a dynamic client; users must allow it before it gets tokens"
    );
    Ok(RegisteredApp { registration, scopes })
}
