//! Hashes: argon2id made here (RFC 9106), and what other systems made: argon2i, bcrypt, scrypt, PBKDF2.

use std::num::NonZeroU32;

use argon2::{
    Algorithm, Argon2, Block, KeyId, Params, ParamsBuilder, Version,
    password_hash::phc::{self, Output, ParamsString, Salt},
};
use aws_lc_rs::{digest, pbkdf2};
use subtle::ConstantTimeEq;

use super::pool::Memory;
use crate::{
    config::PasswordSettings,
    domain::{
        entropy::Entropy,
        secret::{PasswordHash, SecretText},
    },
};

const OUTPUT_BYTES: usize = 32;
/// No hash may take a thread for more than about a second or two.
const MAX_ARGON2_WORK_KIB: u64 = 4 * 1024 * 1024;
const MAX_BCRYPT_COST: u32 = 14;
const MAX_PBKDF2_ROUNDS: u32 = 5_000_000;
const MAX_SCRYPT_WORK_KIB: u64 = 4 * 1024 * 1024;

/// Why a hash can't be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// Not a hash at all, or a damaged one.
    #[error("it is not a PHC string or a bcrypt hash")]
    Malformed,
    /// A scheme that isn't known here.
    #[error("its scheme is not one of argon2id, argon2i, bcrypt, scrypt, pbkdf2-sha256, pbkdf2-sha512")]
    UnknownScheme,
    /// Checking it would take more memory or time than is allowed.
    #[error("it asks for more work than is allowed ({0})")]
    TooCostly(&'static str),
    /// It was made with a pepper that isn't configured.
    #[error("it was made with a pepper that is not configured (password.pepper, password.previous_peppers)")]
    UnknownPepper,
}

/// Whether a hash that was made elsewhere can be checked here.
///
/// # Errors
/// [`BadHash`]
pub fn check_importable(phc: &str, settings: &PasswordSettings) -> Result<(), BadHash> {
    Stored::parse(phc, settings.max_import_memory_kib).map(|_| ())
}

/// What came of comparing.
pub(super) struct Checked {
    pub(super) matches: bool,
    /// The hash isn't what would be made today.
    pub(super) outdated: bool,
}

/// Hashes under today's parameters and pepper.
pub(super) struct Hashing {
    params: Params,
    pepper: Option<Pepper>,
    previous_peppers: Vec<Pepper>,
    max_import_memory_kib: u32,
    decoy_salt: [u8; 16],
}

struct Pepper {
    key_id: KeyId,
    secret: SecretText,
}

impl Pepper {
    /// The id names the pepper and gives nothing of it away.
    fn new(secret: &SecretText) -> Result<Self, String> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"latchkey pepper id");
        context.update(secret.expose().as_bytes());
        let key_id = KeyId::new(&context.finish().as_ref()[..8]).map_err(|error| error.to_string())?;
        Ok(Self { key_id, secret: secret.clone() })
    }
}

impl Hashing {
    pub(super) fn new(settings: &PasswordSettings, entropy: &Entropy) -> Result<Self, String> {
        let pepper = settings.pepper.as_ref().map(Pepper::new).transpose()?;
        let previous_peppers = settings.previous_peppers.iter().map(Pepper::new).collect::<Result<_, _>>()?;
        let mut params = ParamsBuilder::new();
        params.m_cost(settings.memory_kib).t_cost(settings.iterations).p_cost(settings.parallelism);
        params.output_len(OUTPUT_BYTES);
        if let Some(pepper) = &pepper {
            params.keyid(pepper.key_id);
        }
        Ok(Self {
            params: params.build().map_err(|error| error.to_string())?,
            pepper,
            previous_peppers,
            max_import_memory_kib: settings.max_import_memory_kib,
            decoy_salt: entropy.bytes(),
        })
    }

    pub(super) fn block_count(&self) -> usize {
        self.params.block_count()
    }

