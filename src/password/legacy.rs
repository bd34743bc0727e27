//! Hashes that other systems made: bcrypt, bcrypt over SHA-256, scrypt, PBKDF2 and Firebase's scrypt (Cargo feature
//! `legacy-hashes`). After a match, the sign-in replaces the hash with an argon2id hash, unless the hash covers only the start of
//! the password.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    digest, hmac,
    iv::FixedLength,
    pbkdf2,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{
    phc::Phc,
    schemes::{BadHash, Limits},
};

/// The number of bytes at the start of a password that bcrypt reads.
const BCRYPT_BYTES: usize = 72;

/// The rounds of bcrypt that take as long as one unit of work ([`Limits::check_work`]).
const BCRYPT_ROUNDS_PER_UNIT: u64 = 256;

/// The KiB that scrypt fills and reads in the time of one unit of work ([`Limits::check_work`]).
const SCRYPT_KIB_PER_UNIT: u64 = 4864;

/// A hash of another system, parsed and within the limits.
pub(super) enum LegacyHash {
    /// Verified with the password itself.
    Bcrypt(String),
    /// Verified with a digest of the password.
    BcryptSha256 {
        digest: PreDigest,
        hash: String,
    },
    Scrypt {
        params: scrypt::Params,
        salt: Vec<u8>,
        expected: Vec<u8>,
    },
    Pbkdf2 {
        algorithm: pbkdf2::Algorithm,
        rounds: NonZeroU32,
        salt: Vec<u8>,
        expected: Vec<u8>,
    },
    /// The scrypt output is an AES-256 key. The hash is the project's signer key, encrypted with that key.
    Firebase {
        params: scrypt::Params,
        salt: Vec<u8>,
        signer_key: Vec<u8>,
        expected: Vec<u8>,
    },
}

/// The outcome of comparing a password with a hash of another system.
pub(super) struct LegacyComparison {
    /// Whether the hash is a hash of the password.
    pub(super) matches: bool,
    /// Whether the hash covers the whole password. bcrypt ignores all bytes after the first 72.
    pub(super) covers_password: bool,
}

/// The kind of digest of the password that bcrypt receives.
pub(super) enum PreDigest {
    /// Django: hexadecimal SHA-256.
    Hex,
    /// passlib, version 1: base64 SHA-256.
    Base64,
    /// passlib, version 2: base64 HMAC-SHA-256 under bcrypt's salt.
    Hmac { salt: String },
}

impl LegacyHash {
    /// Parses the stored form of a hash.
    pub(super) fn parse(text: &str, limits: Limits) -> Result<Self, BadHash> {
        if text.starts_with("$2") {
            return check_bcrypt_hash(text, limits).map(Self::Bcrypt);
        }
        if let Some(hash) = text.strip_prefix("bcrypt_sha256$") {
            return Ok(Self::BcryptSha256 { digest: PreDigest::Hex, hash: check_bcrypt_hash(hash, limits)? });
        }
        if let Some(rest) = text.strip_prefix("$bcrypt-sha256$") {
            return passlib_bcrypt_sha256(rest, limits);
        }
        let phc = Phc::parse(text)?;
        // The two numbers of each PBKDF2 scheme are the size of the digest in bytes, and the rounds that take as long as one unit of work.
        match phc.scheme {
            "scrypt" => parse_scrypt(&phc, limits),
            "firebase-scrypt" => parse_firebase(&phc, limits),
            "pbkdf2-sha1" => parse_pbkdf2(&phc, pbkdf2::PBKDF2_HMAC_SHA1, 20, 50_000, limits),
            "pbkdf2-sha256" => parse_pbkdf2(&phc, pbkdf2::PBKDF2_HMAC_SHA256, 32, 42_500, limits),
            "pbkdf2-sha512" => parse_pbkdf2(&phc, pbkdf2::PBKDF2_HMAC_SHA512, 64, 25_000, limits),
            _ => Err(BadHash::UnknownScheme("an unknown scheme")),
        }
    }

