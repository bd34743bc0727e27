//! Forged tokens are refused, and cause no requests except for keys. tests/fixtures/verifier_cases.json has further cases.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey_verify::{Invalid, VerifyError};
use serde_json::{Value, json};

use crate::{
    fixture::{Fixture, invalid},
    harness::test_cluster::Node,
};

pub fn encode(json: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json)
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
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", encode(&header.to_string()))
}

/// Signs a header and claims, any text, with the service's key.
pub fn signed(node: &Node, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
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
    let requests_before = fixture.proxy.requests().len();
    let good = signed(&fixture.node, &header_text, &claims_text);
    assert!(verifier.verify(&good).await.is_ok());

    // The name of a case, the token, and the expected reason; `None`: any reason.
    let mut cases: Vec<(String, String, Option<Invalid>)> = Vec::new();
    let mut add = |name: &str, token: String, why| cases.push((name.to_owned(), token, why));

    // headers, signed with the right key
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "ES384", "ES256K", "RS256", "EdDSA", "es256"] {
        let header = changed(&header, "alg", Some(json!(alg)));
        add(&format!("alg {alg}"), signed(&fixture.node, &header, &claims_text), Some(Invalid::WrongAlgorithm));
        add(&format!("alg {alg}, unsigned"), format!("{}.{}.", encode(&header), encode(&claims_text)), None);
    }
    for (typ, why) in [
        (Some(json!("JWT")), Invalid::WrongType),
        (Some(json!("")), Invalid::WrongType),
        (Some(json!("at+jwt;x")), Invalid::WrongType),
        (Some(json!("refresh+jwt")), Invalid::WrongType),
        (None, Invalid::WrongType),
        (Some(json!(["at+jwt"])), Invalid::Malformed),
    ] {
        let header = changed(&header, "typ", typ.clone());
        add(&format!("typ {typ:?}"), signed(&fixture.node, &header, &claims_text), Some(why));
    }
    for crit in [json!([]), json!(["b64"]), json!(null), json!("exp")] {
        let header = changed(&header, "crit", Some(crit));
        add("crit", signed(&fixture.node, &header, &claims_text), Some(Invalid::CriticalHeader));
    }
    add("no kid", signed(&fixture.node, &changed(&header, "kid", None), &claims_text), Some(Invalid::UnknownKey));
    let kid = changed(&header, "kid", Some(json!(["x"])));
    add("kid of a wrong type", signed(&fixture.node, &kid, &claims_text), Some(Invalid::Malformed));
    let twice = header_text.replacen('{', r#"{"alg":"none","#, 1);
    add("alg twice", signed(&fixture.node, &twice, &claims_text), Some(Invalid::Malformed));
    let twice = header_text.replacen('{', r#"{"\u0061lg":"none","#, 1);
    add("alg twice, escaped", signed(&fixture.node, &twice, &claims_text), Some(Invalid::Malformed));

    // an attacker's key in the header
    let attacker_key =
        latchkey::crypto::signing_key::SigningKey::generate(latchkey::domain::key::Algorithm::Es256).unwrap();
    let jwk: Value = serde_json::from_str(attacker_key.public_jwk()).unwrap();
    for (name, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!(format!("{}/x/jwks.json", fixture.proxy.http_url()))),
        ("x5u", json!(format!("{}/x/cert.pem", fixture.proxy.http_url()))),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = changed(&header, name, Some(value));
        let message = format!("{}.{}", encode(&header), encode(&claims_text));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(attacker_key.sign(message.as_bytes()).unwrap());
        add(name, format!("{message}.{signature}"), Some(Invalid::BadSignature));
    }

    // the public key as the secret of an HMAC
    let public =
        fixture.node.state.keys.current().signer(fixture.node.state.clock.now()).unwrap().public_jwk().to_owned();
    let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
    let message = format!("{}.{}", encode(&changed(&header, "alg", Some(json!("HS256")))), encode(&claims_text));
    let tag = BASE64_URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&hmac, message.as_bytes()));
    add("HMAC with the public key", format!("{message}.{tag}"), Some(Invalid::WrongAlgorithm));

    // Claims, signed with the right key. The clock stands still at `iat`, and the verifier tolerates a clock skew of 5 s.
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    for (name, value, why) in [
        ("iss", Some(json!("https://evil.example.com")), Invalid::WrongIssuer),
        ("iss", Some(json!(format!("{}/", fixture.proxy.http_url()))), Invalid::WrongIssuer),
        ("iss", Some(json!([fixture.proxy.http_url()])), Invalid::Malformed),
        ("iss", Some(json!(null)), Invalid::MissingClaim("iss")),
        ("aud", Some(json!("someone-else")), Invalid::WrongAudience),
        ("aud", Some(json!([])), Invalid::WrongAudience),
        ("aud", Some(json!(["someone", "else"])), Invalid::WrongAudience),
        ("aud", Some(json!(7)), Invalid::Malformed),
        ("exp", Some(json!(iat - 5)), Invalid::Expired),
        ("exp", Some(json!(-1)), Invalid::Expired),
        ("exp", Some(json!(exp.to_string())), Invalid::Malformed),
        ("exp", Some(json!(1e300)), Invalid::Malformed),
        ("nbf", Some(json!(iat + 6)), Invalid::NotYetValid),
        ("iat", Some(json!(iat + 6)), Invalid::NotYetValid),
        ("sid", Some(json!("not a session")), Invalid::Malformed),
        ("sub", Some(json!("ada")), Invalid::Malformed),
        ("roles", Some(json!("admin")), Invalid::Malformed),
    ] {
        let claims = changed(&claims, name, value.clone());
        add(&format!("{name} {value:?}"), signed(&fixture.node, &header_text, &claims), Some(why));
    }
    for name in ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "sid", "auth_time"] {
        let claims = changed(&claims, name, None);
        add(&format!("no {name}"), signed(&fixture.node, &header_text, &claims), Some(Invalid::MissingClaim(name)));
    }
    let twice = claims_text.replacen('{', r#"{"sub":"x","#, 1);
    add("sub twice", signed(&fixture.node, &header_text, &twice), Some(Invalid::Malformed));
    for text in ["", "null", "[]", "7", "{", "{}x"] {
        add("not claims", signed(&fixture.node, &header_text, text), Some(Invalid::Malformed));
    }

    // damaged
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
        add(name, token, Some(Invalid::Malformed));
    }
    add("no signature", format!("{message}."), Some(Invalid::BadSignature));
    add("half a signature", format!("{message}.{}", &signature[..40]), Some(Invalid::BadSignature));
    add("zeros for a signature", format!("{message}.{}", "A".repeat(86)), Some(Invalid::BadSignature));
    let roles = changed(&claims, "roles", Some(json!(["admin"])));
    let borrowed = format!("{}.{}.{signature}", encode(&header_text), encode(&roles));
    add("the signature of other claims", borrowed, Some(Invalid::BadSignature));
    let long = changed(&claims, "scope", Some(json!("x".repeat(7000))));
    add("too long", signed(&fixture.node, &header_text, &long), Some(Invalid::TooLong));

    for (name, token, why) in cases {
        // twice: a cache of the verifier must not change the answer to a repeated token
        for _ in 0..2 {
            let refused = verifier.verify(&token).await;
            match why {
                Some(why) => assert_eq!(refused, Err(invalid(why)), "{name}"),
                None => assert!(matches!(refused, Err(VerifyError::Invalid(_))), "{name}: {refused:?}"),
            }
        }
    }
    // an unknown `kid` may trigger a key refresh at the issuer, and nothing else sends a request
    let requests: Vec<_> = fixture.proxy.requests().split_off(requests_before);
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
    let (header, claims) = (header_of(&tokens.access).to_string(), claims_of(&tokens.access));
    let own = json!({
        "iss": claims["iss"], "aud": "latchkey", "iat": claims["iat"], "exp": claims["exp"], "jti": "j",
        "sub": "reports", "client_id": "reports", "scope": "read write",
    });
    let token = signed(&fixture.node, &header, &own.to_string());
    let verifier = fixture.verifier().await;
    let claims = verifier.verify(&token).await.unwrap();
    assert!(claims.is_service_client() && claims.has_scope("write") && claims.sub == "reports");
    let users_only = fixture.verifier_with(|builder| builder.refuse_service_clients()).await;
    assert_eq!(users_only.verify(&token).await, Err(invalid(Invalid::ServiceClient)));
    assert!(users_only.verify(&tokens.access).await.is_ok());
    // a token whose subject is not its client is a user's, and must name a session
    let token = signed(&fixture.node, &header, &changed(&own, "sub", Some(json!("someone"))));
    assert_eq!(verifier.verify(&token).await, Err(invalid(Invalid::MissingClaim("sid"))));
    drop((verifier, users_only));
    fixture.stop().await;
}