    pub(super) fn hash(
        &self,
        password: &SecretText,
        entropy: &Entropy,
        memory: &mut Memory,
    ) -> Result<PasswordHash, BadHash> {
        let salt: [u8; 16] = entropy.bytes();
        let output = self.today(password, &salt, memory)?;
        let phc = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.params).map_err(|_| BadHash::Malformed)?,
            salt: Some(Salt::new(&salt).map_err(|_| BadHash::Malformed)?),
            hash: Some(Output::new(&output).map_err(|_| BadHash::Malformed)?),
        };
        Ok(PasswordHash::new(phc.to_string()))
    }

    /// The work of [`Hashing::verify`], for nobody.
    pub(super) fn pretend(&self, password: &SecretText, memory: &mut Memory) -> Result<(), BadHash> {
        self.today(password, &self.decoy_salt, memory).map(|_| ())
    }

    pub(super) fn verify(
        &self,
        password: &SecretText,
        stored: &PasswordHash,
        memory: &mut Memory,
    ) -> Result<Checked, BadHash> {
        let outdated = |made: &Stored| match made {
            Stored::Argon2 { algorithm, version, params, salt, expected } => {
                *algorithm != Algorithm::Argon2id
                    || *version != Version::V0x13
                    || params.m_cost() != self.params.m_cost()
                    || params.t_cost() != self.params.t_cost()
                    || params.p_cost() != self.params.p_cost()
                    || params.keyid() != self.params.keyid()
                    || expected.len() != OUTPUT_BYTES
                    || salt.len() < 16
            }
            _ => true,
        };
        // the limits on imported hashes are for imported hashes: what was made here is checked, come what may
        let limit = self.max_import_memory_kib.max(self.params.m_cost());
        let stored = Stored::parse(stored.expose(), limit)?;
        let matches = stored.matches(password, &|key_id| self.pepper_of(key_id), memory)?;
        Ok(Checked { matches, outdated: outdated(&stored) })
    }

    fn today(&self, password: &SecretText, salt: &[u8], memory: &mut Memory) -> Result<[u8; OUTPUT_BYTES], BadHash> {
        let mut output = [0; OUTPUT_BYTES];
        let secret = self.pepper.as_ref().map(|pepper| &pepper.secret);
        argon2_into(Algorithm::Argon2id, Version::V0x13, &self.params, secret, password, salt, &mut output, memory)?;
        Ok(output)
    }

    fn pepper_of(&self, key_id: &[u8]) -> Result<Option<&SecretText>, BadHash> {
        if key_id.is_empty() {
            return Ok(None);
        }
        let mut peppers = self.pepper.iter().chain(&self.previous_peppers);
        let pepper = peppers.find(|pepper| pepper.key_id.as_bytes() == key_id).ok_or(BadHash::UnknownPepper)?;
        Ok(Some(&pepper.secret))
    }
}

#[expect(clippy::too_many_arguments, reason = "argon2 has that many inputs")]
fn argon2_into(
    algorithm: Algorithm,
    version: Version,
    params: &Params,
    secret: Option<&SecretText>,
    password: &SecretText,
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Memory,
) -> Result<(), BadHash> {
    let argon2 = match secret {
        Some(secret) => Argon2::new_with_secret(secret.expose().as_bytes(), algorithm, version, params.clone()),
        None => Ok(Argon2::new(algorithm, version, params.clone())),
    };
    let argon2 = argon2.map_err(|_| BadHash::Malformed)?;
    let password = password.expose().as_bytes();
    let blocks = params.block_count();
    let done = if blocks <= memory.len() {
        argon2.hash_password_into_with_memory(password, salt, output, &mut memory[..blocks])
    } else {
        // An imported hash that needs more than this thread has: what it needs is its own, and given back at once.
        argon2.hash_password_into_with_memory(password, salt, output, vec![Block::default(); blocks])
    };
    done.map_err(|_| BadHash::Malformed)
}

/// A stored hash, understood, and within the limits.
enum Stored {
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: Vec<u8>, expected: Vec<u8> },
    Bcrypt(String),
    Scrypt { params: scrypt::Params, salt: Vec<u8>, expected: Vec<u8> },
    Pbkdf2 { algorithm: pbkdf2::Algorithm, rounds: NonZeroU32, salt: Vec<u8>, expected: Vec<u8> },
}

