//! Rewrites other systems' password hashes in the stored form: the strings that [`super::schemes`] reads. `BASE64`
//! decodes with or without padding.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{phc::BASE64, schemes::BadHash};

/// The hash function of a PBKDF2 hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pbkdf2Digest {
    /// HMAC-SHA-1.
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

impl Pbkdf2Digest {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "sha1" => Self::Sha1,
            "sha256" => Self::Sha256,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Sha1 => "pbkdf2-sha1",
            Self::Sha256 => "pbkdf2-sha256",
            Self::Sha512 => "pbkdf2-sha512",
        }
    }
}

/// Builds the stored form of a PBKDF2 hash from its parts.
pub fn pbkdf2(digest: Pbkdf2Digest, rounds: u32, salt: &[u8], hash: &[u8]) -> String {
    let (scheme, length) = (digest.scheme(), hash.len());
    format!("${scheme}$i={rounds},l={length}${}${}", BASE64.encode(salt), BASE64.encode(hash))
}

/// Builds the stored form of an scrypt hash from its parts.
fn scrypt(log_n: u32, r: u32, p: u32, salt: &[u8], hash: &[u8]) -> String {
    format!("$scrypt$ln={log_n},r={r},p={p}${}${}", BASE64.encode(salt), BASE64.encode(hash))
}

/// The parameters of a Firebase project's password hashes.
#[derive(Clone, PartialEq, Eq)]
pub struct FirebaseHashConfig {
    /// `base64_signer_key`, decoded.
    pub signer_key: Vec<u8>,
    /// `base64_salt_separator`, decoded.
    pub salt_separator: Vec<u8>,
    /// The block size `r` of scrypt.
    pub rounds: u32,
    /// The binary logarithm of scrypt's cost `N`.
    pub mem_cost: u32,
}

impl FirebaseHashConfig {
    /// Reads the `hash_config { … }` block that the Firebase console shows. Returns `None` if a value is missing or
    /// invalid, or the algorithm is not SCRYPT.
    pub fn parse(text: &str) -> Option<Self> {
        // a line is such as `rounds: 8,`, with or without quotation marks
        let value = |name: &str| {
            let lines = text.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(':'));
            let mut values = lines.filter(|(key, _)| key.trim().trim_matches('"') == name);
            values.next().map(|(_, value)| value.trim().trim_matches('"').to_owned())
        };
        let bytes = |name: &str| value(name).and_then(|text| BASE64.decode(text).ok());
        let number = |name: &str| value(name).and_then(|text| text.parse().ok());
        if value("algorithm")? != "SCRYPT" {
            return None;
        }
        Some(Self {
            signer_key: bytes("base64_signer_key").filter(|key| !key.is_empty())?,
            salt_separator: bytes("base64_salt_separator")?,
            rounds: number("rounds")?,
            mem_cost: number("mem_cost")?,
        })
    }

    /// Builds the stored form of a user's hash. Returns `None` if the salt or the hash is not base64.
    pub fn hash(&self, salt: &str, hash: &str) -> Option<String> {
        // also reads URL-safe base64
        let decode = |text: &str| BASE64.decode(text.replace('-', "+").replace('_', "/")).ok();
        let salt = BASE64.encode([decode(salt)?, self.salt_separator.clone()].concat());
        let hash = BASE64.encode(decode(hash)?);
        let key = BASE64.encode(&self.signer_key);
        Some(format!("$firebase-scrypt$ln={},r={},k={key}${salt}${hash}", self.mem_cost, self.rounds))
    }
}

impl std::fmt::Debug for FirebaseHashConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FirebaseHashConfig([secret])")
    }
}

