//! Tests that the verifier refuses forged tokens and tokens with wrong claims, and requests nothing but keys for them.
//! The service's tests/fixtures/verifier_cases.json has further cases.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey_verify::Invalid;
use serde_json::{Value, json};

use crate::{
    fixture::{Fixture, invalid},
    harness::test_cluster::Node,
};

/// The part of a token that a signature signs.
fn signed_part(header: &str, claims: &str) -> String {
    format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims))
}

pub fn header_of(token: &str) -> Value {
    parse_part(token.split('.').next().unwrap())
}

pub fn claims_of(token: &str) -> Value {
    parse_part(token.split('.').nth(1).unwrap())
}

/// Decodes the header or the claims of a token.
fn parse_part(part: &str) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The token with another header, and so with a wrong signature.
pub fn with_header(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut header = header_of(token);
    change(&mut header);
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()))
}

/// A token with these texts as header and claims, signed with the service's key.
pub fn signed(node: &Node, header: &str, claims: &str) -> String {
    let message = signed_part(header, claims);
    let keys = node.state.keys.current();
    let signature = keys.signer(node.state.clock.now()).unwrap().sign(message.as_bytes()).unwrap();
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A header or claims with another value of one member, or without the member (`None`), as JSON.
fn changed(object: &Value, name: &str, new: Option<Value>) -> String {
    let mut object = object.clone();
    match new {
        Some(new) => object[name] = new,
        None => drop(object.as_object_mut().unwrap().remove(name)),
    }
    object.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_token_is_refused_with_its_reason() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let (header, claims) = (header_of(&tokens.access), claims_of(&tokens.access));
    let (header_text, claims_text) = (header.to_string(), claims.to_string());
    let verifier = fixture.verifier().await;
    let issuer = fixture.proxy.http_url();
    let requests_before = fixture.proxy.requests().len();
    let good = signed(&fixture.node, &header_text, &claims_text);
    assert!(verifier.verify(&good).await.is_ok());

    // The name of a case, the token, and the expected reason.
    let mut cases: Vec<(String, String, Invalid)> = Vec::new();
    let mut add = |name: &str, token: String, reason| cases.push((name.to_owned(), token, reason));

    // headers, signed with the right key, which is of ES256
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "ES384", "ES256K", "RS256", "EdDSA", "es256"] {
        let header = changed(&header, "alg", Some(json!(alg)));
        add(&format!("alg {alg}"), signed(&fixture.node, &header, &claims_text), Invalid::WrongAlgorithm);
        add(
            &format!("alg {alg}, unsigned"),
            format!("{}.", signed_part(&header, &claims_text)),
            Invalid::WrongAlgorithm,
        );
    }
    for (typ, reason) in [
        (Some(json!("JWT")), Invalid::WrongType),
        (Some(json!("")), Invalid::WrongType),
        (Some(json!("at+jwt;x")), Invalid::WrongType),
        (Some(json!("refresh+jwt")), Invalid::WrongType),
        (None, Invalid::WrongType),
        (Some(json!(["at+jwt"])), Invalid::Malformed),
    ] {
        let header = changed(&header, "typ", typ.clone());
        add(&format!("typ {typ:?}"), signed(&fixture.node, &header, &claims_text), reason);
    }
    // The verifier supports no critical extension.
    for crit in [json!([]), json!(["b64"]), json!(null), json!("exp")] {
        let header = changed(&header, "crit", Some(crit));
        add("crit", signed(&fixture.node, &header, &claims_text), Invalid::CriticalHeader);
    }
    add("no kid", signed(&fixture.node, &changed(&header, "kid", None), &claims_text), Invalid::UnknownKey);
    let kid = changed(&header, "kid", Some(json!(["x"])));
    add("kid of a wrong type", signed(&fixture.node, &kid, &claims_text), Invalid::Malformed);
    let alg_twice = header_text.replacen('{', r#"{"alg":"none","#, 1);
    add("alg twice", signed(&fixture.node, &alg_twice, &claims_text), Invalid::Malformed);
    let escaped_alg = header_text.replacen('{', r#"{"\u0061lg":"none","#, 1);
    add("alg twice, escaped", signed(&fixture.node, &escaped_alg, &claims_text), Invalid::Malformed);

    // an attacker's key in the header
    let attacker_key =
        latchkey::crypto::signing_key::SigningKey::generate(latchkey::domain::key::Algorithm::Es256).unwrap();
    let jwk: Value = serde_json::from_str(attacker_key.public_jwk()).unwrap();
    for (name, value) in [
        ("jwk", jwk.clone()),
        // addresses at which the proxy would see a request
        ("jku", json!(format!("{issuer}/x/jwks.json"))),
        ("x5u", json!(format!("{issuer}/x/cert.pem"))),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = changed(&header, name, Some(value));
        let message = signed_part(&header, &claims_text);
        let signature = BASE64_URL_SAFE_NO_PAD.encode(attacker_key.sign(message.as_bytes()).unwrap());
        add(name, format!("{message}.{signature}"), Invalid::BadSignature);
    }

    // the public key as the secret of an HMAC
    let keys = fixture.node.state.keys.current();
    let public_key = keys.signer(fixture.node.state.clock.now()).unwrap().public_jwk().to_owned();
    let hmac_key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public_key.as_bytes());
    let message = signed_part(&changed(&header, "alg", Some(json!("HS256"))), &claims_text);
    let tag = BASE64_URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&hmac_key, message.as_bytes()));
    add("HMAC with the public key", format!("{message}.{tag}"), Invalid::WrongAlgorithm);

    // Claims, signed with the right key. The clock stands still at `iat`, and the verifier tolerates a clock skew of 5 s.
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    for (name, value, reason) in [
        ("iss", json!("https://evil.example.com"), Invalid::WrongIssuer),
        ("iss", json!(format!("{issuer}/")), Invalid::WrongIssuer),
        ("iss", json!([issuer]), Invalid::Malformed),
        ("iss", json!(null), Invalid::MissingClaim("iss")),
        ("aud", json!("someone-else"), Invalid::WrongAudience),
        ("aud", json!([]), Invalid::WrongAudience),
        ("aud", json!(["someone", "else"]), Invalid::WrongAudience),
        ("aud", json!(7), Invalid::Malformed),
        ("exp", json!(iat - 5), Invalid::Expired),
        ("exp", json!(-1), Invalid::Expired),
        ("exp", json!(exp.to_string()), Invalid::Malformed),
        ("exp", json!(1e300), Invalid::Malformed),
        ("nbf", json!(iat + 6), Invalid::NotYetValid),
        ("iat", json!(iat + 6), Invalid::NotYetValid),
        ("sid", json!("not a session"), Invalid::Malformed),
        // A user's subject is the account's id, a UUID.
        ("sub", json!("ada"), Invalid::Malformed),
        ("roles", json!("admin"), Invalid::Malformed),
    ] {
        let case = format!("{name} {value}");
        let claims = changed(&claims, name, Some(value));
        add(&case, signed(&fixture.node, &header_text, &claims), reason);
    }
    for name in ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "sid", "auth_time"] {
        let claims = changed(&claims, name, None);
        add(&format!("no {name}"), signed(&fixture.node, &header_text, &claims), Invalid::MissingClaim(name));
    }
    let sub_twice = claims_text.replacen('{', r#"{"sub":"x","#, 1);
    add("sub twice", signed(&fixture.node, &header_text, &sub_twice), Invalid::Malformed);
    for text in ["", "null", "[]", "7", "{", "{}x"] {
        add("not claims", signed(&fixture.node, &header_text, text), Invalid::Malformed);
    }

    // damaged tokens
    let (message, signature) = good.rsplit_once('.').unwrap();
    for (name, token) in [
        ("empty", String::new()),
        ("dots", "..".to_owned()),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.x")),
        ("five parts", format!("{good}.x.y")),
        ("padded", format!("{good}=")),
        ("a space", format!("{good} ")),
        ("the refresh token", tokens.refresh.clone()),
    ] {
        add(name, token, Invalid::Malformed);
    }
    add("no signature", format!("{message}."), Invalid::BadSignature);
    add("part of a signature", format!("{message}.{}", &signature[..40]), Invalid::BadSignature);
    // "A" encodes six zero bits.
    let zeros = "A".repeat(signature.len());
    add("zeros for a signature", format!("{message}.{zeros}"), Invalid::BadSignature);
    let as_admin = signed_part(&header_text, &changed(&claims, "roles", Some(json!(["admin"]))));
    add("the signature of other claims", format!("{as_admin}.{signature}"), Invalid::BadSignature);
    // The verifier accepts at most 8 KiB. Base64 makes 9 kB of 7000 bytes.
    let long = changed(&claims, "scope", Some(json!("x".repeat(7000))));
    add("too long", signed(&fixture.node, &header_text, &long), Invalid::TooLong);

    for (name, token, reason) in cases {
        // twice: a cache of the verifier must not change the answer to a repeated token
        for _ in 0..2 {
            let refused = verifier.verify(&token).await;
            assert_eq!(refused, Err(invalid(reason)), "{name}");
        }
    }
    // an unknown `kid` may trigger a key refresh at the issuer, and nothing else sends a request
    let requests = fixture.proxy.requests().split_off(requests_before);
    assert!(requests.iter().all(|line| line.starts_with("GET /.well-known/jwks.json ")), "{requests:?}");
    // harmless variations are accepted
    for harmless in [
        changed(&claims, "aud", Some(json!(["someone", "latchkey"]))),
        changed(&claims, "nbf", Some(json!(iat + 5))),
        changed(&claims, "something", Some(json!({ "new": [1] }))),
        changed(&claims, "scope", None),
    ] {
        assert!(verifier.verify(&signed(&fixture.node, &header_text, &harmless)).await.is_ok(), "{harmless}");
    }
    let long_form = changed(&header, "typ", Some(json!("application/AT+JWT")));
    assert!(verifier.verify(&signed(&fixture.node, &long_form, &claims_text)).await.is_ok());
    drop(verifier);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_client_token_is_accepted_unless_refused_by_configuration() {
    let fixture = Fixture::new().await;
    fixture.node.register("ada").await;
    let tokens = fixture.node.login("ada").await;
    let (header, user_claims) = (header_of(&tokens.access).to_string(), claims_of(&tokens.access));
    // The subject of a service client's own token is the client.
    let client_claims = json!({
        "iss": user_claims["iss"], "aud": "latchkey", "iat": user_claims["iat"], "exp": user_claims["exp"], "jti": "j",
        "sub": "reports", "client_id": "reports", "scope": "read write",
    });
    let token = signed(&fixture.node, &header, &client_claims.to_string());
    let verifier = fixture.verifier().await;
    let claims = verifier.verify(&token).await.unwrap();
    assert!(claims.is_service_client());
    assert!(claims.has_scope("write"));
    assert_eq!(claims.sub, "reports");
    let users_only = fixture.verifier_with(|builder| builder.refuse_service_clients()).await;
    assert_eq!(users_only.verify(&token).await, Err(invalid(Invalid::ServiceClient)));
    assert!(users_only.verify(&tokens.access).await.is_ok());
    // a token whose subject is not its client is a user's, and must name a session
    let token = signed(&fixture.node, &header, &changed(&client_claims, "sub", Some(json!("someone"))));
    assert_eq!(verifier.verify(&token).await, Err(invalid(Invalid::MissingClaim("sid"))));
    drop((verifier, users_only));
    fixture.stop().await;
}
