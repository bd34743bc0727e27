//! Access tokens.

use std::{sync::LazyLock, time::Duration};

use latchkey::{
    config::Secrets,
    crypto::{
        access_token::Verifier,
        key_ring::{KeyRing, seal_key},
        seal::Sealer,
        signing_key::SigningKey,
    },
    domain::{clock::Timestamp, entropy::Entropy, key::Algorithm},
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// One key of ours.
static KEYS: LazyLock<KeyRing> = LazyLock::new(|| {
    let entropy = Entropy::system();
    let sealer = Sealer::new(&Secrets { current: "a secret for keys that sign nothing".into(), previous: Vec::new() });
    let key = SigningKey::generate(Algorithm::Es256).expect("a key");
    KeyRing::open(vec![seal_key(&key, &sealer, &entropy, NOW).expect("sealed")], &sealer, NOW).expect("a ring")
});

/// No text is a token unless one of our keys has signed it, whatever its header says; none here has signed anything.
pub fn jwt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let verifier = Verifier {
        keys: &KEYS,
        issuer: "https://auth.example.com",
        audience: "latchkey",
        leeway: Duration::from_secs(5),
    };
    assert!(verifier.verify(text, NOW).is_err());
    // the same where the header names the key
    let kid = KEYS.signer(NOW).expect("it signs").kid();
    let header = format!("{{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"kid\":\"{kid}\"}}");
    let encode = |part: &[u8]| base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, part);
    let (payload, signature) = text.rsplit_once('.').unwrap_or((text, ""));
    for header in [header, text.replace("KID", kid)] {
        for signature in [signature, "", &encode(&[0; 64]), &encode(&[255; 64])] {
            let token = format!("{}.{}.{signature}", encode(header.as_bytes()), encode(payload.as_bytes()));
            assert!(verifier.verify(&token, NOW).is_err());
        }
    }
}
