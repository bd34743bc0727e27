//! Measures tokens, codecs and password hashing. A `bare` benchmark measures only the cryptographic or copying operation of its
//! group. `make bench-micro` runs all of them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{hint::black_box, sync::Arc, time::Duration};

use argon2::{Algorithm as Variant, Argon2, Block, Params, Version};
use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey},
};
use criterion::{Criterion, criterion_group, criterion_main};
use latchkey::{
    config::{PasswordSettings, Secrets},
    crypto::{
        access_token::AccessClaims,
        key_ring::{KeyRing, SharedKeyRing, seal_key},
        refresh_token::{RefreshClaims, RefreshTokens},
        seal::Sealer,
        signing_key::SigningKey,
        token_verifier::{TokenRules, TokenVerifier},
    },
    domain::{
        account::ClaimsVersion,
        clock::Timestamp,
        entropy::Entropy,
        ids::{AccountId, SessionId},
        key::Algorithm,
        secret::SecretText,
        session::{Generation, SessionOrigin, Transport},
    },
    password::PasswordHasher,
    store::redis::record::{Record, decode_details, encode_details},
};

const NOW: Timestamp = Timestamp::from_millis(1_795_400_000_000);
const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "latchkey";
const NO_CLIENT_GRANT: Option<Vec<u8>> = None;
const PASSWORD_HASH_BYTES: usize = 32;

fn claims() -> AccessClaims {
    AccessClaims {
        iss: ISSUER.to_owned(),
        sub: AccountId::from_bytes([1; 16]),
        aud: vec![AUDIENCE.to_owned()],
        client_id: "latchkey".to_owned(),
        iat: NOW.as_secs(),
        exp: NOW.as_secs() + 300,
        jti: "d8b5cbd5-29b1-4f52-a4b0-3d1d9d6c4f1e".to_owned(),
        sid: SessionId::from_bytes([2; 16]),
        auth_time: NOW.as_secs(),
        acr: "aal1".to_owned(),
        amr: vec!["pwd".to_owned()],
        scope: "account".to_owned(),
        roles: Vec::new(),
        email_verified: None,
        app_metadata: None,
        session_start: Some(NOW.as_secs()),
        claims_version: Some(ClaimsVersion(0)),
    }
}

fn access_tokens(criterion: &mut Criterion) {
    let claims = claims();
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
        let mut group = criterion.benchmark_group(format!("access token, {algorithm}"));
        let secrets =
            Secrets { current: SecretText::from("a benchmark's secret that is long enough"), previous: vec![] };
        let (sealer, entropy) = (Sealer::new(&secrets), Entropy::system());
        let key = SigningKey::generate(algorithm).unwrap();
        let ring = KeyRing::open(vec![seal_key(&key, &sealer, &entropy, NOW).unwrap()], &sealer, NOW).unwrap();
        let token = key.encode(&claims).unwrap();
        // the part of the token that is signed: its header and claims
        let (signing_input, _) = token.expose().rsplit_once('.').unwrap();
        let signing_input = signing_input.as_bytes();
        let signature = key.sign(signing_input).unwrap();
        group.bench_function("bare sign", |b| b.iter(|| key.sign(black_box(signing_input)).unwrap()));
        group.bench_function("encode", |b| b.iter(|| key.encode(black_box(&claims)).unwrap()));
        group.bench_function("bare verify", |b| {
            b.iter(|| key.public().verify(black_box(signing_input), &signature).unwrap());
        });
        let rules =
            TokenRules { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned(), leeway: Duration::from_secs(5) };
        let keys = Arc::new(SharedKeyRing::new(ring));
        for (name, cache_capacity) in [("verify", 0), ("verify, cached", 1000)] {
            let verifier = TokenVerifier::new(rules.clone(), Arc::clone(&keys), cache_capacity, &entropy);
            group.bench_function(name, |b| b.iter(|| verifier.verify(black_box(token.expose()), NOW).unwrap()));
        }
        group.finish();
    }
    // the library alone, on a message about as long as the signed part of an access token
    let mut group = criterion.benchmark_group("aws-lc-rs, ES256");
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()).unwrap();
    let message = [7; 560];
    let random = SystemRandom::new();
    let signature = pair.sign(&random, &message).unwrap();
    group.bench_function("sign", |b| b.iter(|| pair.sign(&random, black_box(&message)).unwrap()));
    group.bench_function("verify", |b| b.iter(|| public.verify_sig(black_box(&message), signature.as_ref()).unwrap()));
    group.finish();
}

