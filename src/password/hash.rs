//! Hashes passwords with argon2id (RFC 9106) under the configured parameters and pepper, and verifies stored hashes under
//! their own parameters.

use argon2::{
    Algorithm, Argon2, Block, KeyId, Params, ParamsBuilder, Version,
    password_hash::phc::{self, Output, ParamsString, Salt},
};
use aws_lc_rs::digest;
use subtle::ConstantTimeEq;

#[cfg(feature = "legacy-hashes")]
use super::legacy::LegacyComparison;
use super::{
    pool::Memory,
    schemes::{BadHash, Limits, StoredHash},
};
use crate::{
    config::PasswordSettings,
    domain::{
        entropy::Entropy,
        secret::{PasswordHash, SecretText},
    },
};

const SALT_BYTES: usize = 16;
const OUTPUT_BYTES: usize = 32;
/// The length of a key id: the longest that argon2 accepts.
const KEY_ID_BYTES: usize = 8;

/// The outcome of comparing a password with a hash.
pub(super) struct Comparison {
    pub(super) matches: bool,
    /// Whether a new hash of the password should replace the stored hash, because its parameters, pepper or scheme are outdated.
    pub(super) outdated: bool,
}

/// Hashes and verifies passwords with the configured parameters and peppers.
pub(super) struct HashEngine {
    params: Params,
    /// The pepper of new hashes.
    pepper: Option<Pepper>,
    /// Peppers of older hashes, which can still be verified.
    previous_peppers: Vec<Pepper>,
    /// The work and memory that a stored hash may need.
    limits: Limits,
    /// The salt of [`Self::verify_dummy`].
    dummy_salt: [u8; SALT_BYTES],
}

/// A pepper and the key id by which hashes refer to it.
pub(super) struct Pepper {
    key_id: KeyId,
    secret: SecretText,
}

impl Pepper {
    /// Derives the key id from a digest, so that hashes can refer to the pepper without revealing it.
    pub(super) fn new(secret: &SecretText) -> Result<Self, String> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"latchkey pepper id");
        context.update(secret.expose().as_bytes());
        let key_id = KeyId::new(&context.finish().as_ref()[..KEY_ID_BYTES]).map_err(|error| error.to_string())?;
        Ok(Self { key_id, secret: secret.clone() })
    }

    pub(super) fn has_key_id(&self, key_id: &[u8]) -> bool {
        self.key_id.as_bytes() == key_id
    }
}

impl HashEngine {
    pub(super) fn new(settings: &PasswordSettings, entropy: &Entropy) -> Result<Self, String> {
        let pepper = settings.pepper.as_ref().map(Pepper::new).transpose()?;
        let previous_peppers = settings.previous_peppers.iter().map(Pepper::new).collect::<Result<_, _>>()?;
        let mut params = ParamsBuilder::new();
        params.m_cost(settings.memory_kib).t_cost(settings.iterations).p_cost(settings.parallelism);
        params.output_len(OUTPUT_BYTES);
        // argon2 writes the key id into each hash, and `verify` finds the pepper of a hash by it.
        if let Some(pepper) = &pepper {
            params.keyid(pepper.key_id);
        }
        Ok(Self {
            params: params.build().map_err(|error| error.to_string())?,
            pepper,
            previous_peppers,
            limits: Limits::stored(settings),
            dummy_salt: entropy.bytes(),
        })
    }

    /// The number of argon2 blocks of 1 KiB that a hash with the configured parameters needs.
    pub(super) fn block_count(&self) -> usize {
        self.params.block_count()
    }