impl Stored {
    fn parse(text: &str, max_memory_kib: u32) -> Result<Self, BadHash> {
        if text.starts_with("$2") {
            return Self::parse_bcrypt(text);
        }
        let phc = phc::PasswordHash::new(text).map_err(|_| BadHash::Malformed)?;
        let salt = phc.salt.as_ref().map(|salt| salt.to_vec()).ok_or(BadHash::Malformed)?;
        let expected = phc.hash.as_ref().map(|hash| hash.as_bytes().to_vec()).ok_or(BadHash::Malformed)?;
        let number = |name: &str| phc.params.get_decimal(name).ok_or(BadHash::Malformed);
        match phc.algorithm.as_str() {
            name @ ("argon2id" | "argon2i") => {
                let algorithm = if name == "argon2id" { Algorithm::Argon2id } else { Algorithm::Argon2i };
                let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from);
                let params = Params::try_from(&phc).map_err(|_| BadHash::Malformed)?;
                if params.m_cost() > max_memory_kib {
                    return Err(BadHash::TooCostly("memory"));
                }
                if u64::from(params.m_cost()) * u64::from(params.t_cost()) > MAX_ARGON2_WORK_KIB {
                    return Err(BadHash::TooCostly("passes"));
                }
                Ok(Self::Argon2 {
                    algorithm,
                    version: version.map_err(|_| BadHash::Malformed)?,
                    params,
                    salt,
                    expected,
                })
            }
            "scrypt" => {
                let (log_n, r, p) = (number("ln")?, number("r")?, number("p")?);
                let memory_kib = 1_u64
                    .checked_shl(log_n)
                    .and_then(|n| n.checked_mul(u64::from(r)))
                    .map(|blocks| blocks / 8)
                    .ok_or(BadHash::TooCostly("memory"))?;
                if log_n > 30 || memory_kib > u64::from(max_memory_kib) {
                    return Err(BadHash::TooCostly("memory"));
                }
                if memory_kib.saturating_mul(u64::from(p)) > MAX_SCRYPT_WORK_KIB {
                    return Err(BadHash::TooCostly("parallelism"));
                }
                let log_n = u8::try_from(log_n).map_err(|_| BadHash::Malformed)?;
                let params = scrypt::Params::new(log_n, r, p).map_err(|_| BadHash::Malformed)?;
                Ok(Self::Scrypt { params, salt, expected })
            }
            name @ ("pbkdf2-sha256" | "pbkdf2-sha512") => {
                let rounds = number("i")?;
                if rounds > MAX_PBKDF2_ROUNDS {
                    return Err(BadHash::TooCostly("rounds"));
                }
                let algorithm =
                    if name == "pbkdf2-sha256" { pbkdf2::PBKDF2_HMAC_SHA256 } else { pbkdf2::PBKDF2_HMAC_SHA512 };
                let rounds = NonZeroU32::new(rounds).ok_or(BadHash::Malformed)?;
                Ok(Self::Pbkdf2 { algorithm, rounds, salt, expected })
            }
            _ => Err(BadHash::UnknownScheme),
        }
    }

    fn parse_bcrypt(text: &str) -> Result<Self, BadHash> {
        if !["$2a$", "$2b$", "$2y$"].iter().any(|version| text.starts_with(version)) {
            return Err(BadHash::UnknownScheme);
        }
        let parts: bcrypt::HashParts = text.parse().map_err(|_| BadHash::Malformed)?;
        if parts.get_cost() > MAX_BCRYPT_COST {
            return Err(BadHash::TooCostly("cost"));
        }
        Ok(Self::Bcrypt(text.to_owned()))
    }

    fn matches<'p>(
        &self,
        password: &SecretText,
        pepper_of: &dyn Fn(&[u8]) -> Result<Option<&'p SecretText>, BadHash>,
        memory: &mut Memory,
    ) -> Result<bool, BadHash> {
        let text = password.expose().as_bytes();
        match self {
            Self::Argon2 { algorithm, version, params, salt, expected } => {
                let pepper = pepper_of(params.keyid())?;
                let mut output = vec![0; expected.len()];
                argon2_into(*algorithm, *version, params, pepper, password, salt, &mut output, memory)?;
                Ok(output.ct_eq(expected).into())
            }
            // bcrypt itself looks at 72 bytes and no more; the upgrade at this very sign-in looks at all of them
            Self::Bcrypt(hash) => bcrypt::verify(text, hash).map_err(|_| BadHash::Malformed),
            Self::Scrypt { params, salt, expected } => {
                let mut output = vec![0; expected.len()];
                scrypt::scrypt(text, salt, params, &mut output).map_err(|_| BadHash::Malformed)?;
                Ok(output.ct_eq(expected).into())
            }
            Self::Pbkdf2 { algorithm, rounds, salt, expected } => {
                Ok(pbkdf2::verify(*algorithm, *rounds, salt, text, expected).is_ok())
            }
        }
    }
}
