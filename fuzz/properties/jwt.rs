//! Access tokens: only what the trusted key signed is accepted.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey::{
    config::Secrets,
    crypto::{
        access_token::IssuedToken,
        key_ring::{KeyRing, SharedKeyRing, seal_key},
        seal::Sealer,
        signing_key::SigningKey,
        token_verifier::{TokenRules, TokenVerifier},
    },
    domain::{clock::Timestamp, entropy::Entropy, key::Algorithm},
};
use serde_json::Value;

/// The current time, in the year 2027.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LEEWAY_SECS: i64 = 5;
const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "latchkey";

/// Claims that are valid at [`NOW`].
const CLAIMS: &str = r#"{"iss":"https://auth.example.com","sub":"01a207a0-e539-703f-a54d-9d422b32bb87","aud":"latchkey",
"client_id":"latchkey","iat":1800000000,"exp":1800000300,"jti":"j","sid":"230ed87b-b827-489b-860e-164407f99bea",
"auth_time":1800000000,"acr":"aal1","amr":["pwd"],"scope":"account"}"#;

/// The only key that the verifier trusts.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(Algorithm::Es256).expect("a key"));

/// A verifier without a cache that trusts [`KEY`].
static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(|| {
    let entropy = Entropy::system();
    let sealer = Sealer::new(&Secrets { current: "a secret for keys of no importance".into(), previous: Vec::new() });
    let stored = seal_key(&KEY, &sealer, &entropy, NOW).expect("sealed");
    let keys = SharedKeyRing::new(KeyRing::open(vec![stored], &sealer, NOW).expect("a key ring"));
    let rules = TokenRules {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        leeway: Duration::from_secs(LEEWAY_SECS.unsigned_abs()),
    };
    let cache_capacity = 0;
    TokenVerifier::new(rules, Arc::new(keys), cache_capacity, &entropy)
});

/// A valid header.
fn valid_header() -> String {
    format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{}"}}"#, KEY.kid())
}

/// The part of a token that is signed: the header and the payload.
fn message(header: &str, payload: &str) -> String {
    format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(payload))
}

/// A token with any header and payload, signed by the trusted key.
fn signed(header: &str, payload: &str) -> String {
    let message = message(header, payload);
    let signature = KEY.sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// No text verifies unless the trusted key signed it, whatever its header claims. A text that the key signed verifies only
/// with a complete header and complete claims.
///
/// `KID` in the input stands for the id of the trusted key.
pub fn jwt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // shows that the refusals below are not caused by the verifier's rules or by the valid parts
    assert!(VERIFIER.verify(&signed(&valid_header(), CLAIMS), NOW).is_ok());

    // the input as a whole token, and its parts with a signature that the key did not make
    assert!(VERIFIER.verify(text, NOW).is_err());
    let with_kid = text.replace("KID", KEY.kid());
    let (payload, signature) = text.rsplit_once('.').unwrap_or((text, ""));
    for header in [&valid_header(), &with_kid] {
        // a signature of ES256 has 64 bytes
        for signature in
            [signature, "", &BASE64_URL_SAFE_NO_PAD.encode([0; 64]), &BASE64_URL_SAFE_NO_PAD.encode([255; 64])]
        {
            let forged = format!("{}.{signature}", message(header, payload));
            assert!(VERIFIER.verify(&forged, NOW).is_err());
        }
    }

    // the input as the payload or the header of a token that the key did sign
    for (header, payload) in [(valid_header(), text), (with_kid, CLAIMS)] {
        let token = signed(&header, payload);
        let Ok(verified) = VERIFIER.verify(&token, NOW) else { continue };
        assert_complete_header(&header);
        assert_complete_claims(&verified, payload);
        // change one character, chosen by the input
        let hash = bytes.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        let position = hash % token.len();
        let replacement = if token.as_bytes()[position] == b'A' { 'B' } else { 'A' };
        let changed = format!("{}{replacement}{}", &token[..position], &token[position + 1..]);
        assert!(VERIFIER.verify(&changed, NOW).is_err(), "a changed token is valid");
        let later = Timestamp::from_millis(i64::MAX);
        assert!(VERIFIER.verify(&token, later).is_err(), "a token never expires");
    }
}

fn assert_complete_header(header: &str) {
    let parsed: Value = serde_json::from_str(header).expect("a header is JSON");
    assert_eq!(parsed["alg"], "ES256");
    assert_eq!(parsed["kid"], KEY.kid());
    assert!(parsed.get("crit").is_none(), "a header with an unknown critical extension is accepted");
    let typ = parsed["typ"].as_str().expect("a type").to_ascii_lowercase();
    assert!(typ == "at+jwt" || typ == "application/at+jwt");
}

fn assert_complete_claims(verified: &IssuedToken, payload: &str) {
    let parsed: Value = serde_json::from_str(payload).expect("claims are JSON");
    let time = |name: &str| parsed[name].as_i64().expect("a time");
    let now = NOW.as_millis() / 1000;
    assert_eq!(parsed["iss"], ISSUER);
    assert!(time("exp").saturating_add(LEEWAY_SECS) > now);
    assert!(time("iat") <= now + LEEWAY_SECS);
    let not_before = parsed.get("nbf").and_then(Value::as_i64);
    assert!(not_before.is_none_or(|from| from <= now + LEEWAY_SECS));
    match verified {
        IssuedToken::Session(token) | IssuedToken::App(token) => {
            let is_service = |audience: &Value| audience == AUDIENCE;
            let audience = &parsed["aud"];
            let names_service =
                is_service(audience) || audience.as_array().is_some_and(|all| all.iter().any(is_service));
            // only a session's token is for the service; an app's is for other audiences
            assert_eq!(names_service, matches!(verified, IssuedToken::Session(_)));
            assert!(parsed["sid"].as_str().is_some_and(|sid| sid.parse() == Ok(token.sid)));
            assert!(parsed["sub"].as_str().is_some_and(|sub| sub.parse() == Ok(token.sub)));
            for name in ["client_id", "jti", "acr", "scope"] {
                assert!(parsed[name].is_string(), "{name} is missing");
            }
            assert!(parsed["auth_time"].is_i64() && parsed["amr"].is_array());
        }
        IssuedToken::Client(token) => {
            assert!(parsed["sub"] == parsed["client_id"] && parsed["sub"] == token.sub.as_str());
            assert!(
                parsed.get("sid").is_none_or(Value::is_null),
                "the token of a session is accepted as a token of a client"
            );
        }
    }
}
