//! Dynamic clients, which no operator has registered: a cache of their metadata documents, and the stored clients that an account
//! has allowed. There are two kinds: a client whose `client_id` is the URL of its metadata document, and a client that has
//! registered itself (RFC 7591), whose `client_id` contains its sealed metadata.
//!
//! `/oauth2/authorize` fetches the document of a client that it does not know yet, within rate limits. The document is then used
//! for as long as its response is fresh, within bounds. The other endpoints accept a client only if an account has allowed it, so
//! that only authorization requests can make the service fetch a new document. The other endpoints fetch stale documents of
//! allowed clients, and the keys at a `jwks_uri`, within the same rate limits, but have their own slots ([`FetchPurpose`]), so that
//! authorization requests do not wait for a slot because of them.

mod document_cache;
mod error;
mod keys;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use latchkey_verify::jose::strict_json;
use prometheus::IntCounterVec;
use serde_json::Value;
use url::Url;

use self::document_cache::{DocumentCache, FetchOutcome, MAX_DOCUMENTS};
pub use self::error::DocumentError;
use super::{
    clients::{ClientLabel, LoadedClient},
    error::StateError,
};
use crate::{
    config::{DynamicClientSettings, Secrets},
    crypto::{
        client_keys::{ClientKeys, usable_jwks},
        client_registration::{self, ClientRegistrations, Registration, reference},
    },
    domain::{
        app_client::ClientAuthMethod,
        bounded_map::BoundedMap,
        client::ClientSecretHash,
        clock::{Clock, Timestamp},
        dynamic_client::{ClientMetadata, DynamicClientParts, DynamicSource, MetadataError, check_document_url},
        entropy::Entropy,
    },
    fetch::{FetchPurpose, Fetcher},
    metrics::counters,
    store::sql::{Sql, StoredDynamicClient},
};

/// While its host does not answer, a document is used for this long after its last successful fetch, so that the client's sessions
/// can still be refreshed.
const STALE_IF_ERROR: Duration = Duration::from_hours(7 * 24);
/// The time after which unchanged metadata is stored again, with the time of its fetch. [`STALE_IF_ERROR`] counts from the stored
/// time, which would otherwise be that of the last change.
const REWRITE_INTERVAL: Duration = Duration::from_hours(24);
/// The time for which a stored client is used from memory. A change by an operator applies within this time.
const STORED_TTL: Duration = Duration::from_secs(5);

/// The dynamic clients of a node: cached documents and stored clients.
pub(super) struct DynamicClients {
    settings: DynamicClientSettings,
    registrations: ClientRegistrations,
    /// None if metadata documents are switched off (`dynamic_clients.metadata_documents`).
    fetcher: Option<Fetcher>,
    /// The clients that metadata documents describe, by URL.
    documents: DocumentCache<LoadedClient>,
    /// The key sets of clients with a `jwks_uri`.
    keys: DocumentCache<Arc<ClientKeys>>,
    /// Stored clients by [`reference`] (a digest of the `client_id`), and when they were read.
    stored: Mutex<BoundedMap<String, (Timestamp, Arc<StoredDynamicClient>)>>,
    fetches: IntCounterVec,
    sql: Sql,
    clock: Clock,
}

impl DynamicClients {
    /// Creates empty caches.
    ///
    /// # Errors
    /// [`StateError::Fetcher`] if metadata documents are switched on, and the fetcher can't be created.
    pub(super) fn new(
        settings: &DynamicClientSettings,
        secrets: &Secrets,
        sql: &Sql,
        clock: &Clock,
    ) -> Result<Self, StateError> {
        let fetches = counters(
            "latchkey_client_document_fetches_total",
            "Fetches of documents and key sets of clients, by outcome.",
            &["outcome"],
        );
        // creates the counters, so that outcomes that have not occurred yet are exported as 0
        for outcome in ["fetched", "invalid", "refused", "private_address", "unreachable", "timeout", "busy"] {
            fetches.with_label_values(&[outcome]);
        }
        Ok(Self {
            registrations: ClientRegistrations::new(secrets),
            fetcher: settings.metadata_documents.then(|| Fetcher::new(settings)).transpose()?,
            settings: settings.clone(),
            // No document is kept after it is stale: `find` uses the stored metadata while the host does not answer.
            documents: DocumentCache::new(Duration::ZERO, clock),
            keys: DocumentCache::new(STALE_IF_ERROR, clock),
            stored: Mutex::new(BoundedMap::new(MAX_DOCUMENTS)),
            fetches,
            sql: sql.clone(),
            clock: clock.clone(),
        })
    }

