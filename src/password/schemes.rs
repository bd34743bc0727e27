//! Stored hashes as they are read: argon2id made here, and argon2i, bcrypt, scrypt and PBKDF2 from other systems.
//!
//! What a hash asks for is known before any of it is done, and limited: an imported line must not be able to take all
//! memory, nor a thread for more than about a second or two.

use std::num::NonZeroU32;

use argon2::{Algorithm, Params, Version, password_hash::phc};
use aws_lc_rs::pbkdf2;

use super::hash::Pepper;
use crate::config::PasswordSettings;

/// Memory times passes of argon2: about two seconds.
const MAX_ARGON2_WORK_KIB: u64 = 4 * 1024 * 1024;
/// 2^14 rounds of bcrypt: a little more than a second.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// Memory times lanes of scrypt: a little more than a second. OWASP's advice asks for half of it.
const MAX_SCRYPT_WORK_KIB: u64 = 256 * 1024;
/// Rounds times blocks of output: about a second each.
const MAX_PBKDF2_SHA256_WORK: u64 = 3_000_000;
const MAX_PBKDF2_SHA512_WORK: u64 = 1_500_000;

/// Why a hash can't be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// Not a hash at all, or a damaged one.
    #[error("it is neither a PHC string nor a bcrypt hash, or it is damaged")]
    Malformed,
    /// A scheme that isn't known here.
    #[error(
        "its scheme is not one of argon2id, argon2i, bcrypt ($2a$, $2b$, $2y$), scrypt, pbkdf2-sha256, pbkdf2-sha512"
    )]
    UnknownScheme,
    /// Checking it would take more memory or time than is allowed.
    #[error("it asks for more work than is allowed ({0})")]
    TooCostly(&'static str),
    /// It was made with a pepper that isn't configured.
    #[error("it was made with a pepper that is not configured (password.pepper, password.previous_peppers)")]
    UnknownPepper,
}

/// Whether a hash that was made elsewhere can be checked here. Understood are, each without base64 padding:
///
/// - `$argon2id$v=19$m=…,t=…,p=…$salt$hash` and argon2i (RFC 9106; no `v` means version 16), also with `keyid` if that
///   pepper is configured;
/// - `$2a$`, `$2b$` and `$2y$`: bcrypt of cost 4 to 14. Not `$2x$`, which marks hashes of a faulty implementation;
/// - `$scrypt$ln=…,r=…,p=…$salt$hash` (RFC 7914), at most 256 MiB times `p` batch;
/// - `$pbkdf2-sha256$i=…,l=…$salt$hash` and `pbkdf2-sha512` (RFC 8018), `l` being optional.
///
/// # Errors
/// [`BadHash`]
pub fn check_importable(phc: &str, settings: &PasswordSettings) -> Result<(), BadHash> {
    match Stored::parse(phc, Limits::import(settings))? {
        Stored::Argon2 { params, .. } if !params.keyid().is_empty() => {
            let mut peppers = settings.pepper.iter().chain(&settings.previous_peppers);
            let known = peppers.any(|pepper| Pepper::new(pepper).is_ok_and(|pepper| pepper.is(params.keyid())));
            if known { Ok(()) } else { Err(BadHash::UnknownPepper) }
        }
        _ => Ok(()),
    }
}

/// The most that a stored hash may ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    memory_kib: u32,
    argon2_work_kib: u64,
}

impl Limits {
    /// For hashes that others made.
    pub(super) fn import(settings: &PasswordSettings) -> Self {
        Self { memory_kib: settings.max_import_memory_kib, argon2_work_kib: MAX_ARGON2_WORK_KIB }
    }

    /// As [`Limits::import`], and whatever the hashes made today ask for.
    pub(super) fn stored(settings: &PasswordSettings) -> Self {
        let import = Self::import(settings);
        Self {
            memory_kib: import.memory_kib.max(settings.memory_kib),
            argon2_work_kib: import.argon2_work_kib.max(work(settings.memory_kib, settings.iterations)),
        }
    }
}

