//! Access tokens.

use std::{sync::LazyLock, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::{
    config::Secrets,
    crypto::{
        access_token::{Verified, Verifier},
        key_ring::{KeyRing, seal_key},
        seal::Sealer,
        signing_key::SigningKey,
    },
    domain::{clock::Timestamp, entropy::Entropy, key::Algorithm},
};
use serde_json::Value;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LEEWAY: i64 = 5;
const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "latchkey";

/// Claims that are valid.
const CLAIMS: &str = r#"{"iss":"https://auth.example.com","sub":"01a207a0-e539-703f-a54d-9d422b32bb87","aud":"latchkey",
"client_id":"latchkey","iat":1800000000,"exp":1800000300,"jti":"j","sid":"230ed87b-b827-489b-860e-164407f99bea",
"auth_time":1800000000,"acr":"aal1","amr":["pwd"],"scope":"account"}"#;

/// One key of ours.
static KEYS: LazyLock<KeyRing> = LazyLock::new(|| {
    let entropy = Entropy::system();
    let sealer = Sealer::new(&Secrets { current: "a secret for keys of no importance".into(), previous: Vec::new() });
    let key = SigningKey::generate(Algorithm::Es256).expect("a key");
    KeyRing::open(vec![seal_key(&key, &sealer, &entropy, NOW).expect("sealed")], &sealer, NOW).expect("a ring")
});

fn key() -> &'static SigningKey {
    KEYS.signer(NOW).expect("it signs")
}

fn verifier() -> Verifier<'static> {
    let leeway = Duration::from_secs(LEEWAY.unsigned_abs());
    Verifier { keys: &KEYS, issuer: ISSUER, audience: AUDIENCE, leeway }
}

/// A header that is valid.
fn usual_header() -> String {
    format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{}"}}"#, key().kid())
}

fn message(header: &str, payload: &str) -> String {
    format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(payload))
}

/// What our key makes of any header and claims.
fn signed(header: &str, payload: &str) -> String {
    let message = message(header, payload);
    let signature = key().sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// No text is a token unless one of our keys has signed it, whatever its header says; and what our key has signed is one
/// only if it says all that it must.
pub fn jwt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert!(verifier().verify(&signed(&usual_header(), CLAIMS), NOW).is_ok());
    assert!(verifier().verify(text, NOW).is_err());
    let named = text.replace("KID", key().kid());
    let (payload, signature) = text.rsplit_once('.').unwrap_or((text, ""));
    for header in [&usual_header(), &named] {
        for signature in
            [signature, "", &BASE64_URL_SAFE_NO_PAD.encode([0; 64]), &BASE64_URL_SAFE_NO_PAD.encode([255; 64])]
        {
            assert!(verifier().verify(&format!("{}.{signature}", message(header, payload)), NOW).is_err());
        }
    }
    for (header, payload) in [(usual_header(), text), (named, CLAIMS)] {
        let token = signed(&header, payload);
        let Ok(verified) = verifier().verify(&token, NOW) else { continue };
        check_header(&header);
        check_claims(&verified, payload);
        // by the bytes at hand: which character, and with which other
        let at = bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        let at = at % token.len();
        let with = if token.as_bytes()[at] == b'A' { 'B' } else { 'A' };
        let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
        assert!(verifier().verify(&changed, NOW).is_err(), "a changed token is valid");
        let later = Timestamp::from_millis(i64::MAX);
        assert!(verifier().verify(&token, later).is_err(), "a token is valid for ever");
    }
}

fn check_header(header: &str) {
    let said: Value = serde_json::from_str(header).expect("a header is JSON");
    assert_eq!((said["alg"].as_str(), said["kid"].as_str()), (Some("ES256"), Some(key().kid())));
    assert!(said.get("crit").is_none(), "an unknown extension is passed over");
    let typ = said["typ"].as_str().expect("a type").to_ascii_lowercase();
    assert!(typ == "at+jwt" || typ == "application/at+jwt");
}

fn check_claims(verified: &Verified, payload: &str) {
    let said: Value = serde_json::from_str(payload).expect("claims are JSON");
    let time = |name: &str| said[name].as_i64().expect("a time");
    let now = NOW.as_millis() / 1000;
    assert_eq!(said["iss"], ISSUER);
    assert!(time("exp").saturating_add(LEEWAY) > now && time("iat") <= now + LEEWAY);
    assert!(said.get("nbf").and_then(Value::as_i64).is_none_or(|from| from <= now + LEEWAY));
    match verified {
        Verified::Session(token) => {
            let meant = |audience: &Value| audience == AUDIENCE;
            assert!(meant(&said["aud"]) || said["aud"].as_array().is_some_and(|all| all.iter().any(meant)));
            assert!(said["sid"].as_str().is_some_and(|sid| sid.parse() == Ok(token.sid)));
            assert!(said["sub"].as_str().is_some_and(|sub| sub.parse() == Ok(token.sub)));
            for name in ["client_id", "jti", "acr", "scope"] {
                assert!(said[name].is_string(), "{name} is missing");
            }
            assert!(said["auth_time"].is_i64() && said["amr"].is_array());
        }
        Verified::Client(token) => {
            assert!(said["sub"] == said["client_id"] && said["sub"] == token.sub.as_str());
            assert!(said.get("sid").is_none_or(Value::is_null), "a session's token is taken for a client's own");
        }
    }
}
