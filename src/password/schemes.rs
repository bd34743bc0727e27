//! Parses stored password hashes, with limits on the work that verifying them takes: an imported hash must not be able to
//! take all memory or occupy a hashing thread for long.

use argon2::{Algorithm, Params, Version, password_hash::phc};

#[cfg(feature = "legacy-hashes")]
use super::legacy::LegacyHash;
use super::{foreign, hash::Pepper};
use crate::{config::PasswordSettings, domain::secret::PasswordHash};

/// The unit of `password.max_import_work`: the work of one argon2id hash with the default settings (19,456 KiB and 2 passes), as
/// memory in KiB times passes. It takes about 17 ms on one core.
const ARGON2_UNIT: u64 = 19_456 * 2;

/// The reason why a hash can't be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// The hash is damaged, or in no known format.
    #[error("it is damaged, or not in a format that is supported")]
    Malformed,
    /// The format is recognized, but not supported. Contains its name.
    #[error("its format, {0}, is not supported")]
    UnknownScheme(&'static str),
    /// Verifying the hash takes more memory or time than the limits allow. Contains the kind of work, such as `memory` or `passes`.
    #[error(
        "verifying it takes more work ({0}) than password.max_import_work and password.max_import_memory_kib allow"
    )]
    TooCostly(&'static str),
    /// The hash was made with a pepper that is not configured.
    #[error("it was made with a pepper that is not configured (password.pepper, password.previous_peppers)")]
    UnknownPepper,
    /// The build has no support for the format.
    #[error("this build of Latchkey lacks the Cargo feature legacy-hashes, which its format needs")]
    NotBuiltIn,
}

/// Checks that a hash from another system can be verified, and rewrites it in the form that is stored.
///
/// Supported schemes:
///
/// - argon2id and argon2i, also with a `keyid` (the id of a pepper) if the pepper is configured
/// - with the Cargo feature `legacy-hashes`: bcrypt (`$2a$`, `$2b$`, `$2y$`), bcrypt over SHA-256, scrypt, Firebase's scrypt, and
///   PBKDF2 with SHA-1, SHA-256 and SHA-512
///
/// Supported spellings are PHC strings and those of Django, passlib, Werkzeug, ASP.NET Core Identity and better-auth.
///
/// # Errors
/// [`BadHash`]
pub fn import_hash(text: &str, settings: &PasswordSettings) -> Result<PasswordHash, BadHash> {
    let text = foreign::normalize(text)?;
    if let StoredHash::Argon2 { params, .. } = StoredHash::parse(&text, Limits::import(settings))?
        && !params.keyid().is_empty()
    {
        let mut peppers = settings.pepper.iter().chain(&settings.previous_peppers);
        let is_configured =
            peppers.any(|pepper| Pepper::new(pepper).is_ok_and(|pepper| pepper.has_key_id(params.keyid())));
        if !is_configured {
            return Err(BadHash::UnknownPepper);
        }
    }
    Ok(PasswordHash::new(text))
}

/// The most memory and work that verifying a hash may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    memory_kib: u32,
    /// The work, in thousandths of [`ARGON2_UNIT`].
    milli_units: u64,
}

impl Limits {
    /// The limits of hashes from other systems.
    pub(super) fn import(settings: &PasswordSettings) -> Self {
        let milli_units = u64::from(settings.max_import_work).saturating_mul(1000);
        Self { memory_kib: settings.max_import_memory_kib, milli_units }
    }

    /// The limits of stored hashes: [`Limits::import`], raised to what hashes with the configured parameters take.
    pub(super) fn stored(settings: &PasswordSettings) -> Self {
        let import = Self::import(settings);
        let configured_work = argon2_work(settings.memory_kib, settings.iterations);
        let configured_milli_units = configured_work.saturating_mul(1000).div_ceil(ARGON2_UNIT);
        Self {
            memory_kib: import.memory_kib.max(settings.memory_kib),
            milli_units: import.milli_units.max(configured_milli_units),
        }
    }