/// Converts another system's hash to its stored form. A string in an unknown format is returned unchanged, and the parser then refuses it.
pub(super) fn normalize(text: &str) -> Result<Cow<'_, str>, BadHash> {
    // Django and Werkzeug begin with the name of the scheme, PHC strings with a `$`.
    let named = text.split_once('$').filter(|(scheme, _)| !scheme.is_empty());
    if let Some((scheme, rest)) = named {
        let rewritten = match scheme {
            // Django puts its own name of the scheme in front of a complete hash: `bcrypt$$2b$…`, `argon2$argon2id$…`. The latter lacks
            // the first `$` of the hash.
            "argon2" | "bcrypt" if rest.starts_with('$') => return Ok(strip_padding(rest)),
            "argon2" if rest.starts_with("argon2") => {
                return Ok(strip_padding(&format!("${rest}")).into_owned().into());
            }
            // `schemes` reads Django's spelling
            "bcrypt_sha256" => return Ok(text.into()),
            "pbkdf2_sha1" | "pbkdf2_sha256" | "pbkdf2_sha512" => django_pbkdf2(scheme, rest),
            "scrypt" => django_scrypt(rest),
            "sha1" | "md5" | "unsalted_md5" | "unsalted_sha1" | "crypt" => {
                return Err(BadHash::UnknownScheme("an unsalted or single-round hash of Django"));
            }
            _ if scheme.starts_with("scrypt:") || scheme.starts_with("pbkdf2:") => werkzeug(scheme, rest),
            _ => {
                return match name_unsupported(text) {
                    Some(name) => Err(BadHash::UnknownScheme(name)),
                    None => Ok(text.into()),
                };
            }
        };
        return rewritten.map(Cow::from).ok_or(BadHash::Malformed);
    }
    if let Some(rewritten) = passlib_pbkdf2(text).or_else(|| better_auth(text)).or_else(|| aspnet(text)) {
        return Ok(rewritten.into());
    }
    if let Some(name) = name_unsupported(text) {
        return Err(BadHash::UnknownScheme(name));
    }
    Ok(strip_padding(text))
}

/// Removes base64 padding from the parts of a PHC string.
fn strip_padding(text: &str) -> Cow<'_, str> {
    // `$2` begins a bcrypt hash, which has no padding: with an `=` it is damaged
    let is_phc = text.starts_with('$') && !text.starts_with("$2");
    let is_padded = text.ends_with('=') || text.contains("=$");
    if !is_phc || !is_padded {
        return text.into();
    }
    let parts: Vec<_> = text.split('$').map(|part| part.trim_end_matches('=')).collect();
    parts.join("$").into()
}

/// `pbkdf2_sha256$600000$salt$base64`: the salt is text.
fn django_pbkdf2(scheme: &str, rest: &str) -> Option<String> {
    let [rounds, salt, hash] = rest.split('$').collect::<Vec<_>>()[..] else { return None };
    let digest = Pbkdf2Digest::parse(scheme.strip_prefix("pbkdf2_")?)?;
    Some(pbkdf2(digest, rounds.parse().ok()?, salt.as_bytes(), &BASE64.decode(hash).ok()?))
}

/// `scrypt$16384$salt$8$5$base64`: the salt is text.
fn django_scrypt(rest: &str) -> Option<String> {
    let [n, salt, r, p, hash] = rest.split('$').collect::<Vec<_>>()[..] else { return None };
    let hash = BASE64.decode(hash).ok()?;
    Some(scrypt(log2(n)?, r.parse().ok()?, p.parse().ok()?, salt.as_bytes(), &hash))
}

/// `scrypt:32768:8:1$salt$hex` and `pbkdf2:sha256:1000000$salt$hex`: the salt is text.
fn werkzeug(method: &str, rest: &str) -> Option<String> {
    let (salt, hash) = rest.split_once('$')?;
    let (salt, hash) = (salt.as_bytes(), hex(hash)?);
    match method.split(':').collect::<Vec<_>>()[..] {
        ["scrypt", n, r, p] => Some(scrypt(log2(n)?, r.parse().ok()?, p.parse().ok()?, salt, &hash)),
        ["pbkdf2", digest, rounds] => Some(pbkdf2(Pbkdf2Digest::parse(digest)?, rounds.parse().ok()?, salt, &hash)),
        _ => None,
    }
}

/// `$pbkdf2$1000$salt$hash` (SHA-1), `$pbkdf2-sha256$29000$salt$hash`, `$pbkdf2-sha512$…`: base64 with `.` for `+`.
fn passlib_pbkdf2(text: &str) -> Option<String> {
    let ["", scheme, rounds, salt, hash] = text.split('$').collect::<Vec<_>>()[..] else { return None };
    let digest = match scheme {
        "pbkdf2" => Pbkdf2Digest::Sha1,
        _ => Pbkdf2Digest::parse(scheme.strip_prefix("pbkdf2-")?)?,
    };
    // a PHC string has `i=…` in this place; `parse` alone would accept `+29000`
    if !rounds.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let decode = |text: &str| BASE64.decode(text.replace('.', "+")).ok();
    Some(pbkdf2(digest, rounds.parse().ok()?, &decode(salt)?, &decode(hash)?))
}