fn work(memory_kib: u32, passes: u32) -> u64 {
    u64::from(memory_kib).saturating_mul(u64::from(passes))
}

/// A stored hash, understood, and within the limits.
pub(super) enum Stored {
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: Vec<u8>, expected: Vec<u8> },
    Bcrypt(String),
    Scrypt { params: scrypt::Params, salt: Vec<u8>, expected: Vec<u8> },
    Pbkdf2 { algorithm: pbkdf2::Algorithm, rounds: NonZeroU32, salt: Vec<u8>, expected: Vec<u8> },
}

impl Stored {
    pub(super) fn parse(text: &str, limits: Limits) -> Result<Self, BadHash> {
        if text.starts_with("$2") {
            return parse_bcrypt(text);
        }
        let phc = phc::PasswordHash::new(text).map_err(|_| BadHash::Malformed)?;
        match phc.algorithm.as_str() {
            "argon2id" => parse_argon2(&phc, Algorithm::Argon2id, limits),
            "argon2i" => parse_argon2(&phc, Algorithm::Argon2i, limits),
            "scrypt" => parse_scrypt(&phc, limits),
            "pbkdf2-sha256" => parse_pbkdf2(&phc, pbkdf2::PBKDF2_HMAC_SHA256, 32, MAX_PBKDF2_SHA256_WORK),
            "pbkdf2-sha512" => parse_pbkdf2(&phc, pbkdf2::PBKDF2_HMAC_SHA512, 64, MAX_PBKDF2_SHA512_WORK),
            _ => Err(BadHash::UnknownScheme),
        }
    }
}

fn parse_argon2(phc: &phc::PasswordHash, algorithm: Algorithm, limits: Limits) -> Result<Stored, BadHash> {
    only(phc, &["m", "t", "p", "keyid", "data"])?;
    // the crate would take its own defaults for what is missing
    for name in ["m", "t", "p"] {
        number(phc, name)?;
    }
    let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from).map_err(|_| BadHash::Malformed)?;
    let params = Params::try_from(phc).map_err(|_| BadHash::Malformed)?;
    if params.m_cost() > limits.memory_kib {
        return Err(BadHash::TooCostly("memory"));
    }
    if work(params.m_cost(), params.t_cost()) > limits.argon2_work_kib {
        return Err(BadHash::TooCostly("passes"));
    }
    let (salt, expected) = salt_and_hash(phc)?;
    Ok(Stored::Argon2 { algorithm, version, params, salt, expected })
}

fn parse_bcrypt(text: &str) -> Result<Stored, BadHash> {
    if !["$2a$", "$2b$", "$2y$"].iter().any(|version| text.starts_with(version)) {
        return Err(BadHash::UnknownScheme);
    }
    let parts: bcrypt::HashParts = text.parse().map_err(|_| BadHash::Malformed)?;
    if parts.get_cost() < *BCRYPT_COSTS.start() {
        return Err(BadHash::Malformed);
    }
    if parts.get_cost() > *BCRYPT_COSTS.end() {
        return Err(BadHash::TooCostly("cost"));
    }
    Ok(Stored::Bcrypt(text.to_owned()))
}

