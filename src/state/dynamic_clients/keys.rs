//! The public keys by which dynamic clients authenticate: in their metadata, or at the `jwks_uri` that the metadata names.

use std::sync::Arc;

use url::Url;

use super::{DocumentError, DynamicClients, FetchOutcome};
use crate::{
    crypto::client_keys::{ClientKeys, usable_jwks},
    domain::dynamic_client::{ClientMetadata, MetadataError},
    fetch::FetchPurpose,
    state::clients::LoadedClient,
};

impl DynamicClients {
    /// Checks whether this node may fetch the keys at the `jwks_uri` of a client, if it has one.
    pub(super) fn check_jwks_uri(&self, metadata: &ClientMetadata) -> Result<(), DocumentError> {
        let Some(uri) = &metadata.jwks_uri else { return Ok(()) };
        if self.fetcher.is_none() {
            // An operator who allows only the registration of dynamic clients has not allowed requests to other hosts.
            return Err(MetadataError::Metadata("jwks_uri is not supported here: send jwks.").into());
        }
        self.check_url(uri)?;
        Ok(())
    }

    /// Whether [`Self::keys`] sends no request: the client has no `jwks_uri`, or its last fetch, even if failed, is fresh.
    pub(in crate::state) fn has_keys(&self, loaded: &LoadedClient) -> bool {
        jwks_uri(loaded).is_none_or(|uri| self.keys.get(uri).is_some())
    }

    /// Whether [`Self::recent_keys`] sends no request: the client has no `jwks_uri`, or a fetch of the last minute, even if failed, is fresh.
    pub(in crate::state) fn has_recent_keys(&self, loaded: &LoadedClient) -> bool {
        jwks_uri(loaded).is_none_or(|uri| self.keys.get_recent(uri).is_some())
    }

    /// The keys of a client. Fetches those at a `jwks_uri` unless they are in memory.
    ///
    /// # Errors
    /// [`DocumentError`] if the keys are at a `jwks_uri` and can't be fetched.
    pub(in crate::state) async fn keys(&self, loaded: &LoadedClient) -> Result<Arc<ClientKeys>, DocumentError> {
        let Some(uri) = jwks_uri(loaded) else { return Ok(Arc::clone(&loaded.keys)) };
        let url = self.check_url(uri)?;
        self.keys.get_or_fetch(uri, async || self.fetch_keys(&url).await).await
    }

    /// The keys at the `jwks_uri` of a client, fetched within the last minute. For a signature that older keys do not verify: the
    /// client may have a new key. `None` if the client has no `jwks_uri`, or the fetch fails.
    pub(in crate::state) async fn recent_keys(&self, loaded: &LoadedClient) -> Option<Arc<ClientKeys>> {
        let uri = jwks_uri(loaded)?;
        let url = self.check_url(uri).ok()?;
        self.keys.get_recent_or_fetch(uri, async || self.fetch_keys(&url).await).await.ok()
    }

    async fn fetch_keys(&self, url: &Url) -> FetchOutcome<Arc<ClientKeys>> {
        self.fetch_json(url, FetchPurpose::ClientAuthentication, parse_keys).await
    }
}

fn jwks_uri(loaded: &LoadedClient) -> Option<&str> {
    loaded.client.dynamic.as_ref()?.metadata.jwks_uri.as_deref()
}

fn parse_keys(body: &[u8]) -> Result<Arc<ClientKeys>, DocumentError> {
    let text = std::str::from_utf8(body).map_err(|_| DocumentError::Json)?;
    // drops keys not for signatures
    let jwks = usable_jwks(text).map_err(|_| DocumentError::Keys)?;
    Ok(Arc::new(ClientKeys::parse(&jwks).map_err(|_| DocumentError::Keys)?))
}
