//! How many sessions there are, roughly: nobody counts them, and looking at all would take long.

use fred::{
    bytes::Bytes,
    interfaces::{ClientLike, HashesInterface, ServerInterface},
    types::{ClusterHash, CustomCommand},
};
use futures_util::future::try_join_all;

use super::{RedisError, SessionStore};

/// How many keys are looked at.
const SAMPLE: usize = 100;

/// A session's record is the field that is its id; the other fields of the hash are longer or shorter (`record.rs`).
const ID_LENGTH: usize = 16;

impl SessionStore {
    /// Sessions in Redis, those included that are over and not forgotten yet; none on a Redis Cluster, whose servers know
    /// only of their own keys.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn estimate_count(&self) -> Result<Option<f64>, RedisError> {
        let client = self.connection.client();
        if client.is_clustered() {
            return Ok(None);
        }
        let keys: u64 = client.dbsize().await?;
        if keys == 0 {
            return Ok(Some(0.0));
        }
        let prefix = self.connection.keys.sessions_prefix();
        let sampled = (0..SAMPLE).map(|_| async {
            let command = CustomCommand::new_static("RANDOMKEY", ClusterHash::Random, false);
            let key: Option<String> = client.custom(command, Vec::<String>::new()).await?;
            let Some(key) = key.filter(|key| key.starts_with(&prefix)) else { return Ok(0) };
            let fields: Vec<Bytes> = client.hkeys(key).await?;
            Ok::<_, RedisError>(fields.iter().filter(|field| field.len() == ID_LENGTH).count())
        });
        let sessions: usize = try_join_all(sampled).await?.into_iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        Ok(Some(keys as f64 * sessions as f64 / SAMPLE as f64))
    }
}