/// `salt:hash` of better-auth: 16 bytes in hexadecimal, used as text, and 64 bytes in hexadecimal; N = 2^14, r = 16, p = 1.
fn better_auth(text: &str) -> Option<String> {
    let (salt, hash) = text.split_once(':')?;
    let is_hex_salt = salt.len() == 32 && hex(salt).is_some();
    if !is_hex_salt || hash.len() != 128 {
        return None;
    }
    let (log_n, r, p) = (14, 16, 1);
    Some(scrypt(log_n, r, p, salt.as_bytes(), &hex(hash)?))
}

/// The base64 blobs of ASP.NET Core Identity. Version 2 is a zero byte, a salt of 16 bytes and a hash of 32 bytes, made with
/// SHA-1 and 1000 rounds. Version 3 is a byte 1, then the digest, the rounds and the length of the salt as 32-bit big-endian
/// numbers, then the salt and the hash.
fn aspnet(text: &str) -> Option<String> {
    let blob = BASE64_STANDARD.decode(text).ok()?; // requires the padding
    let number = |offset: usize| Some(u32::from_be_bytes(blob.get(offset..offset + 4)?.try_into().ok()?));
    match blob.first()? {
        0 if blob.len() == 1 + 16 + 32 => Some(pbkdf2(Pbkdf2Digest::Sha1, 1000, &blob[1..17], &blob[17..])),
        1 => {
            let digest = match number(1)? {
                0 => Pbkdf2Digest::Sha1,
                1 => Pbkdf2Digest::Sha256,
                2 => Pbkdf2Digest::Sha512,
                _ => return None,
            };
            let rounds = number(5)?;
            let salt_len = usize::try_from(number(9)?).ok()?;
            let salt_end = 13_usize.checked_add(salt_len)?;
            Some(pbkdf2(digest, rounds, blob.get(13..salt_end)?, blob.get(salt_end..)?))
        }
        _ => None,
    }
}

/// The name of a format that is recognized, but not supported.
fn name_unsupported(text: &str) -> Option<&'static str> {
    /// Prefixes of hashes, with the names of their formats.
    const PREFIXES: [(&str, &str); 18] = [
        ("$1$", "MD5 crypt"),
        ("$apr1$", "Apache's MD5 crypt"),
        ("$5$", "SHA-256 crypt"),
        ("$6$", "SHA-512 crypt"),
        ("$7$", "scrypt in crypt(3) form"),
        ("$y$", "yescrypt"),
        ("$P$", "phpass (WordPress)"),
        ("$H$", "phpass (phpBB)"),
        ("$S$", "Drupal's SHA-512"),
        ("$wp$", "WordPress's bcrypt over SHA-384"),
        ("$argon2d$", "argon2d"),
        ("$2x$", "bcrypt of a version other than 2a, 2b and 2y"),
        ("{", "an LDAP userPassword value"),
        ("sha256$", "a single-round hash of Werkzeug"),
        ("sha512$", "a single-round hash of Werkzeug"),
        ("*", "MySQL's PASSWORD()"),
        ("0x0200", "SQL Server's PWDENCRYPT"),
        // "scrypt" in base64
        ("c2NyeXB0", "the scrypt file format (scrypt-kdf)"),
    ];
    if let Some((_, name)) = PREFIXES.iter().find(|(prefix, _)| text.starts_with(prefix)) {
        return Some(*name);
    }
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match text.len() {
        32 => Some("MD5 or NTLM in hexadecimal"),
        40 => Some("SHA-1 in hexadecimal"),
        64 => Some("SHA-256 in hexadecimal"),
        128 => Some("SHA-512 in hexadecimal"),
        _ => None,
    }
}

/// The binary logarithm of a decimal number that is a power of two.
fn log2(text: &str) -> Option<u32> {
    let number: u64 = text.parse().ok()?;
    number.is_power_of_two().then(|| number.ilog2())
}

/// Decodes hexadecimal.
fn hex(text: &str) -> Option<Vec<u8>> {
    // `from_str_radix` alone would accept `+f`
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(byte).collect()
}