    /// Hashes a password with the configured parameters and pepper and a new salt.
    pub(super) fn hash(
        &self,
        password: &SecretText,
        entropy: &Entropy,
        memory: &mut Memory,
    ) -> Result<PasswordHash, BadHash> {
        let salt: [u8; SALT_BYTES] = entropy.bytes();
        let output = self.argon2id(password, &salt, memory)?;
        // never `Malformed`: these lengths are valid
        let phc = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.params).map_err(|_| BadHash::Malformed)?,
            salt: Some(Salt::new(&salt).map_err(|_| BadHash::Malformed)?),
            hash: Some(Output::new(&output).map_err(|_| BadHash::Malformed)?),
        };
        Ok(PasswordHash::new(phc.to_string()))
    }

    /// Hashes a password and drops the result, for an account without a hash. Takes as long as [`HashEngine::verify`], so that
    /// the response time does not reveal whether the account exists.
    pub(super) fn verify_dummy(&self, password: &SecretText, memory: &mut Memory) -> Result<(), BadHash> {
        let _output = self.argon2id(password, &self.dummy_salt, memory)?;
        Ok(())
    }

    /// Compares a password with a stored hash.
    pub(super) fn verify(
        &self,
        password: &SecretText,
        stored: &PasswordHash,
        memory: &mut Memory,
    ) -> Result<Comparison, BadHash> {
        match StoredHash::parse(stored.expose(), self.limits)? {
            StoredHash::Argon2 { algorithm, version, params, salt, expected } => {
                // Compares everything that the hash string names, except that a longer salt may stay.
                let outdated = algorithm != Algorithm::Argon2id
                    || version != Version::V0x13
                    || params.m_cost() != self.params.m_cost()
                    || params.t_cost() != self.params.t_cost()
                    || params.p_cost() != self.params.p_cost()
                    || params.keyid() != self.params.keyid()
                    || expected.len() != OUTPUT_BYTES
                    || salt.len() < SALT_BYTES;
                let pepper = self.find_pepper(params.keyid())?;
                let mut output = vec![0; expected.len()];
                argon2_into(algorithm, version, &params, pepper, password, &salt, &mut output, memory)?;
                Ok(Comparison { matches: output.ct_eq(&expected).into(), outdated })
            }
            // A legacy hash is replaced, unless it covers only the start of the password (bcrypt: 72 bytes): a new hash would cover the
            // rest too, which was not compared and may contain a typing error.
            #[cfg(feature = "legacy-hashes")]
            StoredHash::Legacy(hash) => {
                let LegacyComparison { matches, covers_password } = hash.compare(password.expose().as_bytes())?;
                Ok(Comparison { matches, outdated: covers_password })
            }
        }
    }

    /// The argon2id hash of a password with the configured parameters and pepper.
    fn argon2id(&self, password: &SecretText, salt: &[u8], memory: &mut Memory) -> Result<[u8; OUTPUT_BYTES], BadHash> {
        let mut output = [0; OUTPUT_BYTES];
        let pepper = self.pepper.as_ref().map(|pepper| &pepper.secret);
        argon2_into(Algorithm::Argon2id, Version::V0x13, &self.params, pepper, password, salt, &mut output, memory)?;
        Ok(output)
    }

    /// The pepper with this key id. `None` if the key id is empty: the hash was made without a pepper.
    fn find_pepper(&self, key_id: &[u8]) -> Result<Option<&SecretText>, BadHash> {
        if key_id.is_empty() {
            return Ok(None);
        }
        let mut peppers = self.pepper.iter().chain(&self.previous_peppers);
        let pepper = peppers.find(|pepper| pepper.has_key_id(key_id)).ok_or(BadHash::UnknownPepper)?;
        Ok(Some(&pepper.secret))
    }
}

/// Writes the argon2 hash of a password to `output`. Uses `memory` if it is large enough.
#[expect(clippy::too_many_arguments, reason = "the inputs of argon2")]
fn argon2_into(
    algorithm: Algorithm,
    version: Version,
    params: &Params,
    pepper: Option<&SecretText>,
    password: &SecretText,
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Memory,
) -> Result<(), BadHash> {
    let argon2 = match pepper {
        Some(pepper) => Argon2::new_with_secret(pepper.expose().as_bytes(), algorithm, version, params.clone()),
        None => Ok(Argon2::new(algorithm, version, params.clone())),
    };
    let argon2 = argon2.map_err(|_| BadHash::Malformed)?;
    let password = password.expose().as_bytes();
    let blocks = params.block_count();
    let result = if blocks <= memory.len() {
        argon2.hash_password_into_with_memory(password, salt, output, &mut memory[..blocks])
    } else {
        // A hash that needs more than the thread's buffer, such as an imported one, gets a buffer for this call only.
        argon2.hash_password_into_with_memory(password, salt, output, vec![Block::default(); blocks])
    };
    result.map_err(|_| BadHash::Malformed)
}