    /// Compares a password with the hash.
    pub(super) fn compare(&self, password: &[u8]) -> Result<LegacyComparison, BadHash> {
        let matches = match self {
            // bcrypt repeats its key, so that "x\0x" would match the hash of "x": a password with a NUL never matches.
            Self::Bcrypt(hash) => {
                let matches = bcrypt::verify(password, hash).map_err(|_| BadHash::Malformed)?;
                return Ok(LegacyComparison {
                    matches: matches && !password.contains(&0),
                    // Also false for exactly 72 bytes: the hashed password may have been longer than the typed one.
                    covers_password: password.len() < BCRYPT_BYTES,
                });
            }
            Self::BcryptSha256 { digest, hash } => {
                bcrypt::verify(digest.compute(password).as_bytes(), hash).map_err(|_| BadHash::Malformed)?
            }
            Self::Scrypt { params, salt, expected } => {
                let mut output = Zeroizing::new(vec![0; expected.len()]);
                scrypt::scrypt(password, salt, params, &mut output).map_err(|_| BadHash::Malformed)?;
                output.ct_eq(expected).into()
            }
            // `pbkdf2::verify` compares in constant time.
            Self::Pbkdf2 { algorithm, rounds, salt, expected } => {
                pbkdf2::verify(*algorithm, *rounds, salt, password, expected).is_ok()
            }
            Self::Firebase { params, salt, signer_key, expected } => {
                let mut key = Zeroizing::new([0_u8; 32]);
                scrypt::scrypt(password, salt, params, key.as_mut()).map_err(|_| BadHash::Malformed)?;
                // encrypted in place below
                let mut ciphertext = signer_key.clone();
                let cipher = UnboundCipherKey::new(&AES_256, key.as_ref()).and_then(EncryptingKey::ctr);
                let cipher = cipher.map_err(|_| BadHash::Malformed)?;
                // Firebase uses an IV of zeros, in the mode CTR.
                let iv = EncryptionContext::Iv128(FixedLength::from([0; 16]));
                cipher.less_safe_encrypt(&mut ciphertext, iv).map_err(|_| BadHash::Malformed)?;
                ciphertext.ct_eq(expected).into()
            }
        };
        Ok(LegacyComparison { matches, covers_password: true })
    }
}

impl PreDigest {
    fn compute(&self, password: &[u8]) -> Zeroizing<String> {
        let sha256 = || digest::digest(&digest::SHA256, password);
        Zeroizing::new(match self {
            Self::Hex => sha256().as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
            Self::Base64 => BASE64_STANDARD.encode(sha256()),
            Self::Hmac { salt } => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
                BASE64_STANDARD.encode(hmac::sign(&key, password))
            }
        })
    }
}

/// Checks the version and the cost of a bcrypt hash. The refused version `$2x$` marks hashes of a faulty implementation.
fn check_bcrypt_hash(text: &str, limits: Limits) -> Result<String, BadHash> {
    if !["$2a$", "$2b$", "$2y$"].iter().any(|version| text.starts_with(version)) {
        return Err(BadHash::UnknownScheme("bcrypt of a version other than 2a, 2b and 2y"));
    }
    let parts: bcrypt::HashParts = text.parse().map_err(|_| BadHash::Malformed)?;
    let cost = parts.get_cost();
    // the costs that bcrypt defines
    if !(4..=31).contains(&cost) {
        return Err(BadHash::Malformed);
    }
    limits.check_work(1 << cost, BCRYPT_ROUNDS_PER_UNIT, "cost")?;
    Ok(text.to_owned())
}

/// Parses passlib's `v=2,t=2b,r=12$salt$digest` and its older `2b,12$salt$digest`: `2b` is the version of bcrypt, 12 its cost.
fn passlib_bcrypt_sha256(text: &str, limits: Limits) -> Result<LegacyHash, BadHash> {
    let [params, salt, checksum] = text.split('$').collect::<Vec<_>>()[..] else { return Err(BadHash::Malformed) };
    let (digest, version, cost) = match params.split(',').collect::<Vec<_>>()[..] {
        [version, cost] => (PreDigest::Base64, version, cost),
        ["v=2", version, cost] => {
            let version = version.strip_prefix("t=").ok_or(BadHash::Malformed)?;
            let cost = cost.strip_prefix("r=").ok_or(BadHash::Malformed)?;
            (PreDigest::Hmac { salt: salt.to_owned() }, version, cost)
        }
        _ => return Err(BadHash::Malformed),
    };
    let cost: u32 = cost.parse().map_err(|_| BadHash::Malformed)?;
    let hash = check_bcrypt_hash(&format!("${version}${cost:02}${salt}{checksum}"), limits)?;
    Ok(LegacyHash::BcryptSha256 { digest, hash })
}