    /// The counter of fetches, to register with the metrics.
    pub(super) fn fetches(&self) -> &IntCounterVec {
        &self.fetches
    }

    /// The source of a dynamic client, by the form of its `client_id`; `None` for a client that an operator has registered.
    pub(super) fn source(client_id: &str) -> Option<DynamicSource> {
        if client_id.starts_with("https://") {
            Some(DynamicSource::Document)
        } else if client_id.starts_with(client_registration::PREFIX) {
            Some(DynamicSource::Registration)
        } else {
            None
        }
    }

    /// Whether dynamic clients of this source are accepted.
    pub(super) fn accepts(&self, source: DynamicSource) -> bool {
        match source {
            DynamicSource::Document => self.fetcher.is_some(),
            DynamicSource::Registration => self.settings.registration,
        }
    }

    /// Issues a `client_id`, which contains the sealed metadata, to an app that registers itself.
    ///
    /// # Errors
    /// [`DocumentError`]; [`DocumentError::Metadata`] also if the metadata is too long for a `client_id`.
    pub(super) fn register(
        &self,
        mut metadata: ClientMetadata,
        entropy: &Entropy,
    ) -> Result<Registration, DocumentError> {
        // Every other URI returns to the user's device: an `http` URI is that of a loopback address, and other schemes belong to apps.
        let is_allowed = |uri: &String| match Url::parse(uri) {
            Ok(url) if url.scheme() == "https" => url.host_str().is_some_and(|host| self.settings.allows_host(host)),
            _ => true,
        };
        if !metadata.redirect_uris.iter().all(is_allowed) {
            return Err(DocumentError::Host);
        }
        self.check_jwks_uri(&metadata)?;
        if let Some(jwks) = &metadata.jwks {
            metadata.jwks = Some(usable_jwks(jwks).map_err(|_| DocumentError::Keys)?);
        }
        let too_long = MetadataError::Metadata("The metadata is too long: leave out optional members.");
        self.registrations.issue(metadata, entropy, self.clock.now()).ok_or(DocumentError::Metadata(too_long))
    }

    /// Unseals the client in a `client_id` that this service has issued, whether an account has allowed the client or not. `None` for any
    /// other `client_id`.
    pub(super) fn unseal_registration(&self, client_id: &str) -> Option<LoadedClient> {
        let registration = self.registrations.open(client_id)?;
        let secret = match registration.metadata.method() {
            ClientAuthMethod::SecretBasic | ClientAuthMethod::SecretPost => registration.secret.hash(),
            ClientAuthMethod::None | ClientAuthMethod::PrivateKeyJwt => NO_SECRET,
        };
        let source = DynamicSource::Registration;
        self.build(registration.metadata, client_id, source, secret, registration.issued_at).ok()
    }

    /// The outcome of the last fetch of a document, while it is fresh.
    pub(super) fn cached(&self, url: &str) -> Option<Result<LoadedClient, DocumentError>> {
        self.documents.get(url)
    }