fn parse_scrypt(phc: &phc::PasswordHash, limits: Limits) -> Result<Stored, BadHash> {
    no_version(phc)?;
    only(phc, &["ln", "r", "p"])?;
    let (log_n, r, p) = (number(phc, "ln")?, number(phc, "r")?, number(phc, "p")?);
    // Two areas of memory: 128 r bytes N times, and p times. The first is gone through once for each p.
    let area = |times: u64| u64::from(r).checked_mul(times).and_then(|product| product.checked_mul(128));
    let kib = |bytes: Option<u64>| bytes.map(|bytes| bytes.div_ceil(1024)).ok_or(BadHash::TooCostly("memory"));
    if log_n == 0 {
        return Err(BadHash::Malformed);
    }
    let n = if log_n < 32 { 1_u64 << log_n } else { return Err(BadHash::TooCostly("memory")) };
    let (mixed, lanes) = (kib(area(n))?, kib(area(p.into()))?);
    if mixed.saturating_add(lanes) > u64::from(limits.memory_kib) {
        return Err(BadHash::TooCostly("memory"));
    }
    if mixed.saturating_mul(p.into()) > MAX_SCRYPT_WORK_KIB {
        return Err(BadHash::TooCostly("memory times parallelism"));
    }
    let log_n = u8::try_from(log_n).map_err(|_| BadHash::Malformed)?;
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| BadHash::Malformed)?;
    let (salt, expected) = salt_and_hash(phc)?;
    Ok(Stored::Scrypt { params, salt, expected })
}

fn parse_pbkdf2(
    phc: &phc::PasswordHash,
    algorithm: pbkdf2::Algorithm,
    block: usize,
    max_work: u64,
) -> Result<Stored, BadHash> {
    no_version(phc)?;
    only(phc, &["i", "l"])?;
    let rounds = NonZeroU32::new(number(phc, "i")?).ok_or(BadHash::Malformed)?;
    let (salt, expected) = salt_and_hash(phc)?;
    let length = phc.params.get("l").map(|_| number(phc, "l")).transpose()?;
    if length.is_some_and(|length| usize::try_from(length) != Ok(expected.len())) {
        return Err(BadHash::Malformed);
    }
    let blocks = u64::try_from(expected.len().div_ceil(block)).unwrap_or(u64::MAX);
    if u64::from(rounds.get()).saturating_mul(blocks) > max_work {
        return Err(BadHash::TooCostly("rounds"));
    }
    Ok(Stored::Pbkdf2 { algorithm, rounds, salt, expected })
}

fn number(phc: &phc::PasswordHash, name: &str) -> Result<u32, BadHash> {
    phc.params.get_decimal(name).ok_or(BadHash::Malformed)
}

/// A parameter that isn't known could change the hash, and one that stands twice could be read in two ways.
fn only(phc: &phc::PasswordHash, names: &[&str]) -> Result<(), BadHash> {
    let given: Vec<_> = phc.params.iter().map(|(name, _)| name).collect();
    let known = given.iter().all(|name| names.contains(&name.as_str()));
    let once = given.iter().enumerate().all(|(index, name)| !given[..index].contains(name));
    if known && once { Ok(()) } else { Err(BadHash::Malformed) }
}

/// Only argon2 has versions.
fn no_version(phc: &phc::PasswordHash) -> Result<(), BadHash> {
    if phc.version.is_none() { Ok(()) } else { Err(BadHash::Malformed) }
}

