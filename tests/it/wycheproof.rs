//! Wycheproof's vectors for JSON Web Signatures (tests/fixtures/wycheproof), applied to the code that all tokens share: the
//! parser of the compact form and the header, and the verification of the signature with the key's one algorithm.

use std::collections::BTreeSet;

use latchkey::crypto::client_keys::{ClientKeys, to_jwks};
use latchkey_verify::jose::jws::Jws;
use serde_json::Value;

const VECTORS: &str = include_str!("../fixtures/wycheproof/json_web_signature_test.json");

/// Whether the service accepts `jws` as signed by the holder of the key.
fn is_accepted(jwk: &Value, jws: &str) -> bool {
    let Ok(keys) = to_jwks(&jwk.to_string()).and_then(|jwks| ClientKeys::parse(&jwks)) else { return false };
    let Some(jws) = Jws::parse(jws) else { return false };
    // the service supports no critical header parameters (`crit`)
    !jws.header.crit && keys.verify(&jws)
}

#[test]
fn only_valid_signatures_of_supported_algorithms_are_accepted() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut seen = 0;
    let mut accepted = BTreeSet::new();
    let mut expected = BTreeSet::new();
    for group in vectors["testGroups"].as_array().unwrap() {
        // symmetric keys have no public part and are not supported
        let jwk = group.get("public").unwrap_or(&group["private"]);
        let is_supported = matches!(jwk["alg"].as_str(), Some("ES256" | "RS256" | "PS256"));
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let jws = test["jws"].as_str().unwrap();
            // these examples of RFC 7520 are signed with PS384 by a key whose `alg` is PS256
            let contradicts_alg = test["comment"] == "Figure20";
            if test["result"] == "valid" && is_supported && !contradicts_alg {
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
    // guards against vectors that the filter above skips by mistake
    assert_eq!(expected.len(), 16, "valid vectors of supported algorithms");
}
