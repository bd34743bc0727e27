//! Forged tokens: made from a genuine token, public information and foreign keys, or signed by the service's own key with a wrong
//! header or wrong claims.

use std::net::SocketAddr;

use aws_lc_rs::hmac;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use latchkey::{crypto::signing_key::SigningKey, domain::key::Algorithm};
use serde_json::{Value, json};

/// A token that must be refused.
#[derive(Clone, Debug)]
pub struct Forged {
    pub name: String,
    pub token: String,
}

/// Makes forgeries from these parts.
pub struct Forge<'a> {
    /// A valid token, signed with ES256.
    pub genuine: &'a str,
    /// The service's own key, for tokens that only the service could sign.
    pub key: &'a SigningKey,
    /// The address in `jku` and `x5u`, to which the service must not connect.
    pub trap: SocketAddr,
}

/// Encodes a part of a JWS: base64url without padding.
fn part(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A JWS of this header and these claims, signed by `key`.
fn signed(key: &SigningKey, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", part(signature))
}

/// Replaces a member of an object; null removes it.
fn with_member(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    if value.is_null() {
        object.as_object_mut().unwrap().remove(name);
    } else {
        object[name] = value;
    }
    object
}

/// Converts an ECDSA signature to ASN.1 (SEC 1, section C.5), which JWS does not allow.
fn der(signature: &[u8]) -> Vec<u8> {
    // INTEGER (2): a number whose highest bit is set needs a zero byte before it, since integers are signed
    let integer = |number: &[u8]| {
        let zero = (number[0] >= 0x80).then_some(0);
        let bytes: Vec<u8> = zero.into_iter().chain(number.iter().copied()).collect();
        [&[2, u8::try_from(bytes.len()).unwrap()], &bytes[..]].concat()
    };
    let (r, s) = signature.split_at(32);
    let both = [integer(r), integer(s)].concat();
    // SEQUENCE
    [&[0x30, u8::try_from(both.len()).unwrap()], &both[..]].concat()
}

impl Forge<'_> {
    fn header(&self) -> Value {
        self.decode_part(0)
    }

    fn claims(&self) -> Value {
        self.decode_part(1)
    }

    /// Decodes a part of the genuine token: 0 is the header, 1 the claims.
    fn decode_part(&self, index: usize) -> Value {
        let text = self.genuine.split('.').nth(index).unwrap();
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    /// A token signed by the service's own key.
    fn signed_by_service(&self, header: &Value, claims: &Value) -> String {
        signed(self.key, header.to_string(), claims.to_string())
    }

    /// The genuine token, decoded and signed again without a change. It must be accepted, or the forgeries prove nothing.
    pub fn control(&self) -> String {
        self.signed_by_service(&self.header(), &self.claims())
    }

    /// Every forgery.
    pub fn all(&self) -> Vec<Forged> {
        let mut all = Vec::new();
        let kinds = [
            self.unsigned(),
            self.signed_with_public_key(),
            self.signed_by_foreign_keys(),
            self.keys_in_the_header(),
            self.other_types(),
            self.wrong_claims(),
            self.ambiguous(),
            self.extensions(),
            self.damaged(),
        ];
        for (name, token) in kinds.into_iter().flatten() {
            all.push(Forged { name, token });
        }
        all
    }

    // Each of the following private functions returns the names and tokens of one kind of forgery.

    /// `alg: none` in several spellings, and no algorithm (RFC 8725, section 3.2).
    fn unsigned(&self) -> Vec<(String, String)> {
        let claims = part(self.claims().to_string());
        let signature = self.genuine.rsplit('.').next().unwrap();
        let spellings = ["none", "None", "NONE", "nOnE", "none ", "", "null"].map(Value::from);
        let invalid = [json!(0), json!(false), json!(["ES256"]), json!({ "ES256": true }), Value::Null];
        let mut made = Vec::new();
        for alg in spellings.into_iter().chain(invalid) {
            let header = part(with_member(&self.header(), "alg", alg.clone()).to_string());
            made.push((format!("alg {alg}, no signature"), format!("{header}.{claims}.")));
            made.push((format!("alg {alg}, two parts"), format!("{header}.{claims}")));
            made.push((format!("alg {alg}, the genuine signature"), format!("{header}.{claims}.{signature}")));
        }
        made
    }

    /// HMAC keyed with public values, above all the forms of the public key (RFC 8725, section 2.1).
    fn signed_with_public_key(&self) -> Vec<(String, String)> {
        let jwk: Value = serde_json::from_str(self.key.public_jwk()).unwrap();
        let coordinate = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        // an uncompressed point: the byte 4, x and y
        let point = [&[4], &coordinate("x")[..], &coordinate("y")[..]].concat();
        // SubjectPublicKeyInfo of a P-256 key, up to its point (RFC 5480)
        let info_before_point = BASE64_STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=").unwrap();
        let info = [info_before_point, point.clone()].concat();
        let base64 = BASE64_STANDARD.encode(&info);
        let lines =
            base64.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\n");
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----");
        let keys = [
            ("the JWK", self.key.public_jwk().as_bytes().to_vec()),
            ("the JWK set", format!("{{\"keys\":[{}]}}", self.key.public_jwk()).into_bytes()),
            ("the point", point),
            ("x", coordinate("x")),
            ("DER", info),
            ("PEM", pem.clone().into_bytes()),
            ("PEM and a line end", format!("{pem}\n").into_bytes()),
            ("the kid", self.key.kid().as_bytes().to_vec()),
            ("nothing", Vec::new()),
        ];
        let algorithms = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
        let mut made = Vec::new();
        for (alg, hmac_algorithm) in algorithms {
            let header = with_member(&self.header(), "alg", json!(alg)).to_string();
            let message = format!("{}.{}", part(header), part(self.claims().to_string()));
            for (name, key) in &keys {
                let tag = hmac::sign(&hmac::Key::new(hmac_algorithm, key), message.as_bytes());
                made.push((format!("{alg} keyed with {name}"), format!("{message}.{}", part(tag))));
            }
        }
        made
    }

    /// Signed by foreign keys, or by the service's own key under a wrong `kid` or `alg`.
    fn signed_by_foreign_keys(&self) -> Vec<(String, String)> {
        let (header, claims) = (self.header(), self.claims().to_string());
        let mut made = Vec::new();
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
            let foreign_key = SigningKey::generate(algorithm).unwrap();
            let header = with_member(&header, "alg", json!(algorithm.as_str()));
            let with_foreign_kid = with_member(&header, "kid", json!(foreign_key.kid())).to_string();
            made.push((format!("foreign {algorithm} key"), signed(&foreign_key, with_foreign_kid, &claims)));
            made.push((
                format!("foreign {algorithm} key under the service's kid"),
                signed(&foreign_key, header.to_string(), &claims),
            ));
            let es256 = with_member(&header, "alg", json!("ES256")).to_string();
            made.push((format!("foreign {algorithm} key with alg ES256"), signed(&foreign_key, es256, &claims)));
        }
        let kid = header["kid"].as_str().unwrap();
        let invalid = [
            json!(null),
            json!(""),
            json!("*"),
            json!("../../../../dev/null"),
            json!("' OR '1'='1"),
            json!(format!("{kid}\u{0}")),
            json!(format!("{kid} ")),
            json!(kid.to_lowercase()),
            json!([kid]),
            json!({ "kid": kid }),
            json!(0),
        ];
        for kid in invalid {
            let token = self.signed_by_service(&with_member(&header, "kid", kid.clone()), &self.claims());
            made.push((format!("kid {kid}"), token));
        }
        for alg in ["ES384", "ES512", "ES256K", "EdDSA", "RS256", "PS256", "es256", "ES256 ", "SHA256withECDSA"] {
            let token = self.signed_by_service(&with_member(&header, "alg", json!(alg)), &self.claims());
            made.push((format!("the service's signature under alg {alg}"), token));
        }
        made
    }

    /// Headers that carry or locate keys (RFC 8725, section 3.10).
    fn keys_in_the_header(&self) -> Vec<(String, String)> {
        let foreign_key = SigningKey::generate(Algorithm::Es256).unwrap();
        let jwk: Value = serde_json::from_str(foreign_key.public_jwk()).unwrap();
        let jwk_without_kid = with_member(&jwk, "kid", Value::Null);
        let url = |path: &str| json!(format!("http://{}/{path}", self.trap));
        let mut made = Vec::new();
        for (name, value) in [
            ("jwk", jwk),
            ("jwk", jwk_without_kid),
            ("jku", url("jwks.json")),
            ("x5u", url("chain.pem")),
            ("x5c", json!(["MIIB"])),
            ("x5t", json!(foreign_key.kid())),
            ("x5t#S256", json!(foreign_key.kid())),
            ("iss", url("")),
        ] {
            let header = with_member(&self.header(), name, value);
            for (kid, header) in [
                ("the service's kid", header.clone()),
                ("the foreign key's kid", with_member(&header, "kid", json!(foreign_key.kid()))),
                ("a URL as kid", with_member(&header, "kid", url("key"))),
                ("no kid", with_member(&header, "kid", Value::Null)),
            ] {
                made.push((
                    format!("{name} with {kid}"),
                    signed(&foreign_key, header.to_string(), self.claims().to_string()),
                ));
            }
        }
        let claims = with_member(&self.claims(), "iss", url(""));
        let header = with_member(&self.header(), "kid", json!(foreign_key.kid())).to_string();
        made.push(("a foreign issuer".to_owned(), signed(&foreign_key, header, claims.to_string())));
        made
    }

    /// Other token types (RFC 8725, section 3.11; RFC 9068, section 4).
    fn other_types(&self) -> Vec<(String, String)> {
        let types = [
            json!(null),
            json!(""),
            json!("JWT"),
            json!("jwt"),
            json!("id_token+jwt"),
            json!("logout+jwt"),
            json!("rt+jwt"),
            json!("at+jwt "),
            json!("at+jwt;q=1"),
            json!("text/at+jwt"),
            json!("application/application/at+jwt"),
            json!(["at+jwt"]),
            json!(1),
        ];
        let sign = |typ: Value| {
            (format!("typ {typ}"), self.signed_by_service(&with_member(&self.header(), "typ", typ), &self.claims()))
        };
        types.map(sign).into()
    }

    /// Expired tokens. They are refused like forgeries, except that a logout accepts them.
    pub fn expired(&self) -> Vec<Forged> {
        let claims = self.claims();
        // 60 s exceed the tolerated clock skew (`token.leeway`, 5 s)
        let past = [json!(claims["iat"].as_i64().unwrap() - 60), json!(0), json!(-1), json!(i64::MIN)];
        let sign = |exp: Value| {
            let token = self.signed_by_service(&self.header(), &with_member(&claims, "exp", exp.clone()));
            Forged { name: format!("exp {exp}"), token }
        };
        past.map(sign).into()
    }

    /// Wrong claims (RFC 9068, section 4), signed by the service's own key.
    fn wrong_claims(&self) -> Vec<(String, String)> {
        let claims = self.claims();
        // `iat + 60` is in the future: 60 s exceed the tolerated clock skew.
        let iat = claims["iat"].as_i64().unwrap();
        let iss = claims["iss"].as_str().unwrap();
        let mut changes = vec![
            ("exp", json!("9999999999")),
            ("exp", json!([9_999_999_999_i64])),
            ("exp", json!(true)),
            ("nbf", json!(iat + 60)),
            ("nbf", json!(i64::MAX)),
            ("nbf", json!("0")),
            ("iat", json!(iat + 60)),
            ("iat", json!(i64::MAX)),
            ("iat", json!("0")),
            ("iss", json!(format!("{iss}/"))),
            ("iss", json!(iss.to_uppercase())),
            ("iss", json!("https://evil.example.com")),
            ("iss", json!("")),
            ("iss", json!([iss])),
            ("aud", json!("elsewhere")),
            ("aud", json!("")),
            ("aud", json!([])),
            ("aud", json!(["elsewhere", "latchkey2", "Latchkey", "latch", "latchkey "])),
            ("aud", json!([["latchkey"]])),
            ("aud", json!({ "latchkey": true })),
            ("sub", json!("")),
            ("sub", json!("admin")),
            ("sub", json!(1)),
            ("sid", json!("")),
            ("sid", json!([claims["sid"]])),
            ("roles", json!("admin")),
        ];
        let required =
            ["iss", "sub", "aud", "client_id", "iat", "exp", "jti", "sid", "auth_time", "acr", "amr", "scope"];
        changes.extend(required.map(|name| (name, Value::Null)));
        let made = changes.into_iter().map(|(name, value)| {
            let label = if value.is_null() { format!("no {name}") } else { format!("{name} {value}") };
            (label, self.signed_by_service(&self.header(), &with_member(&claims, name, value)))
        });
        let invalid_sets = ["[]", "null", "\"\"", "1", "", "{", "{}", "{}{}", "not JSON"];
        let made_of_invalid_sets =
            invalid_sets.map(|text| (format!("claims {text}"), signed(self.key, self.header().to_string(), text)));
        made.chain(made_of_invalid_sets).collect()
    }

    /// JSON that different parsers interpret differently (RFC 7515, section 4; RFC 7519, section 4).
    fn ambiguous(&self) -> Vec<(String, String)> {
        let (header, claims) = (self.header().to_string(), self.claims().to_string());
        let with_members_at_end =
            |object: &str, members: &str| format!("{},{members}}}", object.strip_suffix('}').unwrap());
        let mut made = Vec::new();
        for members in [
            r#""sub":"00000000-0000-0000-0000-000000000000""#,
            r#""\u0073ub":"00000000-0000-0000-0000-000000000000""#,
            r#""exp":9999999999"#,
            r#""e\u0078p":9999999999"#,
            r#""roles":["admin"],"roles":[]"#,
            r#""deep":{"a":1,"a":2}"#,
        ] {
            made.push((
                format!("claims with {members} added"),
                signed(self.key, &header, with_members_at_end(&claims, members)),
            ));
        }
        for members in
            [r#""alg":"none""#, r#""alg":"ES256""#, r#""\u0061lg":"HS256""#, r#""kid":"other""#, r#""typ":"JWT""#]
        {
            made.push((
                format!("header with {members} added"),
                signed(self.key, with_members_at_end(&header, members), &claims),
            ));
        }
        let two_objects = format!("{{\"sub\":\"admin\"}}{claims}");
        made.push(("two objects of claims".to_owned(), signed(self.key, &header, two_objects)));
        made.push((
            "claims that are not UTF-8".to_owned(),
            signed(self.key, &header, [claims.as_bytes(), &[0xff]].concat()),
        ));
        made
    }

    /// Critical extensions (RFC 7515, section 4.1.11), each with `b64: false` (RFC 7797).
    fn extensions(&self) -> Vec<(String, String)> {
        let values = [json!(["exp"]), json!(["b64"]), json!([]), json!("exp"), json!(["http://example.com/unknown"])];
        let sign = |crit: Value| {
            let header = with_member(&self.header(), "b64", json!(false));
            let header = with_member(&header, "crit", crit.clone());
            (format!("crit {crit}"), self.signed_by_service(&header, &self.claims()))
        };
        values.map(sign).into()
    }

    /// The genuine token, damaged, encoded differently, or too large.
    fn damaged(&self) -> Vec<(String, String)> {
        let genuine = self.genuine;
        let [header, claims, signature]: [&str; 3] = genuine.split('.').collect::<Vec<_>>().try_into().unwrap();
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (r, s) = bytes.split_at(32);
        let with_signature = |bytes: &[u8]| format!("{header}.{claims}.{}", part(bytes));
        let other_claims =
            part(with_member(&self.claims(), "sub", json!("0192f0c1-2345-7abc-8def-0123456789ab")).to_string());
        // The last character of 64 encoded bytes has four unused bits, all 0. The next character of the alphabet has one of them set.
        let (start, last) = signature.split_at(signature.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet.find(last).unwrap() + 1;
        let with_unused_bit = &alphabet[next..=next];
        let json_form = json!({ "protected": header, "payload": claims, "signature": signature }).to_string();
        // a token has at most 8192 bytes
        let large = with_member(&self.claims(), "padding", json!("x".repeat(9000)));
        let made = [
            ("last character missing", genuine[..genuine.len() - 1].to_owned()),
            ("half of the token", genuine[..genuine.len() / 2].to_owned()),
            ("first character missing", genuine[1..].to_owned()),
            ("no signature", format!("{header}.{claims}.")),
            ("no claims", format!("{header}..{signature}")),
            ("no header", format!(".{claims}.{signature}")),
            ("dots", "..".to_owned()),
            ("more dots", "....".to_owned()),
            ("a hyphen", "-".to_owned()),
            ("one part", header.to_owned()),
            ("four parts", format!("{genuine}.{signature}")),
            ("five parts, as if encrypted", format!("{header}.{claims}.{claims}.{claims}.{signature}")),
            ("a dot at the end", format!("{genuine}.")),
            ("other claims under the genuine signature", format!("{header}.{other_claims}.{signature}")),
            ("unused bits of the signature set", format!("{header}.{claims}.{start}{with_unused_bit}")),
            ("padding", format!("{genuine}==")),
            ("a character outside base64url", format!("{header}.{claims}.+{}", &signature[1..])),
            ("the JSON form", json_form),
            ("the signature as ASN.1", with_signature(&der(&bytes))),
            ("a signature of zeros", with_signature(&[0; 64])),
            ("r is zero", with_signature(&[&[0; 32], s].concat())),
            ("s is zero", with_signature(&[r, &[0; 32]].concat())),
            ("r and s swapped", with_signature(&[s, r].concat())),
            ("a longer signature", with_signature(&[&bytes[..], &[0]].concat())),
            ("a shorter signature", with_signature(&bytes[..63])),
            ("too large", self.signed_by_service(&self.header(), &large)),
        ];
        made.map(|(name, token)| (name.to_owned(), token)).into()
    }
}