fn salt_and_hash(phc: &phc::PasswordHash) -> Result<(Vec<u8>, Vec<u8>), BadHash> {
    let salt = phc.salt.as_ref().ok_or(BadHash::Malformed)?;
    let hash = phc.hash.as_ref().ok_or(BadHash::Malformed)?;
    Ok((salt.to_vec(), hash.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{PasswordHasher, Verified, tests::settings},
        *,
    };
    use crate::domain::{
        entropy::Entropy,
        secret::{PasswordHash, SecretText},
    };

    /// Made by argon2-cffi 25.1, bcrypt 4.0, passlib 1.7 and Python's hashlib.
    const ASCII: (&str, &[&str]) = (
        "tidal engine verse marmalade",
        &[
            "$argon2id$v=19$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$r4QZIbo2xj38aweuno3OWB7b2xLJciyNFMMSssFRtUA",
            "$argon2id$v=19$m=256,t=3,p=4$AQIDBAUGBwgJCgsMDQ4PEA$cHKAg190XUbtpZLtBHwCH4O5of175emc",
            "$argon2i$v=19$m=64,t=3,p=1$AQIDBAUGBwgJCgsMDQ4PEA$2FqSx5CGvtWCKrUlqj6lkM6woAWA4/aCI+ke/V+mXwY",
            "$argon2id$v=16$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$AoD78Jb0M0Gp/DYmxCj80ZD6VPWH3W1XGjrVU7UPD4U",
            "$argon2i$v=16$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$F6ecNzwYKQjWc98hRAM8Wm/A9aPPxh0C6QeNENngy/c",
            "$2b$04$u.frmOkCFQJfLGyT6ZFaKu1LpHE0YlEiNpiZ85tG4QYw.3ikR.VA.",
            "$2y$04$u.frmOkCFQJfLGyT6ZFaKu1LpHE0YlEiNpiZ85tG4QYw.3ikR.VA.",
            "$2a$05$msxa3r8wukHf.Tv3OMx/2uz3gEfxVCkkhYh179vLvangiyfk32Ygq",
            "$scrypt$ln=8,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$ELcdtUtuTPWjXLvE8zX/5cTD/jAT77tmqbzGx/gQQ4Q",
            "$scrypt$ln=4,r=8,p=2$AQIDBAUGBwgJCgsMDQ4PEA$q25KtNRu9HvjpH6d5iNg2y0nozBmhKrD83p1SzI1bJpLguTHk2JZpQGuBoj5FNUZpC6hseQgskQyAUsIDmMM/w",
            "$pbkdf2-sha256$i=1000,l=32$AQIDBAUGBwgJCgsMDQ4PEA$G6dnJsp6w4LqmVpZBhjRn/oa0+vOgBSUnvUvomXhFjk",
            "$pbkdf2-sha256$i=1000,l=64$AQIDBAUGBwgJCgsMDQ4PEA$G6dnJsp6w4LqmVpZBhjRn/oa0+vOgBSUnvUvomXhFjkI+NFEUK/m6NOv8uyCQ+aAOgsPhEds/FQJhcSzNhjfXQ",
            "$pbkdf2-sha512$i=1000,l=32$AQIDBAUGBwgJCgsMDQ4PEA$VeORccoyqU+Cms4xtlWuskCmagM5srWNGX9Ibzh0IeQ",
            "$pbkdf2-sha512$i=1000,l=64$AQIDBAUGBwgJCgsMDQ4PEA$VeORccoyqU+Cms4xtlWuskCmagM5srWNGX9Ibzh0IeSt5+hja2eH+Z16Q7cfn2Bg+1YB/juk2meDZGGbACIOTw",
            "$argon2i$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$F6ecNzwYKQjWc98hRAM8Wm/A9aPPxh0C6QeNENngy/c",
            "$pbkdf2-sha256$i=1000$AQIDBAUGBwgJCgsMDQ4PEA$G6dnJsp6w4LqmVpZBhjRn/oa0+vOgBSUnvUvomXhFjk",
        ],
    );
    const UNICODE: (&str, &[&str]) = (
        "pässwörd 日本語 🦀",
        &[
            "$argon2id$v=19$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$EfXLt1gQFwSHkzx7Ly9kALqouF5H5msfwAz5/xc6qRE",
            "$argon2id$v=19$m=256,t=3,p=4$AQIDBAUGBwgJCgsMDQ4PEA$vaUOu+d1X1I2qIu3DCmuTZz9/HfiKr3M",
            "$argon2i$v=19$m=64,t=3,p=1$AQIDBAUGBwgJCgsMDQ4PEA$WgZfaYWCjUF9co/IopEpszNFOnBbkJU3nyWH2ntlmp0",
            "$argon2id$v=16$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$2pUc1DYnPg0m+WwnmWXWzrfRWEbGQkohcN/rI5ink3I",
            "$argon2i$v=16$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$fK+e7Bzv5nOKbkIvk8wjT/A9sETB6DnJsrY2YVVX06M",
            "$2b$04$2nsYLMcQrtZNu1qBb3KsP.TuUk3NTUg23DsXBkVjDW082VpCXP6/C",
            "$2y$04$2nsYLMcQrtZNu1qBb3KsP.TuUk3NTUg23DsXBkVjDW082VpCXP6/C",
            "$2a$05$chfJfKlrXelC/bN5jzPU6uHxRQ2XBkouldKLSGw0RsOlzB8Csd9ji",
            "$scrypt$ln=8,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$s5dwz/K5LgJdiUyT+X+eU1RMVlvsRkva/MT5pWrPo0A",
            "$scrypt$ln=4,r=8,p=2$AQIDBAUGBwgJCgsMDQ4PEA$zDIL7OKSPxHqkDKjZOa4verOQ+zyblQunlzP9LENyjEtsTUpanekerIqsXmoTtyyOAaIiNNFZBefvB8Psf97rg",
            "$pbkdf2-sha256$i=1000,l=32$AQIDBAUGBwgJCgsMDQ4PEA$heeAIxpa4apEJdz5YyE3wEieC5ruNYR/9+Xxrqg7Dt0",
            "$pbkdf2-sha256$i=1000,l=64$AQIDBAUGBwgJCgsMDQ4PEA$heeAIxpa4apEJdz5YyE3wEieC5ruNYR/9+Xxrqg7Dt0svW+UfqtrrbFcxajNRT5LbR7DcMHbyFi4R0dPWQV5og",
            "$pbkdf2-sha512$i=1000,l=32$AQIDBAUGBwgJCgsMDQ4PEA$lJJbfS2G3vCUFuhW/Qk+ENAkrbMWOxkzGOUnxqS0PV0",
            "$pbkdf2-sha512$i=1000,l=64$AQIDBAUGBwgJCgsMDQ4PEA$lJJbfS2G3vCUFuhW/Qk+ENAkrbMWOxkzGOUnxqS0PV2beakjexhA6Ux0w4BN4Kel7yF30/88mY8mxgKPCn4dcw",
            "$argon2i$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$fK+e7Bzv5nOKbkIvk8wjT/A9sETB6DnJsrY2YVVX06M",
            "$pbkdf2-sha256$i=1000$AQIDBAUGBwgJCgsMDQ4PEA$heeAIxpa4apEJdz5YyE3wEieC5ruNYR/9+Xxrqg7Dt0",
        ],
    );
    /// Of `0123456789` nine times, of which bcrypt sees 72 bytes.
    const BCRYPT_LONG: &str = "$2b$04$mLi6xYGTlmU7e8ngfWeST.Rc8LY9o0ZCp5Scwx5InsXqhSstCH.FW";
    const ARGON2D: &str =
        "$argon2d$v=19$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$ReXvnXl3MgLt3uYAhIuHDipdCYtRJTQy5rwXDltM8X8";

    fn hasher() -> PasswordHasher {
        PasswordHasher::start(&settings(), Entropy::system()).unwrap()
    }

    async fn verify(hasher: &PasswordHasher, password: impl Into<String>, stored: &str) -> Verified {
        hasher.verify(SecretText::from(password.into()), Some(PasswordHash::new(stored))).await.unwrap()
    }

    #[tokio::test]
    async fn hashes_of_other_systems_are_recognised_and_upgraded() {
        let hasher = hasher();
        for (password, hashes) in [ASCII, UNICODE] {
            for hash in hashes {
                assert_eq!(check_importable(hash, &settings()), Ok(()), "{hash}");
                let Verified::Match { upgraded: Some(new) } = verify(&hasher, password, hash).await else {
                    panic!("not recognised or not upgraded: {hash}")
                };
                assert!(new.expose().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{}", new.expose());
                assert_eq!(verify(&hasher, password, new.expose()).await, Verified::Match { upgraded: None });
                for other in [format!("{password} "), password.to_uppercase(), String::new()] {
                    assert_eq!(verify(&hasher, other, hash).await, Verified::Mismatch, "{hash}");
                }
            }
        }
    }

    #[tokio::test]
    async fn bcrypt_sees_72_bytes_and_the_upgrade_sees_all() {
        let hasher = hasher();
        let long = "0123456789".repeat(9);
        let Verified::Match { upgraded: Some(new) } = verify(&hasher, &long, BCRYPT_LONG).await else {
            panic!("not recognised")
        };
        assert_eq!(verify(&hasher, &long[..71], BCRYPT_LONG).await, Verified::Mismatch);
        assert!(matches!(verify(&hasher, &long[..72], BCRYPT_LONG).await, Verified::Match { .. }));
        assert_eq!(verify(&hasher, &long[..72], new.expose()).await, Verified::Mismatch);
        assert_eq!(verify(&hasher, &long, new.expose()).await, Verified::Match { upgraded: None });
    }

    #[tokio::test]
    async fn a_nul_never_matches_a_bcrypt_hash() {
        let hasher = hasher();
        let hash = bcrypt::hash_with_salt("x", 4, [7; 16]).unwrap().to_string();
        assert!(bcrypt::verify("x\0x", &hash).unwrap(), "bcrypt repeats its key");
        assert!(matches!(verify(&hasher, "x", &hash).await, Verified::Match { .. }));
        assert_eq!(verify(&hasher, "x\0x", &hash).await, Verified::Mismatch);
    }

    const SALT_HASH: &str = "AQIDBAUGBwgJCgsMDQ4PEA$r4QZIbo2xj38aweuno3OWB7b2xLJciyNFMMSssFRtUA";

    fn importable(head: &str) -> Result<(), BadHash> {
        check_importable(&format!("{head}${SALT_HASH}"), &settings())
    }

    #[test]
    fn hashes_that_ask_for_too_much_are_refused() {
        // the tests' settings allow 64 MiB
        for (head, why) in [
            ("$argon2id$v=19$m=65537,t=1,p=1", "memory"),
            ("$argon2id$v=19$m=4294967295,t=1,p=1", "memory"),
            ("$argon2id$v=19$m=65536,t=65,p=1", "passes"),
            ("$argon2i$v=19$m=8,t=4294967295,p=1", "passes"),
            ("$scrypt$ln=17,r=8,p=1", "memory"),
            ("$scrypt$ln=31,r=4294967295,p=1", "memory"),
            ("$scrypt$ln=64,r=8,p=1", "memory"),
            ("$scrypt$ln=4294967295,r=8,p=1", "memory"),
            ("$scrypt$ln=1,r=1,p=1073741823", "memory"),
            ("$scrypt$ln=15,r=8,p=9", "memory times parallelism"),
            ("$pbkdf2-sha256$i=3000001,l=32", "rounds"),
            ("$pbkdf2-sha256$i=4294967295", "rounds"),
            ("$pbkdf2-sha512$i=1500001", "rounds"),
        ] {
            assert_eq!(importable(head), Err(BadHash::TooCostly(why)), "{head}");
        }
        for head in [
            "$argon2id$v=19$m=65535,t=64,p=16",
            "$scrypt$ln=15,r=8,p=8",
            "$pbkdf2-sha256$i=3000000,l=32",
            "$pbkdf2-sha512$i=1500000",
        ] {
            assert_eq!(importable(head), Ok(()), "{head}");
        }
        let cost = |cost: u32| BCRYPT_LONG.replacen("$04$", &format!("${cost:02}$"), 1);
        assert_eq!(check_importable(&cost(14), &settings()), Ok(()));
        assert_eq!(check_importable(&cost(15), &settings()), Err(BadHash::TooCostly("cost")));
        assert_eq!(check_importable(&cost(3), &settings()), Err(BadHash::Malformed));
    }

    #[test]
    fn longer_output_counts_as_more_work() {
        let text = ASCII.1.iter().find(|hash| hash.starts_with("$pbkdf2-sha256$i=1000,l=64$")).unwrap();
        let rounds = |rounds: u32| check_importable(&text.replace("i=1000", &format!("i={rounds}")), &settings());
        assert_eq!(rounds(1_500_000), Ok(()));
        assert_eq!(rounds(1_500_001), Err(BadHash::TooCostly("rounds")));
    }

    #[test]
    fn what_is_made_here_is_within_the_limits_whatever_the_settings() {
        let costly = PasswordSettings { memory_kib: 4_194_304, iterations: 100, ..settings() };
        let hash = format!("$argon2id$v=19$m=4194304,t=100,p=1${SALT_HASH}");
        assert!(Stored::parse(&hash, Limits::stored(&costly)).is_ok());
        assert_eq!(check_importable(&hash, &costly), Err(BadHash::TooCostly("memory")));
    }

    #[test]
    fn damaged_and_unknown_hashes_are_refused() {
        for head in [
            "$argon2id$v=19$m=64,t=2",
            "$argon2id$v=19$m=64,t=0,p=1",
            "$argon2id$v=19$m=64,t=1,p=0",
            "$argon2id$v=19$m=64,t=1,p=9",
            "$argon2id$v=18$m=64,t=1,p=1",
            "$argon2id$v=19$m=64,t=1,p=1,x=1",
            "$argon2id$v=19$m=64,m=64,t=1,p=1",
            "$scrypt$ln=4,r=8",
            "$scrypt$ln=0,r=8,p=1",
            "$scrypt$ln=4,r=0,p=1",
            "$scrypt$ln=4,r=8,p=0",
            "$scrypt$v=1$ln=4,r=8,p=1",
            "$pbkdf2-sha256$i=0",
            "$pbkdf2-sha256$l=32",
            "$pbkdf2-sha256$i=1000,l=31",
            "$pbkdf2-sha256$i=1000,x=1",
            "$pbkdf2-sha256$1000",
        ] {
            assert_eq!(importable(head), Err(BadHash::Malformed), "{head}");
        }
        for text in [
            "",
            "$",
            "plain",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
            "$argon2id$v=19$m=64,t=1,p=1",
            "$argon2id$v=19$m=64,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA",
            "$argon2id$v=19$m=64,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA$",
            "$argon2id$v=19$m=64,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA$r4QZ",
            "$2b$04$tooshort",
            "$2b$xx$B56FZZwvF/rQ1cvzg27GQ.X5VMNrEqxx727Vk35OF2WJQLn571B9O",
            "$2b$04$ß56FZZwvF/rQ1cvzg27GQ.X5VMNrEqxx727Vk35OF2WJQLn571B9",
        ] {
            assert_eq!(check_importable(text, &settings()), Err(BadHash::Malformed), "{text}");
        }
        let x = BCRYPT_LONG.replacen("$2b$", "$2x$", 1);
        for text in [ARGON2D, &x, "$md5$AQIDBAUGBwgJCgsMDQ4PEA$r4QZIbo2xj38aweuno3OWB7b2xLJciyN"] {
            assert_eq!(check_importable(text, &settings()), Err(BadHash::UnknownScheme), "{text}");
        }
    }

    #[tokio::test]
    async fn peppers_of_imported_hashes_must_be_known() {
        let peppered = PasswordSettings { pepper: Some("pepper one".into()), ..settings() };
        let hasher = PasswordHasher::start(&peppered, Entropy::system()).unwrap();
        let hash = hasher.hash_new(ASCII.0.into(), vec![]).await.unwrap();
        assert_eq!(check_importable(hash.expose(), &peppered), Ok(()));
        assert_eq!(check_importable(hash.expose(), &settings()), Err(BadHash::UnknownPepper));
        let rotated = PasswordSettings { previous_peppers: vec!["pepper one".into()], ..settings() };
        assert_eq!(check_importable(hash.expose(), &rotated), Ok(()));
    }
}
