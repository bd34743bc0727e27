//! A software authenticator whose responses tests control in every byte, so that it can also send forged ones.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_cbor_2::Value as Cbor;
use serde_json::{Value, json};

// Flags of the authenticator data (WebAuthn Level 3, section 6.1).
pub const USER_PRESENT: u8 = 0x01;
pub const USER_VERIFIED: u8 = 0x04;
pub const BACKUP_ELIGIBLE: u8 = 0x08;
pub const BACKED_UP: u8 = 0x10;
/// The response contains the credential's id and public key.
const ATTESTED: u8 = 0x40;
/// The response belongs to a credential that is registered already.
const NOT_ATTESTED: u8 = 0;

/// Encodes bytes in base64url.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url.
pub fn from_base64url(value: &Value) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

/// An authenticator with one credential, and the browser that uses it.
pub struct Authenticator {
    key: EcdsaKeyPair,
    pub credential_id: Vec<u8>,
    /// The handle of the account for which the credential was registered.
    pub user_handle: Option<Vec<u8>>,
    /// The flags of the next response.
    pub flags: u8,
    /// The signature counter of the next response.
    pub counter: u32,
    /// Each response increments the counter by this step. It is 0 for a synced passkey, whose counter stays 0.
    pub counter_step: u32,
    /// The page's origin.
    pub origin: String,
    /// The relying party that the authenticator signs for; `None` for the relying party of the options.
    pub rp_id: Option<String>,
    /// Whether the page is framed by a page of another origin.
    pub cross_origin: bool,
    /// The id of the authenticator's model.
    pub aaguid: [u8; 16],
}

impl Authenticator {
    /// An authenticator with user verification, whose credential is not synced to other devices.
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let mut credential_id = vec![0; 16];
        aws_lc_rs::rand::fill(&mut credential_id).unwrap();
        Self::with_key(pkcs8.as_ref(), credential_id)
    }

    /// An authenticator with a recorded key (PKCS#8) and credential id, both in base64url.
    pub fn of_key(pkcs8: &Value, credential_id: &Value) -> Self {
        Self::with_key(&from_base64url(pkcs8), from_base64url(credential_id))
    }

    fn with_key(pkcs8: &[u8], credential_id: Vec<u8>) -> Self {
        Self {
            key: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).unwrap(),
            credential_id,
            user_handle: None,
            flags: USER_PRESENT | USER_VERIFIED,
            counter: 1,
            counter_step: 1,
            origin: "https://auth.example.com".to_owned(),
            rp_id: None,
            cross_origin: false,
            aaguid: [7; 16], // of no real model
        }
    }

    /// Responds to `navigator.credentials.create`.
    pub fn create(&mut self, options: &Value) -> Value {
        self.user_handle = Some(from_base64url(&options["user"]["id"]));
        // an uncompressed point: one byte of format, then 32 bytes of each coordinate
        let point = self.key.public_key().as_ref();
        // a COSE key (RFC 9053, section 7.1): the type EC2, the algorithm ES256, the curve P-256, x and y
        let key = Cbor::Map(
            [
                (Cbor::Integer(1), Cbor::Integer(2)),
                (Cbor::Integer(3), Cbor::Integer(-7)),
                (Cbor::Integer(-1), Cbor::Integer(1)),
                (Cbor::Integer(-2), Cbor::Bytes(point[1..33].to_vec())),
                (Cbor::Integer(-3), Cbor::Bytes(point[33..].to_vec())),
            ]
            .into(),
        );
        let mut data = self.next_authenticator_data(options["rp"]["id"].as_str().unwrap(), ATTESTED);
        // the attested credential data (WebAuthn Level 3, section 6.5.1)
        data.extend(self.aaguid);
        data.extend(u16::try_from(self.credential_id.len()).unwrap().to_be_bytes());
        data.extend(&self.credential_id);
        data.extend(serde_cbor_2::to_vec(&key).unwrap());
        let object = Cbor::Map(
            [
                (Cbor::Text("fmt".into()), Cbor::Text("none".into())),
                (Cbor::Text("attStmt".into()), Cbor::Map([].into())),
                (Cbor::Text("authData".into()), Cbor::Bytes(data)),
            ]
            .into(),
        );
        json!({
            "id": base64url(&self.credential_id),
            "rawId": base64url(&self.credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            // "rk": the credential is discoverable
            "clientExtensionResults": { "credProps": { "rk": true } },
            "response": {
                "clientDataJSON": base64url(self.client_data("webauthn.create", options)),
                "attestationObject": base64url(serde_cbor_2::to_vec(&object).unwrap()),
                // the last transport is unknown to the service
                "transports": ["internal", "hybrid", "carrier-pigeon"],
            },
        })
    }

    /// Responds to `navigator.credentials.get`.
    pub fn get(&mut self, options: &Value) -> Value {
        let data = self.next_authenticator_data(options["rpId"].as_str().unwrap(), NOT_ATTESTED);
        let client_data = self.client_data("webauthn.get", options);
        let client_data_hash = digest(&SHA256, &client_data);
        let signed = [&data[..], client_data_hash.as_ref()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
        json!({
            "id": base64url(&self.credential_id),
            "rawId": base64url(&self.credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": base64url(client_data),
                "authenticatorData": base64url(data),
                "signature": base64url(signature.as_ref()),
                "userHandle": self.user_handle.as_ref().map(base64url),
            },
        })
    }

    /// Returns the hash of the relying party's id, the flags and the signature counter, and increments the counter.
    fn next_authenticator_data(&mut self, rp_id_of_options: &str, attested_flag: u8) -> Vec<u8> {
        let rp_id = self.rp_id.as_deref().unwrap_or(rp_id_of_options);
        let mut data = digest(&SHA256, rp_id.as_bytes()).as_ref().to_vec();
        data.push(self.flags | attested_flag);
        data.extend(self.counter.to_be_bytes());
        self.counter += self.counter_step;
        data
    }

    /// The client data of the browser, as JSON: the operation, the challenge and the page's origin.
    fn client_data(&self, operation: &str, options: &Value) -> Vec<u8> {
        let data = json!({
            "type": operation,
            "challenge": options["challenge"],
            "origin": self.origin,
            "crossOrigin": self.cross_origin,
        });
        serde_json::to_vec(&data).unwrap()
    }
}