/// Parses a scrypt hash. `ln` is the binary logarithm of N, `r` the block size, `p` the number of lanes.
fn parse_scrypt(phc: &Phc<'_>, limits: Limits) -> Result<LegacyHash, BadHash> {
    phc.allow_only(&["ln", "r", "p"])?;
    let params = scrypt_params(phc.number("ln")?, phc.number("r")?, phc.number("p")?, limits)?;
    Ok(LegacyHash::Scrypt { params, salt: phc.salt.clone(), expected: phc.hash.clone() })
}

/// Parses a hash of Firebase. `ln` and `r` are those of scrypt, which has one lane; `k` is the signer key.
fn parse_firebase(phc: &Phc<'_>, limits: Limits) -> Result<LegacyHash, BadHash> {
    phc.allow_only(&["ln", "r", "k"])?;
    let lanes = 1;
    let params = scrypt_params(phc.number("ln")?, phc.number("r")?, lanes, limits)?;
    let signer_key = phc.bytes("k")?;
    // The hash is the encrypted signer key, and the mode CTR keeps the length.
    if signer_key.is_empty() || signer_key.len() != phc.hash.len() {
        return Err(BadHash::Malformed);
    }
    Ok(LegacyHash::Firebase { params, salt: phc.salt.clone(), signer_key, expected: phc.hash.clone() })
}

fn scrypt_params(log_n: u32, r: u32, p: u32, limits: Limits) -> Result<scrypt::Params, BadHash> {
    if log_n == 0 {
        return Err(BadHash::Malformed);
    }
    if log_n >= 32 {
        return Err(BadHash::TooCostly("memory"));
    }
    let n = 1_u64 << log_n;
    // scrypt (RFC 7914) has p lanes of 128 r bytes each, and a table of N blocks of 128 r bytes. Each lane fills and reads the
    // whole table.
    let block_bytes = 128 * u64::from(r);
    let table_bytes = n.checked_mul(block_bytes).ok_or(BadHash::TooCostly("memory"))?;
    let lanes_bytes = u64::from(p).checked_mul(block_bytes).ok_or(BadHash::TooCostly("memory"))?;
    let (table_kib, lanes_kib) = (table_bytes.div_ceil(1024), lanes_bytes.div_ceil(1024));
    limits.check_memory(table_kib.saturating_add(lanes_kib))?;
    limits.check_work(table_kib.saturating_mul(p.into()), SCRYPT_KIB_PER_UNIT, "memory times parallelism")?;
    let log_n = u8::try_from(log_n).map_err(|_| BadHash::Malformed)?;
    scrypt::Params::new(log_n, r, p).map_err(|_| BadHash::Malformed)
}

/// Parses a PBKDF2 hash. `digest_bytes` is the size of the digest, and `rounds_per_unit` the number of rounds that take as long as
/// one unit of work ([`Limits::check_work`]).
fn parse_pbkdf2(
    phc: &Phc<'_>,
    algorithm: pbkdf2::Algorithm,
    digest_bytes: usize,
    rounds_per_unit: u64,
    limits: Limits,
) -> Result<LegacyHash, BadHash> {
    // the number of rounds, and the length of the hash in bytes
    phc.allow_only(&["i", "l"])?;
    let rounds = NonZeroU32::new(phc.number("i")?).ok_or(BadHash::Malformed)?;
    if phc.has("l") && usize::try_from(phc.number("l")?) != Ok(phc.hash.len()) {
        return Err(BadHash::Malformed);
    }
    limits.check_work(u64::from(rounds.get()), rounds_per_unit, "rounds")?;
    // Each block of the output has the size of the digest and is derived on its own (RFC 8018, section 5.2), so the first block
    // alone identifies the password: it has 160 bits or more. Deriving the other blocks would multiply the work.
    let expected = phc.hash.iter().copied().take(digest_bytes).collect();
    Ok(LegacyHash::Pbkdf2 { algorithm, rounds, salt: phc.salt.clone(), expected })
}
