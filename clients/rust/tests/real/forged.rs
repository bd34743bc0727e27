//! Forged tokens of every known kind are refused, and for none of them anything is asked of anybody.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use latchkey_verify::{Invalid, VerifyError};
use serde_json::{Value, json};

use crate::{
    harness::test_cluster::Node,
    place::{Place, invalid},
};

fn encode(json: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json)
}

fn part(token: &str, part: usize) -> Value {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(part).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The same token with another header, and so with a wrong signature.
pub fn with_header(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut header = part(token, 0);
    change(&mut header);
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", encode(&header.to_string()))
}

/// Signed with the service's own key, whatever it says.
fn signed(node: &Node, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let keys = node.state.keys.current();
    let signature = keys.signer(node.state.clock.now()).unwrap().sign(message.as_bytes()).unwrap();
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn changed(value: &Value, name: &str, new: Option<Value>) -> String {
    let mut value = value.clone();
    match new {
        Some(new) => value[name] = new,
        None => drop(value.as_object_mut().unwrap().remove(name)),
    }
    value.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_refused() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let tokens = place.node.login("ada").await;
    let (header, claims) = (part(&tokens.access, 0), part(&tokens.access, 1));
    let (header_text, claims_text) = (header.to_string(), claims.to_string());
    let verifier = place.verifier().await;
    let asked = place.proxy.asked().len();
    let good = signed(&place.node, &header_text, &claims_text);
    assert!(verifier.verify(&good).await.is_ok());

    let mut cases: Vec<(String, String, Option<Invalid>)> = Vec::new();
    let mut add = |name: &str, token: String, why| cases.push((name.to_owned(), token, why));

    // headers, signed with the right key all the same
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "ES384", "ES256K", "RS256", "EdDSA", "es256"] {
        let header = changed(&header, "alg", Some(json!(alg)));
        add(&format!("alg {alg}"), signed(&place.node, &header, &claims_text), Some(Invalid::WrongAlgorithm));
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
        add(&format!("typ {typ:?}"), signed(&place.node, &header, &claims_text), Some(why));
    }
    for crit in [json!([]), json!(["b64"]), json!(null), json!("exp")] {
        let header = changed(&header, "crit", Some(crit));
        add("crit", signed(&place.node, &header, &claims_text), Some(Invalid::CriticalHeader));
    }
    add("no kid", signed(&place.node, &changed(&header, "kid", None), &claims_text), Some(Invalid::UnknownKey));
    let kid = changed(&header, "kid", Some(json!(["x"])));
    add("kid of another type", signed(&place.node, &kid, &claims_text), Some(Invalid::Malformed));
    let twice = header_text.replacen('{', r#"{"alg":"none","#, 1);
    add("alg twice", signed(&place.node, &twice, &claims_text), Some(Invalid::Malformed));
    let twice = header_text.replacen('{', r#"{"\u0061lg":"none","#, 1);
    add("alg twice, escaped", signed(&place.node, &twice, &claims_text), Some(Invalid::Malformed));

    // an attacker's own key, brought along
    let own = latchkey::crypto::signing_key::SigningKey::generate(latchkey::domain::key::Algorithm::Es256).unwrap();
    let jwk: Value = serde_json::from_str(own.public_jwk()).unwrap();
    for (name, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!(format!("{}/x/jwks.json", place.proxy.url()))),
        ("x5u", json!(format!("{}/x/cert.pem", place.proxy.url()))),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = changed(&header, name, Some(value));
        let message = format!("{}.{}", encode(&header), encode(&claims_text));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(own.sign(message.as_bytes()).unwrap());
        add(name, format!("{message}.{signature}"), Some(Invalid::BadSignature));
    }

    // the public key as the secret of an HMAC
    let public = place.node.state.keys.current().signer(place.node.state.clock.now()).unwrap().public_jwk().to_owned();
    let hmac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
    let message = format!("{}.{}", encode(&changed(&header, "alg", Some(json!("HS256")))), encode(&claims_text));
    let tag = BASE64_URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&hmac, message.as_bytes()));
    add("HMAC with the public key", format!("{message}.{tag}"), Some(Invalid::WrongAlgorithm));

    // claims, signed with the right key
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    for (name, value, why) in [
        ("iss", Some(json!("https://evil.example.com")), Invalid::WrongIssuer),
        ("iss", Some(json!(format!("{}/", place.proxy.url()))), Invalid::WrongIssuer),
        ("iss", Some(json!([place.proxy.url()])), Invalid::Malformed),
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
        add(&format!("{name} {value:?}"), signed(&place.node, &header_text, &claims), Some(why));
    }
    for name in ["iss", "aud", "sub", "client_id", "iat", "exp", "jti", "sid", "auth_time"] {
        let claims = changed(&claims, name, None);
        add(&format!("no {name}"), signed(&place.node, &header_text, &claims), Some(Invalid::MissingClaim(name)));
    }
    let twice = claims_text.replacen('{', r#"{"sub":"x","#, 1);
    add("sub twice", signed(&place.node, &header_text, &twice), Some(Invalid::Malformed));
    for text in ["", "null", "[]", "7", "{", "{}x"] {
        add("claims that are none", signed(&place.node, &header_text, text), Some(Invalid::Malformed));
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
        ("a blank", format!("{good} ")),
        ("the refresh token", tokens.refresh.clone()),
    ] {
        add(name, token, Some(Invalid::Malformed));
    }
    add("no signature", format!("{message}."), Some(Invalid::BadSignature));
    add("half a signature", format!("{message}.{}", &signature[..40]), Some(Invalid::BadSignature));
    add("zeros for a signature", format!("{message}.{}", "A".repeat(86)), Some(Invalid::BadSignature));
    let roles = changed(&claims, "roles", Some(json!(["admin"])));
    let borrowed = format!("{}.{}.{signature}", encode(&header_text), encode(&roles));
    add("another's signature", borrowed, Some(Invalid::BadSignature));
    let long = changed(&claims, "scope", Some(json!("x".repeat(7000))));
    add("too long", signed(&place.node, &header_text, &long), Some(Invalid::TooLong));

    for (name, token, why) in cases {
        // a refusal isn't remembered as anything else
        for _ in 0..2 {
            let refused = verifier.verify(&token).await;
            match why {
                Some(why) => assert_eq!(refused, Err(invalid(why)), "{name}"),
                None => assert!(matches!(refused, Err(VerifyError::Invalid(_))), "{name}: {refused:?}"),
            }
        }
    }
    // `kid` missing or foreign may make it look for keys, at the issuer's own address and nowhere else
    let asked: Vec<_> = place.proxy.asked().split_off(asked);
    assert!(asked.iter().all(|line| line.starts_with("GET /.well-known/jwks.json ")), "{asked:?}");
    // what is harmless is taken
    for harmless in [
        changed(&claims, "aud", Some(json!(["someone", "latchkey"]))),
        changed(&claims, "nbf", Some(json!(iat + 5))),
        changed(&claims, "something", Some(json!({ "new": [1] }))),
        changed(&claims, "scope", None),
    ] {
        assert!(verifier.verify(&signed(&place.node, &header_text, &harmless)).await.is_ok(), "{harmless}");
    }
    let long_form = changed(&header, "typ", Some(json!("application/AT+JWT")));
    assert!(verifier.verify(&signed(&place.node, &long_form, &claims_text)).await.is_ok());
    drop(verifier);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_token_is_taken_for_what_it_is_or_not_at_all() {
    let place = Place::new().await;
    place.node.account("ada").await;
    let tokens = place.node.login("ada").await;
    let (header, claims) = (part(&tokens.access, 0).to_string(), part(&tokens.access, 1));
    let own = json!({
        "iss": claims["iss"], "aud": "latchkey", "iat": claims["iat"], "exp": claims["exp"], "jti": "j",
        "sub": "reports", "client_id": "reports", "scope": "read write",
    });
    let token = signed(&place.node, &header, &own.to_string());
    let verifier = place.verifier().await;
    let claims = verifier.verify(&token).await.unwrap();
    assert!(claims.is_clients_own() && claims.has_scope("write") && claims.sub == "reports");
    let people = place.verifier_with(|builder| builder.refuse_clients_own()).await;
    assert_eq!(people.verify(&token).await, Err(invalid(Invalid::ClientsOwn)));
    assert!(people.verify(&tokens.access).await.is_ok());
    // what isn't a client's own must have a session
    let token = signed(&place.node, &header, &changed(&own, "sub", Some(json!("someone"))));
    assert_eq!(verifier.verify(&token).await, Err(invalid(Invalid::MissingClaim("sid"))));
    drop((verifier, people));
    place.stop().await;
}
