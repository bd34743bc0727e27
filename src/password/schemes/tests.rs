//! Tests of imported hashes: hashes that other libraries made, the limits on work, and refused hashes.

use super::{
    super::{FirebaseHashConfig, PasswordHasher, Verified, tests::settings},
    *,
};
use crate::domain::{
    entropy::Entropy,
    secret::{PasswordHash, SecretText},
};

/// A password, and hashes of it by several schemes.
struct Hashed {
    password: &'static str,
    hashes: &'static [&'static str],
}

/// A password whose hashes were made by argon2-cffi 25.1, bcrypt 4.0, passlib 1.7 and Python's hashlib. The last two hashes leave out
/// optional parts: the version of argon2, and the length of PBKDF2's output.
const ASCII: Hashed = Hashed {
    password: "tidal engine verse marmalade",
    hashes: &[
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
};
/// A password with characters of several bytes, whose hashes were made by the same libraries.
const UNICODE: Hashed = Hashed {
    password: "pässwörd 日本語 🦀",
    hashes: &[
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
};
/// The hash of `0123456789` repeated nine times: 90 bytes, of which bcrypt reads 72.
const BCRYPT_LONG: &str = "$2b$04$mLi6xYGTlmU7e8ngfWeST.Rc8LY9o0ZCp5Scwx5InsXqhSstCH.FW";
/// A hash by a variant of argon2 that is not supported.
const ARGON2D: &str = "$argon2d$v=19$m=64,t=2,p=1$AQIDBAUGBwgJCgsMDQ4PEA$ReXvnXl3MgLt3uYAhIuHDipdCYtRJTQy5rwXDltM8X8";

fn hasher() -> PasswordHasher {
    PasswordHasher::start(&settings(), Entropy::system()).unwrap()
}

async fn verify(hasher: &PasswordHasher, password: impl Into<String>, stored: &str) -> Verified {
    hasher.verify(SecretText::from(password.into()), Some(PasswordHash::new(stored))).await.unwrap()
}

#[tokio::test]
async fn hashes_of_other_libraries_match_and_are_upgraded() {
    let hasher = hasher();
    for Hashed { password, hashes } in [ASCII, UNICODE] {
        for hash in hashes {
            assert_eq!(import_hash(hash, &settings()).unwrap().expose(), *hash);
            let Verified::Match { upgraded: Some(new) } = verify(&hasher, password, hash).await else {
                panic!("no match, or not upgraded: {hash}")
            };
            assert!(new.expose().starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "not as configured: {}", new.expose());
            assert_eq!(verify(&hasher, password, new.expose()).await, Verified::Match { upgraded: None });
            for other in [format!("{password} "), password.to_uppercase(), String::new()] {
                assert_eq!(verify(&hasher, other, hash).await, Verified::Mismatch, "{hash}");
            }
        }
    }
}

#[tokio::test]
async fn bcrypt_hash_of_72_or_more_typed_bytes_is_kept() {
    let hasher = hasher();
    let long = "0123456789".repeat(9);
    let other_last_byte = format!("{}x", &long[..89]);
    for typed in [&long, &long[..72], &long[..73], &other_last_byte] {
        let verified = verify(&hasher, typed, BCRYPT_LONG).await;
        assert_eq!(
            verified,
            Verified::Match { upgraded: None },
            "the hashed password may have more bytes than the 72 compared"
        );
    }
    assert_eq!(verify(&hasher, &long[..71], BCRYPT_LONG).await, Verified::Mismatch);
}

#[tokio::test]
async fn password_with_nul_never_matches_a_bcrypt_hash() {
    let hasher = hasher();
    let (cost, salt) = (4, [7; 16]);
    let hash = bcrypt::hash_with_salt("x", cost, salt).unwrap().to_string();
    assert!(bcrypt::verify("x\0x", &hash).unwrap(), "bcrypt repeats its key, with a NUL after each copy");
    assert!(matches!(verify(&hasher, "x", &hash).await, Verified::Match { .. }));
    assert_eq!(verify(&hasher, "x\0x", &hash).await, Verified::Mismatch);
}

/// The salt and the output of the first hash of [`ASCII`].
const SALT_AND_OUTPUT: &str = "AQIDBAUGBwgJCgsMDQ4PEA$r4QZIbo2xj38aweuno3OWB7b2xLJciyNFMMSssFRtUA";

/// Imports a hash with the scheme and parameters `head`, and with [`SALT_AND_OUTPUT`].
fn try_import_head(head: &str) -> Result<(), BadHash> {
    try_import(&format!("{head}${SALT_AND_OUTPUT}"), &settings())
}

fn try_import(text: &str, settings: &PasswordSettings) -> Result<(), BadHash> {
    import_hash(text, settings).map(|_| ())
}

#[test]
fn hashes_above_the_limits_are_refused() {
    // The tests' settings allow 64 MiB (65,536 KiB), and 32 units of work. A unit takes as long as a default hash of 19 MiB and
    // 2 passes, so 32 units are 19 passes over 64 MiB, cost 13 of bcrypt, 32 × 4,864 KiB that scrypt fills, or 32 × 50,000 (SHA-1),
    // 32 × 42,500 (SHA-256) or 32 × 25,000 (SHA-512) rounds of PBKDF2.
    for (head, why) in [
        ("$argon2id$v=19$m=65537,t=1,p=1", "memory"),
        ("$argon2id$v=19$m=4294967295,t=1,p=1", "memory"),
        ("$argon2id$v=19$m=65536,t=20,p=1", "passes"),
        ("$argon2i$v=19$m=8,t=4294967295,p=1", "passes"),
        ("$scrypt$ln=17,r=8,p=1", "memory"),
        ("$scrypt$ln=31,r=4294967295,p=1", "memory"),
        ("$scrypt$ln=64,r=8,p=1", "memory"),
        ("$scrypt$ln=4294967295,r=8,p=1", "memory"),
        // each lane of scrypt takes memory
        ("$scrypt$ln=1,r=1,p=1073741823", "memory"),
        ("$scrypt$ln=15,r=8,p=5", "memory times parallelism"),
        ("$pbkdf2-sha256$i=1360001,l=32", "rounds"),
        ("$pbkdf2-sha256$i=4294967295", "rounds"),
        ("$pbkdf2-sha512$i=800001", "rounds"),
        ("$pbkdf2-sha1$i=1600001", "rounds"),
    ] {
        assert_eq!(try_import_head(head), Err(BadHash::TooCostly(why)), "{head}");
    }
    for head in [
        // 16 lanes cost no more than one
        "$argon2id$v=19$m=65536,t=19,p=16",
        "$scrypt$ln=15,r=8,p=4",
        "$pbkdf2-sha256$i=1360000,l=32",
        "$pbkdf2-sha512$i=800000",
        "$pbkdf2-sha1$i=1600000",
    ] {
        assert_eq!(try_import_head(head), Ok(()), "{head}");
    }
    let cost = |cost: u32| BCRYPT_LONG.replacen("$04$", &format!("${cost:02}$"), 1);
    assert_eq!(try_import(&cost(13), &settings()), Ok(()));
    assert_eq!(try_import(&cost(14), &settings()), Err(BadHash::TooCostly("cost")));
    assert_eq!(try_import(&cost(3), &settings()), Err(BadHash::Malformed));
    // cost 14 is twice the work of cost 13
    let generous = PasswordSettings { max_import_work: 64, ..settings() };
    assert_eq!(try_import(&cost(14), &generous), Ok(()));
}

#[tokio::test]
async fn stored_hash_above_the_limits_is_unusable_after_the_usual_work() {
    let hasher = hasher();
    let hash = format!("$argon2id$v=19$m=65536,t=100,p=1${SALT_AND_OUTPUT}");
    // clears the hashing memory, so that the blocks (128 words, 1 KiB) that the verification fills can be counted
    hasher.run(|memory| memory.fill(argon2::Block::default())).await.unwrap();
    let verified = verify(&hasher, ASCII.password, &hash).await;
    assert_eq!(verified, Verified::Unusable(BadHash::TooCostly("passes")));
    let filled = hasher.run(|memory| memory.iter().filter(|block| block.as_ref() != [0; 128]).count());
    assert_eq!(filled.await.unwrap(), 64, "the work of a hash with the configured 64 KiB");
}

#[test]
fn longer_pbkdf2_output_is_no_more_work() {
    // one block of SHA-256 is 32 bytes; an output of two blocks may have as many rounds as one block (1,360,000)
    let text = ASCII.hashes.iter().find(|hash| hash.starts_with("$pbkdf2-sha256$i=1000,l=64$")).unwrap();
    assert_eq!(try_import(&text.replace("i=1000", "i=1360000"), &settings()), Ok(()));
}

#[test]
fn hashes_with_the_configured_parameters_are_within_the_stored_limits() {
    // these exceed the limits of an import
    let costly = PasswordSettings { memory_kib: 4_194_304, iterations: 100, ..settings() };
    let hash = format!("$argon2id$v=19$m=4194304,t=100,p=1${SALT_AND_OUTPUT}");
    assert!(StoredHash::parse(&hash, Limits::stored(&costly)).is_ok());
    assert_eq!(try_import(&hash, &costly), Err(BadHash::TooCostly("memory")));
}

#[test]
fn damaged_and_unsupported_hashes_are_refused() {
    for head in [
        "$argon2id$v=19$m=64,t=2",
        "$argon2id$v=19$m=64,t=0,p=1",
        "$argon2id$v=19$m=64,t=1,p=0",
        // less than 8 KiB for each lane
        "$argon2id$v=19$m=64,t=1,p=9",
        // argon2 has the versions 16 and 19
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
        // the output of SALT_AND_OUTPUT has 32 bytes
        "$pbkdf2-sha256$i=1000,l=31",
        "$pbkdf2-sha256$i=1000,x=1",
    ] {
        assert_eq!(try_import_head(head), Err(BadHash::Malformed), "{head}");
    }
    for text in [
        "",
        "$",
        "plain",
        "$argon2id$v=19$m=64,t=1,p=1",
        "$argon2id$v=19$m=64,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA",
        "$argon2id$v=19$m=64,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA$",
        "$argon2id$v=19$m=64,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA$r4QZ",
        // without parameters
        "$md5$AQIDBAUGBwgJCgsMDQ4PEA$r4QZIbo2xj38aweuno3OWB7b2xLJciyN",
        "$2b$04$tooshort",
        "$2b$xx$B56FZZwvF/rQ1cvzg27GQ.X5VMNrEqxx727Vk35OF2WJQLn571B9O",
        "$2b$04$ß56FZZwvF/rQ1cvzg27GQ.X5VMNrEqxx727Vk35OF2WJQLn571B9",
    ] {
        assert_eq!(try_import(text, &settings()), Err(BadHash::Malformed), "{text}");
    }
    let bcrypt_2x = BCRYPT_LONG.replacen("$2b$", "$2x$", 1);
    for (text, name) in [
        (ARGON2D, "argon2d"),
        (&bcrypt_2x, "bcrypt of a version other than 2a, 2b and 2y"),
        ("$md5$i=1$AQIDBAUGBwgJCgsMDQ4PEA$r4QZIbo2xj38aweuno3OWB7b2xLJciyN", "an unknown scheme"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "MD5 or NTLM in hexadecimal"),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "an LDAP userPassword value"),
        ("$6$rounds=5000$salt$hash", "SHA-512 crypt"),
        ("$P$Bsalthash", "phpass (WordPress)"),
        ("md5$salt$5f4dcc3b5aa765d61d8327deb882cf99", "an unsalted or single-round hash of Django"),
        ("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", "MySQL's PASSWORD()"),
    ] {
        let refused = try_import(text, &settings()).unwrap_err();
        assert_eq!(refused, BadHash::UnknownScheme(name), "{text}");
    }
}

/// Each hash in the file is spelled as another system writes it: `made` names the library and its version.
#[tokio::test]
async fn spellings_of_other_systems_match_and_are_upgraded() {
    let hasher = hasher();
    let vectors: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../../tests/fixtures/import/hashes.json")).unwrap();
    assert!(vectors.len() >= 20);
    for vector in vectors {
        let field = |name: &str| vector[name].as_str().unwrap();
        let hash = match vector.get("firebase") {
            None => field("hash").to_owned(),
            Some(config) => {
                // the form in which the console of Firebase shows the parameters
                let console = format!(
                    "hash_config {{\n  algorithm: SCRYPT,\n  base64_signer_key: {},\n  base64_salt_separator: {},\n  \
                     rounds: {},\n  mem_cost: {},\n}}",
                    config["signer_key"].as_str().unwrap(),
                    config["salt_separator"].as_str().unwrap(),
                    config["rounds"],
                    config["mem_cost"]
                );
                FirebaseHashConfig::parse(&console).unwrap().hash(field("salt"), field("hash")).unwrap()
            }
        };
        let stored = import_hash(&hash, &settings()).unwrap_or_else(|bad| panic!("{}: {bad}", field("name")));
        let verified = verify(&hasher, field("password"), stored.expose()).await;
        assert!(matches!(verified, Verified::Match { upgraded: Some(_) }), "{}: {verified:?}", field("name"));
        let wrong = verify(&hasher, "not the password", stored.expose()).await;
        assert_eq!(wrong, Verified::Mismatch, "{}", field("name"));
        assert_eq!(import_hash(stored.expose(), &settings()).unwrap(), stored, "the stored form is imported unchanged");
    }
}

#[tokio::test]
async fn imported_hash_with_unconfigured_pepper_is_refused() {
    let peppered = PasswordSettings { pepper: Some("pepper one".into()), ..settings() };
    let hasher = PasswordHasher::start(&peppered, Entropy::system()).unwrap();
    let (new, account_words) = (hasher.check_new(ASCII.password.into()).unwrap(), vec![]);
    let hash = hasher.hash_new(new, account_words).await.unwrap();
    assert_eq!(try_import(hash.expose(), &peppered), Ok(()));
    assert_eq!(try_import(hash.expose(), &settings()), Err(BadHash::UnknownPepper));
    let rotated = PasswordSettings { previous_peppers: vec!["pepper one".into()], ..settings() };
    assert_eq!(try_import(hash.expose(), &rotated), Ok(()));
}