    /// Checks an amount of memory.
    ///
    /// # Errors
    /// [`BadHash::TooCostly`]
    pub(super) fn check_memory(self, kib: u64) -> Result<(), BadHash> {
        if kib > u64::from(self.memory_kib) { Err(BadHash::TooCostly("memory")) } else { Ok(()) }
    }

    /// Checks an amount of work, such as a number of rounds. `per_unit` is the amount of this work that takes as long as one
    /// [`ARGON2_UNIT`]. The error contains `kind`.
    ///
    /// # Errors
    /// [`BadHash::TooCostly`]
    pub(super) fn check_work(self, work: u64, per_unit: u64, kind: &'static str) -> Result<(), BadHash> {
        // Compares `work / per_unit` with `milli_units / 1000`, without the rounding of divisions. `u128` cannot overflow.
        let is_within_limit = u128::from(work) * 1000 <= u128::from(self.milli_units) * u128::from(per_unit);
        if is_within_limit { Ok(()) } else { Err(BadHash::TooCostly(kind)) }
    }
}

/// The work of an argon2 hash, as memory in KiB times passes.
fn argon2_work(memory_kib: u32, passes: u32) -> u64 {
    u64::from(memory_kib).saturating_mul(u64::from(passes))
}

/// A stored hash, parsed and within the limits.
pub(super) enum StoredHash {
    Argon2 {
        algorithm: Algorithm,
        version: Version,
        params: Params,
        salt: Vec<u8>,
        expected: Vec<u8>,
    },
    #[cfg(feature = "legacy-hashes")]
    Legacy(LegacyHash),
}

impl StoredHash {
    pub(super) fn parse(text: &str, limits: Limits) -> Result<Self, BadHash> {
        match text.split('$').nth(1) {
            Some("argon2id") => parse_argon2(text, Algorithm::Argon2id, limits),
            Some("argon2i") => parse_argon2(text, Algorithm::Argon2i, limits),
            // Every format has the name of its scheme between its first two `$`, except Django's `bcrypt_sha256$$2b$…`.
            None | Some("") if !text.starts_with("bcrypt_sha256$") => Err(BadHash::Malformed),
            #[cfg(feature = "legacy-hashes")]
            _ => LegacyHash::parse(text, limits).map(Self::Legacy),
            #[cfg(not(feature = "legacy-hashes"))]
            _ => Err(BadHash::NotBuiltIn),
        }
    }
}

fn parse_argon2(text: &str, algorithm: Algorithm, limits: Limits) -> Result<StoredHash, BadHash> {
    let phc = phc::PasswordHash::new(text).map_err(|_| BadHash::Malformed)?;
    allow_only(&phc, &["m", "t", "p", "keyid", "data"])?;
    // The crate would use its own defaults for missing parameters.
    if ["m", "t", "p"].into_iter().any(|name| phc.params.get_decimal(name).is_none()) {
        return Err(BadHash::Malformed);
    }
    // A hash that states no version is of argon2 1.0.
    let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from).map_err(|_| BadHash::Malformed)?;
    let params = Params::try_from(&phc).map_err(|_| BadHash::Malformed)?;
    limits.check_memory(params.m_cost().into())?;
    limits.check_work(argon2_work(params.m_cost(), params.t_cost()), ARGON2_UNIT, "passes")?;
    let salt = phc.salt.as_ref().ok_or(BadHash::Malformed)?.to_vec();
    let expected = phc.hash.as_ref().ok_or(BadHash::Malformed)?.as_bytes().to_vec();
    Ok(StoredHash::Argon2 { algorithm, version, params, salt, expected })
}

/// Refuses unknown parameters, which could change the hash, and repeated ones.
fn allow_only(phc: &phc::PasswordHash, names: &[&str]) -> Result<(), BadHash> {
    let given: Vec<_> = phc.params.iter().map(|(name, _)| name).collect();
    let are_known = given.iter().all(|name| names.contains(&name.as_str()));
    let are_unique = given.iter().enumerate().all(|(index, name)| !given[..index].contains(name));
    if are_known && are_unique { Ok(()) } else { Err(BadHash::Malformed) }
}

#[cfg(test)]
mod tests;