fn refresh_tokens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("refresh token");
    let secret = [7; 32];
    let previous_secrets = [];
    let tokens = RefreshTokens::new(&secret, previous_secrets);
    let claims = RefreshClaims {
        account: AccountId::from_bytes([1; 16]),
        session: SessionId::from_bytes([2; 16]),
        generation: Generation(3),
        expires_at: NOW,
    };
    let token = tokens.encode(&claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    // the claims of a refresh token take 43 bytes
    group.bench_function("bare HMAC-SHA256 of 43 bytes", |b| b.iter(|| hmac::sign(&key, black_box(&[1; 43]))));
    group.bench_function("encode", |b| b.iter(|| tokens.encode(black_box(&claims))));
    group.bench_function("decode", |b| b.iter(|| tokens.decode(black_box(token.expose())).unwrap()));
    group.finish();
}

fn records(criterion: &mut Criterion) {
    // 36 bytes, as in Redis; the flags `has_…` name its further parts (`store::redis::record`)
    let mut group = criterion.benchmark_group("session record");
    let record = Record {
        has_grant: false,
        has_last_use: true,
        has_step_up: false,
        generation: Generation(3),
        transport: Transport::Bearer,
        created_at: NOW,
        last_used_at: NOW,
        idle_ends_at: NOW,
        ends_at: NOW,
        kept_until: NOW,
    };
    let bytes = record.encode();
    let agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36";
    let origin = SessionOrigin { ip: Some([203, 0, 113, 7].into()), user_agent: Some(agent.to_owned()), device: None };
    let details = encode_details(NO_CLIENT_GRANT, &origin).concat();
    group.bench_function("bare copy of 36 bytes", |b| b.iter(|| black_box(&bytes[..]).to_vec()));
    group.bench_function("encode", |b| b.iter(|| black_box(&record).encode()));
    group.bench_function("decode", |b| b.iter(|| Record::decode(black_box(&bytes)).unwrap()));
    group.bench_function("encode details", |b| b.iter(|| encode_details(NO_CLIENT_GRANT, black_box(&origin))));
    group.bench_function("decode details", |b| b.iter(|| decode_details(black_box(&details))));
    group.finish();
}

fn passwords(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("password, 19456 KiB, t=2, p=1");
    group.sample_size(20);
    // the limits of imports have no effect here
    let settings = PasswordSettings {
        min_length: 8,
        max_length: 128,
        min_score: 0,
        banned_words: vec![],
        memory_kib: 19_456,
        iterations: 2,
        parallelism: 1,
        threads: 1,
        queue: 16,
        max_import_memory_kib: 262_144,
        max_import_work: 32,
        pepper: None,
        previous_peppers: vec![],
    };
    let output_bytes = Some(PASSWORD_HASH_BYTES);
    let params = Params::new(settings.memory_kib, settings.iterations, settings.parallelism, output_bytes).unwrap();
    let mut memory = vec![Block::default(); params.block_count()];
    let argon2 = Argon2::new(Variant::Argon2id, Version::V0x13, params);
    let mut output = [0; PASSWORD_HASH_BYTES];
    group.bench_function("bare argon2 with a reused buffer", |b| {
        b.iter(|| {
            argon2
                .hash_password_into_with_memory(b"correct horse battery", b"a salt of 16 b..", &mut output, &mut memory)
                .unwrap();
        });
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hasher = PasswordHasher::start(&settings, Entropy::system()).unwrap();
    let password = SecretText::from("correct horse battery");
    let new_password = hasher.check_new(password.clone()).unwrap();
    let account_names = vec![];
    let hash = runtime.block_on(hasher.hash_new(new_password, account_names)).unwrap();
    group.bench_function("verify on a pool of one thread", |b| {
        b.to_async(&runtime).iter(|| async { hasher.verify(password.clone(), Some(hash.clone())).await.unwrap() });
    });
    group.finish();
}

criterion_group!(micro, access_tokens, refresh_tokens, records, passwords);
criterion_main!(micro);
