//! The client ids of apps that have registered themselves (RFC 7591), and the references to clients that no operator has
//! registered.
//!
//! The client id of such an app is `lk_dc_`, the metadata as JSON in base64url, a dot, and a MAC in base64url. The service stores no
//! registration, because the id contains the metadata. The secret of a confidential client is computed from the id.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    client_secret::ClientSecret,
    derive::{self, derive},
};
use crate::{
    config::Secrets,
    domain::{
        client::ClientId,
        clock::Timestamp,
        dynamic_client::{ClientMetadata, DynamicClient, DynamicSource},
        entropy::Entropy,
        secret::SecretText,
    },
};

/// The prefix of the client id of every app that has registered itself.
pub const PREFIX: &str = "lk_dc_";
/// The longest client id, in bytes. It must fit into the query of an authorization request.
pub const MAX_BYTES: usize = 2000;
/// The bytes of the HMAC-SHA256 that a client id contains: 128 bits.
const MAC_BYTES: usize = 16;
/// The bytes of the SHA-256 that a reference contains: 192 bits, so that finding two ids with the same reference is infeasible.
const REFERENCE_BYTES: usize = 24;

/// The reference that the service stores in place of the long `client_id` of a client that no operator has registered.
pub fn reference(source: DynamicSource, client_id: &str) -> ClientId {
    let hash = digest(&SHA256, client_id.as_bytes());
    DynamicClient::reference(source, &BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..REFERENCE_BYTES]))
}

/// The content of a client id.
#[derive(Serialize, Deserialize)]
struct Content {
    /// Random, so that no two apps with the same metadata have the same id and secret.
    #[serde(rename = "i")]
    nonce: String,
    /// When the client id was issued, in seconds since the Unix epoch.
    #[serde(rename = "t")]
    issued_at: i64,
    #[serde(flatten)]
    metadata: ClientMetadata,
}

/// An app that has registered itself.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The `client_id`.
    pub client_id: String,
    /// The metadata.
    pub metadata: ClientMetadata,
    /// When the client id was issued.
    pub issued_at: Timestamp,
    /// The secret, for clients that authenticate with one.
    pub secret: ClientSecret,
}

/// Issues and reads client ids. Also reads ids issued under previous secrets, so that the service's secret can be rotated.
pub struct ClientRegistrations {
    /// The current keys, then those of previous secrets.
    keys: Vec<Keys>,
}

/// The keys that one secret of the service derives.
struct Keys {
    /// Authenticates client ids.
    id: hmac::Key,
    /// Computes the secrets of clients.
    secret: hmac::Key,
}

impl Keys {
    fn new(secret: &SecretText) -> Self {
        let key = |purpose| {
            let bits = derive(secret, purpose);
            hmac::Key::new(hmac::HMAC_SHA256, bits.as_slice())
        };
        Self { id: key(derive::CLIENT_REGISTRATION), secret: key(derive::CLIENT_REGISTRATION_SECRET) }
    }

    /// Computes the secret of the client with this id.
    fn compute_secret(&self, client_id: &str) -> ClientSecret {
        let mac = hmac::sign(&self.secret, client_id.as_bytes());
        let mut bits = Zeroizing::new([0; 32]);
        bits.copy_from_slice(mac.as_ref());
        ClientSecret::from_bits(&bits)
    }
}

impl ClientRegistrations {
    /// Derives the keys from the service's secrets.
    pub fn new(secrets: &Secrets) -> Self {
        Self { keys: std::iter::once(&secrets.current).chain(&secrets.previous).map(Keys::new).collect() }
    }

    /// Issues a client id, or returns `None` if the metadata is too long.
    pub fn issue(&self, metadata: ClientMetadata, entropy: &Entropy, now: Timestamp) -> Option<Registration> {
        let keys = &self.keys[0]; // the keys of the current secret
        let nonce = BASE64_URL_SAFE_NO_PAD.encode(entropy.bytes::<9>());
        let content = Content { nonce, issued_at: now.as_secs(), metadata };
        let json = serde_json::to_vec(&content).ok()?;
        let mut client_id = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(json));
        let mac = hmac::sign(&keys.id, client_id.as_bytes());
        client_id.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(&mac.as_ref()[..MAC_BYTES], &mut client_id);
        if client_id.len() > MAX_BYTES {
            return None;
        }
        let secret = keys.compute_secret(&client_id);
        Some(Registration {
            secret,
            metadata: content.metadata,
            // `now` in whole seconds, as `open` reads it
            issued_at: Timestamp::from_millis(content.issued_at * 1000),
            client_id,
        })
    }

    /// Reads a client id. Returns `None` if this service has not issued it, or has issued it under a secret that is no longer
    /// configured.
    pub fn open(&self, client_id: &str) -> Option<Registration> {
        if client_id.len() > MAX_BYTES || !client_id.starts_with(PREFIX) {
            return None;
        }
        let (prefixed_json, mac_text) = client_id.rsplit_once('.')?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac_text).ok()?;
        if mac.len() != MAC_BYTES {
            return None;
        }
        let keys = self.keys.iter().find(|keys| {
            let expected = hmac::sign(&keys.id, prefixed_json.as_bytes());
            // in constant time, so that the duration tells nothing about the expected MAC
            bool::from(subtle::ConstantTimeEq::ct_eq(&expected.as_ref()[..MAC_BYTES], mac.as_slice()))
        })?;
        let json = BASE64_URL_SAFE_NO_PAD.decode(prefixed_json.strip_prefix(PREFIX)?).ok()?;
        let content: Content = serde_json::from_slice(&json).ok()?;
        Some(Registration {
            client_id: client_id.to_owned(),
            metadata: content.metadata,
            issued_at: Timestamp::from_millis(content.issued_at.saturating_mul(1000)),
            secret: keys.compute_secret(client_id),
        })
    }
}

