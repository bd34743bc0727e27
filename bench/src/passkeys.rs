//! Sign-ins with passkeys: a passkey for each account, and the workload of a browser with an authenticator.

use std::{path::Path, time::Duration};

use anyhow::Context;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::{
    config::DatabaseSettings,
    domain::{
        account::Identifier,
        clock::Timestamp,
        factor::FactorKind,
        ids::{AccountId, PasskeyId},
        passkey::{Aaguid, CredentialId, Passkey, PasskeyName},
    },
    store::sql::Sql,
};

use crate::{
    load::{Answer, Workload},
    target::email,
    workload::{post_json, tokens},
};

/// The origin of the issuer, and its domain, to which passkeys belong (the relying party id).
const ORIGIN: &str = "https://auth.example.com";
const RP_ID: &str = "auth.example.com";

/// Authenticator data flags: user present (0x01), user verified (0x04), backup eligible (0x08), backed up (0x10).
const FLAGS: u8 = 0x1d;

/// The classes of the requests of [`PasskeyLogin`]. The benchmark counts class 0 only, so that each sign-in counts once.
const LOGIN: usize = 0;
const OPTIONS: usize = 1;

/// An authenticator with one passkey for each account. The id of the account is both the passkey's credential id and its
/// user handle. All passkeys share a key pair, which does not change the cost of signatures.
pub struct Authenticator {
    key: EcdsaKeyPair,
    accounts: Vec<AccountId>,
}

impl Authenticator {
    /// Registers a passkey for each of the first `count` accounts, in the SQLite database in a node's data folder.
    pub fn register(folder: &Path, count: usize) -> anyhow::Result<Self> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let pkcs8 = pkcs8.ok().context("generating a key pair")?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref());
        let key = key.ok().context("reading the generated key pair")?;
        let accounts =
            tokio::runtime::Runtime::new()?.block_on(insert_passkeys(folder, count, &cose_public_key(&key)))?;
        Ok(Self { key, accounts })
    }

    /// The response to a challenge with the passkey of an account, as JSON (`PublicKeyCredential` of WebAuthn).
    fn credential(&self, account: usize, challenge: &str) -> anyhow::Result<String> {
        let base64url = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let client_data = format!(
            "{{\"type\":\"webauthn.get\",\"challenge\":\"{challenge}\",\"origin\":\"{ORIGIN}\",\"crossOrigin\":false}}"
        );
        let mut authenticator_data = digest(&SHA256, RP_ID.as_bytes()).as_ref().to_vec();
        // the flags, and the signature counter (4 bytes): 0, as for synced passkeys
        authenticator_data.extend([FLAGS, 0, 0, 0, 0]);
        let client_data_hash = digest(&SHA256, client_data.as_bytes());
        let signed = [&authenticator_data, client_data_hash.as_ref()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).ok().context("signing")?;
        let id = base64url(self.accounts[account].as_bytes());
        Ok(format!(
            "{{\"id\":\"{id}\",\"rawId\":\"{id}\",\"type\":\"public-key\",\"clientExtensionResults\":{{}},\"response\":\
             {{\"clientDataJSON\":\"{}\",\"authenticatorData\":\"{}\",\"signature\":\"{}\",\"userHandle\":\"{id}\"}}}}",
            base64url(client_data.as_bytes()),
            base64url(&authenticator_data),
            base64url(signature.as_ref()),
        ))
    }
}

/// The public key as a COSE key (RFC 9053, section 7.1), in CBOR. The comments have the COSE labels and values in parentheses.
fn cose_public_key(key: &EcdsaKeyPair) -> Vec<u8> {
    // an uncompressed point: the byte 0x04, x and y
    let point = key.public_key().as_ref();
    // a map of 5 entries: key type (1) EC2 (2), algorithm (3) ES256 (-7), curve (-1) P-256 (1)
    let mut cose = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01];
    // x (-2) and y (-3), each a byte string (0x58) of 32 bytes (0x20)
    for (label, coordinate) in [(0x21, &point[1..33]), (0x22, &point[33..65])] {
        cose.extend([label, 0x58, 0x20]);
        cose.extend(coordinate);
    }
    cose
}

/// Inserts a passkey for each of the first `count` accounts, and returns the ids of the accounts.
async fn insert_passkeys(folder: &Path, count: usize, public_key: &[u8]) -> anyhow::Result<Vec<AccountId>> {
    let sql = Sql::connect(&DatabaseSettings {
        url: format!("sqlite://{}/latchkey.db", folder.display()).into(),
        migrate_url: None,
        max_connections: 1,
        acquire_timeout: Duration::from_secs(20),
    })
    .await?;
    let mut ids = Vec::with_capacity(count);
    for number in 0..count {
        let account = sql.find_account(&Identifier::Email(email(number))).await?.context("the account is missing")?;
        let mut change = sql.change_account(account.id).await?.context("the account is missing")?;
        let passkey = Passkey {
            id: PasskeyId(uuid::Uuid::new_v4()),
            account: account.id,
            credential: CredentialId::new(account.id.as_bytes().to_vec()).context("an invalid credential id")?,
            public_key: public_key.to_vec(),
            name: PasskeyName::parse("bench")?,
            aaguid: Aaguid(uuid::Uuid::nil()),
            transports: "internal".to_owned(),
            discoverable: Some(true),
            backup_eligible: true,
            backed_up: true,
            counter: 0,
            created_at: Timestamp::from_millis(0),
            last_used_at: None,
        };
        change.add_passkey(&passkey).await?;
        // `add_passkey` makes the passkey a second factor of the account. This undoes that, because other scenarios sign in to
        // the account with the password alone. A sign-in by passkey works either way.
        change.set_factor(FactorKind::Passkey, false, passkey.created_at).await?;
        change.commit().await?;
        ids.push(account.id);
    }
    sql.close().await;
    Ok(ids)
}

/// Signs in to one account after another. A sign-in has two requests: the first gets a challenge, the second answers it.
pub struct PasskeyLogin<'a> {
    authenticator: &'a Authenticator,
    /// The challenge that each connection has received and not used.
    challenges: Vec<Option<String>>,
    /// The index of the account of the next sign-in.
    next_account: usize,
}

impl<'a> PasskeyLogin<'a> {
    /// Creates the workload for this many connections.
    pub fn new(authenticator: &'a Authenticator, connections: usize) -> Self {
        Self { authenticator, challenges: vec![None; connections], next_account: 0 }
    }
}

impl Workload for PasskeyLogin<'_> {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        let Some(challenge) = self.challenges[connection].take() else {
            post_json(out, "/v1/login/passkey/options", &[]);
            return Some(OPTIONS);
        };
        let account = self.next_account;
        self.next_account = (account + 1) % self.authenticator.accounts.len();
        // a failed signature stops the connection
        let credential = self.authenticator.credential(account, &challenge).ok()?;
        post_json(out, "/v1/login/passkey", &["{\"credential\":", &credential, "}"]);
        Some(LOGIN)
    }

    fn answer(&mut self, connection: usize, class: usize, answer: &Answer<'_>) -> Result<(), String> {
        if class == LOGIN {
            return tokens(answer, "passkey login").map(|_| ());
        }
        match (answer.status, answer.member("challenge")) {
            (200, Some(challenge)) => {
                self.challenges[connection] = Some(challenge.to_owned());
                Ok(())
            }
            _ => Err(answer.unexpected("passkey options")),
        }
    }
}
