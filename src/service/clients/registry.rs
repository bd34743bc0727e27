//! The clients as a node knows them: in memory, so that checking one touches no database.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::Mutex;

use crate::{
    crypto::client_keys::ClientKeys,
    domain::{client::Client, clock::Timestamp},
    service::error::ServiceError,
    state::AppState,
    store::sql::Sql,
};

/// How often a node looks for clients that were made or changed.
const REFRESH: Duration = Duration::from_secs(5);

/// How often at most an unknown name makes a node look at once.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A client, and its keys ready to verify.
#[derive(Clone, Debug)]
pub struct Known {
    /// The client.
    pub client: Arc<Client>,
    /// Its keys; none for many.
    pub keys: Arc<ClientKeys>,
}

/// All clients, enabled or not, by name.
#[derive(Debug)]
pub struct Clients {
    known: RwLock<Arc<HashMap<String, Known>>>,
    looked_for: Mutex<Option<Looked>>,
}

/// When an unknown name was last looked for, and whether the database answered.
#[derive(Clone, Copy, Debug)]
struct Looked {
    at: Timestamp,
    answered: bool,
}

impl Clients {
    /// Loads them.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub(crate) async fn load(sql: &Sql) -> Result<Self, ServiceError> {
        let known = RwLock::new(Arc::new(read(sql, &HashMap::new()).await?));
        Ok(Self { known, looked_for: Mutex::new(None) })
    }

    /// Whether the client of this name may do anything, as far as this node knows.
    pub fn is_enabled(&self, name: &str) -> bool {
        self.is_allowed(name, |_| true)
    }

    /// Whether the client of this name may do anything, and this.
    pub(crate) fn is_allowed(&self, name: &str, this: impl FnOnce(&Client) -> bool) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).is_some_and(|known| known.client.is_enabled() && this(&known.client))
    }

    fn current(&self) -> Arc<HashMap<String, Known>> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn recall(&self, name: &str) -> Option<Known> {
        self.current().get(name).cloned()
    }
}

/// The client of this name, if it may do anything. A name that isn't known is looked for in the database, at most once a
/// second, since the client may have just been made.
///
/// # Errors
/// [`ServiceError`] if the name isn't known and the database doesn't answer.
pub async fn find(state: &AppState, name: &str) -> Result<Option<Known>, ServiceError> {
    let mut found = state.clients.recall(name);
    if found.is_none() {
        Box::pin(reload_on_miss(state)).await?;
        found = state.clients.recall(name);
    }
    Ok(found.filter(|known| known.client.is_enabled()))
}

async fn reload_on_miss(state: &AppState) -> Result<(), ServiceError> {
    let mut last = state.clients.looked_for.lock().await;
    let now = state.clock.now();
    match *last {
        Some(last) if now.saturating_since(last.at) < LOOK_AGAIN => {
            if last.answered {
                return Ok(());
            }
            let source = anyhow::anyhow!("it didn't answer a moment ago");
            return Err(ServiceError::Unavailable { what: "database", retry_after: LOOK_AGAIN, source });
        }
        _ => {}
    }
    let outcome = reload(state).await;
    *last = Some(Looked { at: state.clock.now(), answered: outcome.is_ok() });
    outcome
}

/// Takes over what changed.
///
/// # Errors
/// [`ServiceError`]; the clients known stay as they are then.
pub async fn reload(state: &AppState) -> Result<(), ServiceError> {
    let clients = &state.clients;
    let read = Arc::new(read(&state.sql, &clients.current()).await?);
    *clients.known.write().unwrap_or_else(PoisonError::into_inner) = read;
    Ok(())
}

/// Looks for changed clients every few seconds, for as long as the service runs.
pub async fn run_reloader(state: &AppState) {
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = reload(state).await {
            tracing::warn!(%error, "the service clients could not be looked for; those known stay as they are");
        }
    }
}

/// Reads all clients; the keys of those that haven't changed aren't parsed again.
async fn read(sql: &Sql, before: &HashMap<String, Known>) -> Result<HashMap<String, Known>, ServiceError> {
    let mut known = HashMap::new();
    for client in sql.clients().await? {
        let name = client.id.to_string();
        let unchanged = before.get(&name).filter(|known| known.client.jwks == client.jwks);
        let keys = match (unchanged, &client.jwks) {
            (Some(known), _) => Arc::clone(&known.keys),
            (None, None) => Arc::default(),
            (None, Some(jwks)) => Arc::new(ClientKeys::parse(jwks).unwrap_or_else(|error| {
                tracing::error!(client = name, %error, "the keys of a service client in the database can't be used");
                ClientKeys::default()
            })),
        };
        known.insert(name, Known { client: Arc::new(client), keys });
    }
    Ok(known)
}
