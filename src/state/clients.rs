//! The operator-registered clients in memory, so that authenticating a client needs no database query. Dynamic clients, which no operator
//! has registered, are in [`dynamic_clients`](super::dynamic_clients).

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::Mutex;

use super::{
    dynamic_clients::{DocumentError, DynamicClients},
    error::StateError,
};
use crate::{
    config::{DynamicClientSettings, Secrets},
    crypto::{client_keys::ClientKeys, client_registration::Registration},
    domain::{
        client::Client,
        clock::{Clock, Timestamp},
        dynamic_client::{ClientMetadata, DynamicClient, DynamicSource},
        entropy::Entropy,
    },
    fetch::FetchPurpose,
    logging::FailureSeries,
    store::sql::Sql,
};

/// Interval at which a node reloads the clients from the database.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Shortest time between two reloads that unknown client ids cause.
const MISS_INTERVAL: Duration = Duration::from_secs(1);

/// A client, operator-registered or dynamic, with its parsed keys.
#[derive(Clone, Debug)]
pub struct LoadedClient {
    /// The client.
    pub client: Arc<Client>,
    /// The public keys that are registered or in the metadata document; empty if there are none. [`ClientRegistry::keys`] also
    /// returns the keys at a `jwks_uri`.
    pub keys: Arc<ClientKeys>,
}

/// Finds operator-registered and dynamic clients. Holds all operator-registered clients by `client_id`, enabled or not, and reloads
/// them from the database.
#[derive(Debug)]
pub struct ClientRegistry {
    clients: RwLock<Arc<HashMap<String, LoadedClient>>>,
    last_miss_reload: Mutex<Option<MissReload>>,
    dynamic: DynamicClients,
    sql: Sql,
    clock: Clock,
}

/// The public names of a client, and the client itself if it is enabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLabel {
    /// The `client_id` that the client sends.
    pub client_id: String,
    /// The name; the `client_id` if there is none.
    pub name: String,
    /// The client, if it is enabled.
    pub client: Option<Arc<Client>>,
}

/// The last reload that an unknown client id caused.
#[derive(Clone, Copy, Debug)]
struct MissReload {
    at: Timestamp,
    succeeded: bool,
}

impl ClientRegistry {
    /// Loads all operator-registered clients.
    ///
    /// # Errors
    /// [`StateError`]
    pub(super) async fn load(
        settings: &DynamicClientSettings,
        secrets: &Secrets,
        sql: &Sql,
        clock: &Clock,
    ) -> Result<Self, StateError> {
        let clients = read(sql, &HashMap::new()).await?;
        Ok(Self {
            clients: RwLock::new(Arc::new(clients)),
            last_miss_reload: Mutex::new(None),
            dynamic: DynamicClients::new(settings, secrets, sql, clock)?,
            sql: sql.clone(),
            clock: clock.clone(),
        })
    }

    /// Whether an enabled operator-registered client with this id is in memory.
    pub fn is_enabled(&self, client_id: &str) -> bool {
        self.is_enabled_and(client_id, |_| true)
    }

    /// Whether an enabled operator-registered client with this id is in memory and satisfies `predicate`.
    pub(crate) fn is_enabled_and(&self, client_id: &str, predicate: impl FnOnce(&Client) -> bool) -> bool {
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        clients.get(client_id).is_some_and(|found| found.client.is_enabled() && predicate(&found.client))
    }

    /// The operator-registered client with this `client_id`, if it is in memory and disabled.
    pub(crate) fn disabled(&self, client_id: &str) -> Option<Arc<Client>> {
        self.get(client_id).map(|found| found.client).filter(|client| !client.is_enabled())
    }