impl fmt::Debug for ClientRegistrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[keys of client registrations]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(current: &str, previous: &[&str]) -> Secrets {
        Secrets { current: current.into(), previous: previous.iter().map(|text| SecretText::from(*text)).collect() }
    }

    fn metadata() -> ClientMetadata {
        ClientMetadata {
            name: Some("An App".to_owned()),
            redirect_uris: vec!["http://127.0.0.1/callback".to_owned()],
            auth_method: "client_secret_post".to_owned(),
            ..ClientMetadata::default()
        }
    }

    #[test]
    fn issued_client_id_is_read_back_with_its_secret() {
        let registrations = ClientRegistrations::new(&secrets("a secret of the service", &[]));
        let entropy = Entropy::system();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let issued = registrations.issue(metadata(), &entropy, now).unwrap();
        let opened = registrations.open(&issued.client_id).unwrap();
        assert_eq!(opened.metadata, metadata());
        assert_eq!(opened.issued_at, now);
        assert_eq!(opened.secret.hash(), issued.secret.hash());
        assert!(issued.secret.expose().starts_with("lk_cs_"));
        let same_metadata = registrations.issue(metadata(), &entropy, now).unwrap();
        assert_ne!(same_metadata.client_id, issued.client_id);
        assert_ne!(same_metadata.secret.hash(), issued.secret.hash());
        // After a rotation of the service's secret, id and secret stay the same.
        let rotated = ClientRegistrations::new(&secrets("a new secret", &["a secret of the service"]));
        assert_eq!(rotated.open(&issued.client_id).unwrap().secret.hash(), issued.secret.hash());
        let without_previous = ClientRegistrations::new(&secrets("a new secret", &[]));
        assert!(without_previous.open(&issued.client_id).is_none());
    }

    #[test]
    fn changed_client_id_is_refused() {
        let registrations = ClientRegistrations::new(&secrets("a secret of the service", &[]));
        let issued = registrations.issue(metadata(), &Entropy::system(), Timestamp::from_millis(0)).unwrap();
        let (content, mac) = issued.client_id.rsplit_once('.').unwrap();
        // metadata that the service has not authenticated
        let other = BASE64_URL_SAFE_NO_PAD.encode(r#"{"i":"x","t":0,"r":["https://evil.example/"],"a":"none"}"#);
        for text in [
            format!("{PREFIX}{other}.{mac}"),
            format!("{PREFIX}{other}."),
            format!("{PREFIX}{other}"),
            format!("{content}.{}", "A".repeat(mac.len())),
            format!("{content}.{}", &mac[..mac.len() - 2]),
            format!("{content}A.{mac}"),
            format!("{content}.{mac}.{mac}"),
            content.to_owned(),
            PREFIX.to_owned(),
            format!("{PREFIX}{}.{mac}", "A".repeat(MAX_BYTES)),
        ] {
            assert!(registrations.open(&text).is_none(), "{text}");
        }
    }

    #[test]
    fn too_long_metadata_gets_no_client_id() {
        let registrations = ClientRegistrations::new(&secrets("a secret of the service", &[]));
        // The four URIs alone are longer than `MAX_BYTES`, and each is shorter than the 512 bytes that a redirect URI may have.
        let uri = format!("https://app.example.com/{}", "x".repeat(480));
        let long = ClientMetadata { redirect_uris: vec![uri; 4], ..metadata() };
        assert!(registrations.issue(long, &Entropy::system(), Timestamp::from_millis(0)).is_none());
    }

    #[test]
    fn reference_depends_on_client_id_and_source() {
        let of_document = |text: &str| reference(DynamicSource::Document, text);
        assert!(DynamicClient::is_reference(of_document("https://a.example/c").as_str()));
        assert_ne!(of_document("https://a.example/c"), of_document("https://a.example/d"));
        assert_ne!(of_document("x"), reference(DynamicSource::Registration, "x"));
    }
}
