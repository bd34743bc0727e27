//! Estimates the number of sessions from a sample of the keys. Redis keeps no counter of sessions, and a scan of all keys takes long.

use fred::{
    bytes::Bytes,
    interfaces::{ClientLike, HashesInterface, ServerInterface},
    types::{ClusterHash, CustomCommand},
};
use futures_util::future::try_join_all;

use super::{RedisError, SessionStore};

/// The number of sampled keys.
const SAMPLED_KEYS: usize = 100;

/// The length in bytes of a session's id, which names the field with the session's record (`record.rs`).
const ID_LENGTH: usize = 16;

impl SessionStore {
    /// Estimates the number of sessions in Redis, expired sessions included. `None` on a Redis Cluster, where each server samples only
    /// its own keys.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn estimate_count(&self) -> Result<Option<f64>, RedisError> {
        let client = self.connection.client();
        if client.is_clustered() {
            return Ok(None);
        }
        let key_count: u64 = client.dbsize().await?;
        if key_count == 0 {
            return Ok(Some(0.0));
        }
        let prefix = self.connection.keys.sessions_prefix();
        let sampled = (0..SAMPLED_KEYS).map(|_| async {
            let (is_blocking, arguments) = (false, Vec::<String>::new());
            // on one server, the hash slot does not matter
            let command = CustomCommand::new_static("RANDOMKEY", ClusterHash::Random, is_blocking);
            let key: Option<String> = client.custom(command, arguments).await?;
            // A key of another kind holds no sessions.
            let Some(key) = key.filter(|key| key.starts_with(&prefix)) else { return Ok(0) };
            let fields: Vec<Bytes> = client.hkeys(key).await?;
            Ok::<_, RedisError>(fields.iter().filter(|field| field.len() == ID_LENGTH).count())
        });
        let sessions: usize = try_join_all(sampled).await?.into_iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        Ok(Some(key_count as f64 * sessions as f64 / SAMPLED_KEYS as f64))
    }
}
