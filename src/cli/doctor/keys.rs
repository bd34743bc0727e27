//! Checks of the signing keys.

use std::time::Duration;

use super::Finding;
use crate::{
    config::Config,
    crypto::{key_ring::KeyRing, seal::Sealer},
    domain::{clock::Timestamp, key::StoredKey},
    store::sql::{Sql, SqlError},
};

/// The age above which a signing key should be rotated: far below the 1 to 3 years of NIST SP 800-57, so that rotation stays routine.
const MAX_AGE: Duration = Duration::from_hours(24 * 180);

/// The name of this check in the findings.
const CHECK: &str = "keys";

/// Checks that the stored keys can be decrypted, that one of them signs, and that it is not too old.
pub(super) async fn check(config: &Config, sql: &Sql, now: Timestamp) -> Result<Vec<Finding>, SqlError> {
    let stored = sql.keys().await?;
    if stored.is_empty() {
        return Ok(vec![Finding::ok(CHECK, "none yet; the service generates the first when it starts")]);
    }
    let ring = match KeyRing::open(stored.clone(), &Sealer::new(&config.secrets), now) {
        Ok(ring) => ring,
        Err(error) => {
            let detail = format!("{error}; set the secret that encrypted the keys, or add it to secret_previous");
            return Ok(vec![Finding::fail(CHECK, detail)]);
        }
    };
    let Ok(signer) = ring.signer(now) else {
        return Ok(vec![Finding::fail(CHECK, "no key can sign now: run `latchkey keys rotate --now`")]);
    };
    let stored_signer = stored.iter().find(|key| key.kid == signer.kid());
    Ok(stored_signer.map(|key| check_signer(key, &stored, now)).into_iter().collect())
}

fn check_signer(signer: &StoredKey, stored: &[StoredKey], now: Timestamp) -> Finding {
    let kid = &signer.kid;
    // A key with an end of verification is superseded or retired: it will not sign.
    let is_next = |key: &&StoredKey| key.signs_from > now && key.verifies_until.is_none();
    // While a rotation is under way, the age of the current key does not matter.
    if let Some(next) = stored.iter().find(is_next) {
        return Finding::ok(
            CHECK,
            format!("{kid} signs; {} is published and signs from {}", next.kid, next.signs_from),
        );
    }
    let days = |duration: Duration| duration.as_secs() / 86_400;
    let age = now.saturating_since(signer.signs_from);
    if age > MAX_AGE {
        let detail =
            format!("{kid} has signed for {} days, more than {}: run `latchkey keys rotate`", days(age), days(MAX_AGE));
        return Finding::warn(CHECK, detail);
    }
    Finding::ok(CHECK, format!("{kid} ({}) has signed for {} days", signer.algorithm, days(age)))
}