    /// The `client_id` and the name of the client with this [`Client::id`], enabled or not; for a client that no longer exists, the id
    /// in place of both. The id of a dynamic client is its reference, a digest of its `client_id`.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn label(&self, id: &str) -> Result<ClientLabel, StateError> {
        if DynamicClient::is_reference(id) {
            if let Some(stored) = self.dynamic.stored(id).await? {
                return Ok(self.dynamic.label(&stored));
            }
        } else if let Some(LoadedClient { client, .. }) = self.get(id) {
            let name = client.display_name().to_owned();
            let enabled_client = client.is_enabled().then_some(client);
            // the id of an operator-registered client is its `client_id`
            return Ok(ClientLabel { client_id: id.to_owned(), name, client: enabled_client });
        }
        Ok(ClientLabel { client_id: id.to_owned(), name: id.to_owned(), client: None })
    }

    /// The source of a dynamic client, by the form of its `client_id`; `None` for a client that an operator has registered.
    pub fn dynamic_source(client_id: &str) -> Option<DynamicSource> {
        DynamicClients::source(client_id)
    }

    /// Whether dynamic clients of this source are accepted.
    pub fn accepts(&self, source: DynamicSource) -> bool {
        self.dynamic.accepts(source)
    }

    /// Issues a `client_id` to an app that registers itself.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub fn register(&self, metadata: ClientMetadata, entropy: &Entropy) -> Result<Registration, DocumentError> {
        self.dynamic.register(metadata, entropy)
    }

    /// Unseals the client in a `client_id` that [`Self::register`] has issued, whether an account has allowed the client or not. `None`
    /// for any other `client_id`.
    pub fn unseal_registration(&self, client_id: &str) -> Option<LoadedClient> {
        self.dynamic.unseal_registration(client_id)
    }

    /// The outcome of the last fetch of a client's metadata document, while it is fresh.
    pub fn cached_document(&self, client_id: &str) -> Option<Result<LoadedClient, DocumentError>> {
        self.dynamic.cached(client_id)
    }

    /// Fetches the metadata document of a client for an authorization request.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub async fn fetch_document(&self, client_id: &str) -> Result<LoadedClient, DocumentError> {
        self.dynamic.fetch(client_id, FetchPurpose::Authorization).await
    }

    /// Whether [`Self::keys`] sends no request: the client has no `jwks_uri`, or the outcome of the last fetch is still fresh.
    pub fn has_keys(&self, client: &LoadedClient) -> bool {
        self.dynamic.has_keys(client)
    }

    /// Whether [`Self::recent_keys`] sends no request: the client has no `jwks_uri`, or the outcome of a fetch within the last minute is fresh.
    pub fn has_recent_keys(&self, client: &LoadedClient) -> bool {
        self.dynamic.has_recent_keys(client)
    }

    /// Returns the keys by which a client authenticates. Fetches the keys at a `jwks_uri` if they are not in memory.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub async fn keys(&self, client: &LoadedClient) -> Result<Arc<ClientKeys>, DocumentError> {
        self.dynamic.keys(client).await
    }

    /// Returns the keys at the `jwks_uri` of a client. Fetches them again if the last fetch was more than a minute ago. Call this for a
    /// signature that the result of [`Self::keys`] does not verify: the client may have a new key. `None` if the client has no
    /// `jwks_uri`, or the fetch fails.
    pub async fn recent_keys(&self, client: &LoadedClient) -> Option<Arc<ClientKeys>> {
        self.dynamic.recent_keys(client).await
    }

    /// Whether an operator has disabled a dynamic client.
    ///
    /// # Errors
    /// [`StateError`]
    pub async fn is_dynamic_client_disabled(&self, client: &Client) -> Result<bool, StateError> {
        let stored = self.dynamic.stored(client.id.as_str()).await?;
        Ok(stored.is_some_and(|stored| stored.disabled_at.is_some()))
    }

    /// Evicts a stored dynamic client from memory, so that its next use reads it from the database.
    pub fn evict(&self, client: &Client) {
        self.dynamic.evict(client.id.as_str());
    }

    /// The counter of fetched metadata documents, to register with the metrics.
    pub(super) fn document_fetches(&self) -> &prometheus::IntCounterVec {
        self.dynamic.fetches()
    }

    /// The enabled client with this `client_id`. An unknown id reloads the clients, at most once a second: the client may have
    /// been created just now. A dynamic client is found only if an account has allowed it.
    ///
    /// # Errors
    /// [`StateError`] if the id is unknown and the database does not answer.
    pub async fn find(&self, client_id: &str) -> Result<Option<LoadedClient>, StateError> {
        // The futures are boxed, because they are needed rarely, and would add kilobytes to the future of every caller.
        if let Some(source) = DynamicClients::source(client_id) {
            return Box::pin(self.dynamic.find(source, client_id)).await;
        }
        let mut found = self.get(client_id);
        if found.is_none() {
            Box::pin(self.reload_on_miss()).await?;
            found = self.get(client_id);
        }
        Ok(found.filter(|found| found.client.is_enabled()))
    }

    /// Reloads all operator-registered clients.
    ///
    /// # Errors
    /// [`StateError`]; the clients in memory then stay as they are.
    pub async fn reload(&self) -> Result<(), StateError> {
        // boxed for the same reason as in `find`
        let clients = Arc::new(Box::pin(read(&self.sql, &self.current())).await?);
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
        Ok(())
    }

    /// Reloads the clients every few seconds for as long as the service runs.
    pub async fn run_reloader(&self) {
        let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failures = FailureSeries::default();
        loop {
            ticks.tick().await;
            match self.reload().await {
                Ok(()) => {
                    if failures.record_success() {
                        tracing::info!("reloading the clients works again: this node sees changes of clients");
                    }
                }
                Err(error) => {
                    if failures.record_failure() {
                        tracing::warn!(
                            %error,
                            "reloading the clients failed, retrying every {} s; the clients in memory stay in use. Until \
                             a reload succeeds, this node does not see changes of clients by other nodes or commands",
                            RELOAD_INTERVAL.as_secs()
                        );
                    }
                }
            }
        }
    }

    /// Reloads the clients because of an unknown id. If another unknown id has caused a reload within [`MISS_INTERVAL`], only reports
    /// whether that reload succeeded.
    async fn reload_on_miss(&self) -> Result<(), StateError> {
        // Locked until the end, so that simultaneous misses cause one reload.
        let mut last_reload = self.last_miss_reload.lock().await;
        let now = self.clock.now();
        if let Some(last) = *last_reload
            && now.saturating_since(last.at) < MISS_INTERVAL
        {
            return if last.succeeded { Ok(()) } else { Err(StateError::Backoff) };
        }
        let outcome = self.reload().await;
        *last_reload = Some(MissReload { at: self.clock.now(), succeeded: outcome.is_ok() });
        outcome
    }

    fn current(&self) -> Arc<HashMap<String, LoadedClient>> {
        Arc::clone(&self.clients.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, client_id: &str) -> Option<LoadedClient> {
        self.current().get(client_id).cloned()
    }
}

/// Reads all clients from the database. Takes the parsed keys of a client from `previous` if they are unchanged.
async fn read(
    sql: &Sql,
    previous: &HashMap<String, LoadedClient>,
) -> Result<HashMap<String, LoadedClient>, StateError> {
    let mut clients = HashMap::new();
    for client in sql.clients().await? {
        let client_id = client.id.to_string();
        let unchanged = previous.get(&client_id).filter(|former| former.client.jwks == client.jwks);
        let keys = match (unchanged, &client.jwks) {
            (Some(former), _) => Arc::clone(&former.keys),
            (None, None) => Arc::default(),
            (None, Some(jwks)) => Arc::new(ClientKeys::parse(jwks).unwrap_or_else(|error| {
                tracing::error!(client = client_id, %error, "the public keys of a client are unusable: the client can't authenticate with them; register its keys again");
                ClientKeys::default()
            })),
        };
        clients.insert(client_id, LoadedClient { client: Arc::new(client), keys });
    }
    Ok(clients)
}