    /// The client of a metadata document. Fetches the document unless the cache has a fresh one.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub(super) async fn fetch(&self, client_id: &str, purpose: FetchPurpose) -> Result<LoadedClient, DocumentError> {
        let url = self.check_url(client_id)?;
        let fetch = async || self.fetch_json(&url, purpose, |body| self.parse_document(body, &url)).await;
        self.documents.get_or_fetch(client_id, fetch).await
    }

    /// Parses the URL of a `client_id` or a `jwks_uri`. Checks its form, and that the operator allows its host.
    fn check_url(&self, text: &str) -> Result<Url, DocumentError> {
        let url = check_document_url(text)?;
        let is_allowed = url.host_str().is_some_and(|host| self.settings.allows_host(host));
        if is_allowed { Ok(url) } else { Err(DocumentError::Host) }
    }

    /// Fetches the JSON document at a URL of a client and parses it.
    async fn fetch_json<T>(
        &self,
        url: &Url,
        purpose: FetchPurpose,
        parse: impl FnOnce(&[u8]) -> Result<T, DocumentError>,
    ) -> FetchOutcome<T> {
        let Some(fetcher) = &self.fetcher else { return Err(DocumentError::Off) };
        let fetched = fetcher.get_json(url, purpose).await.map_err(DocumentError::from);
        let outcome = fetched.and_then(|fetched| Ok((parse(&fetched.body)?, fetched.freshness)));
        let outcome_label = outcome.as_ref().err().map_or("fetched", |error| error.label());
        self.fetches.with_label_values(&[outcome_label]).inc();
        match &outcome {
            Ok(_) => tracing::info!(url = url.as_str(), "the metadata document or the keys of a client were fetched"),
            Err(error) => {
                tracing::warn!(
                    url = url.as_str(),
                    %error,
                    "a client's document at this URL (its metadata or its keys) could not be fetched or is invalid. A recent earlier copy stays \
                     in use; without one, sign-ins to the app fail. If the error is not a network error, the app's operator must correct the document"
                )
            }
        }
        outcome
    }

    fn parse_document(&self, body: &[u8], url: &Url) -> Result<LoadedClient, DocumentError> {
        let Some(Value::Object(members)) = strict_json::from_slice(body) else { return Err(DocumentError::Json) };
        let metadata = ClientMetadata::from_document(&members, url)?;
        self.check_jwks_uri(&metadata)?;
        self.build(metadata, url.as_str(), DynamicSource::Document, NO_SECRET, self.clock.now())
    }

    /// Builds a client from its metadata, and parses its usable keys.
    fn build(
        &self,
        mut metadata: ClientMetadata,
        client_id: &str,
        source: DynamicSource,
        secret: ClientSecretHash,
        created_at: Timestamp,
    ) -> Result<LoadedClient, DocumentError> {
        let keys = match &metadata.jwks {
            None => ClientKeys::default(),
            Some(jwks) => {
                let jwks = usable_jwks(jwks).map_err(|_| DocumentError::Keys)?;
                let keys = ClientKeys::parse(&jwks).map_err(|_| DocumentError::Keys)?;
                metadata.jwks = Some(jwks);
                keys
            }
        };
        let client = metadata.into_client(DynamicClientParts {
            reference: reference(source, client_id),
            client_id: client_id.to_owned(),
            source,
            scopes: &self.settings.scopes,
            resources: &self.settings.resources,
            secret,
            created_at,
        });
        Ok(LoadedClient { client: Arc::new(client), keys: Arc::new(keys) })
    }

    /// The enabled client with this `client_id`, if an account has allowed it. Fetches its document again when the document is stale.
    ///
    /// # Errors
    /// [`StateError`]
    pub(super) async fn find(
        &self,
        source: DynamicSource,
        client_id: &str,
    ) -> Result<Option<LoadedClient>, StateError> {
        if !self.accepts(source) {
            return Ok(None);
        }
        let id = reference(source, client_id);
        let Some(stored) = self.stored(id.as_str()).await?.filter(|stored| stored.disabled_at.is_none()) else {
            return Ok(None);
        };
        if source == DynamicSource::Registration {
            return Ok(self.unseal_registration(client_id));
        }
        let outcome = match self.cached(client_id) {
            Some(outcome) => outcome,
            None => {
                let fetched = self.fetch(client_id, FetchPurpose::ClientAuthentication).await;
                if let Ok(client) = &fetched {
                    self.update_stored(&stored, client).await;
                }
                fetched
            }
        };
        let now = self.clock.now();
        Ok(match outcome {
            Ok(client) => Some(client),
            // While the host does not answer, the document that it served last is used.
            Err(error) if !error.is_final() && now.saturating_since(stored.fetched_at) < STALE_IF_ERROR => {
                let metadata = serde_json::from_str(&stored.metadata).ok();
                metadata.and_then(|metadata| self.build(metadata, client_id, source, NO_SECRET, stored.created_at).ok())
            }
            Err(_) => None,
        })
    }

    /// Stores the fetched metadata of a client if it has changed, or [`REWRITE_INTERVAL`] after it was last stored.
    async fn update_stored(&self, stored: &StoredDynamicClient, fetched: &LoadedClient) {
        let Some(metadata) = metadata_json(fetched) else { return };
        let now = self.clock.now();
        if metadata == stored.metadata && now.saturating_since(stored.fetched_at) < REWRITE_INTERVAL {
            return;
        }
        match self.sql.update_dynamic_client(&stored.id, &metadata, now).await {
            Ok(()) => self.evict(stored.id.as_str()),
            Err(error) => {
                tracing::warn!(
                    client = %fetched.client.id,
                    %error,
                    "storing the fetched metadata of a client failed: the former metadata is used while the client's host does not answer"
                );
            }
        }
    }

    /// The stored client with this reference, enabled or not.
    ///
    /// # Errors
    /// [`StateError`]
    pub(super) async fn stored(&self, reference: &str) -> Result<Option<Arc<StoredDynamicClient>>, StateError> {
        let now = self.clock.now();
        let found = lock(&self.stored).get(reference).cloned();
        if let Some((read_at, stored)) = found
            && now.saturating_since(read_at) < STORED_TTL
        {
            return Ok(Some(stored));
        }
        let Some(stored) = self.sql.dynamic_client(reference).await? else { return Ok(None) };
        let stored = Arc::new(stored);
        lock(&self.stored).insert(reference.to_owned(), (now, Arc::clone(&stored)));
        Ok(Some(stored))
    }

    /// The public names of a stored client, and the client itself if it is enabled.
    pub(super) fn label(&self, stored: &StoredDynamicClient) -> ClientLabel {
        // Every stored client has the `client_id` of a dynamic client, so the fallback is never used.
        let source = Self::source(&stored.client_id).unwrap_or(DynamicSource::Registration);
        let metadata = serde_json::from_str(&stored.metadata).ok();
        let found = metadata
            .and_then(|metadata| self.build(metadata, &stored.client_id, source, NO_SECRET, stored.created_at).ok());
        let is_enabled = stored.disabled_at.is_none() && self.accepts(source);
        let client = found.map(|found| found.client);
        let name = client.as_ref().map_or(stored.client_id.as_str(), |client| client.display_name()).to_owned();
        ClientLabel { client_id: stored.client_id.clone(), name, client: client.filter(|_| is_enabled) }
    }

    /// Evicts a stored client from memory, so that its next use reads it from the database.
    pub(super) fn evict(&self, reference: &str) {
        lock(&self.stored).remove(reference);
    }
}

/// A hash that no secret has, for clients without a secret.
const NO_SECRET: ClientSecretHash = ClientSecretHash::new([0; 32]);

/// The metadata of a dynamic client in its stored form; `None` for a client that an operator has registered.
pub fn metadata_json(client: &LoadedClient) -> Option<String> {
    serde_json::to_string(&client.client.dynamic.as_ref()?.metadata).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for DynamicClients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamicClients").field("settings", &self.settings).finish_non_exhaustive()
    }
}
