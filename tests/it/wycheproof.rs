//! Wycheproof's vectors for JSON Web Signatures (tests/fixtures/wycheproof), at the level that all tokens here have in common:
//! the compact form, the header, the key with its one algorithm, the signature.

use std::collections::BTreeSet;

use latchkey::crypto::{
    client_keys::{ClientKeys, to_jwks},
    jws::Jws,
};
use serde_json::Value;

const VECTORS: &str = include_str!("../fixtures/wycheproof/json_web_signature_test.json");

/// Whether a text is what the holder of the key signed, as far as this service believes.
fn is_accepted(jwk: &Value, jws: &str) -> bool {
    let Ok(keys) = to_jwks(&jwk.to_string()).and_then(|jwks| ClientKeys::parse(&jwks)) else { return false };
    let Ok(Jws { message, header, signature, .. }) = Jws::parse(jws) else { return false };
    !header.crit && keys.verify(&header.alg, header.kid.as_deref(), message.as_bytes(), &signature)
}

#[test]
fn exactly_the_valid_signatures_by_keys_of_our_algorithms_are_accepted() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let (mut seen, mut accepted, mut expected) = (0, BTreeSet::new(), BTreeSet::new());
    for group in vectors["testGroups"].as_array().unwrap() {
        // symmetric keys have no public half, and no place here
        let jwk = group.get("public").unwrap_or(&group["private"]);
        let ours = matches!(jwk["alg"].as_str(), Some("ES256" | "RS256" | "PS256"));
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let jws = test["jws"].as_str().unwrap();
            // two examples of RFC 7520 are signed with PS384 by a key that is said to be for PS256
            let contradicts = test["comment"] == "Figure20";
            if test["result"] == "valid" && ours && !contradicts {
                expected.insert(id);
            }
            if is_accepted(jwk, jws) {
                accepted.insert(id);
            }
            seen += 1;
        }
    }
    assert_eq!(seen, vectors["numberOfTests"].as_u64().unwrap());
    assert_eq!(accepted, expected);
    assert_eq!(expected.len(), 16);
}
